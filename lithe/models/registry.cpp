#include "lithe/models/registry.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "lithe/base/error.h"
#include "lithe/models/models.h"

namespace lithe {
namespace {

struct Name {
  std::string_view base;
  double width = 1;
};

/// Takes "_x0.5" off; the base is "" if what follows is no factor.
Name split(std::string_view text) {
  const std::size_t at = text.rfind("_x");
  if (at == std::string_view::npos) return {text, 1};
  const std::string_view digits = text.substr(at + 2);
  double width = 0;
  const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), width);
  if (code != std::errc() || end != digits.data() + digits.size() || !(width > 0.01 && width <= 16))
    return {"", 1};
  return {text.substr(0, at), width};
}

std::int64_t patch_size(std::int64_t image_size) {
  if (image_size % 8 == 0) return image_size / 8;
  if (image_size % 4 == 0) return 4;
  fail("vit_small: an image size of {} is no multiple of 4; resize the images (--resize)", image_size);
}

/// ADM's network for small images: two levels up to 8 pixels, three above, with attention where the image has
/// been halved to 8 pixels or less.
Graph build_denoiser(const NetworkOptions& o, double width) {
  constexpr std::int64_t kTwoLevels = 8, kMostAttended = 8, kGroups = 8;
  const bool small = o.image_size <= kTwoLevels;
  AdmUnetOptions options{
      .image_size = o.image_size,
      .image_channels = o.image_channels,
      .multipliers = small ? std::vector<std::int64_t>{1, 2} : std::vector<std::int64_t>{1, 2, 2},
      .attention_sizes = {},
      .groups = kGroups,
      .classes = o.labels ? o.classes : 0,
      .seed = o.seed};
  const double base = width * (small ? 16 : 32);
  options.base = kGroups * std::max<std::int64_t>(1, std::llround(base / kGroups));
  for (std::size_t level = 1; level < options.multipliers.size(); ++level)
    if (const std::int64_t size = o.image_size >> level; size <= kMostAttended)
      options.attention_sizes.push_back(size);
  return build_adm_unet(options);
}

/// Height and width become symbols: the network is made of convolutions alone.
Graph with_free_size(Graph graph, std::int64_t scale) {
  DimVector &in = *graph.inputs.at(0).shape, &out = *graph.outputs.at(0).shape;
  for (const auto& [axis, symbol] :
       {std::pair{std::size_t{2}, "height"}, std::pair{std::size_t{3}, "width"}}) {
    in.at(axis) = {-1, symbol};
    out.at(axis) = {-1, scale == 1 ? std::string(symbol) : fmt::format("{}*{}", scale, symbol)};
  }
  return graph;
}

}  // namespace

const std::vector<NetworkInfo>& networks() {
  static const std::vector<NetworkInfo> table{
      {"resnet20", "ResNet-20 for small images, 0.27 M parameters", NetworkKind::Classifier, true},
      {"resnet32", "ResNet-32 for small images, 0.46 M parameters", NetworkKind::Classifier, true},
      {"resnet18", "ResNet-18", NetworkKind::Classifier, true},
      {"resnet50", "ResNet-50", NetworkKind::Classifier, true},
      {"mobilenet_v2", "MobileNetV2; up to 64 pixels with the strides for small images",
       NetworkKind::Classifier, true},
      {"vit_small", "vision transformer: 64 patches and a class token, width 128, 6 blocks",
       NetworkKind::Classifier, false},
      {"edsr", "EDSR baseline for super-resolution, 64 channels, 16 blocks", NetworkKind::Upscaler, false},
      {"edsr_small", "EDSR of 32 channels and 6 blocks, 0.16 M parameters", NetworkKind::Upscaler, false},
      {"unet", "noise predictor of a diffusion model (ADM); 0.3 M parameters at 8 pixels",
       NetworkKind::Denoiser, true}};
  return table;
}

std::optional<NetworkInfo> find_network(std::string_view name) {
  for (const NetworkInfo& network : networks()) {
    if (name == network.name) return network;
    if (network.widens && name.starts_with(network.name) && split(name).base == network.name) return network;
  }
  return std::nullopt;
}

Graph build_network(std::string_view name, const NetworkOptions& o) {
  if (!find_network(name)) {
    std::string names;
    for (const NetworkInfo& network : networks())
      names += (names.empty() ? "" : ", ") + std::string(network.name);
    fail(
        "there is no network '{}'; the networks are {}, those of convolutions also with a width such as "
        "resnet20_x2",
        name, names);
  }
  constexpr std::int64_t kSmallImage = 64;
  const auto [base, width] = split(name);
  const ClassifierOptions options{.classes = o.classes,
                                  .image_size = o.image_size,
                                  .image_channels = o.image_channels,
                                  .width = width,
                                  .seed = o.seed};
  if (base == "resnet20") return build_resnet20(options);
  if (base == "resnet32") return build_resnet32(options);
  if (base == "resnet18") return build_resnet18(options);
  if (base == "resnet50") return build_resnet50(options);
  if (base == "mobilenet_v2")
    return o.image_size <= kSmallImage ? build_mobilenet_v2_small_images(options)
                                       : build_mobilenet_v2(options);
  if (base == "vit_small")
    return build_vit({.image_size = o.image_size,
                      .patch = patch_size(o.image_size),
                      .image_channels = o.image_channels,
                      .dim = 128,
                      .depth = 6,
                      .heads = 4,
                      .classes = o.classes,
                      .layer_norm_operator = true,
                      .seed = o.seed});
  if (base == "unet") return build_denoiser(o, width);
  SuperResolutionOptions upscaling{.scale = o.scale, .image_channels = o.image_channels, .seed = o.seed};
  if (name == "edsr_small") {
    upscaling.channels = 32;
    upscaling.blocks = 6;
  }
  return with_free_size(build_edsr(upscaling), o.scale);
}

}  // namespace lithe
