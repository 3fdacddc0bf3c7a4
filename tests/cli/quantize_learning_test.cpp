// lithe quantize with the methods that learn, as a user runs them: plans, results, mistakes, interruptions.
#include <gmock/gmock.h>

#include "cli/lithe.h"
#include "lithe/graph/onnx.h"
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
    const auto result = outcome.result(), learnt = result.at("reconstruction");
    if (method == "mrecg") {
      EXPECT_EQ(learnt.at("survey").size(), learnt.at("units").size());
    } else {
      EXPECT_EQ(learnt.at("groups").size(), learnt.at("units").size());
    }
    EXPECT_EQ(learnt.at("slices").size(), learnt.at("groups").size());
    EXPECT_EQ(learnt.at("samples"), 32);
    for (const char* key : {"falling_edges", "peaks", "largest"})
      EXPECT_TRUE(learnt.at("oscillation").contains(key)) << key;
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
  EXPECT_THAT(read_text_file(report / "report.html"), HasSubstr("Reconstruction loss from unit to unit"));
}

TEST_F(QuantizeLearning, DryRunsShowUnitsWithShapesAndGroups) {
  const Outcome stages = plan("--method mrecg --capacity modcap");
  ASSERT_EQ(stages.status, 0) << stages.err;
  const auto result = stages.result(), units = result.at("units");
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

TEST_F(QuantizeLearning, LittleMemoryGoesToDiskWithEqualBytes) {
  const std::string flags = "--method qdrop --weight-bits 3 --activation-bits 4 --steps 10 --json";
  const Outcome roomy = run_lithe(call(flags));
  ASSERT_EQ(roomy.status, 0) << roomy.err;
  EXPECT_EQ(roomy.result().at("reconstruction").at("spilled_bytes"), 0);
  const std::string bytes = read_text_file(out_);
  const Outcome tight = run_lithe(call(flags + " --memory 100K"));
  ASSERT_EQ(tight.status, 0) << tight.err;
  EXPECT_GT(tight.result().at("reconstruction").at("spilled_bytes"), 0);
  EXPECT_LE(tight.result().at("reconstruction").at("peak_cache_bytes"), 100000);
  EXPECT_THAT(tight.result().at("notes").dump(), HasSubstr("a step of unit 'block1' alone holds"));
  EXPECT_EQ(read_text_file(out_), bytes);
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
