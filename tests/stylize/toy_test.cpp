// What smoothing inside sampling does that smoothing afterwards does not, where everything is known.
#include "stylize/toy.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>

#include "lithe/diffusion/noise.h"
#include "lithe/stylize/stylize.h"
#include "lithe/video/deflicker.h"

namespace lithe::test {
namespace {

struct Outcome {
  double warp = 0;       // 1e-4
  double off_mode = 0;   // distance to the nearest recolouring
  double agreement = 0;  // of labels along the motion
};

class Toy : public testing::Test {
 protected:
  static constexpr int kFrames = 16, kSteps = 20, kReach = 7;

  static std::vector<Frame> along_motion(const std::vector<Frame>& frames, const std::vector<Frame>&) {
    return scene().mean_along_motion(frames, kReach);
  }

  Outcome run(bool fixed_noise, const std::vector<std::int64_t>& smoothing, bool finished = false,
              const FrameSmoother& smoother = along_motion) {
    ImageRange images{
        .seed = 5, .count = fixed_noise ? 1 : kFrames, .shape = {ToyAutoencoder::kChannels, 16, 16}};
    const at::Tensor noise = start_noise(images).to(at::kDouble).expand({kFrames, -1, -1, -1});
    ToyDenoiser denoiser(scene().frames, autoencoder_);
    LatentLoopOptions options{.smoothing = smoothing};
    Progress progress;
    const at::Tensor latents = denoise_latents(noise, make_latent_steps({}, kSteps), denoiser, autoencoder_,
                                               smoother, scene().frames, options, progress);
    std::vector<Frame> frames = autoencoder_.decode(latents);
    if (finished) frames = smoother(frames, scene().frames);
    const at::Tensor kept = finished ? autoencoder_.encode(frames) : latents;
    const Outcome outcome{1e4 * scene().warp_error(frames), denoiser.off_mode(kept),
                          label_agreement(scene(), denoiser.labels(kept))};
    if (std::getenv("LITHE_SHOW_TOY"))
      std::printf("%-11s %2zu%s  %7.1f  %.3f  %.2f\n", fixed_noise ? "fixed" : "independent",
                  smoothing.size(), finished ? "+" : " ", outcome.warp, outcome.off_mode, outcome.agreement);
    return outcome;
  }

  static const ToyScene& scene() {
    static const ToyScene one(kFrames);
    return one;
  }

  ToyAutoencoder autoencoder_;
};

TEST_F(Toy, TheAutoencoderIsExactOnItsOwnPictures) {
  const at::Tensor latents = autoencoder_.encode(scene().frames);
  EXPECT_EQ(latents.sizes(), (at::IntArrayRef{kFrames, 18, 16, 16}));
  const auto once = autoencoder_.decode(latents);
  EXPECT_LT((autoencoder_.encode(once) - latents).pow(2).mean().item<double>(), 1e-5);
  EXPECT_LT(scene().warp_error(scene().frames) * 1e4, 2.0) << "interpolation alone";
}

// The rows of the specification's table, section 7.4, with room for another scene and another seed.
TEST_F(Toy, SmoothingInsideSamplingKeepsToTheModes) {
  const auto every = regular_smoothing(kSteps, 1, 0), but_last = regular_smoothing(kSteps, 1, 1),
             sparse = regular_smoothing(kSteps, 5, 0);
  const Outcome none = run(false, {}), after = run(false, {}, true), inside = run(false, every),
                most = run(false, but_last), few = run(false, sparse), late = run(false, {4, 9, 14, 19});
  EXPECT_GT(none.warp, 50) << "frames settle for different recolourings";
  EXPECT_LT(none.agreement, 0.8);
  EXPECT_LT(after.warp, none.warp / 20);
  EXPECT_GT(after.off_mode, 3 * none.off_mode) << "means of recolourings are none";
  EXPECT_LT(inside.warp, none.warp / 20);
  EXPECT_GT(after.off_mode, 2 * inside.off_mode) << "as calm, but nearer to the model";
  EXPECT_GT(inside.agreement, 0.95);
  EXPECT_GT(after.off_mode, 4 * most.off_mode);
  EXPECT_LT(most.off_mode, inside.off_mode) << "the last step trades truth for calm";
  EXPECT_GT(most.warp, inside.warp);
  EXPECT_GT(few.warp, none.warp / 4) << "few early corrections are forgotten";
  EXPECT_LT(late.warp, none.warp / 20);
  EXPECT_GT(late.off_mode, 2 * inside.off_mode);
}

TEST_F(Toy, FixedNoiseIsTheStrongestMeasure) {
  const Outcome none = run(true, {}), free = run(false, {}), after = run(true, {}, true);
  EXPECT_LT(none.warp, free.warp / 5);
  EXPECT_GT(none.agreement, 0.9);
  EXPECT_LT(after.warp, none.warp);
  EXPECT_GT(after.off_mode, none.off_mode);
}

// The same with frames matched by their patches, without knowing the motion.
TEST_F(Toy, TheDeflickererServesAsWell) {
  const FrameSmoother deflicker = [](const std::vector<Frame>& frames, const std::vector<Frame>& guides) {
    DeflickerOptions options{.window = kReach, .threads = 2};
    options.match.iterations = 2;
    return deflicker_frames(frames, guides, options);
  };
  const Outcome none = run(false, {}), after = run(false, {}, true, deflicker),
                most = run(false, regular_smoothing(kSteps, 1, 1), false, deflicker);
  EXPECT_LT(after.warp, none.warp / 10);
  EXPECT_LT(most.warp, none.warp / 10);
  EXPECT_GT(after.off_mode, 3 * most.off_mode);
  EXPECT_GT(most.agreement, none.agreement + 0.3);
}

}  // namespace
}  // namespace lithe::test
