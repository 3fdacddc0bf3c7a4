// lithe quantize --budget: bits of each layer so that the file, or the mean, stays within what was asked for.
#include <gmock/gmock.h>

#include <map>

#include "cli/lithe.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kSheet =
    "sheet:" + (kExamples / "digits/digits.png").string() + ",cell=20x20,columns=70:80";

class QuantizeBudget : public testing::Test {
 protected:
  TemporaryFolder folder_;
  std::string out_ = (folder_.path() / "out.onnx").string();
  std::string call(const std::string& flags) const {
    return "quantize " + kDigits + " --calib " + kSheet + " --calib-samples 64 --threads 1 " + flags +
           " -o " + out_;
  }
};

TEST_F(QuantizeBudget, ASizeIsThatOfTheFile) {
  const Outcome outcome = run_lithe(call("--budget size=68K --opset 21 --json"));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto bytes = fs::file_size(out_);
  EXPECT_LE(bytes, 68000u);
  EXPECT_GT(bytes, 60000u);
  const auto result = outcome.result();
  const auto &budget = result.at("budget"), &achieved = budget.at("achieved");
  EXPECT_EQ(budget.at("asked").at("kind"), "bytes");
  EXPECT_EQ(budget.at("asked").at("value"), 68000);
  EXPECT_LE(achieved.at("bytes"), 68000);
  EXPECT_NEAR(achieved.at("bytes").get<double>(), static_cast<double>(bytes), 2000);
  // The first and the last layer are not chosen for.
  EXPECT_EQ(budget.at("layers").size() + 2, result.at("layers").size());
  std::map<std::string, int> bits;
  for (const auto& layer : result.at("layers")) bits[layer.at("name")] = layer.at("weight_bits");
  double loss = 0;
  for (const auto& layer : budget.at("layers")) {
    EXPECT_EQ(bits.at(layer.at("name")), layer.at("weight_bits"));
    for (const auto& candidate : layer.at("candidates"))
      if (candidate.at("bits") == layer.at("weight_bits")) loss += candidate.at("loss").get<double>();
  }
  EXPECT_NEAR(loss, achieved.at("loss").get<double>(), 1e-9 + 1e-6 * loss);
  const auto& curve = budget.at("curve");
  ASSERT_GT(curve.size(), 1u);
  for (std::size_t i = 1; i < curve.size(); ++i) {
    EXPECT_GT(curve[i].at("bytes"), curve[i - 1].at("bytes"));
    EXPECT_LT(curve[i].at("loss"), curve[i - 1].at("loss"));
  }
}

TEST_F(QuantizeBudget, AMeanNumberOfBitsWithFixedLayersAndAReport) {
  const fs::path report = folder_.path() / "report";
  const Outcome outcome = run_lithe(
      call("--budget bits=3.5 --budget-bits 4,2,3,4 --bits-for 'block1*=6' --method brecq --steps 5 "
           "--learn-batch 8 --json --report " +
           report.string()));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto result = outcome.result();
  EXPECT_TRUE(result.contains("reconstruction"));
  EXPECT_LE(result.at("budget").at("achieved").at("mean_bits"), 3.5);
  EXPECT_GT(result.at("budget").at("achieved").at("mean_bits"), 3.3);
  for (const auto& layer : result.at("layers")) {
    const std::string name = layer.at("name");
    const int bits = layer.at("weight_bits");
    if (name.starts_with("block1")) {
      EXPECT_EQ(bits, 6);
    } else if (name.starts_with("block")) {
      EXPECT_TRUE(bits >= 2 && bits <= 4) << name << " " << bits;
    }
  }
  const auto items = nlohmann::json::parse(read_text_file(report / "report.json")).at("report").at("items");
  const auto find = [&](const std::string& title) {
    return std::find_if(items.begin(), items.end(),
                        [&](const auto& item) { return item.value("title", "") == title; });
  };
  ASSERT_NE(find("Loss against bits"), items.end());
  EXPECT_EQ(find("Loss against bits")->at("series").size(), 2u);
  ASSERT_NE(find("Bits under the budget"), items.end());
  EXPECT_EQ(find("Bits under the budget")->at("rows").size(), result.at("budget").at("layers").size());
}

TEST_F(QuantizeBudget, IsToldInWords) {
  const Outcome outcome = run_lithe(call("--budget size=40%"));
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("budget of 40% of the float size: "));
  EXPECT_LE(fs::file_size(out_), 0.4 * static_cast<double>(fs::file_size(kDigits)));
}

TEST_F(QuantizeBudget, MistakesAreNamed) {
  expect_user_error(run_lithe(call("--budget size=30K")), "--opset 21");
  const Outcome tiny = run_lithe(call("--budget size=30K --opset 21"));
  expect_user_error(tiny, "cannot be met: at the fewest bits the model takes");
  EXPECT_THAT(tiny.err, testing::Not(HasSubstr("--opset")));
  expect_user_error(run_lithe(call("--budget bits=1")), "cannot be met");
  expect_user_error(run_lithe(call("--budget rubbish")), "--budget 'rubbish'");
  expect_user_error(run_lithe(call("--budget bits=4 --weight-bits 4")), "leave --weight-bits out");
  expect_user_error(run_lithe(call("--budget bits=4 --weight-bits off")), "leave --weight-bits out");
  expect_user_error(run_lithe(call("--budget bits=4 --sweep 4,3")), "--sweep");
  expect_user_error(run_lithe(call("--budget bits=4 --budget-bits 9")), "--budget-bits 9");
  expect_user_error(run_lithe(call("--budget-bits 4,3")), "--budget");
  expect_user_error(run_lithe(call("--budget bits=4 --exclude '*'")), "no layer to choose bits for");
  expect_user_error(run_lithe("quantize " + kDigits + " --activation-bits off --budget bits=4 -o " + out_),
                    "--calib");
  expect_user_error(run_lithe("quantize " + kDigits + " --dry-run --budget size=1K"), "cannot be met");
  EXPECT_TRUE(fs::is_empty(folder_.path()));
}

TEST_F(QuantizeBudget, DryRunsSayThatBitsAreChosenOnData) {
  const Outcome outcome = run_lithe("quantize " + kDigits + " --dry-run --budget bits=4 --json");
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.result().at("notes").dump(), HasSubstr("chosen on data"));
}

}  // namespace
}  // namespace lithe
