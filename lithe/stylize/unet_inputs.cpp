// What the inputs of a U-Net mean.
#include <algorithm>

#include "lithe/base/error.h"
#include "lithe/stylize/stable_diffusion.h"

namespace lithe {
namespace {

bool has(const std::string& name, std::string_view part) {
  return name.find(part) != std::string::npos;
}

std::size_t rank(const ValueInfo& input) {
  return input.shape ? input.shape->size() : 0;
}

std::int64_t fixed(const ValueInfo& input, std::size_t axis) {
  return axis < rank(input) && (*input.shape)[axis].known() ? (*input.shape)[axis].value : -1;
}

void refuse_other_families(const NetworkPart& unet) {
  const auto refuse = [&](const char* input, const char* what) {
    if (unet.input(input))
      fail("{}: the input '{}' belongs to {}; a model of Stable Diffusion 1 or 2 is needed", unet.origin(),
           input, what);
  };
  refuse("text_embeds", "Stable Diffusion XL, which takes a second text encoder");
  refuse("time_ids", "Stable Diffusion XL, which takes a second text encoder");
  refuse("timestep_cond", "a latent consistency model, which is guided by an embedding");
  refuse("image_embeds", "a model that is led by an image encoder");
  refuse("class_labels", "a model with class labels, such as the x4 upscaler");
}

}  // namespace

UnetInputs find_unet_inputs(const NetworkPart& unet) {
  refuse_other_families(unet);
  UnetInputs found;
  const ValueInfo* sample = nullptr;
  const ValueInfo* text = nullptr;
  std::vector<const ValueInfo*> unknown;
  for (const ValueInfo* input : unet.graph().required_inputs()) {
    const std::string& name = input->name;
    if (has(name, "mid_block")) {
      found.middle_residual = name;
    } else if (has(name, "down_block")) {
      found.down_residuals.push_back(name);
    } else if (rank(*input) == 5 && has(name, "control")) {
      found.control_pictures = name;
    } else if (has(name, "conditioning_scale")) {
      found.control_scales = name;
    } else if (!sample && rank(*input) == 4 && is_float(input->dtype)) {
      sample = input;
    } else if (!text && rank(*input) == 3 && is_float(input->dtype)) {
      text = input;
    } else if (found.time.empty() && (has(name, "timestep") || name == "t") && input->shape &&
               rank(*input) < 2) {
      found.time = name;
    } else {
      unknown.push_back(input);
    }
  }
  if (!unknown.empty())
    fail(
        "{}: what the input '{}' ({}) is for is not known; a U-Net of Stable Diffusion takes sample, "
        "timestep and "
        "encoder_hidden_states",
        unet.origin(), unknown[0]->name, format_type(*unknown[0]));
  if (!sample || !text || found.time.empty())
    fail(
        "{}: a U-Net takes latents (float, four axes), a timestep and text embeddings (float, three axes), "
        "but the "
        "inputs are {}",
        unet.origin(), unet.list_inputs());
  if (found.down_residuals.empty() != found.middle_residual.empty())
    fail("{}: has inputs for residuals of a ControlNet, but not both kinds: {}", unet.origin(),
         unet.list_inputs());
  if (found.control_pictures.empty() && !found.control_scales.empty())
    fail("{}: has an input '{}', but none for control pictures", unet.origin(), found.control_scales);
  found.sample = sample->name;
  found.text = text->name;
  found.channels = fixed(*sample, 1);
  found.height = fixed(*sample, 2);
  found.width = fixed(*sample, 3);
  found.text_tokens = fixed(*text, 1);
  if (found.channels == 9)
    fail("{}: takes 9 channels, as inpainting models do; a model of Stable Diffusion 1 or 2 is needed",
         unet.origin());
  if (found.channels < 0) found.channels = 4;  // older exports leave even that free
  if (found.channels != 4)
    fail("{}: takes latents of {} channels; those of Stable Diffusion have 4", unet.origin(), found.channels);
  if (unet.graph().outputs.empty()) fail("{}: has no output", unet.origin());
  return found;
}

}  // namespace lithe
