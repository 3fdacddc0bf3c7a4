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
    for (const char* key : {"name", "op", "pattern", "weights", "nonzero", "kept_magnitude"})
      EXPECT_TRUE(layer.contains(key)) << key;
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
  expect_user_error(run_lithe(sparsify + kTrain + " --resume" + to_out_), "--checkpoints");
  expect_user_error(run_lithe(sparsify + kTrain + " --lr 1e9 --epochs 2 --threads 1 --quiet" + to_out_), "");
  expect_user_error(run_lithe("sparsify " + kDigits + " --method magnitude -o " + kDigits), "");
  EXPECT_TRUE(nothing_written());
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
