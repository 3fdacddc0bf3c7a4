// Denoises the latents of all frames of a video together, and takes the flicker out of the frames on the way.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "lithe/base/progress.h"
#include "lithe/diffusion/sampler_options.h"
#include "lithe/stylize/latent_schedule.h"
#include "lithe/video/frame.h"

namespace lithe {

struct FrameRange {
  std::int64_t first = 0, count = 0;
};

/// The network, as the loop sees it.
class LatentDenoiser {
 public:
  virtual ~LatentDenoiser() = default;
  /// What the network says (with guidance) of the noisy latents of frames `range`, float32 [range.count, c,
  /// h, w]; x [n, c, h, w] are those of all frames, for networks that look at neighbours.
  virtual at::Tensor predict(const at::Tensor& x, FrameRange range, double timestep) = 0;
};

/// From latents to frames and back. Both ways take any number of frames and are deterministic.
class Autoencoder {
 public:
  virtual ~Autoencoder() = default;
  virtual std::vector<Frame> decode(const at::Tensor& latents) = 0;  // [n, c, h, w], as the loop has them
  virtual at::Tensor encode(const std::vector<Frame>& frames) = 0;   // means, float32 [n, c, h, w]
};

/// Makes frames agree with one another, by the motion of the guides: as many frames, of the same size.
using FrameSmoother =
    std::function<std::vector<Frame>(const std::vector<Frame>& frames, const std::vector<Frame>& guides)>;

enum class LatentSolver {
  Ddim,       // Song et al., ICLR 2021, without noise
  DpmSolver,  // Lu et al., "DPM-Solver++", 2022: second order, multistep; the last step of the first
};
/// "ddim", "dpmpp2m"; throws Error(Input) that lists them.
LatentSolver parse_latent_solver(std::string_view name);

struct LatentLoopOptions {
  LatentSolver solver = LatentSolver::Ddim;
  Prediction prediction = Prediction::Epsilon;
  /// Steps, from 0, at which frames are smoothed; ascending.
  std::vector<std::int64_t> smoothing;
  /// Adds to the predicted latents what smoothing changed, E(smoothed frames) - E(frames), in place of
  /// replacing them by E(smoothed frames): then the autoencoder's own error stays out, and smoothing that
  /// changes no frame changes nothing.
  bool compensate = false;
  /// Frames of one call of the denoiser. With a `stride` calls overlap, and predictions are averaged with the
  /// weights of `window_weights`; 0: they lie side by side.
  std::int64_t window = 8, stride = 0;
  /// Where the state is kept after every step (.npz); empty: nowhere. `identity` describes the work, so that
  /// the state of another one is refused. With `resume` work goes on from the file where it is there.
  std::filesystem::path state;
  std::string identity;
  bool resume = false;
};

/// Runs all steps from x float32 or float64 [n, c, h, w] and returns the latents behind the last one. At
/// steps of `options.smoothing` the predicted clean latents are decoded, smoothed, encoded and put in place
/// of the prediction (Duan et al., "DiffSynth", ECML PKDD 2024); `autoencoder`, `smoother` and `guides` (one
/// a frame) serve that alone. Throws Error(Input) if sizes or options do not fit, if the network gives NaN,
/// naming the step, or if the state is that of other work; Interrupted after Ctrl-C.
at::Tensor denoise_latents(const at::Tensor& x, const std::vector<LatentStep>& steps,
                           LatentDenoiser& denoiser, Autoencoder& autoencoder, const FrameSmoother& smoother,
                           const std::vector<Frame>& guides, const LatentLoopOptions& options,
                           Progress& progress);

/// Clean latents with the flicker taken out of their frames; see `LatentLoopOptions::compensate`.
at::Tensor smooth_latents(const at::Tensor& x0, Autoencoder& autoencoder, const FrameSmoother& smoother,
                          const std::vector<Frame>& guides, bool compensate);

/// Windows over `count` frames; the last ends with the last frame.
std::vector<FrameRange> frame_windows(std::int64_t count, std::int64_t window, std::int64_t stride);
/// Triangular weights of the frames of a window, 0.01 at least.
std::vector<double> window_weights(std::int64_t count);

}  // namespace lithe
