#include <gmock/gmock.h>

#include "cli/lithe.h"
#include "lithe/graph/onnx.h"
#include "lithe/graph/sparsity.h"
#include "onnxruntime/need.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kSheet = "sheet:" + (kExamples / "digits/digits.png").string() + ",cell=20x20";
const std::string kTrain = " --data " + kSheet + ",columns=0:20";
const std::string kHeldOut = " --val " + kSheet + ",columns=90:100";

class SparsifyTool : public testing::Test {
 protected:
  TemporaryFolder folder_;
  std::string out_ = (folder_.path() / "out.onnx").string();
  std::string to_out_ = " -o " + out_;
  bool nothing_written() const { return fs::is_empty(folder_.path()); }
};

TEST_F(SparsifyTool, SpReTrainsFoldsAndRunsAnywhere) {
  const std::string report = (folder_.path() / "report").string();
  const Outcome outcome =
      run_lithe("sparsify " + kDigits + kTrain + kHeldOut +
                " --pattern 2:4 --method spre --epochs 1 --lr 0.01 --batch 64 --threads 1 --json --report " +
                report + to_out_);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto result = outcome.result();
  EXPECT_EQ(result.at("variant"), "stabilised");
  EXPECT_GT(result.at("before").at("top1").get<double>(), 0.95);
  EXPECT_GT(result.at("after").at("top1").get<double>(), 0.9);
  EXPECT_LE(result.at("fold_difference").at("absolute").get<double>(), 1e-5);
  EXPECT_LE(result.at("fold_difference").at("exact").get<double>(), 1e-5);
  EXPECT_TRUE(result.contains("file_bytes"));
  int pruned = 0;
  for (const auto& layer : result.at("layers")) {
    for (const char* key : {"name", "op", "pattern", "weights", "nonzero", "kept_magnitude", "sqnr_db"})
      EXPECT_TRUE(layer.contains(key)) << key;
    EXPECT_EQ(layer.at("weight_bits"), 32);
    EXPECT_EQ(layer.at("bytes"), 4 * layer.at("weights").get<int>());
    if (layer.at("pattern").is_null()) continue;
    ++pruned;
    EXPECT_LE(layer.at("nonzero").get<int>() * 2, layer.at("weights").get<int>());
    const Graph written = read_onnx(out_);
    for (const SparsityCheck& check : check_sparsity(written, {2, 4}))
      EXPECT_TRUE(check.violations == 0 || check.node != layer.at("name")) << check.tensor;
  }
  EXPECT_GT(pruned, 0);
  EXPECT_TRUE(fs::exists(fs::path(report) / "report.html"));
  for (const Node& node : read_onnx(out_).nodes) EXPECT_EQ(node.domain, "") << node.name;

  LITHE_NEED_ONNX_RUNTIME();
  const Outcome verify = run_lithe("verify " + out_ + " --json");
  EXPECT_EQ(verify.status, 0) << verify.err;
}

TEST_F(SparsifyTool, MagnitudeWithoutDataWarns) {
  const Outcome outcome = run_lithe("sparsify " + kDigits + " --pattern 1:4 --method magnitude" + to_out_);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("falls to chance"));
  EXPECT_TRUE(fs::exists(out_));
}

TEST_F(SparsifyTool, DryRunWritesNothing) {
  const Outcome outcome = run_lithe("sparsify " + kDigits + " --pattern 2:4 --dry-run --json");
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_FALSE(outcome.result().at("layers").empty());
  EXPECT_EQ(outcome.result().at("layers").at(0).at("dense_reason"), "first layer");
  EXPECT_FALSE(outcome.result().at("units").empty());
  EXPECT_TRUE(nothing_written());
}

TEST_F(SparsifyTool, WhatTheUserCanMend) {
  const std::string sparsify = "sparsify " + kDigits;
  expect_user_error(run_lithe(sparsify + " --pattern 5:4 --dry-run"), "5:4");
  expect_user_error(run_lithe(sparsify + " --pattern 1:64 --method magnitude" + to_out_), "no layer");
  expect_user_error(run_lithe(sparsify + " --pattern 1:7 --ragged error --dry-run"), "no multiple of 7");
  expect_user_error(run_lithe(sparsify + " --method spre" + to_out_), "needs --data");
  expect_user_error(run_lithe(sparsify + " --method magnitude"), "-o FILE");
  expect_user_error(run_lithe(sparsify + " --exclude nothing --dry-run"), "matches no layer");
  expect_user_error(run_lithe(sparsify + kTrain + " --budget size=2" + to_out_), "is no budget");
  expect_user_error(run_lithe(sparsify + " --budget size=0.001 --dry-run"), "cannot be met");
  expect_user_error(run_lithe(sparsify + kTrain + " --lr 1e9 --epochs 2 --threads 1 --quiet" + to_out_),
                    "lower the learning rate");
  expect_user_error(run_lithe("sparsify " + kDigits + " --method magnitude -o /nowhere/out.onnx"),
                    "/nowhere");
  for (const auto& [flags, flag] : std::vector<std::pair<std::string, std::string>>{
           {"--method magnitude --epochs 7", "--epochs"},
           {"--method magnitude --resume", "--resume"},
           {"--method asp --decay 0.1", "--decay"},
           {"--method asp --tighten 1", "--tighten"},
           {"--method sr-ste --branch-gamma 1", "--branch-gamma"},
           {"--method spre --temperature 7", "--temperature"},
           {"--candidates 1:2", "--candidates"},
           {"--budget size=0.5 --pattern 1:4", "--pattern"}})
    expect_user_error(run_lithe(sparsify + kTrain + " " + flags + to_out_), flag + " has no effect");
  expect_user_error(run_lithe(sparsify + " --method magnitude --pattern 4:4" + to_out_), "no layer");
  EXPECT_FALSE(fs::exists(out_));
}

TEST_F(SparsifyTool, LeavesCheckpointsOfOthersAlone) {
  const fs::path checkpoints = out_ + ".checkpoints";
  fs::create_directories(checkpoints);
  write_file(checkpoints / "last.safetensors", "of a training");
  ASSERT_EQ(run_lithe("sparsify " + kDigits + " --method magnitude" + to_out_).status, 0);
  EXPECT_EQ(read_text_file(checkpoints / "last.safetensors"), "of a training");
  const Outcome trained = run_lithe("sparsify " + kDigits + " --data " + kSheet +
                                    ",columns=0:4 --method asp --epochs 1 --threads 1 --batch 40" + to_out_);
  ASSERT_EQ(trained.status, 0) << trained.err;
  EXPECT_THAT(trained.err, HasSubstr("is of an earlier run, which is replaced"));
}

// Ctrl-C leaves a checkpoint beside the output, from which --resume goes on to the same weights.
TEST_F(SparsifyTool, LeavesACheckpointWhenInterrupted) {
  const std::string flags = "sparsify " + kDigits + " --data " + kSheet +
                            ",columns=0:4 --method asp --pattern 1:4 --threads 1 --batch 40 ";
  const std::string text = interrupt_in_epoch(flags + "--epochs 100000" + to_out_);
  EXPECT_THAT(text, HasSubstr("--resume goes on from there"));
  EXPECT_TRUE(fs::exists(out_ + ".checkpoints/last.safetensors")) << text;
  EXPECT_FALSE(fs::exists(out_));
  expect_user_error(run_lithe(flags + "--epochs 100000 --resume --pattern-for 'block1.a.conv=2:4'" + to_out_),
                    "was made with pattern of");
}

TEST_F(SparsifyTool, InspectHoldsWhatIsRecorded) {
  ASSERT_EQ(run_lithe("sparsify " + kDigits + " --method magnitude --pattern 2:4" + to_out_).status, 0);
  const Outcome good = run_lithe("inspect " + out_ + " --check-sparsity 2:4 --json");
  ASSERT_EQ(good.status, 0) << good.err;
  EXPECT_FALSE(good.result().at("recorded").empty());
  EXPECT_TRUE(good.result().at("violations").empty());
  const Outcome stricter = run_lithe("inspect " + out_ + " --check-sparsity 1:4");
  EXPECT_EQ(stricter.status, 2);
  EXPECT_THAT(stricter.err, HasSubstr("break 1:4"));

  Graph graph = read_onnx(out_);
  const std::string layer = good.result().at("recorded")[0].at("layer"),
                    weight = good.result().at("recorded")[0].at("weight");
  TensorData& data = graph.constants.at(weight);
  data = TensorData::from(data.shape(), std::vector<float>(static_cast<std::size_t>(data.count()), 1.0f));
  write_onnx(graph, out_);
  const Outcome broken = run_lithe("inspect " + out_ + " --check-sparsity 2:4");
  EXPECT_EQ(broken.status, 2);
  EXPECT_THAT(broken.err, HasSubstr("layer '" + layer + "', recorded as pruned, breaks 2:4"));
  // Training without masks makes all of them dense, and the file says so no more.
  const std::string trained = (folder_.path() / "trained.onnx").string();
  const Outcome train =
      run_lithe("train " + out_ + " --data " + kSheet + ",columns=0:4 --epochs 1 --threads 1 -o " + trained);
  ASSERT_EQ(train.status, 0) << train.err;
  EXPECT_THAT(train.err, HasSubstr("are no longer sparse"));
  EXPECT_FALSE(read_onnx(trained).header.metadata.contains("lithe.sparsity"));
}

TEST_F(SparsifyTool, FaithfulSetsTheRecipe) {
  const Outcome outcome = run_lithe(
      "sparsify " + kDigits + kTrain +
      " --faithful --epochs 1 --lr 0.01 --threads 1 --from-scratch --label-smoothing 0 --json" + to_out_);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto result = outcome.result();
  EXPECT_EQ(result.at("variant"), "faithful");
  std::string notes;
  for (const auto& note : result.at("notes")) notes += note.get<std::string>() + "\n";
  EXPECT_THAT(notes, HasSubstr("faithful, but not in everything: learning rate 0.01 (0.1)"));
  EXPECT_THAT(notes, HasSubstr("label smoothing 0 (0.1)"));
  EXPECT_THAT(notes, testing::Not(HasSubstr("weight decay on weights alone")));
  EXPECT_THAT(notes, testing::Not(HasSubstr("another schedule")));
}

TEST_F(SparsifyTool, InspectShowsSpatialSparsity) {
  const Outcome outcome = run_lithe("inspect " + kDigits + " --spatial-sparsity --json");
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto layers = outcome.result().at("spatial_sparsity");
  ASSERT_FALSE(layers.empty());
  for (const auto& layer : layers) {
    ASSERT_EQ(layer.at("patterns").size(), 3u);
    for (const auto& at : layer.at("patterns")) {
      const double rate = at.at("pattern") == "2:4" ? 0.5 : at.at("pattern") == "1:4" ? 0.75 : 0.9375;
      EXPECT_NEAR(at.at("layer_wise").at("rate").get<double>(), rate, 0.01);
      EXPECT_GT(at.at("layer_wise").at("z").get<double>(), 0);
      EXPECT_EQ(at.at("structured").at("deviation"), 0);
      EXPECT_EQ(at.at("layer_wise").at("zeros").size(), 9u);
    }
  }
  const std::string report = (folder_.path() / "report").string();
  const Outcome written = run_lithe("inspect " + kDigits + " --spatial-sparsity --report " + report);
  EXPECT_EQ(written.status, 0) << written.err;
  EXPECT_THAT(written.out, HasSubstr("centre-mean"));
  EXPECT_TRUE(fs::exists(fs::path(report) / "report.html"));
}

}  // namespace
}  // namespace lithe
