// `lithe quantize --method dfsq` and `lithe eval` on pairs of pictures, as a user runs them.
#include <gmock/gmock.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "cli/lithe.h"
#include "lithe/base/random.h"
#include "lithe/graph/onnx.h"
#include "lithe/models/builder.h"
#include "open_edsr.h"

namespace lithe {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;
namespace fs = std::filesystem;

/// A smooth coloured picture as a PPM file.
void write_picture(const fs::path& path, int height, int width, std::uint64_t seed, int flat = -1) {
  Rng rng(seed);
  double phase[6];
  for (double& one : phase) one = 6 * rng.uniform();
  std::string text = fmt::format("P6\n{} {}\n255\n", width, height);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c) {
        const double wave = std::sin(0.31 * x + phase[c]) * std::cos(0.23 * y + phase[c + 3]);
        text.push_back(static_cast<char>(flat >= 0 ? flat : static_cast<int>(127 + 120 * wave)));
      }
  write_file(path, text);
}

class DfsqCommand : public ::testing::Test {
 protected:
  void SetUp() override {
    write_onnx(test::open_edsr(), model());
    fs::create_directory(pictures());
    for (int i = 0; i < 3; ++i)
      write_picture(pictures() / fmt::format("p{}.ppm", i), 48 + 2 * i, 64, static_cast<std::uint64_t>(i));
  }
  fs::path model() const { return folder_.path() / "edsr.onnx"; }
  fs::path pictures() const { return folder_.path() / "hr"; }
  fs::path file(const std::string& name) const { return folder_.path() / name; }
  std::string pairs() const { return "pairs:" + pictures().string() + ",scale=2"; }
  Outcome quantize(const std::string& flags) const {
    return run_lithe(
        fmt::format("quantize {} --calib {} --method dfsq --weight-bits 4 --activation-bits 4 --json {}",
                    model().string(), pairs(), flags));
  }

  TemporaryFolder folder_;
};

TEST_F(DfsqCommand, QuantisesAndReports) {
  const Outcome outcome = quantize(fmt::format("--data {} --preview 2 --report {} -o {}", pairs(),
                                               file("report").string(), file("q.onnx").string()));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const json result = outcome.result();
  EXPECT_EQ(result.at("method"), "dfsq");
  EXPECT_EQ(result.at("dfsq").at("statistics"), "static");
  EXPECT_EQ(result.at("dfsq").at("layers").size(), 4u);
  EXPECT_GT(result.at("output_sqnr_db").get<double>(), result.at("minmax_sqnr_db").get<double>());
  EXPECT_TRUE(result.at("after").contains("psnr_y"));
  EXPECT_TRUE(result.at("after").contains("bicubic_psnr_y"));
  const std::string page = read_text_file(file("report") / "report.html");
  EXPECT_THAT(page, HasSubstr("Previews"));
  EXPECT_THAT(page, HasSubstr("data:image/png;base64,"));
  EXPECT_TRUE(fs::exists(file("q.onnx")));
}

TEST_F(DfsqCommand, VariantsAndLearning) {
  const auto made = [&](const std::string& flags) {
    const Outcome outcome = quantize(fmt::format("{} -o {}", flags, file("q.onnx").string()));
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return outcome.result();
  };
  const auto count = [&](const char* op) {
    const Graph graph = read_onnx(file("q.onnx"));
    return std::count_if(graph.nodes.begin(), graph.nodes.end(),
                         [op](const Node& node) { return node.op_type == op; });
  };
  const json published = made("--statistics dynamic --points kmeans --weights minmax").at("dfsq");
  EXPECT_EQ(published.at("statistics"), "dynamic");
  EXPECT_EQ(published.at("points"), "kmeans");
  EXPECT_EQ(published.at("weights"), "minmax");
  EXPECT_EQ(count("DynamicSubsetQuantize"), 4);
  EXPECT_EQ(count("SubsetQuantize"), 0);
  const json learnt =
      made("--reconstruct brecq --steps 20 --calib-patch 16 --calib-samples 8 --learn-batch 4");
  EXPECT_EQ(learnt.at("calibration_samples"), 8);
  EXPECT_GE(learnt.at("output_sqnr_db").get<double>(), learnt.at("nearest_sqnr_db").get<double>() - 0.5);
  EXPECT_FALSE(learnt.at("reconstruction").at("slices").empty());
  EXPECT_EQ(count("SubsetQuantize"), 4);
}

// Kept in memory or cut anew at each reading, within any --memory: the patches are the same.
TEST_F(DfsqCommand, PatchesAreTheSameWhateverTheMemory) {
  const auto noise = [&](const std::string& flags) {
    json layers = quantize(fmt::format("--calib-patch 20 --calib-samples 60 --batch 1 {} -o {}", flags,
                                       file("q.onnx").string()))
                      .result()
                      .at("dfsq")
                      .at("layers");
    return layers;
  };
  EXPECT_EQ(noise(""), noise("--memory 1M"));  // 4,800 bytes of a patch and 19,200 of its target
}

TEST_F(DfsqCommand, RefusesFlagsThatMeanNothing) {
  const std::string out = " -o " + file("q.onnx").string();
  expect_user_error(quantize("--first-last 8" + out), "--first-last");
  expect_user_error(quantize("--correct-bias" + out), "--correct-bias");
  expect_user_error(quantize("--restarts 3" + out), "--points kmeans");
  expect_user_error(quantize("--steps 3" + out), "--steps");
  expect_user_error(quantize("--preview 1" + out), "--report");
  expect_user_error(quantize("--calib-patch 1000" + out), "--calib-patch");
  expect_user_error(run_lithe(fmt::format("quantize {} --calib {} --points kmeans -o {}", model().string(),
                                          pairs(), file("q.onnx").string())),
                    "--points is for --method dfsq");
}

// Each of these flags would change nothing, whatever it says.
TEST_F(DfsqCommand, RefusesIdleFlags) {
  const auto refused = [&](const std::string& flags, const std::string& text) {
    expect_user_error(run_lithe(fmt::format("quantize {} --calib {} --method dfsq {} -o {}", model().string(),
                                            pairs(), flags, file("q.onnx").string())),
                      text);
  };
  const std::string weights_only = "--weight-bits 4 --activation-bits off ";
  for (const char* flag : {"--statistics dynamic", "--points uniform", "--points kmeans --restarts 2"})
    refused(weights_only + flag, "--activation-bits 2 to 8");
  refused(weights_only + "--memory 1M", "--memory has no effect");
  const std::string published = "--weight-bits 4 --activation-bits 4 --weights minmax ";
  refused(published + "--weight-scheme symmetric",
          "--weight-scheme has no effect here: it needs --weights mse");
  refused(published + "--search grid", "--search has no effect here: it needs --weights mse");
  const std::string inputs_only = "--weight-bits off --activation-bits 4 ";
  for (const char* flag : {"--weights minmax", "--weight-scheme symmetric", "--reconstruct brecq"})
    refused(inputs_only + flag, "--weight-bits 2 to 8");
  refused("--activation-bits 4 --reconstruct brecq --scales off", "--scales is not for --method dfsq");
  refused("--activation-bits 4 --bias-samples 3", "--bias-samples");
  // Rules for single layers give them a meaning.
  const Outcome ruled = run_lithe(
      fmt::format("quantize {} --calib {} --method dfsq {} --points uniform --bits-for body.0.*=a4 -o {}",
                  model().string(), pairs(), weights_only, file("q.onnx").string()));
  EXPECT_EQ(ruled.status, 0) << ruled.err;
}

/// One convolution with `channels` outputs, for pictures of any size.
Graph one_convolution(std::int64_t channels) {
  GraphBuilder net("one", 1);
  const std::string x = net.input("input", {-1, 3, 16, 16});
  net.output("output", net.conv("conv", x, {.channels = channels}), {-1, channels, 16, 16});
  Graph graph = net.finish();
  for (ValueInfo* info : {&graph.inputs[0], &graph.outputs[0]})
    for (const std::size_t axis : {2u, 3u}) (*info->shape)[axis] = {.symbol = axis == 2 ? "h" : "w"};
  return graph;
}

// Models that make no pictures are refused before anything is quantised or written.
TEST_F(DfsqCommand, PreviewsArePicturesOrRefused) {
  const auto previewed = [&](const Graph& graph, const std::string& flags) {
    write_onnx(graph, file("m.onnx"));
    return run_lithe(fmt::format("quantize {} --calib {} --method minmax --preview 1 --report {} -o {} {}",
                                 file("m.onnx").string(), pictures().string(), file("report").string(),
                                 file("q.onnx").string(), flags));
  };
  GraphBuilder net("classifier", 1);
  const std::string x = net.conv("conv", net.input("input", {-1, 3, 16, 16}), {.channels = 4});
  net.output("logits", net.gemm("fc", net.flatten("flat", net.global_average_pool("pool", x)), 4, 5),
             {-1, 5});
  for (const Graph& graph : {one_convolution(4), net.finish()}) {
    expect_user_error(previewed(graph, "--resize 16x16 --quiet"), "--preview shows pictures, but the output");
    EXPECT_FALSE(fs::exists(file("q.onnx")));
    EXPECT_FALSE(fs::exists(file("report")));
  }
  // A fixed batch is filled up.
  Graph pair = one_convolution(3);
  (*pair.inputs[0].shape)[0] = (*pair.outputs[0].shape)[0] = {.value = 2};
  Outcome outcome = previewed(pair, "--resize 16x16");
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(read_text_file(file("report") / "report.html"), HasSubstr("data:image/png;base64,"));
  // Channels behind the rows and columns.
  Graph last = one_convolution(3);
  const std::vector<std::int64_t> to_first{0, 3, 1, 2}, to_last{0, 2, 3, 1};
  last.nodes[0].inputs[0] = "first";
  last.nodes[0].outputs[0] = "made";
  last.nodes.insert(last.nodes.begin(), {.name = "in",
                                         .op_type = "Transpose",
                                         .inputs = {"input"},
                                         .outputs = {"first"},
                                         .attributes = {{"perm", to_first}}});
  last.nodes.push_back({.name = "out",
                        .op_type = "Transpose",
                        .inputs = {"made"},
                        .outputs = {"output"},
                        .attributes = {{"perm", to_last}}});
  std::erase_if(last.nodes, [](const Node& node) { return node.is("Identity"); });
  for (ValueInfo* info : {&last.inputs[0], &last.outputs[0]})
    info->shape = DimVector{{.symbol = "n"}, {.symbol = "h"}, {.symbol = "w"}, {.value = 3}};
  outcome = previewed(last, "--layout nhwc");
  EXPECT_EQ(outcome.status, 0) << outcome.err;
}

// What was learnt on other points is not gone on with.
TEST_F(DfsqCommand, CheckpointsOfOtherPointsAreRefused) {
  const auto learnt = [&](const std::string& flags) {
    return quantize(
        fmt::format("--reconstruct brecq --steps 3 --calib-patch 16 --calib-samples 8 "
                    "--learn-batch 4 --checkpoints {} -o {} {}",
                    file("kept").string(), file("q.onnx").string(), flags));
  };
  ASSERT_EQ(learnt("").status, 0);
  for (const char* flags :
       {"--points uniform", "--statistics dynamic", "--points kmeans", "--weights minmax"})
    expect_user_error(learnt(fmt::format("--resume {}", flags)), "was made with another model");
  const Outcome same = learnt("--resume");
  EXPECT_EQ(same.status, 0) << same.err;
}

TEST_F(DfsqCommand, ConstantPicturesAndFewValues) {
  fs::create_directory(file("flat"));
  write_picture(file("flat") / "a.ppm", 32, 32, 0, 128);
  for (const char* points : {"exact", "kmeans"}) {
    const Outcome outcome = run_lithe(
        fmt::format("quantize {} --calib pairs:{},scale=2 --method dfsq --activation-bits 8 --points {} "
                    "--json -o {}",
                    model().string(), file("flat").string(), points, file("q.onnx").string()));
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    EXPECT_THAT(outcome.result().at("notes").dump(), HasSubstr("do not vary on the calibration data"));
    // On varied pictures its output is worse than that of what varied pictures made.
    ASSERT_EQ(quantize("-o " + file("varied.onnx").string()).status, 0);
    const auto score = [&](const std::string& name) {
      const Outcome scored = run_lithe(fmt::format("eval {} --against {} --data {} --json",
                                                   file(name).string(), model().string(), pairs()));
      return scored.result().at("against").at("sqnr_db").get<double>();
    };
    EXPECT_LT(score("q.onnx"), score("varied.onnx"));
  }
}

// A picture that comes out as it should has no finite PSNR: the mean leaves it out and says so.
TEST_F(DfsqCommand, MeansLeaveExactPicturesOut) {
  GraphBuilder net("double", 1);
  const std::string x = net.input("input", {-1, 3, 8, 8});
  net.output(
      "output",
      net.node("Resize", "up", {x, "", net.constant("scales", TensorData::from<float>({4}, {1, 1, 2, 2}))},
               {{"mode", std::string("nearest")}}),
      {-1, 3, 16, 16});
  Graph graph = net.finish();
  for (ValueInfo* info : {&graph.inputs[0], &graph.outputs[0]})
    for (const std::size_t axis : {2u, 3u})
      (*info->shape)[axis] = {.symbol = info->name + std::to_string(axis)};
  graph.values.clear();
  write_onnx(graph, file("double.onnx"));
  write_picture(pictures() / "flat.ppm", 48, 64, 0, 90);
  const std::string call = fmt::format("eval {} --data {}", file("double.onnx").string(), pairs());
  const json result = run_lithe(call + " --json").result();
  EXPECT_EQ(result.at("n_exact"), 1);
  EXPECT_TRUE(result.at("psnr_y").is_number());
  EXPECT_TRUE(result.at("bicubic_psnr_y").is_number());
  EXPECT_THAT(result.at("notes").dump(), HasSubstr("1 of 4 images came out equal to the target"));
  EXPECT_THAT(result.at("notes").dump(), HasSubstr("1 of 4 images enlarged by bicubic"));
  fs::remove_all(pictures());
  fs::create_directory(pictures());
  write_picture(pictures() / "flat.ppm", 48, 64, 0, 90);
  const Outcome flat = run_lithe(call);
  EXPECT_EQ(flat.status, 0) << flat.err;
  EXPECT_THAT(flat.out, HasSubstr("exact"));
  EXPECT_THAT(flat.out, Not(HasSubstr("inf")));
}

// A plan needs no sizes, but takes those of the data that are named, and refuses data that are not there.
TEST_F(DfsqCommand, DryRunsOfOpenNetworks) {
  const auto plan = [&](const std::string& flags) {
    return run_lithe(fmt::format("quantize {} --dry-run --method dfsq --json {}", model().string(), flags));
  };
  const auto size = [](const Outcome& outcome) {
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return outcome.result().at("units").at(0).at("input_shapes").at(0);
  };
  EXPECT_EQ(size(plan("")), (json{1, 3, 48, 48}));
  EXPECT_EQ(size(plan("--calib " + pairs())), (json{1, 3, 24, 32}));
  EXPECT_EQ(size(plan("--calib-patch 20 --calib " + pairs())), (json{1, 3, 20, 20}));
  EXPECT_EQ(size(plan("--shape input=1,3,64,64 --calib " + pairs())), (json{1, 3, 64, 64}));
  expect_user_error(plan("--calib " + file("nosuch").string()), "nosuch");
  expect_user_error(plan("--data " + file("nosuch").string()), "nosuch");
  expect_user_error(run_lithe(fmt::format("quantize {} --dry-run", model().string())), "--shape");
}

TEST_F(DfsqCommand, EvalScoresEveryImageBesideBicubic) {
  const Outcome outcome = run_lithe(fmt::format("eval {} --data {} --json", model().string(), pairs()));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const json result = outcome.result();
  ASSERT_EQ(result.at("images").size(), 3u);
  double sum = 0;
  for (const json& image : result.at("images")) {
    sum += image.at("psnr_y").get<double>();
    EXPECT_GT(image.at("bicubic_psnr_y").get<double>(), 20);
    EXPECT_GT(image.at("bicubic_ssim_y").get<double>(), 0.8);
  }
  EXPECT_NEAR(result.at("psnr_y").get<double>(), sum / 3, 1e-9);
  EXPECT_TRUE(result.at("bicubic_psnr_y").is_number());
}

TEST_F(DfsqCommand, TilesGiveTheSame) {
  ASSERT_EQ(quantize("-o " + file("static.onnx").string()).status, 0);
  ASSERT_EQ(quantize("--statistics dynamic -o " + file("dynamic.onnx").string()).status, 0);
  const auto scored = [&](const std::string& name, const std::string& flags) {
    return run_lithe(fmt::format("eval {} --data {} --json {}", file(name).string(), pairs(), flags));
  };
  const json whole = scored("static.onnx", "").result(), tiled = scored("static.onnx", "--tile 13").result();
  EXPECT_NEAR(whole.at("psnr_y").get<double>(), tiled.at("psnr_y").get<double>(), 1e-4);
  for (std::size_t i = 0; i < 3; ++i)
    for (const char* score : {"psnr_y", "psnr_rgb", "ssim_y"})
      EXPECT_NEAR(whole.at("images")[i].at(score).get<double>(),
                  tiled.at("images")[i].at(score).get<double>(), 1e-4)
          << score;
  expect_user_error(scored("dynamic.onnx", "--tile 13"), "--statistics static");
}

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // takes much memory of its own
#else
constexpr bool kSanitized = false;
#endif

/// The largest resident memory of `lithe` in bytes.
std::int64_t peak_of(const std::vector<std::string>& arguments) {
  const pid_t process = fork();
  if (process == 0) {
    std::vector<char*> words{const_cast<char*>(LITHE_PROGRAM)};
    for (const std::string& argument : arguments) words.push_back(const_cast<char*>(argument.c_str()));
    words.push_back(nullptr);
    execv(words[0], words.data());
    _exit(127);
  }
  int status = -1;
  rusage used{};
  EXPECT_EQ(wait4(process, &status, 0, &used), process);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  return std::int64_t{1024} * used.ru_maxrss;
}

// Beside a small picture, a large one takes what it is as input, output and target in float32 and some copies
// in bytes: under 120 bytes a pixel. The values of the network alone would be 128 bytes a pixel of the input,
// and scores of the whole in double precision several hundred a pixel of the output.
TEST_F(DfsqCommand, TilesBoundTheMemory) {
  if (kSanitized) GTEST_SKIP() << "sanitizers take memory of their own";
  const auto peak = [&](int side) {
    const fs::path folder = file(fmt::format("of{}", side));
    fs::create_directory(folder);
    write_picture(folder / "a.ppm", side, side, 1);
    return peak_of({"eval", model().string(), "--data", fmt::format("pairs:{},scale=2", folder.string()),
                    "--tile", "64", "--threads", "1", "--quiet"});
  };
  constexpr int kSide = 1600;
  EXPECT_LT(peak(kSide) - peak(96), std::int64_t{120} * kSide * kSide);
}

// The scored output, not the first one, is put together.
TEST_F(DfsqCommand, TilesOfAnotherOutput) {
  Graph graph = test::open_edsr();
  graph.nodes.push_back({.name = "inverse", .op_type = "Neg", .inputs = {"output"}, .outputs = {"other"}});
  graph.nodes.push_back({.name = "back", .op_type = "Neg", .inputs = {"other"}, .outputs = {"second"}});
  ValueInfo second = graph.outputs[0];
  second.name = "second";
  graph.outputs.push_back(second);
  write_onnx(graph, file("two.onnx"));
  const auto scored = [&](const std::string& flags) {
    return run_lithe(fmt::format("eval {} --data {} --json --output-name second {}",
                                 file("two.onnx").string(), pairs(), flags));
  };
  const Outcome tiled = scored("--tile 13");
  ASSERT_EQ(tiled.status, 0) << tiled.err;
  EXPECT_NEAR(tiled.result().at("psnr_y").get<double>(), scored("").result().at("psnr_y").get<double>(),
              1e-4);
  expect_user_error(run_lithe(fmt::format("eval {} --data {} --tile 13 --output-name third",
                                          file("two.onnx").string(), pairs())),
                    "no output 'third'");
}

TEST_F(DfsqCommand, BadPairs) {
  const auto eval = [&](const std::string& data, const std::string& flags = "") {
    return run_lithe(fmt::format("eval {} --data {} {}", model().string(), data, flags));
  };
  expect_user_error(eval(pairs(), "--shave 40"), "--shave");
  expect_user_error(eval("pairs:" + pictures().string() + ",scale=0"), "scale=0");
  expect_user_error(eval("pairs:" + pictures().string() + ",scale=60"), "p0.ppm");
  fs::create_directory(file("pair"));
  write_picture(file("pair") / "a_HR.ppm", 40, 40, 1);
  write_picture(file("pair") / "a_LR.ppm", 20, 13, 1);
  expect_user_error(eval(file("pair").string()), "are no pair");
  write_picture(file("pair") / "a_LR.ppm", 10, 10, 1);
  expect_user_error(eval(file("pair").string()), "the scale of the pairs");
  write_picture(file("pair") / "a_HR.ppm", 41, 41, 1);
  write_picture(file("pair") / "a_LR.ppm", 20, 20, 1);
  EXPECT_EQ(eval(file("pair").string()).status, 0);  // a row and a column too many are usual
}

}  // namespace
}  // namespace lithe
