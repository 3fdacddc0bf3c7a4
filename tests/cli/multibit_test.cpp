#include <gmock/gmock.h>

#include "cli/lithe.h"
#include "lithe/graph/onnx.h"
#include "onnxruntime/need.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kSheet = "sheet:" + (kExamples / "digits/digits.png").string() + ",cell=20x20";
const std::string kTrain = " --data " + kSheet + ",columns=0:20";
const std::string kHeldOut = " --data " + kSheet + ",columns=90:100";

class MultibitTool : public testing::Test {
 protected:
  /// A model of the digits at 2, 3 and 8 bits, made once.
  static const std::string& model() {
    static const TemporaryFolder folder;
    static const std::string path = (folder.path() / "digits.mb.onnx").string();
    if (!fs::exists(path)) {
      const Outcome outcome =
          run_lithe("multibit train " + kDigits + kTrain +
                    " --bits 2,3,8 --epochs 2 --lr 0.01 --batch 50 --threads 1 --quiet -o " + path);
      EXPECT_EQ(outcome.status, 0) << outcome.err;
    }
    return path;
  }
  TemporaryFolder folder_;
  std::string out_ = (folder_.path() / "out.onnx").string();
  std::string to_out_ = " -o " + out_;
};

TEST_F(MultibitTool, TrainsAndTells) {
  const std::string report = (folder_.path() / "report").string();
  const Outcome outcome =
      run_lithe("multibit train " + kDigits + kTrain + " --val " + kSheet +
                ",columns=90:100 --bits 2,4 --epochs 1 --lr 0.01 --batch 50 --threads 1 --json "
                "--report " +
                report + to_out_);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto result = outcome.result();
  EXPECT_EQ(result.at("method"), "mbquant");
  ASSERT_EQ(result.at("bit_widths").size(), 2u);
  for (const auto& one : result.at("bit_widths")) {
    EXPECT_GT(one.at("top1").get<double>(), 0.5) << one.at("bits");
    EXPECT_EQ(one.at("ratio"), 1.0);
  }
  EXPECT_EQ(result.at("bit_widths")[1].at("macs").get<double>(),
            2 * result.at("bit_widths")[0].at("macs").get<double>());
  EXPECT_TRUE(fs::exists(fs::path(report) / "report.html"));
  EXPECT_FALSE(fs::exists(out_ + ".checkpoints"));
  // Other verbs see the scores of the most bits.
  const Outcome eval = run_lithe("eval " + out_ + kHeldOut + " --json --threads 1");
  ASSERT_EQ(eval.status, 0) << eval.err;
  EXPECT_EQ(eval.result().at("top1"), result.at("bit_widths")[1].at("top1"));
}

// Also of samples that only training sees: the scores of what is kept, and no column without numbers.
TEST_F(MultibitTool, TellsTheScoresOfHeldOutSamples) {
  const std::string train = "multibit train " + kDigits + " --data " + kSheet +
                            ",columns=0:6 --val-share 0.2 --epochs 1 --lr 0.01 --batch 50 --norm-batches 2 "
                            "--threads 1";
  const Outcome several = run_lithe(train + " --bits 2,4 --json" + to_out_);
  ASSERT_EQ(several.status, 0) << several.err;
  const auto result = several.result();
  const auto& extra = result.at("epochs")[0];
  double mean = 0;
  for (const auto& one : result.at("bit_widths")) mean += one.at("top1").get<double>() / 2;
  EXPECT_NEAR(mean, extra.at("validation_top1").get<double>(), 1e-9);
  const Outcome single = run_lithe(train + " --bits 4 --method adabits --json" + to_out_);
  ASSERT_EQ(single.status, 0) << single.err;
  EXPECT_EQ(single.result().at("method"), "adabits");
  EXPECT_EQ(single.result().at("bit_widths")[0].at("top1"),
            single.result().at("epochs")[0].at("validation_top1"));
  const Outcome text = run_lithe("multibit eval " + out_);
  ASSERT_EQ(text.status, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("BitOPs"));
  EXPECT_THAT(text.out, testing::Not(HasSubstr("top-1")));
  EXPECT_THAT(text.out, testing::Not(HasSubstr("ms, integer")));
}

TEST_F(MultibitTool, EvaluatesEveryBitWidthBothWays) {
  const Outcome engine = run_lithe("multibit eval " + model() + kHeldOut + " --json --threads 1"),
                integer = run_lithe("multibit eval " + model() + kHeldOut +
                                    " --backend integer --json --threads 1");
  ASSERT_EQ(engine.status, 0) << engine.err;
  ASSERT_EQ(integer.status, 0) << integer.err;
  for (std::size_t i = 0; i < 3; ++i) {
    const auto a = engine.result().at("bit_widths")[i], b = integer.result().at("bit_widths")[i];
    EXPECT_GT(a.at("top1").get<double>(), 0.7);
    EXPECT_NEAR(a.at("top1").get<double>(), b.at("top1").get<double>(), 0.011);
    EXPECT_GT(a.at("integer_ms").get<double>(), 0);
  }
  const Outcome one = run_lithe("multibit eval " + model() + " --bits 3");
  ASSERT_EQ(one.status, 0) << one.err;
  EXPECT_THAT(one.out, HasSubstr("1, part of 2"));
  EXPECT_THAT(one.out, HasSubstr("time follows multiply-accumulates"));
}

TEST_F(MultibitTool, ExportsModelsThatRunAnywhere) {
  const std::string report = (folder_.path() / "report").string();
  const Outcome outcome = run_lithe("multibit export " + model() + " --json --report " + report + to_out_);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_TRUE(fs::exists(fs::path(report) / "report.html"));
  for (const auto& one : outcome.result().at("differences")) {
    EXPECT_EQ(one.at("to_integer"), 0.0) << one.dump();  // from the integer run time, which reads other bytes
    EXPECT_EQ(one.at("to_static"), 0.0) << one.dump();
    EXPECT_EQ(one.at("argmax_agreement"), 1.0) << one.dump();
  }
  const Outcome fixed = run_lithe("multibit export " + model() + " --form static --bits 2,8" + to_out_);
  ASSERT_EQ(fixed.status, 0) << fixed.err;
  const std::string eight = (folder_.path() / "out.b8.onnx").string();
  EXPECT_TRUE(fs::exists(folder_.path() / "out.b2.onnx"));
  for (const Node& node : read_onnx(eight).nodes) EXPECT_EQ(node.domain, "") << node.name;
  const Outcome fast =
      run_lithe("multibit export " + model() + " --form static --bits 8 --mode fast" + to_out_);
  ASSERT_EQ(fast.status, 0) << fast.err;
  EXPECT_THAT(fast.out, HasSubstr("from exact integers"));
  const Outcome numbers =
      run_lithe("multibit export " + model() + " --form static --bits 8 --mode fast --json" + to_out_);
  ASSERT_EQ(numbers.status, 0) << numbers.err;
  EXPECT_GT(numbers.result().at("differences")[0].at("to_integer").get<double>(), 0);
  EXPECT_GT(numbers.result().at("differences")[0].at("to_static").get<double>(), 0);

  LITHE_NEED_ONNX_RUNTIME();
  const Outcome score = run_lithe("eval " + eight + kHeldOut + " --backend ort --json --threads 1");
  ASSERT_EQ(score.status, 0) << score.err;
  EXPECT_GT(score.result().at("top1").get<double>(), 0.7);
}

TEST_F(MultibitTool, WhatTheUserCanMend) {
  const std::string train = "multibit train " + kDigits + kTrain + " --quiet ";
  expect_user_error(run_lithe(train + "--bits 2,9" + to_out_), "9 is not from 2 to 8");
  expect_user_error(run_lithe(train + "--bits 4,2" + to_out_), "not ascending");
  expect_user_error(run_lithe(train + "--bits 8-2" + to_out_), "8-2 runs backwards; write 2-8");
  expect_user_error(run_lithe("multibit train " + model() + kTrain + " --quiet" + to_out_),
                    "runs at several bit-widths already");
  expect_user_error(run_lithe(train + "--bits x" + to_out_), "give bit-widths from 2 to 8");
  expect_user_error(run_lithe(train + "--method lsq" + to_out_), "one bit-width at a time");
  expect_user_error(run_lithe("multibit train " + kDigits + to_out_), "needs --data");
  expect_user_error(run_lithe(train), "-o FILE");
  expect_user_error(run_lithe(train + "--part 64" + to_out_), "FULL=PART");
  expect_user_error(run_lithe("multibit eval " + kDigits), "lithe multibit train");
  expect_user_error(run_lithe("multibit eval " + model() + " --bits 4"),
                    "not trained for 4 bits; it has 2,3,8");
  expect_user_error(run_lithe("multibit export " + model() + " --bits 5" + to_out_), "it has 2,3,8");
  expect_user_error(run_lithe("multibit export " + model() + " --mode fast" + to_out_), "--form static");
  expect_user_error(run_lithe("multibit export " + model()), "-o FILE");
  EXPECT_FALSE(fs::exists(out_));
}

TEST_F(MultibitTool, RefusesFlagsThatMeanNothing) {
  const std::string train = "multibit train " + kDigits + kTrain + " --dry-run --quiet ";
  for (const char* flag : {"shared --slots", "shared --naive-branches", "anyprecision --part 8=4",
                           "anyprecision --branch-noise 0.2"})
    expect_user_error(run_lithe(train + "--bits 2,3 --method " + flag), "only method mbquant has branches");
  expect_user_error(run_lithe(train + "--method lsq --bits 4 --sandwich"), "--sandwich: --bits 4 is one");
  expect_user_error(run_lithe(train + "--bits 4 --teaching none"), "--teaching: --bits 4 is one");
  expect_user_error(run_lithe(train + "--bits 2,4 --part 8=4"), "only odd bit-widths run a part");
  expect_user_error(run_lithe(train + "--bits 2,3 --part 1000=4"), "has 1000 channels; there are");
  expect_user_error(run_lithe(train + "--bits 2,3 --part 8=4 --part 8=3"), "given twice");
  expect_user_error(run_lithe(train + "--from-scratch --branch-noise 0.2"), "start from scratch");
  expect_user_error(run_lithe(train + "--classes 10"), "has its own outputs");
  expect_user_error(run_lithe("multibit train resnet20" + kTrain + " --dry-run --branch-noise 0.2"),
                    "start from scratch");
}

TEST_F(MultibitTool, RefusesMalformedRecords) {
  Graph graph = read_onnx(model());
  const std::string broken = (folder_.path() / "broken.onnx").string();
  for (const char* record : {"", "[", "{}", "{\"schema\": 1, \"method\": \"mbquant\"}",
                             ("{\"schema\":1,\"method\":\"mbquant\",\"entry\":\"x\",\"paths\":[{\"bits\":4,"
                              "\"output\":\"y\",\"exit\":\"z\",\"branches\":[],\"partial\":0}]}")}) {
    graph.header.metadata["lithe.multibit"] = record;
    write_onnx(graph, broken);
    expect_user_error(run_lithe("multibit eval " + broken), "malformed");
    expect_user_error(run_lithe("multibit export " + broken + to_out_), "malformed");
  }
}

TEST_F(MultibitTool, DryRunShowsCosts) {
  const TemporaryFolder report;
  const Outcome outcome = run_lithe("multibit train resnet20" + kTrain +
                                    " --bits 2-8 --dry-run --json --report " + report.path().string());
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.result().at("bit_widths").size(), 7u);
  EXPECT_LE(outcome.result().at("bit_widths")[1].at("ratio").get<double>(), 1.0);
  EXPECT_TRUE(fs::is_empty(folder_.path()));
  EXPECT_TRUE(fs::exists(report.path() / "report.html"));
}

}  // namespace
}  // namespace lithe
