// MobileNetV2 of Sandler et al., CVPR 2018.
#include <algorithm>
#include <array>
#include <cmath>

#include "lithe/models/classifier.h"

namespace lithe {
namespace {

/// The nearest multiple of 8 that is not more than a tenth below `channels`.
std::int64_t round_channels(double channels) {
  const auto rounded = std::max<std::int64_t>(8, static_cast<std::int64_t>(channels + 4) / 8 * 8);
  return static_cast<double>(rounded) < 0.9 * channels ? rounded + 8 : rounded;
}

std::string inverted_residual(ConvNetBuilder& net, const std::string& name, const std::string& x,
                              std::int64_t channels, std::int64_t stride, std::int64_t expansion) {
  const std::int64_t in = net.channels(x), hidden = in * expansion;
  std::string y = x;
  if (expansion != 1) {
    y = net.conv_norm(name + ".expand", name + ".expand_bn", y, {.channels = hidden, .kernel = 1});
    y = net.relu6(name + ".expand_relu", y);
  }
  y = net.conv_norm(name + ".depthwise", name + ".depthwise_bn", y,
                    {.channels = hidden, .stride = stride, .groups = hidden});
  y = net.relu6(name + ".depthwise_relu", y);
  y = net.conv_norm(name + ".project", name + ".project_bn", y, {.channels = channels, .kernel = 1});
  return stride == 1 && in == channels ? net.add(name + ".add", y, x) : y;
}

Graph build(const ClassifierOptions& options, bool small_images) {
  struct Stage {
    std::int64_t expansion, channels;
    int depth;
    std::int64_t stride;
  };
  static constexpr std::array<Stage, 7> kStages{{{1, 16, 1, 1},
                                                 {6, 24, 2, 2},
                                                 {6, 32, 3, 2},
                                                 {6, 64, 4, 2},
                                                 {6, 96, 3, 1},
                                                 {6, 160, 3, 2},
                                                 {6, 320, 1, 1}}};
  ConvNetBuilder net("mobilenet_v2", options);
  std::string x =
      net.conv_norm("stem", "stem_bn", net.image(),
                    {.channels = round_channels(32 * options.width), .stride = small_images ? 1 : 2});
  x = net.relu6("stem_relu", x);
  int block = 0;
  for (const Stage& stage : kStages) {
    const std::int64_t stride = small_images && &stage == &kStages[1] ? 1 : stage.stride;
    for (int i = 0; i < stage.depth; ++i)
      x = inverted_residual(net, fmt::format("block{}", block++), x,
                            round_channels(static_cast<double>(stage.channels) * options.width),
                            i == 0 ? stride : 1, stage.expansion);
  }
  // The head keeps its 1280 channels in narrow networks.
  const std::int64_t head = round_channels(1280 * std::max(1.0, options.width));
  x = net.relu6("head_relu", net.conv_norm("head", "head_bn", x, {.channels = head, .kernel = 1}));
  return net.classify(x, "classifier");
}

}  // namespace

Graph build_mobilenet_v2(const ClassifierOptions& options) {
  return build(options, false);
}

Graph build_mobilenet_v2_small_images(ClassifierOptions options) {
  return build(options, true);
}

}  // namespace lithe
