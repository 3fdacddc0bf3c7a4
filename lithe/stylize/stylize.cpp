#include "lithe/stylize/stylize.h"

#include <algorithm>
#include <cmath>

#include "lithe/base/error.h"
#include "lithe/base/hash.h"
#include "lithe/diffusion/noise.h"
#include "lithe/stylize/pixels.h"
#include "lithe/stylize/vae.h"
#include "lithe/video/file_identity.h"

namespace lithe {
namespace {

void check(const StableDiffusion& model, const std::vector<Frame>& input, const StylizeOptions& options,
           const FrameSmoother& smoother) {
  if (input.empty()) fail("there are no frames to stylise");
  const Frame& first = input[0];
  constexpr int kBlock = StableDiffusionVae::kBlock;
  if (first.height < kBlock || first.width < kBlock || first.height % kBlock != 0 ||
      first.width % kBlock != 0)
    fail("frames of {}x{} cannot be stylised: both sizes must be multiples of {}; resize them", first.width,
         first.height, kBlock);
  for (std::size_t i = 0; i < input.size(); ++i)
    if (!input[i].same_size(first))
      fail("frame {} is {}x{}, the first one {}x{}; frames of one size are needed", i, input[i].width,
           input[i].height, first.width, first.height);
  const UnetInputs& unet = model.unet_inputs();
  const std::int64_t height = unet.height * kBlock, width = unet.width * kBlock;
  if ((unet.height >= 0 && height != first.height) || (unet.width >= 0 && width != first.width))
    fail(
        "the model was exported for pictures of {}x{}, the frames are {}x{}; resize them, or export it with "
        "free "
        "sizes",
        width, height, first.width, first.height);
  for (const Control& control : options.network.controls)
    for (const Frame& frame : control.frames)
      if (!frame.same_size(first))
        fail("a control picture is {}x{}, the frames are {}x{}; resize it", frame.width, frame.height,
             first.width, first.height);
  if ((options.smooth_finished || !options.smoothing.empty()) && !smoother)
    fail("frames shall be smoothed, but nothing to smooth with is given");
}

std::uint64_t hash_of(const std::vector<Frame>& frames) {
  std::uint64_t hash = frames.size();
  for (const Frame& frame : frames)
    hash = hash * 1099511628211u ^ fnv1a(std::as_bytes(std::span(frame.pixels)));
  return hash;
}

}  // namespace

FrameSmoother with_adjustment(FrameSmoother smoother, double contrast, double sharpness) {
  if (!smoother || (contrast == 1 && sharpness == 1)) return smoother;
  return [smoother = std::move(smoother), contrast, sharpness](const std::vector<Frame>& frames,
                                                               const std::vector<Frame>& guides) {
    std::vector<Frame> out = smoother(frames, guides);
    for (Frame& frame : out) {
      adjust_contrast(frame, contrast);
      adjust_sharpness(frame, sharpness);
    }
    return out;
  };
}

std::string describe_work(const StableDiffusion& model, const std::vector<Frame>& input,
                          const StylizeOptions& options) {
  const GuidedUnetOptions& network = options.network;
  std::string text = fmt::format(
      "v1|{}x{}x{} {:016x}|{} {} {} {} {} {}|{} {} {} {} {} {} {} {}|{} {} {}|[{}]|[{}]", input.size(),
      input[0].height, input[0].width, hash_of(input), options.steps, options.strength,
      time_spacing_name(options.spacing), static_cast<int>(options.solver), options.seed, options.fixed_noise,
      fmt::join(options.smoothing, ","), options.compensate, options.window, options.stride, options.contrast,
      options.sharpness, options.final_contrast, options.final_sharpness, network.prompt.size(),
      network.prompt, network.guidance_scale, network.negative_prompt, fmt::join(network.cross_frames, ","));
  for (const Control& control : network.controls)
    text += fmt::format("|{} {} {} {:016x}", control.network.string(), control.scale, control.shuffle,
                        hash_of(control.frames));
  for (const char* part : {"unet", "text_encoder", "vae_encoder", "vae_decoder"})
    text += fmt::format("|{} {}", part, file_identity(model.folder() / part));
  return text;
}

at::Tensor start_latents(StableDiffusion& model, const std::vector<Frame>& input,
                         const StylizeOptions& options, const std::vector<LatentStep>& steps) {
  constexpr int kBlock = StableDiffusionVae::kBlock;
  const auto count = static_cast<std::int64_t>(input.size());
  at::Tensor noise = start_noise(
      {.seed = options.seed,
       .count = options.fixed_noise ? 1 : count,
       .shape = {model.unet_inputs().channels, input[0].height / kBlock, input[0].width / kBlock}});
  if (options.fixed_noise) noise = noise.expand({count, -1, -1, -1}).contiguous();
  if (options.strength >= 1) return noise;
  StableDiffusionVae vae(model, options.vae_batch);
  const double alpha_bar = steps.at(0).alpha_bar;
  return std::sqrt(alpha_bar) * vae.encode(input) + std::sqrt(1 - alpha_bar) * noise;
}

std::vector<Frame> stylize(StableDiffusion& model, const std::vector<Frame>& input,
                           const StylizeOptions& options, const FrameSmoother& smoother, Progress& progress) {
  const at::NoGradGuard no_grad;
  check(model, input, options, smoother);
  const std::vector<LatentStep> steps =
      make_latent_steps(model.schedule(), options.steps, options.strength, options.spacing);
  GuidedUnet network(model, options.network);
  StableDiffusionVae vae(model, options.vae_batch);
  const at::Tensor latents =
      denoise_latents(start_latents(model, input, options, steps), steps, network, vae,
                      with_adjustment(smoother, options.contrast, options.sharpness), input,
                      {.solver = options.solver,
                       .prediction = model.schedule().prediction,
                       .smoothing = options.smoothing,
                       .compensate = options.compensate,
                       .window = options.window,
                       .stride = options.stride,
                       .state = options.state,
                       .identity = options.state.empty() ? "" : describe_work(model, input, options),
                       .resume = options.resume},
                      progress);
  std::vector<Frame> frames = vae.decode(latents);
  if (options.smooth_finished)
    frames = with_adjustment(smoother, options.final_contrast, options.final_sharpness)(frames, input);
  return frames;
}

}  // namespace lithe
