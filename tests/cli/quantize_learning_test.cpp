// lithe quantize with the methods that learn, as a user runs them: plans, results, mistakes, interruptions.
#include <ATen/ATen.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cli/lithe.h"
#include "lithe/data/npz.h"
#include "lithe/graph/onnx.h"
#include "lithe/models/models.h"
#include "onnxruntime/need.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kSheet =
    "sheet:" + (kExamples / "digits/digits.png").string() + ",cell=20x20,columns=70:80";
const std::string kFew = " --calib " + kSheet + " --calib-samples 32 --learn-batch 8 --threads 1";

class QuantizeLearning : public testing::Test {
 protected:
  TemporaryFolder folder_;
  fs::path file(const char* name) const { return folder_.path() / name; }
  std::string out_ = file("out.onnx").string();

  Outcome plan(const std::string& flags) const {
    return run_lithe("quantize " + kDigits + " --dry-run --json " + flags);
  }
  std::string call(const std::string& flags, const std::string& model = kDigits) const {
    return "quantize " + model + kFew + " " + flags + " -o " + out_;
  }
  bool nothing_written() const { return fs::is_empty(folder_.path()); }
};

TEST_F(QuantizeLearning, EveryMethodTellsWhatItLearnt) {
  for (const std::string method : {"adaround", "brecq", "qdrop", "mrecg"}) {
    const Outcome outcome =
        run_lithe(call("--json --weight-bits 2 --activation-bits 4 --steps 40 --method " + method));
    ASSERT_EQ(outcome.status, 0) << outcome.err;
    const auto result = outcome.result();
    const auto& learnt = result.at("reconstruction");
    if (method == "mrecg") {
      EXPECT_EQ(learnt.at("survey").size(), learnt.at("units").size());
    } else {
      EXPECT_EQ(learnt.at("groups").size(), learnt.at("units").size());
    }
    EXPECT_EQ(learnt.at("slices").size(), learnt.at("groups").size());
    EXPECT_EQ(learnt.at("samples"), 32);
    for (const char* key : {"falling_edges", "peaks", "falls_into_output", "largest"})
      EXPECT_TRUE(learnt.at("oscillation").contains(key)) << key;
    for (const int edge : learnt.at("oscillation").at("falling_edges"))
      EXPECT_LT(edge + 2, static_cast<int>(learnt.at("slices").size()));  // not into the output
    EXPECT_GT(result.at("output_sqnr_db").get<double>(), result.at("nearest_sqnr_db").get<double>());
    EXPECT_FALSE(fs::exists(out_ + ".checkpoints"));
  }
}

TEST_F(QuantizeLearning, TheReportShowsTheLossesBeforeAndAfterGrouping) {
  const fs::path report = file("report");
  const Outcome outcome =
      run_lithe(call("--method mrecg --weight-bits 2 --steps 10 --report " + report.string()));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("learnt together"));
  const auto items = nlohmann::json::parse(read_text_file(report / "report.json")).at("report").at("items");
  const auto plot = std::find_if(items.begin(), items.end(), [](const auto& item) {
    return item.value("title", "") == "Reconstruction loss from unit to unit";
  });
  ASSERT_NE(plot, items.end());
  EXPECT_EQ(plot->at("series").size(), 3u);
  const std::string names = plot->at("series").dump();
  EXPECT_THAT(names, HasSubstr("unit by unit, 2 steps"));
  EXPECT_THAT(names, HasSubstr(", 10 steps"));
  EXPECT_THAT(read_text_file(report / "report.html"), HasSubstr("Reconstruction loss from unit to unit"));
}

TEST_F(QuantizeLearning, DryRunsShowUnitsWithShapesAndGroups) {
  const Outcome stages = plan("--method mrecg --capacity modcap");
  ASSERT_EQ(stages.status, 0) << stages.err;
  const auto result = stages.result();
  const auto& units = result.at("units");
  ASSERT_EQ(units.size(), 6u);
  EXPECT_EQ(units[0].at("input_shapes"), nlohmann::json::parse("[[1, 1, 20, 20]]"));
  EXPECT_EQ(units[5].at("output_shapes"), nlohmann::json::parse("[[1, 10]]"));
  EXPECT_EQ(units[1].at("input_shapes"), units[0].at("output_shapes"));
  EXPECT_EQ(result.at("groups"), nlohmann::json::parse("[[0], [1, 2], [3, 4], [5]]"));

  EXPECT_EQ(plan("--method brecq").result().at("groups"),
            nlohmann::json::parse("[[0], [1], [2], [3], [4], [5]]"));
  EXPECT_EQ(plan("--method qdrop --grouping 0-1,3-5").result().at("groups"),
            nlohmann::json::parse("[[0, 1], [2], [3, 4, 5]]"));
  EXPECT_EQ(plan("--method mrecg --grouping topk --capacity modcap --merges 1").result().at("groups").size(),
            5u);
  const auto small = plan("--method mrecg --capacity modcap --memory 1M").result();
  EXPECT_EQ(small.at("groups").size(), 6u);  // no two units fit
  EXPECT_THAT(small.at("notes").dump(), HasSubstr("memory"));
  EXPECT_GT(plan("--method adaround").result().at("units").size(), 6u);  // layers
  EXPECT_EQ(plan("").result().at("groups"), nlohmann::json::array());

  const Outcome measured = plan("--method mrecg");
  EXPECT_TRUE(measured.result().at("groups").is_null());
  EXPECT_THAT(measured.result().at("notes").dump(), HasSubstr("chosen after their losses were measured"));
  const Outcome text = run_lithe("quantize " + kDigits + " --dry-run --method mrecg --capacity modcap");
  EXPECT_THAT(text.out, HasSubstr("learnt together: 0 | 1-2 | 3-4 | 5"));
  EXPECT_THAT(text.out, HasSubstr("1x16x20x20"));
  EXPECT_TRUE(nothing_written());
}

TEST_F(QuantizeLearning, FlagsThatContradictEachOtherAreRefused) {
  for (const auto& [flags, text] : std::vector<std::pair<std::string, std::string>>{
           {"--method qdrop --base brecq", "--base brecq is of method mrecg"},
           {"--method brecq --scales separate --keep 0.5", "--scales separate"},
           {"--method mse --preset fast", "--preset is for methods that learn"},
           {"--method minmax --grouping stage", "--grouping is for methods that learn"},
           {"--method mse --resume", "--resume and --memory are for methods that learn"},
           {"--method brecq --grouping nonsense", "the grouping 'nonsense'"},
           {"--method brecq --grouping 2-9", "unit 9, but the units are 0 to 5"},
           {"--method mrecg --grouping resnet18", "resnet18"},
           {"--method brecq --merges 2", "--merges has no effect here"},
           {"--method mrecg --merge-penalty 1", "--merge-penalty has no effect here"},
           {"--method mrecg --grouping stage --extend-groups", "--extend-groups has no effect here"},
           {"--method qdrop --capacity loss", "--capacity has no effect here"},
           {"--method mrecg --grouping stage --survey-steps 3", "--survey-steps has no effect here"},
           {"--method brecq --max-group 2", "--max-group has no effect here"},
           {"--method brecq --modcap-stride-factor 3", "--modcap-stride-factor has no effect here"},
           {"--method mrecg --modcap-stride-factor 3", "--modcap-stride-factor has no effect here"},
           {"--method mrecg --grouping stage --capacity loss", "--capacity loss has no effect here"},
           {"--method brecq --scales off --scale-rate 0.1", "--scale-rate has no effect here"},
           {"--method brecq --attention-bits 8", "no product of two activations"},
           {"--method brecq --steps 0", "--steps"},
           {"--method brecq --keep 1.5", "--keep"}}) {
    SCOPED_TRACE(flags);
    expect_user_error(run_lithe("quantize " + kDigits + " --calib " + kSheet + " -o " + out_ + " " + flags),
                      text);
  }
  EXPECT_TRUE(nothing_written());
}

TEST_F(QuantizeLearning, FewerSamplesThanAStepAreRefused) {
  expect_user_error(run_lithe("quantize " + kDigits + " --quiet --calib " + kSheet +
                              " --calib-samples 5 --method brecq -o " + out_),
                    "only 5 calibration samples, but a step draws 32");
  EXPECT_FALSE(fs::exists(out_));
}

TEST_F(QuantizeLearning, AGraphWithoutWeightsIsRefused) {
  Graph graph;
  graph.header.opsets[""] = 13;
  graph.inputs = {{.name = "x", .dtype = DType::Float32, .shape = DimVector{{1}, {1}, {20}, {20}}}};
  graph.outputs = {{.name = "y", .dtype = DType::Float32, .shape = DimVector{{1}, {1}, {20}, {20}}}};
  graph.nodes = {{.name = "relu", .op_type = "Relu", .inputs = {"x"}, .outputs = {"y"}}};
  const std::string model = file("relu.onnx").string();
  write_onnx(graph, model);
  expect_user_error(run_lithe(call("--quiet --method brecq", model)),
                    "no Conv, ConvTranspose, Gemm or MatMul");
  EXPECT_FALSE(fs::exists(out_));
}

TEST_F(QuantizeLearning, AFolderThatCannotBeWrittenIsFoundBeforeTheWork) {
  const Outcome outcome = run_lithe(call("--method brecq --checkpoints /proc/nowhere"));
  expect_user_error(outcome, "/proc/nowhere");  // nor a line of progress
  EXPECT_TRUE(nothing_written());
}

TEST_F(QuantizeLearning, DryRunsAndRunsRefuseTheSameBeforeTheyCalibrate) {
  const std::string flags = " --method brecq --polish 1 --memory 1M";
  for (const std::string& command : {"quantize " + kDigits + " --dry-run" + flags, call(flags)})
    expect_user_error(run_lithe(command), "leave out --polish");  // nor a line of progress
  EXPECT_FALSE(fs::exists(out_));
}

TEST_F(QuantizeLearning, WarnsBeforeItReplacesWhatAnEarlierRunLeft) {
  const std::string flags = "--method brecq --steps 1 --checkpoints " + file("kept").string();
  EXPECT_THAT(run_lithe(call(flags)).err, testing::Not(HasSubstr("of an earlier run")));
  const Outcome again = run_lithe(call(flags));
  EXPECT_EQ(again.status, 0) << again.err;
  const auto warned = again.err.find("--resume would go on from it"), began = again.err.find("calibrate");
  ASSERT_NE(warned, std::string::npos) << again.err;
  EXPECT_LT(warned, began);
  EXPECT_THAT(run_lithe(call(flags + " --resume")).err, testing::Not(HasSubstr("of an earlier run")));
}

TEST_F(QuantizeLearning, LittleMemoryGoesToDiskAndRunsFewerSamplesAtATime) {
  const std::string flags = "--method qdrop --weight-bits 3 --activation-bits 4 --steps 10 --json";
  const Outcome roomy = run_lithe(call(flags));
  ASSERT_EQ(roomy.status, 0) << roomy.err;
  EXPECT_EQ(roomy.result().at("reconstruction").at("spilled_bytes"), 0);
  const Outcome tight = run_lithe(call(flags + " --memory 1M"));
  ASSERT_EQ(tight.status, 0) << tight.err;
  EXPECT_GT(tight.result().at("reconstruction").at("spilled_bytes"), 0);
  EXPECT_LE(tight.result().at("reconstruction").at("peak_cache_bytes"), 1'000'000);
  const auto planned = plan("--method qdrop --memory 1M").result();
  EXPECT_THAT(planned.at("notes").dump(), HasSubstr("samples of a step run at a time"));
}

/// The most memory that the tool held, in bytes.
std::int64_t peak_of(const std::string& arguments) {
  const pid_t child = fork();
  if (child == 0) {
    const std::string command = "exec " + std::string(LITHE_PROGRAM) + " " + arguments + " > /dev/null 2>&1";
    execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
    _exit(127);
  }
  int status = 0;
  rusage used{};
  EXPECT_EQ(wait4(child, &status, 0, &used), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << arguments;
  return 1024 * used.ru_maxrss;
}

TEST_F(QuantizeLearning, ResidentMemoryStaysNearItsBound) {
  const std::string model = file("net.onnx").string(), data = file("data.npy").string();
  write_onnx(build_resnet20({.classes = 10, .image_size = 32}), model);
  write_npy(at::randn({64, 3, 32, 32}), data);
  const std::string flags = "quantize " + model + " --calib " + data +
                            " --weight-bits 4 --activation-bits 4 " + "--threads 1 --batch 8 -o " + out_ +
                            " --method ";
  const std::string learning = "qdrop --steps 2 --learn-batch 64";
  const std::int64_t calibrated = peak_of(flags + "mse"), free = peak_of(flags + learning),
                     bound = peak_of(flags + learning + " --memory 24M"),
                     polished = peak_of(flags + learning + " --memory 24M --polish 1");
  EXPECT_LT(bound, calibrated + 24'000'000 + 16'000'000);  // what learning itself has, and the heap's slack
  EXPECT_LT(polished, calibrated + 24'000'000 + 16'000'000);
  EXPECT_GT(free, bound + 50'000'000);
}

TEST_F(QuantizeLearning, MistypedFlagsAreToldInOneLine) {
  for (const auto& [flags, text] : std::vector<std::pair<std::string, std::string>>{
           {"--calb x", "quantize has no flag --calb; did you mean --calib?"},
           {"--weight-bit 4", "did you mean --weight-bits?"},
           {"--zzzzzz", "quantize has no flag --zzzzzz; see 'lithe quantize --help'"},
           {"--seed 1 --seed 2", "--seed is given twice; leave one of them out"},
           {"other.onnx", "'other.onnx' does not belong here"},
           {"--method brecq --memory 20", "--memory 20 is 20 bytes, too few to work in"},
           {"--method brecq --rounding-rate 50", "more than 0, at most 1"},
           {"--method brecq --scale-rate 7", "more than 0, at most 1"},
           {"--method brecq --steps 99999999999", "1 to 1000000"},
           {"--method brecq --checkpoints " + file("a/b/c").string(), "there is no folder"}}) {
    SCOPED_TRACE(flags);
    expect_user_error(run_lithe("quantize " + kDigits + " --calib " + kSheet + " -o " + out_ + " " + flags),
                      text);
  }
  EXPECT_TRUE(nothing_written());
  const std::string twice = "quantize " + kDigits + " --dry-run --json --exclude '*' --exclude stem.conv";
  EXPECT_EQ(run_lithe(twice).status, 0);  // a list may be given in parts
}

TEST_F(QuantizeLearning, OneNewFolderForCheckpointsIsMade) {
  const fs::path kept = file("kept");
  const Outcome outcome =
      run_lithe(call("--quiet --method brecq --steps 2 --checkpoints " + kept.string() + "/"));
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_TRUE(fs::exists(kept / "reconstruction.safetensors"));
}

TEST_F(QuantizeLearning, SaysThatOnlyScalesAreLearntWhereWeightsStayInFloat) {
  const Outcome outcome = run_lithe(
      call("--json --method qdrop --weight-bits off --first-last same --activation-bits 4 --steps 4"));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.result().at("notes").dump(),
              HasSubstr("only activation scales were learnt: the weights stay in float"));
}

TEST_F(QuantizeLearning, FaithfulKeepsWhatLearningMadeWorse) {
  const std::string flags =
      "--json --method brecq --weight-bits 4 --activation-bits 4 --steps 4 --scale-rate 1";
  const auto count = [](const nlohmann::json& result) {
    const auto& slices = result.at("reconstruction").at("slices");
    return std::count_if(slices.begin(), slices.end(), [](const auto& s) { return s.at("kept_nearest"); });
  };
  const auto kept = run_lithe(call(flags)).result(),
             faithful = run_lithe(call(flags + " --faithful")).result();
  EXPECT_GT(count(kept), 0);
  EXPECT_THAT(kept.at("notes").dump(), HasSubstr("keeps its nearest codes"));
  EXPECT_EQ(count(faithful), 0);
  const nlohmann::json apart =
      run_lithe(call(flags + " --scales separate")).result().at("reconstruction").at("slices");
  EXPECT_GT(
      std::count_if(apart.begin(), apart.end(), [](const auto& s) { return s.at("scales_taken_back"); }), 0);
  EXPECT_GT(kept.at("output_sqnr_db").get<double>(), faithful.at("output_sqnr_db").get<double>());
}

/// A grey picture of this size.
void write_picture(const fs::path& file, int height, int width) {
  std::string pixels = fmt::format("P5\n{} {}\n255\n", width, height);
  for (int i = 0; i < height * width; ++i) pixels += static_cast<char>(i * 37 % 251);
  write_file(file, pixels);
}

/// Enlarges nothing: one 3x3 convolution of grey pictures of any size.
Graph filter() {
  Graph graph;
  graph.header.opsets[""] = 13;
  const DimVector any{{.symbol = "n"}, {1}, {.symbol = "h"}, {.symbol = "w"}};
  graph.inputs = {{.name = "x", .dtype = DType::Float32, .shape = any}};
  graph.outputs = {{.name = "y", .dtype = DType::Float32, .shape = any}};
  graph.constants["w"] = TensorData::from<float>({1, 1, 3, 3}, {0, .1f, 0, .2f, .5f, .1f, 0, .1f, 0});
  graph.nodes = {{.name = "conv",
                  .op_type = "Conv",
                  .inputs = {"x", "w"},
                  .outputs = {"y"},
                  .attributes = {{"pads", std::vector<std::int64_t>{1, 1, 1, 1}}}}};
  return graph;
}

TEST_F(QuantizeLearning, PicturesOfSeveralSizesAreFoundBeforeTheWork) {
  const std::string model = file("filter.onnx").string();
  write_onnx(filter(), model);
  const fs::path pictures = file("pictures"), pairs = file("pairs");
  fs::create_directories(pictures);
  fs::create_directories(pairs);
  for (int i = 0; i < 4; ++i) write_picture(pictures / fmt::format("{}.pgm", i), i == 3 ? 12 : 16, 20);
  for (int i = 0; i < 4; ++i)
    for (const char* kind : {"LR", "HR"})
      write_picture(pairs / fmt::format("{}_{}.pgm", i, kind), 16 + 4 * i, 20);
  const std::string flags = "quantize " + model +
                            " --first-last same --weight-bits 4 --threads 1 --quiet --colour gray -o " +
                            out_ + " --method brecq --steps 2 --learn-batch 2 --calib ";
  expect_user_error(run_lithe(flags + pictures.string()),
                    "learning needs calibration data of one size; give "
                    "--crop 12x20 or less");
  expect_user_error(run_lithe(flags + pairs.string()), "give --crop 16x20 or less");
  EXPECT_FALSE(fs::exists(out_));
  EXPECT_EQ(run_lithe(flags + pictures.string() + " --crop 12x20").status, 0);
  // Pairs are measured whole, calibrated cut.
  const Outcome both = run_lithe(flags + pairs.string() + " --data " + pairs.string() + " --crop 16x20");
  EXPECT_EQ(both.status, 0) << both.err;
}

TEST_F(QuantizeLearning, AnArrayThatLacksIsNamedWithItsFile) {
  Graph graph;
  graph.header.opsets[""] = 13;
  const DimVector rows{{.symbol = "n"}, {4}};
  graph.inputs = {{.name = "x", .dtype = DType::Float32, .shape = rows},
                  {.name = "t", .dtype = DType::Float32, .shape = rows}};
  graph.outputs = {{.name = "y", .dtype = DType::Float32, .shape = rows}};
  graph.constants["w"] = TensorData::from<float>({4, 4}, std::vector<float>(16, 0.5f));
  graph.nodes = {{.name = "add", .op_type = "Add", .inputs = {"x", "t"}, .outputs = {"s"}},
                 {.name = "product", .op_type = "MatMul", .inputs = {"s", "w"}, .outputs = {"y"}}};
  const std::string model = file("two.onnx").string(), arrays = file("arrays.npz").string();
  write_onnx(graph, model);
  write_npz({{"x", at::ones({8, 4})}}, arrays);
  expect_user_error(run_lithe("quantize " + model + " --calib " + arrays + " -o " + out_),
                    arrays + ": holds no array 't'");
}

TEST_F(QuantizeLearning, AnInfiniteLossStopsWithSliceAndStepAndKeepsWhatIsDone) {
  Graph graph = read_onnx(kDigits);
  for (const Node& node : graph.nodes) {
    if (!node.is("Gemm")) continue;
    TensorData& weight = graph.constants.at(node.inputs[1]);
    auto values = weight.to_floats();
    for (float& value : values) value *= 1e22f;
    weight = TensorData::from<float>(weight.shape(), values);
  }
  const std::string model = file("huge.onnx").string();
  write_onnx(graph, model);
  expect_user_error(
      run_lithe(call("--quiet --method brecq --weight-bits 3 --first-last same --steps 5", model)),
      "slice 'head': the loss is not finite at step 1");
  EXPECT_FALSE(fs::exists(out_));
  EXPECT_TRUE(fs::exists(out_ + ".checkpoints/reconstruction.safetensors"));
}

/// Starts the tool, waits for the first finished unit, sends the signal and returns the exit status as the
/// shell has it.
int stop(const std::string& arguments, const std::string& checkpoint, const char* signal,
         const fs::path& error) {
  const TemporaryFolder folder;
  const fs::path script = folder.path() / "stop.sh";
  write_file(script, std::string(LITHE_PROGRAM) + " " + arguments + " > /dev/null 2> " + error.string() +
                         " &\nfor i in $(seq 6000); do if [ -e " + checkpoint +
                         " ]; then break; fi; sleep 0.01; done\nkill -" + signal + " $!\nwait $!\n");
  return WEXITSTATUS(std::system(("bash " + script.string() + " 2> /dev/null").c_str()));
}

TEST_F(QuantizeLearning, GoesOnAfterCtrlCAndAfterAKillToTheSameBytes) {
  const std::string flags = "--method brecq --weight-bits 2 --activation-bits 4 --steps 150";
  const Outcome straight = run_lithe(call(flags));
  ASSERT_EQ(straight.status, 0) << straight.err;
  const std::string bytes = read_text_file(out_);
  const std::string checkpoint = out_ + ".checkpoints/reconstruction.safetensors";
  for (const char* signal : {"INT", "KILL"}) {
    SCOPED_TRACE(signal);
    fs::remove(out_);
    const bool asked = std::string(signal) == "INT";
    EXPECT_EQ(stop(call(flags), checkpoint, signal, file("err")), asked ? 1 : 128 + 9);
    ASSERT_FALSE(fs::exists(out_));
    ASSERT_TRUE(fs::exists(checkpoint));
    if (asked) {
      const std::string text = read_text_file(file("err"));
      EXPECT_THAT(text, HasSubstr("the same command with --resume goes on"));
      EXPECT_TRUE(text.ends_with("lithe: interrupted\n")) << text;
    }
    expect_user_error(run_lithe(call(flags + "1 --quiet --resume")), "other options");
    const Outcome resumed = run_lithe(call(flags + " --resume"));
    ASSERT_EQ(resumed.status, 0) << resumed.err;
    EXPECT_EQ(read_text_file(out_), bytes);
    EXPECT_FALSE(fs::exists(out_ + ".checkpoints"));
  }
}

TEST_F(QuantizeLearning, PrunedWeightsStayZero) {
  LITHE_NEED_ONNX_RUNTIME();
  const std::string sparse = file("sparse.onnx").string();
  ASSERT_EQ(
      run_lithe("sparsify " + kDigits + " --pattern 2:4 --method magnitude --quiet -o " + sparse).status, 0);
  for (const std::string bits :
       {"--weight-bits 4 --activation-bits 8", "--weight-bits 2 --activation-bits 4"}) {
    const Outcome quantized = run_lithe(
        call("--quiet --method brecq --learn-weight-scales --polish 10 --steps 60 " + bits, sparse));
    ASSERT_EQ(quantized.status, 0) << quantized.err;
    const Outcome checked = run_lithe("inspect " + out_ + " --check-sparsity 2:4 --json");
    EXPECT_EQ(checked.status, 0) << checked.err;
    EXPECT_TRUE(checked.result().at("violations").empty());
    EXPECT_EQ(run_lithe("verify " + out_ + " --json").status, 0);
  }
}

}  // namespace
}  // namespace lithe
