#include "lithe/stylize/latent_loop.h"

#include <algorithm>
#include <cmath>

#include "lithe/base/error.h"
#include "lithe/diffusion/solver_steps.h"
#include "lithe/graph/tensor_data.h"
#include "lithe/stylize/latent_state.h"

namespace lithe {
namespace {

DpmPoint dpm_point(double alpha_bar) {
  return {std::sqrt(alpha_bar), std::sqrt(1 - alpha_bar), 0.5 * std::log(alpha_bar / (1 - alpha_bar))};
}

void check(const at::Tensor& x, const std::vector<LatentStep>& steps, const FrameSmoother& smoother,
           const std::vector<Frame>& guides, const LatentLoopOptions& options) {
  if (x.dim() != 4 || x.size(0) < 1 || !(x.scalar_type() == at::kFloat || x.scalar_type() == at::kDouble))
    fail("the latents to begin with must be float32 or float64 [frames, channels, height, width]");
  if (steps.empty()) fail("there are no steps to denoise in");
  const auto count = static_cast<std::int64_t>(steps.size());
  for (const std::int64_t step : options.smoothing)
    if (step < 0 || step >= count)
      fail("frames cannot be smoothed at step {}: the steps are 0 to {}", step, count - 1);
  if (options.smoothing.empty()) return;
  if (!smoother) fail("steps to smooth at are given, but nothing to smooth with");
  if (static_cast<std::int64_t>(guides.size()) != x.size(0))
    fail("{} guide frames for the latents of {}; there must be one for each", guides.size(), x.size(0));
}

/// The network's word for all frames, window by window.
at::Tensor predict_all(const at::Tensor& x, double timestep, LatentDenoiser& denoiser,
                       const LatentLoopOptions& options, Progress& progress) {
  at::Tensor sum = at::zeros_like(x), weight = at::zeros({x.size(0), 1, 1, 1}, x.options());
  std::int64_t told = 0;
  const std::int64_t stride = options.stride > 0 ? options.stride : options.window;
  for (const FrameRange range : frame_windows(x.size(0), options.window, stride)) {
    const at::Tensor output = denoiser.predict(x, range, timestep);
    if (output.sizes() != x.narrow(0, range.first, range.count).sizes())
      fail("the network gives {} for latents {}", format_shape(output.sizes()),
           format_shape(x.narrow(0, range.first, range.count).sizes()));
    const std::vector<double> triangle = options.stride > 0
                                             ? window_weights(range.count)
                                             : std::vector<double>(static_cast<std::size_t>(range.count), 1);
    const at::Tensor weights =
        at::tensor(triangle, at::kDouble).to(x.scalar_type()).reshape({range.count, 1, 1, 1});
    sum.narrow(0, range.first, range.count).add_(output.to(x.scalar_type()) * weights);
    weight.narrow(0, range.first, range.count).add_(weights);
    progress.advance(range.first + range.count - told);
    told = range.first + range.count;
  }
  return sum / weight;
}

}  // namespace

LatentSolver parse_latent_solver(std::string_view name) {
  if (name == "ddim") return LatentSolver::Ddim;
  if (name == "dpmpp2m") return LatentSolver::DpmSolver;
  fail("no sampler of latents is called '{}'; there are ddim and dpmpp2m", name);
}

std::vector<FrameRange> frame_windows(std::int64_t count, std::int64_t window, std::int64_t stride) {
  if (window < 1 || stride < 1 || stride > window)
    fail("windows of {} frames, {} apart, do not cover a video", window, stride);
  std::vector<FrameRange> windows;
  for (std::int64_t first = 0;; first += stride) {
    windows.push_back({first, std::min(window, count - first)});
    if (first + window >= count) return windows;
  }
}

std::vector<double> window_weights(std::int64_t count) {
  constexpr double kLeast = 0.01;  // keeps the ends of the video, and the width of one frame, above 0
  std::vector<double> weights;
  const double centre = static_cast<double>(count - 1) / 2,
               half = (static_cast<double>(count - 1) + 0.01) / 2;
  for (std::int64_t i = 0; i < count; ++i)
    weights.push_back(std::max(1 - std::abs(static_cast<double>(i) - centre) / half, kLeast));
  return weights;
}

at::Tensor smooth_latents(const at::Tensor& x0, Autoencoder& autoencoder, const FrameSmoother& smoother,
                          const std::vector<Frame>& guides, bool compensate) {
  const std::vector<Frame> frames = autoencoder.decode(x0);
  const std::vector<Frame> smoothed = smoother(frames, guides);
  const bool same_sizes = std::equal(frames.begin(), frames.end(), smoothed.begin(), smoothed.end(),
                                     [](const Frame& a, const Frame& b) { return a.same_size(b); });
  if (!same_sizes) fail("smoothing changed the number or the size of the frames");
  at::Tensor encoded = autoencoder.encode(smoothed).to(x0.scalar_type());
  if (encoded.sizes() != x0.sizes())
    fail("the autoencoder makes latents {} of frames that it decoded from {}", format_shape(encoded.sizes()),
         format_shape(x0.sizes()));
  if (!compensate) return encoded;
  return x0 + (encoded - autoencoder.encode(frames).to(x0.scalar_type()));
}

at::Tensor denoise_latents(const at::Tensor& start, const std::vector<LatentStep>& steps,
                           LatentDenoiser& denoiser, Autoencoder& autoencoder, const FrameSmoother& smoother,
                           const std::vector<Frame>& guides, const LatentLoopOptions& options,
                           Progress& progress) {
  const at::NoGradGuard no_grad;
  check(start, steps, smoother, guides, options);
  const auto count = static_cast<std::int64_t>(steps.size());
  LatentState state{.x = start.contiguous()};
  if (options.resume && !options.state.empty())
    if (auto kept = read_latent_state(options.state, options.identity, state.x, count)) state = *kept;

  progress.start("denoising", count * start.size(0));
  progress.skip(state.next_step * start.size(0));
  for (std::int64_t i = state.next_step; i < count; ++i) {
    const LatentStep& step = steps[static_cast<std::size_t>(i)];
    const at::Tensor output = predict_all(state.x, step.timestep, denoiser, options, progress);
    Estimate now = estimate(state.x, output, step.alpha_bar, options.prediction);
    if (!at::isfinite(now.x0).all().item<bool>())
      fail(
          "the network gives infinite or undefined latents at step {} (time {}); take other weights or "
          "float32",
          i, step.timestep);
    if (std::find(options.smoothing.begin(), options.smoothing.end(), i) != options.smoothing.end()) {
      now.x0 = smooth_latents(now.x0, autoencoder, smoother, guides, options.compensate);
      now.epsilon = epsilon_of(state.x, now.x0, step.alpha_bar);
    }
    if (options.solver == LatentSolver::Ddim) {
      state.x = ddim_step(now, step.alpha_bar, step.next_alpha_bar);
    } else {
      const DpmPoint from = dpm_point(step.alpha_bar), to = dpm_point(step.next_alpha_bar);
      const bool first_order = !state.x0_before.defined() || step.next_alpha_bar >= 1;
      const double before =
          first_order ? 0 : dpm_point(steps[static_cast<std::size_t>(i - 1)].alpha_bar).lambda;
      state.x = first_order
                    ? dpm_first_order(state.x, now.x0, from, to)
                    : dpm_second_order(state.x, now.x0, state.x0_before, from.lambda - before, from, to);
      state.x0_before = now.x0;
    }
    state.next_step = i + 1;
    if (!options.state.empty()) write_latent_state(state, options.identity, options.state);
  }
  progress.finish();
  return state.x;
}

}  // namespace lithe
