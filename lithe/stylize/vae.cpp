#include "lithe/stylize/vae.h"

#include "lithe/base/error.h"
#include "lithe/stylize/pixels.h"

namespace lithe {

std::vector<Frame> StableDiffusionVae::decode(const at::Tensor& latents) {
  NetworkPart& decoder = model_.decoder();
  const std::string& input = decoder.graph().required_inputs()[0]->name;
  std::vector<Frame> frames;
  // Frame by frame into 16 bits: the float32 pictures of a whole video take six times the memory.
  for (std::int64_t first = 0; first < latents.size(0); first += batch_) {
    const at::Tensor part = latents.narrow(0, first, std::min(batch_, latents.size(0) - first));
    const at::Tensor pixels =
        decoder.run({.items = {{input, part / model_.scaling_factor()}}, .most = batch_})
            .at(decoder.graph().outputs[0].name);
    if (pixels.dim() != 4 || pixels.size(1) != 3 || pixels.size(2) != kBlock * latents.size(2) ||
        pixels.size(3) != kBlock * latents.size(3))
      fail("{}: makes {} of latents {}; pictures {} times as high and wide were expected", decoder.origin(),
           format_shape(pixels.sizes()), format_shape(part.sizes()), kBlock);
    for (Frame& frame : frames_of(pixels)) frames.push_back(std::move(frame));
  }
  return frames;
}

at::Tensor StableDiffusionVae::encode(const std::vector<Frame>& frames) {
  NetworkPart& encoder = model_.encoder();
  const std::string& input = encoder.graph().required_inputs()[0]->name;
  const std::int64_t channels = model_.unet_inputs().channels;
  std::vector<at::Tensor> latents;
  for (std::size_t first = 0; first < frames.size(); first += static_cast<std::size_t>(batch_)) {
    const std::size_t last = std::min(frames.size(), first + static_cast<std::size_t>(batch_));
    const std::vector<Frame> part(frames.begin() + static_cast<std::ptrdiff_t>(first),
                                  frames.begin() + static_cast<std::ptrdiff_t>(last));
    if (part[0].height % kBlock != 0 || part[0].width % kBlock != 0)
      fail("frames of {}x{} cannot be encoded: both sizes must be multiples of {}", part[0].width,
           part[0].height, kBlock);
    const at::Tensor said = encoder.run({.items = {{input, pixels_of(part)}}, .most = batch_})
                                .at(encoder.graph().outputs[0].name);
    // Mean and logarithm of the variance, or the mean alone.
    const bool fits = said.dim() == 4 && (said.size(1) == channels || said.size(1) == 2 * channels) &&
                      said.size(2) * kBlock == part[0].height && said.size(3) * kBlock == part[0].width;
    if (!fits)
      fail(
          "{}: makes {} of pictures of {}x{}; latents of {} channels (or twice as many), an eighth as high "
          "and wide, "
          "were expected",
          encoder.origin(), format_shape(said.sizes()), part[0].width, part[0].height, channels);
    latents.push_back(said.narrow(1, 0, channels) * model_.scaling_factor());
  }
  return at::cat(latents);
}

}  // namespace lithe
