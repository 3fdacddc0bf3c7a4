// `lithe quantize --method dfsq` and `lithe eval` on pairs of pictures, as a user runs them.
#include <gmock/gmock.h>

#include <fstream>

#include "cli/lithe.h"
#include "lithe/base/random.h"
#include "lithe/graph/onnx.h"
#include "open_edsr.h"

namespace lithe {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
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
  for (const char* flags : {"--statistics dynamic --points kmeans --weights minmax",
                            "--reconstruct brecq --steps 20 --calib-patch 16 "
                            "--calib-samples 8 --learn-batch 4"}) {
    const Outcome outcome = quantize(fmt::format("{} -o {}", flags, file("q.onnx").string()));
    EXPECT_EQ(outcome.status, 0) << outcome.err;
  }
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

TEST_F(DfsqCommand, ConstantPicturesAndFewValues) {
  fs::create_directory(file("flat"));
  write_picture(file("flat") / "a.ppm", 32, 32, 0, 128);
  for (const char* points : {"exact", "kmeans"}) {
    const Outcome outcome = run_lithe(
        fmt::format("quantize {} --calib pairs:{},scale=2 --method dfsq --activation-bits 8 --points {} "
                    "--json -o {}",
                    model().string(), file("flat").string(), points, file("q.onnx").string()));
    EXPECT_EQ(outcome.status, 0) << outcome.err;
  }
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
  expect_user_error(scored("dynamic.onnx", "--tile 13"), "--statistics static");
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
