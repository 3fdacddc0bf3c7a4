// A video painted by a Stable Diffusion model, frame by frame but in one go, so that it does not boil.
//
//   StableDiffusion model("sd15-onnx");
//   const auto smoother = [](const auto& frames, const auto& guides) { return deflicker_frames(frames,
//   guides, {}); }; const auto painted = stylize(model, frames, {.network = {.prompt = "an oil painting"}},
//   smoother, progress);
//
// Duan et al., "DiffSynth: Latent In-Iteration Deflickering for Realistic Video Synthesis", ECML PKDD 2024.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "lithe/base/progress.h"
#include "lithe/stylize/guided_unet.h"
#include "lithe/stylize/latent_loop.h"
#include "lithe/stylize/stable_diffusion.h"

namespace lithe {

struct StylizeOptions {
  GuidedUnetOptions network;
  std::int64_t steps = 20;
  double strength = 1;  // below 1 sampling starts from the frames with so much noise; 1: from noise alone
  TimeSpacing spacing = TimeSpacing::Paper;
  LatentSolver solver = LatentSolver::Ddim;
  std::uint64_t seed = 0;
  /// Every frame starts from the same noise. Without it, and without cross-frame attention, smoothing at few
  /// steps changes little.
  bool fixed_noise = true;
  std::vector<std::int64_t> smoothing;             // steps, from 0; see regular_smoothing
  bool smooth_finished = false;                    // the decoded result too
  bool compensate = false;                         // see LatentLoopOptions
  std::int64_t window = 8, stride = 0;             // likewise
  double contrast = 1, sharpness = 1;              // of frames smoothed between steps; see adjust_contrast
  double final_contrast = 1, final_sharpness = 1;  // of frames smoothed when finished
  std::int64_t vae_batch = 1;
  /// Where the state is kept after every step; empty: nowhere. The file stays when sampling is done, for the
  /// caller to remove once the result is safe. With `resume` work goes on from it.
  std::filesystem::path state;
  bool resume = false;
};

/// Paints frames of one size, heights and widths multiples of 8 (see fit_frame); the input is the guide of
/// smoothing too. The same seed gives the same result, whatever the window. `smoother` may be empty where
/// nothing is smoothed. Throws Error(Input) where model, frames and options do not go together; Interrupted
/// after Ctrl-C, the state then being that of the last whole step.
std::vector<Frame> stylize(StableDiffusion& model, const std::vector<Frame>& input,
                           const StylizeOptions& options, const FrameSmoother& smoother, Progress& progress);

/// The latents that sampling starts from, float32 [n, c, h / 8, w / 8]: noise by the seed (see start_noise),
/// mixed with the encoded input where the strength is below 1.
at::Tensor start_latents(StableDiffusion& model, const std::vector<Frame>& input,
                         const StylizeOptions& options, const std::vector<LatentStep>& steps);

/// `smoother` and then contrast and sharpness.
FrameSmoother with_adjustment(FrameSmoother smoother, double contrast, double sharpness);

/// One line that changes with everything the result depends on.
std::string describe_work(const StableDiffusion& model, const std::vector<Frame>& input,
                          const StylizeOptions& options);

}  // namespace lithe
