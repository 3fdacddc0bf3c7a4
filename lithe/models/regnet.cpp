// RegNetX of Radosavovic et al., CVPR 2020.
#include <algorithm>
#include <array>

#include "lithe/models/classifier.h"

namespace lithe {
namespace {

/// 1x1, grouped 3x3, 1x1, all of the block's width.
std::string x_block(ConvNetBuilder& net, const std::string& name, const std::string& x, std::int64_t channels,
                    std::int64_t group_width, std::int64_t stride) {
  const std::int64_t groups = std::max<std::int64_t>(1, channels / group_width);
  std::string y = net.conv_norm(name + ".conv1", name + ".bn1", x, {.channels = channels, .kernel = 1});
  y = net.relu(name + ".relu1", y);
  y = net.conv_norm(name + ".conv2", name + ".bn2", y,
                    {.channels = channels, .stride = stride, .groups = groups});
  y = net.relu(name + ".relu2", y);
  y = net.conv_norm(name + ".conv3", name + ".bn3", y, {.channels = channels, .kernel = 1, .gain = 0.5});
  const std::string shortcut = net.projection(name, x, channels, stride);
  return net.relu(name + ".relu3", net.add(name + ".add", y, shortcut));
}

}  // namespace

Graph build_regnetx_600m(const ClassifierOptions& options) {
  constexpr std::array<int, 4> kDepths{1, 3, 5, 7};
  constexpr std::array<std::int64_t, 4> kWidths{48, 96, 240, 528};
  constexpr std::int64_t kGroupWidth = 24;
  ConvNetBuilder net("regnetx_600m", options);
  std::string x =
      net.conv_norm("stem.conv", "stem.bn", net.image(), {.channels = net.scaled(32), .stride = 2});
  x = net.relu("stem.relu", x);
  const std::int64_t group_width = net.scaled(kGroupWidth);
  for (std::size_t stage = 0; stage < 4; ++stage)
    for (int i = 0; i < kDepths[stage]; ++i)
      x = x_block(net, fmt::format("s{}.b{}", stage + 1, i + 1), x,
                  kWidths[stage] / kGroupWidth * group_width, group_width, i == 0 ? 2 : 1);
  return net.classify(x, "head.fc");
}

}  // namespace lithe
