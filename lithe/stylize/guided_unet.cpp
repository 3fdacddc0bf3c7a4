#include "lithe/stylize/guided_unet.h"

#include <algorithm>

#include "lithe/base/error.h"
#include "lithe/stylize/cross_frame_attention.h"
#include "lithe/stylize/pixels.h"

namespace lithe {
namespace {

at::Tensor rows_of(const at::Tensor& one, std::int64_t count) {
  return one.expand({count, one.size(1), one.size(2)});
}

/// Control pictures 0..1 of these frames.
at::Tensor pictures_of(const Control& control, const std::vector<std::int64_t>& frames) {
  std::vector<Frame> wanted;
  for (const std::int64_t frame : frames) wanted.push_back(control.frames[static_cast<std::size_t>(frame)]);
  return pixels_of(wanted, 0, 1);
}

/// Exported U-Nets double what they halved, so that odd sizes on the way do not come back: three halvings of
/// an eighth of the picture are usual.
Feeds run_network(NetworkPart& network, const NetworkPart::Request& request, const at::Tensor& x) {
  constexpr std::int64_t kHalved = 8, kUnit = 8 * kHalved;
  try {
    return network.run(request);
  } catch (const Error& error) {
    if (x.size(2) % kHalved == 0 && x.size(3) % kHalved == 0) throw;
    throw Error(error.kind(),
                fmt::format("{} (frames of {}x{}: take multiples of {}, which every U-Net can halve)",
                            error.what(), 8 * x.size(3), 8 * x.size(2), kUnit));
  }
}

}  // namespace

std::vector<std::int64_t> set_offsets(const std::vector<std::int64_t>& cross_frames) {
  std::vector<std::int64_t> offsets{0};
  for (const std::int64_t offset : cross_frames)
    if (std::find(offsets.begin(), offsets.end(), offset) == offsets.end()) offsets.push_back(offset);
  return offsets;
}

GuidedUnet::GuidedUnet(StableDiffusion& model, GuidedUnetOptions options)
    : model_(model),
      options_(std::move(options)),
      inputs_(model.unet_inputs()),
      offsets_(set_offsets(options_.cross_frames)) {
  if (!(options_.guidance_scale >= 0 && options_.guidance_scale <= 1000))
    fail("a guidance scale of {}: it must lie between 0 and 1000", options_.guidance_scale);
  if (options_.batch < 1) fail("{} pictures in one run of the U-Net: it takes 1 or more", options_.batch);
  open_controls();
  if (offsets_.size() > 1)
    crossed_ = std::make_unique<NetworkPart>(
        with_cross_frame_attention(model.unet().graph(), static_cast<std::int64_t>(offsets_.size())),
        model.unet().origin(), model.options());
  std::tie(positive_, negative_) = model.encode_prompts(options_.prompt, options_.negative_prompt);
}

void GuidedUnet::open_controls() {
  const bool inside = !inputs_.control_pictures.empty(), apart = !inputs_.down_residuals.empty();
  if (options_.controls.empty()) {
    if (inside)
      fail("{}: takes control pictures; give them, or a U-Net without the input '{}'", model_.unet().origin(),
           inputs_.control_pictures);
    if (apart && model_.controlnet().empty())
      fail(
          "{}: takes residuals of a ControlNet; give one with control pictures, or a U-Net without the input "
          "'{}'",
          model_.unet().origin(), inputs_.middle_residual);
    if (apart)
      fail("{}: takes residuals of the ControlNet {}; give control pictures for it", model_.unet().origin(),
           model_.controlnet().string());
    return;
  }
  if (!inside && !apart)
    fail("{}: takes no control pictures; export the U-Net together with a ControlNet, or do without them",
         model_.unet().origin());
  for (const Control& control : options_.controls) {
    if (control.frames.empty()) fail("a control without pictures: give one for each frame");
    if (inside && (!control.network.empty() || control.shuffle))
      fail("{}: has its ControlNet inside; a network apart, or shuffling, is not possible with it",
           model_.unet().origin());
    if (inside) continue;
    const std::filesystem::path& file = control.network.empty() ? model_.controlnet() : control.network;
    if (file.empty())
      fail("{}: has no controlnet/model.onnx; name the network of the control pictures",
           model_.folder().string());
    controls_.push_back(std::make_unique<ControlNet>(
        file, inputs_, static_cast<std::int64_t>(offsets_.size()), model_.options()));
  }
}

/// Set by set: the frame itself, then those that it sees.
std::vector<std::int64_t> GuidedUnet::frames_of_sets(FrameRange range, std::int64_t count) const {
  std::vector<std::int64_t> frames;
  for (std::int64_t frame = range.first; frame < range.first + range.count; ++frame)
    for (const std::int64_t offset : offsets_)
      frames.push_back(std::clamp<std::int64_t>(frame + offset, 0, count - 1));
  return frames;
}

at::Tensor GuidedUnet::predict(const at::Tensor& x, FrameRange range, double timestep) {
  for (const Control& control : options_.controls)
    if (static_cast<std::int64_t>(control.frames.size()) != x.size(0))
      fail("{} control pictures for {} frames; there must be one for each", control.frames.size(), x.size(0));
  std::vector<std::int64_t> frames = frames_of_sets(range, x.size(0));
  const auto rows = static_cast<std::int64_t>(frames.size());
  at::Tensor latents = x.index_select(0, at::tensor(frames, at::kLong)).to(at::kFloat);
  at::Tensor text = rows_of(positive_, rows);
  const bool guided = options_.guidance_scale != 1;
  if (guided) {
    latents = at::cat({latents, latents});
    text = at::cat({text, rows_of(negative_, rows)});
    frames.insert(frames.end(), frames.begin(), frames.begin() + rows);
  }
  at::Tensor said = run(latents, text, frames, timestep, rows);
  const auto sets = static_cast<std::int64_t>(offsets_.size());
  said = said.slice(0, 0, c10::nullopt, sets);  // of each set the frame itself
  if (!guided) return said;
  const at::Tensor with = said.narrow(0, 0, range.count), without = said.narrow(0, range.count, range.count);
  return without + options_.guidance_scale * (with - without);
}

at::Tensor GuidedUnet::run(const at::Tensor& x, const at::Tensor& text,
                           const std::vector<std::int64_t>& frames, double timestep, std::int64_t prompted) {
  NetworkPart& unet = crossed_ ? *crossed_ : model_.unet();
  NetworkPart::Request request{.items = {{inputs_.sample, x}, {inputs_.text, text}},
                               .most = options_.batch,
                               .multiple = static_cast<std::int64_t>(offsets_.size())};
  add_time(request, unet, inputs_.time, timestep, x.size(0));
  if (!controls_.empty())
    add_residuals(request, x, text, frames, timestep, prompted);
  else if (!options_.controls.empty())
    add_pictures(request, frames);
  at::Tensor said = run_network(unet, request, x).at(unet.graph().outputs[0].name);
  if (said.sizes() != x.sizes())
    fail("{}: gives {} for latents {}; as much was expected", unet.origin(), format_shape(said.sizes()),
         format_shape(x.sizes()));
  return said;
}

/// Residuals of several networks are scaled and summed.
void GuidedUnet::add_residuals(NetworkPart::Request& request, const at::Tensor& x, const at::Tensor& text,
                               const std::vector<std::int64_t>& frames, double timestep,
                               std::int64_t prompted) {
  ControlResiduals sum;
  for (std::size_t k = 0; k < controls_.size(); ++k) {
    const Control& control = options_.controls[k];
    ControlResiduals own =
        controls_[k]->residuals(x, text, pictures_of(control, frames), timestep, options_.batch);
    for (std::size_t i = 0; i < own.size(); ++i) {
      if (control.shuffle) {
        own[i] = own[i].mean(at::IntArrayRef{2, 3}, true).expand_as(own[i]).clone();
        own[i].slice(0, prompted).zero_();  // rows of the negative prompt
      }
      own[i] = own[i] * control.scale;
    }
    if (sum.empty())
      sum = std::move(own);
    else
      for (std::size_t i = 0; i < own.size(); ++i) sum[i] = sum[i] + own[i];
  }
  for (std::size_t i = 0; i < inputs_.down_residuals.size(); ++i)
    request.items[inputs_.down_residuals[i]] = sum[i];
  request.items[inputs_.middle_residual] = sum.back();
}

void GuidedUnet::add_pictures(NetworkPart::Request& request, const std::vector<std::int64_t>& frames) const {
  std::vector<at::Tensor> pictures;
  std::vector<double> scales;
  for (const Control& control : options_.controls) {
    pictures.push_back(pictures_of(control, frames));
    scales.push_back(control.scale);
  }
  request.items[inputs_.control_pictures] = at::stack(pictures);
  request.axes[inputs_.control_pictures] = 1;
  if (!inputs_.control_scales.empty())
    request.shared[inputs_.control_scales] =
        at::tensor(scales, at::kDouble).reshape({static_cast<std::int64_t>(scales.size()), 1});
}

}  // namespace lithe
