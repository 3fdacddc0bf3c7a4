#include <gmock/gmock.h>

#include "cli/lithe.h"
#include "lithe/graph/onnx.h"
#include "lithe/models/models.h"
#include "onnxruntime/need.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kSheet = "sheet:" + (kExamples / "digits/digits.png").string() + ",cell=20x20";
const std::string kData = " --data " + kSheet + ",columns=0:4";
const std::string kHeldOut = " --val " + kSheet + ",columns=96:100";

/// A transformer of 25 patches, a class token and four blocks, with random weights.
class TokensTool : public testing::Test {
 protected:
  TokensTool() {
    write_onnx(build_vit({.image_size = 20,
                          .patch = 4,
                          .image_channels = 1,
                          .dim = 24,
                          .depth = 4,
                          .heads = 3,
                          .classes = 10}),
               model_);
  }
  TemporaryFolder folder_;
  std::string model_ = (folder_.path() / "vit.onnx").string(), out_ = (folder_.path() / "out.onnx").string(),
              to_out_ = " --threads 1 -o " + out_;
};

TEST_F(TokensTool, LearnsCountsThatMeetTheBudget) {
  const std::string report = (folder_.path() / "report").string();
  const Outcome outcome =
      run_lithe("tokens " + model_ + kData + kHeldOut + to_out_ +
                " --flops 0.6 --epochs 2 --compare 0.7 --pictures 2 --json --report " + report);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto result = outcome.result();
  EXPECT_EQ(result.at("method"), "diffrate");
  EXPECT_EQ(result.at("prune").size(), 4u);
  EXPECT_EQ(result.at("merge").size(), 4u);
  EXPECT_LE(result.at("macs_ratio").get<double>(), 0.6);
  EXPECT_GT(result.at("macs_ratio").get<double>(), 0.58);
  EXPECT_EQ(result.at("layers").size(), 4u);
  EXPECT_EQ(result.at("epochs").size(), 2u);
  EXPECT_TRUE(result.at("before").contains("top1"));
  EXPECT_TRUE(result.at("after").contains("argmax_agreement"));
  EXPECT_GT(result.at("latency_ms").at("after").get<double>(), 0);
  EXPECT_GE(result.at("compared").size(), 14u);
  const std::string html = read_text_file(fs::path(report) / "report.html");
  for (const char* text :
       {"Accuracy against multiply-accumulates", "Kept tokens", "What survives", "data:image/png"})
    EXPECT_THAT(html, HasSubstr(text));
  const auto inspected = run_lithe("inspect " + out_ + " --json");
  EXPECT_EQ(inspected.result().at("macs"), result.at("macs"));

  // The schedule that was written gives the same model again.
  const std::string again = (folder_.path() / "again.onnx").string();
  const Outcome repeated =
      run_lithe("tokens " + model_ + " --schedule " + out_ + ".schedule.json --threads 1 --json -o " + again);
  ASSERT_EQ(repeated.status, 0) << repeated.err;
  EXPECT_EQ(repeated.result().at("merge"), result.at("merge"));
  EXPECT_EQ(repeated.result().at("macs"), result.at("macs"));
  LITHE_NEED_ONNX_RUNTIME();
  EXPECT_EQ(run_lithe("verify " + out_ + " --json").status, 0);
}

TEST_F(TokensTool, ThenQuantized) {
  ASSERT_EQ(run_lithe("tokens " + model_ + to_out_ + " --method fixed --flops 0.6").status, 0);
  const std::string eight = (folder_.path() / "eight.onnx").string();
  const Outcome outcome =
      run_lithe("quantize " + out_ + " --calib " + kSheet + ",columns=0:2 --threads 1 --json -o " + eight);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_LT(fs::file_size(eight), fs::file_size(out_));
  LITHE_NEED_ONNX_RUNTIME();
  EXPECT_EQ(run_lithe("verify " + eight + " --json").status, 0);
}

TEST_F(TokensTool, DryRunShowsTheBlocks) {
  const Outcome outcome = run_lithe("tokens " + model_ + " --dry-run --json");
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto result = outcome.result();
  EXPECT_EQ(result.at("units").size(), 4u);
  EXPECT_EQ(result.at("tokens"), 26);
  EXPECT_EQ(result.at("special_tokens"), 1);
  EXPECT_FALSE(result.at("units")[0].at("reducible").get<bool>());
  EXPECT_THAT(run_lithe("tokens " + model_ + " --dry-run").out, HasSubstr("can be reached"));
}

TEST_F(TokensTool, EveryMethodAndSchedule) {
  for (const char* flags :
       {"--method tome --flops 0.7", "--method evit --flops 0.7", "--method random --flops 0.7",
        "--method fixed --fall count --kind merge --sizes weighted --flops 0.7",
        "--method fixed --class-row-last --flops 0.8"}) {
    const Outcome outcome = run_lithe("tokens " + model_ + to_out_ + " --json " + flags);
    ASSERT_EQ(outcome.status, 0) << flags << outcome.err;
    EXPECT_LE(outcome.result().at("macs_ratio").get<double>(), 0.8) << flags;
  }
}

TEST_F(TokensTool, Mistakes) {
  const std::string to = " -o " + out_;
  const auto refused = [&](const std::string& arguments, const std::string& text) {
    expect_user_error(run_lithe("tokens " + arguments), text);
    EXPECT_FALSE(fs::exists(out_));
  };
  refused(kDigits + " --method fixed" + to, "has no attention");
  refused(model_ + " --method fixed --flops 0.01" + to, "cannot be reached");
  refused(model_ + to, "needs --data");
  refused(model_ + " --method fixed", "needs -o");
  refused(model_ + " --method fixed --compare 0.5" + to, "needs --val");
  const auto schedule = [&](const std::string& text) {
    const std::string path = folder_.path() / "schedule.json";
    write_file(path, text);
    return model_ + " --schedule " + path + to;
  };
  refused(schedule(R"({"prune_kept_num": [26, 20], "merge_kept_num": [26, 20]})"), "4 blocks");
  refused(schedule(R"({"prune_kept_num": [26, 20, 10, 1], "merge_kept_num": [26, 20, 10, 1]})"),
          "at least 2 must stay");
  refused(schedule(R"({"prune_kept_num": [30, 20, 10, 5], "merge_kept_num": [26, 20, 10, 5]})"),
          "keeps 30 tokens");
  refused(schedule("{}") + " --method fixed", "leave one of them out");
  const std::string path = folder_.path() / "schedule.json";
  write_file(path, R"({"prune_kept_num": [26, 20, 22, 5], "merge_kept_num": [26, 20, 22, 5]})");
  const Outcome grows = run_lithe("tokens " + model_ + " --schedule " + path + to_out_);
  EXPECT_EQ(grows.status, 0) << grows.err;
  EXPECT_THAT(grows.out, HasSubstr("running minima"));
}

}  // namespace
}  // namespace lithe
