// lithe stylize with a tiny model.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "cli/lithe.h"
#include "lithe/base/file.h"
#include "lithe/data/picture_grid.h"
#include "lithe/models/tiny_stable_diffusion.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class StylizeVerb : public testing::Test {
 protected:
  StylizeVerb() {
    write_tiny_stable_diffusion(folder_.path() / "tiny");
    fs::create_directory(folder_.path() / "in");
    for (int t = 0; t < 3; ++t) {
      at::Tensor picture = at::empty({3, 36, 48}, at::kByte);
      for (int y = 0; y < 36; ++y)
        for (int x = 0; x < 48; ++x)
          for (int c = 0; c < 3; ++c)
            picture[c][y][x] = static_cast<int>(128 + 80 * std::sin(0.3 * (x - t) + c) * std::cos(0.25 * y));
      write_file(file("in/f" + std::to_string(t + 8) + ".png"), picture_png(picture));
    }
  }
  std::string file(const std::string& name) const { return (folder_.path() / name).string(); }
  std::string arguments(const std::string& output, const std::string& rest = "",
                        const char* model = "tiny") const {
    return "stylize " + file("in") + " --model " + file(model) +
           " --threads 1 --prompt boats --window 1 -o " + file(output) +
           (rest.find("--steps") == std::string::npos ? " --steps 3 " : " ") + rest;
  }
  void expect_refused(const std::string& rest, const std::string& why) const {
    expect_user_error(run_lithe(arguments("refused", "--quiet " + rest)), why);
    EXPECT_FALSE(fs::exists(file("refused"))) << rest;
  }
  TemporaryFolder folder_;
};

TEST_F(StylizeVerb, PaintsAFolder) {
  const Outcome made = run_lithe(arguments("out", "--json --quiet --report " + file("report")));
  ASSERT_EQ(made.status, 0) << made.err;
  const auto result = made.result();
  EXPECT_EQ(result["frames"], 3);
  EXPECT_EQ(result["height"], 32) << "36 is no multiple of 8";
  EXPECT_EQ(result["width"], 48);
  EXPECT_EQ(result["timesteps"], (nlohmann::json{999, 666, 333}));
  EXPECT_EQ(result["smoothed_steps"], (nlohmann::json{0, 1}));
  EXPECT_EQ(result["network_calls_per_frame"], 6);
  for (const char* name : {"f8.png", "f9.png", "f10.png"})
    EXPECT_TRUE(fs::exists(file("out/") + name)) << name;
  EXPECT_FALSE(fs::exists(file("out.state.npz")));
  EXPECT_TRUE(fs::exists(file("report/report.html")));

  const auto picture = [&](const std::string& folder) { return read_text_file(file(folder + "/f9.png")); };
  ASSERT_EQ(run_lithe(arguments("again", "--quiet")).status, 0);
  EXPECT_EQ(picture("again"), picture("out"));
  ASSERT_EQ(run_lithe(arguments("other", "--quiet --seed 8")).status, 0);
  EXPECT_NE(picture("other"), picture("out"));
  ASSERT_EQ(run_lithe(arguments("resumed", "--quiet --resume")).status, 0)
      << "where there is nothing to go on with";
  EXPECT_EQ(picture("resumed"), picture("out"));
}

TEST_F(StylizeVerb, TakesTheRecipesSettingsAndFlagsOverThem) {
  const Outcome made =
      run_lithe(arguments("out",
                          "--json --quiet --recipe restore --size 48x16 --steps 10 --cross-frames "
                          "-1,0,1 --guidance 1 --sampler dpmpp2m --spacing studio --strength 0.5 "
                          "--compensate --smooth-finished"));
  ASSERT_EQ(made.status, 0) << made.err;
  const auto result = made.result();
  EXPECT_EQ(result["height"], 16);
  EXPECT_EQ(result["width"], 48);
  EXPECT_EQ(result["timesteps"].size(), 10u);
  EXPECT_EQ(result["timesteps"][0], 499);
  EXPECT_EQ(result["smoothed_steps"].size(), 10u);
  EXPECT_EQ(result["pictures_per_frame"], 3);
  EXPECT_EQ(result["network_calls_per_frame"], 30);
}

TEST_F(StylizeVerb, TakesControlPictures) {
  write_tiny_stable_diffusion(folder_.path() / "merged", {.control = ControlForm::Merged});
  write_tiny_stable_diffusion(folder_.path() / "split", {.control = ControlForm::Split});
  const std::string controls =
      "--quiet --control canny,scale=0.5 --control tile --control " + file("in") + ",scale=0.2";
  EXPECT_EQ(run_lithe(arguments("one", controls, "merged")).err, "");
  const Outcome split = run_lithe(arguments("two", controls + ",shuffle=1", "split"));
  EXPECT_EQ(split.status, 0) << split.err;
  expect_refused("--control tile", "takes no control pictures");
  expect_refused("--control tile,size=3", "'size=3'");
  expect_refused("--control tile,scale=x", "'scale=x'");
  expect_refused("--control " + file("none"), "none");
}

TEST_F(StylizeVerb, RefusesMistakesInOneLine) {
  expect_refused("--smooth 3", "there are 3 steps, 0 to 2");
  expect_refused("--smooth every:0", "every:0");
  expect_refused("--smooth x", "'x' is no whole number");
  expect_refused("--size 30x30", "multiples of 8");
  expect_refused("--size big", "--size big");
  expect_refused("--size 32x24", "take multiples of 64");
  expect_refused("--recipe x", "no recipe is called 'x'");
  expect_refused("--cross-frames 1,b", "'b'");
  expect_refused("--limit -3", "--limit");
  expect_user_error(run_lithe("stylize " + file("in") + " --quiet --model " + file("tiny")), "needs -o");
  expect_user_error(
      run_lithe("stylize " + file("in") + " --quiet -o " + file("x") + " --model " + file("in")),
      "unet/model.onnx");
  expect_user_error(
      run_lithe("stylize " + file("none") + " --quiet -o " + file("x") + " --model " + file("tiny")), "none");
}

}  // namespace
}  // namespace lithe
