// From frames to frames.
#include "lithe/stylize/stylize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "lithe/base/file.h"
#include "lithe/models/tiny_stable_diffusion.h"
#include "lithe/stylize/recipes.h"
#include "lithe/stylize/vae.h"
#include "message_of.h"
#include "stylize/moving_frames.h"

namespace lithe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Stylize : public testing::Test {
 protected:
  Stylize() {
    write_tiny_stable_diffusion(folder_.path() / "tiny");
    options_.network.prompt = "a drawing of a boat";
    options_.network.guidance_scale = 2;
    options_.steps = 5;
  }
  std::vector<Frame> run() {
    StableDiffusion model(folder_.path() / "tiny");
    return stylize(model, input_, options_, smoother_, progress_);
  }

  static double difference(const std::vector<Frame>& a, const std::vector<Frame>& b) {
    double sum = 0, count = 0;
    for (std::size_t i = 0; i < a.size(); ++i)
      for (std::size_t k = 0; k < a[i].pixels.size(); ++k, ++count)
        sum += std::abs(a[i].pixels[k] - b[i].pixels[k]);
    return sum / count;
  }

  TemporaryFolder folder_;
  std::vector<Frame> input_ = test::moving_waves(3, 32, 48);
  StylizeOptions options_;
  int smoothed_ = 0;
  FrameSmoother smoother_ = [this](const std::vector<Frame>& frames, const std::vector<Frame>& guides) {
    EXPECT_EQ(guides, input_);
    ++smoothed_;
    // The mean of all frames.
    std::vector<Frame> out = frames;
    for (std::size_t k = 0; k < out[0].pixels.size(); ++k) {
      double sum = 0;
      for (const Frame& frame : frames) sum += frame.pixels[k];
      for (Frame& frame : out) frame.pixels[k] = static_cast<std::int16_t>(std::lround(sum / 3));
    }
    return out;
  };
  Progress progress_;
};

TEST_F(Stylize, PaintsFramesOfTheSameSize) {
  const auto painted = run();
  ASSERT_EQ(painted.size(), 3u);
  for (const Frame& frame : painted) EXPECT_TRUE(frame.same_size(input_[0]));
  EXPECT_EQ(run(), painted) << "the same seed gives the same result";
  EXPECT_EQ(painted[0], painted[1]) << "of one noise, as nothing looks at the frames";
  EXPECT_EQ(smoothed_, 0);
  options_.window = 2;
  EXPECT_LT(difference(run(), painted), 0.5) << "up to rounding";
  options_.seed = 1;
  EXPECT_GT(difference(run(), painted), 5);
  options_.seed = 0;
  options_.fixed_noise = false;
  const auto free = run();
  EXPECT_GT(difference({free[0]}, {free[1]}), 5);
  options_.fixed_noise = true;
  options_.network.prompt = "fog";
  EXPECT_GT(difference(run(), painted), 0.5);
}

TEST_F(Stylize, LittleStrengthStaysNearTheInput) {
  StableDiffusion model(folder_.path() / "tiny");
  StableDiffusionVae vae(model);
  const auto kept = vae.decode(vae.encode(input_));
  options_.steps = 50;
  options_.strength = 0.04;
  const double near = difference(run(), kept);
  options_.strength = 0.5;
  EXPECT_GT(difference(run(), kept), 2 * near);
}

TEST_F(Stylize, SmoothingBringsFramesTogether) {
  options_.fixed_noise = false;
  const auto flicker = [](const std::vector<Frame>& frames) {
    return difference({frames[0], frames[1]}, {frames[1], frames[2]});
  };
  const double alone = flicker(run());
  options_.smoothing = {4};
  EXPECT_LT(flicker(run()), 0.02 * alone) << "the last step takes what smoothing gives";
  EXPECT_EQ(smoothed_, 1);
  options_.smoothing = {0, 1, 2, 3};
  EXPECT_LT(flicker(run()), 0.8 * alone);
  EXPECT_EQ(smoothed_, 5);
  options_.smoothing = {};
  options_.smooth_finished = true;
  EXPECT_EQ(flicker(run()), 0);
  const auto plain = run();
  options_.final_contrast = 1.5;
  EXPECT_GT(difference(run(), plain), 1);
}

TEST_F(Stylize, GoesOnWhereItStopped) {
  const auto whole = run();
  options_.state = folder_.path() / "state.npz";
  options_.smoothing = {3};
  const auto smoother = smoother_;
  const auto wanted = run();
  options_.resume = true;
  EXPECT_EQ(run(), wanted);
  EXPECT_EQ(smoothed_, 1) << "all steps were done";
  options_.resume = false;
  struct Stop {};
  smoother_ = [](const std::vector<Frame>&, const std::vector<Frame>&) -> std::vector<Frame> {
    throw Stop();
  };
  EXPECT_THROW(run(), Stop);
  EXPECT_TRUE(std::filesystem::exists(options_.state));
  smoother_ = smoother;
  options_.resume = true;
  EXPECT_EQ(run(), wanted);

  smoother_ = [](const std::vector<Frame>&, const std::vector<Frame>&) -> std::vector<Frame> {
    throw Stop();
  };
  options_.resume = false;
  EXPECT_THROW(run(), Stop);
  options_.resume = true;
  options_.network.prompt = "other";
  EXPECT_THAT(test::message_of([&] { run(); }), HasSubstr("other settings"));
}

TEST_F(Stylize, RefusesWhatDoesNotFit) {
  const auto message = [&] { return test::message_of([&] { run(); }); };
  const auto input = input_;
  input_ = {};
  EXPECT_THAT(message(), HasSubstr("no frames"));
  input_ = test::moving_waves(1, 30, 48);
  EXPECT_THAT(message(), HasSubstr("48x30"));
  input_ = {Frame(16, 16), Frame(16, 24)};
  EXPECT_THAT(message(), HasSubstr("frame 1 is 24x16"));
  input_ = input;
  options_.smoothing = {5};
  EXPECT_THAT(message(), HasSubstr("step 5"));
  options_.smoothing = {1};
  smoother_ = nullptr;
  EXPECT_THAT(message(), HasSubstr("nothing to smooth with"));
  options_.smoothing = {};
  options_.network.guidance_scale = -1;
  EXPECT_THAT(message(), HasSubstr("guidance scale"));
}

TEST(Recipes, SetWhatThePaperSets) {
  StylizeOptions options;
  apply(find_stylize_recipe("text"), options);
  EXPECT_EQ(options.steps, 20);
  EXPECT_THAT(options.smoothing, ElementsAre(0, 5, 10, 15));
  EXPECT_THAT(options.network.cross_frames, ElementsAre(-10000, -1, 0, 1));
  EXPECT_TRUE(options.smooth_finished);
  apply(find_stylize_recipe("restore"), options);
  EXPECT_EQ(options.strength, 0.3);
  EXPECT_THAT(options.smoothing, ElementsAre(0, 1, 2)) << "three of ten steps are run";
  EXPECT_FALSE(options.smooth_finished);
  apply(find_stylize_recipe("fashion"), options);
  EXPECT_EQ(options.smoothing.size(), 9u);
  EXPECT_EQ(stylize_recipes().size(), 5u);
  for (const StylizeRecipe& recipe : stylize_recipes()) {
    EXPECT_EQ(recipe.height % 8, 0) << recipe.name;
    EXPECT_EQ(recipe.width % 8, 0) << recipe.name;
  }
  EXPECT_THAT(test::message_of([] { find_stylize_recipe("x"); }), HasSubstr("text, fashion, image"));
}

}  // namespace
}  // namespace lithe
