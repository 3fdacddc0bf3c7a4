// Residual networks of He et al., CVPR 2016.
#include <algorithm>
#include <array>
#include <cmath>

#include "lithe/models/builder.h"
#include "lithe/models/classifier.h"
#include "lithe/models/models.h"

namespace lithe {
namespace {

std::string basic_block(ConvNetBuilder& net, const std::string& name, const std::string& x,
                        std::int64_t channels, std::int64_t stride) {
  std::string y = net.conv_norm(name + ".conv1", name + ".bn1", x, {.channels = channels, .stride = stride});
  y = net.relu(name + ".relu1", y);
  y = net.conv_norm(name + ".conv2", name + ".bn2", y, {.channels = channels, .gain = 0.5});
  const std::string shortcut = net.projection(name, x, channels, stride);
  return net.relu(name + ".relu2", net.add(name + ".add", y, shortcut));
}

std::string bottleneck(ConvNetBuilder& net, const std::string& name, const std::string& x,
                       std::int64_t middle, std::int64_t stride) {
  const std::int64_t channels = 4 * middle;
  std::string y = net.conv_norm(name + ".conv1", name + ".bn1", x, {.channels = middle, .kernel = 1});
  y = net.relu(name + ".relu1", y);
  y = net.conv_norm(name + ".conv2", name + ".bn2", y, {.channels = middle, .stride = stride});
  y = net.relu(name + ".relu2", y);
  y = net.conv_norm(name + ".conv3", name + ".bn3", y, {.channels = channels, .kernel = 1, .gain = 0.5});
  const std::string shortcut = net.projection(name, x, channels, stride);
  return net.relu(name + ".relu3", net.add(name + ".add", y, shortcut));
}

/// Identity shortcut that halves the size and pads the new channels with zeros: no parameters.
std::string option_a_shortcut(ConvNetBuilder& net, const std::string& name, const std::string& x,
                              std::int64_t channels) {
  const std::int64_t missing = channels - net.channels(x);
  const std::string sliced =
      net.node("Slice", name + ".slice",
               {x, net.ints(name + ".starts", {0, 0}), net.ints(name + ".ends", {INT64_MAX, INT64_MAX}),
                net.ints(name + ".axes", {2, 3}), net.ints(name + ".steps", {2, 2})});
  const std::vector<std::int64_t> pads{0, missing / 2, 0, 0, 0, missing - missing / 2, 0, 0};
  return net.node("Pad", name + ".pad",
                  {sliced, net.ints(name + ".pads", pads), net.scalar(name + ".zero", 0)});
}

std::string cifar_block(ConvNetBuilder& net, const std::string& name, const std::string& x,
                        std::int64_t channels, std::int64_t stride) {
  std::string y = net.conv_norm(name + ".conv1", name + ".bn1", x, {.channels = channels, .stride = stride});
  y = net.relu(name + ".relu1", y);
  y = net.conv_norm(name + ".conv2", name + ".bn2", y, {.channels = channels, .gain = 0.5});
  std::string shortcut = x;
  if (stride != 1 || net.channels(x) != channels)
    shortcut = option_a_shortcut(net, name + ".shortcut", x, channels);
  return net.relu(name + ".relu2", net.add(name + ".add", y, shortcut));
}

using BlockFunction = std::string (*)(ConvNetBuilder&, const std::string&, const std::string&, std::int64_t,
                                      std::int64_t);

Graph build_imagenet(const std::string& name, const std::array<int, 4>& depths, BlockFunction block,
                     const ClassifierOptions& options) {
  ConvNetBuilder net(name, options);
  std::string x = net.image();
  x = net.conv_norm("conv1", "bn1", x, {.channels = net.scaled(64), .kernel = 7, .stride = 2});
  x = net.max_pool("maxpool", net.relu("relu", x), 3, 2, 1);
  for (int stage = 0; stage < 4; ++stage)
    for (int i = 0; i < depths[static_cast<std::size_t>(stage)]; ++i)
      x = block(net, fmt::format("layer{}.{}", stage + 1, i), x, net.scaled(64 << stage),
                i == 0 && stage > 0 ? 2 : 1);
  return net.classify(x, "fc");
}

Graph build_cifar(const std::string& name, int depth, const ClassifierOptions& options) {
  ConvNetBuilder net(name, options);
  std::string x = net.relu("relu", net.conv_norm("conv1", "bn1", net.image(), {.channels = net.scaled(16)}));
  for (int stage = 0; stage < 3; ++stage)
    for (int i = 0; i < depth; ++i)
      x = cifar_block(net, fmt::format("layer{}.{}", stage + 1, i), x, net.scaled(16 << stage),
                      i == 0 && stage > 0 ? 2 : 1);
  return net.classify(x, "fc");
}

}  // namespace

Graph build_resnet18(const ClassifierOptions& options) {
  return build_imagenet("resnet18", {2, 2, 2, 2}, basic_block, options);
}

Graph build_resnet50(const ClassifierOptions& options) {
  return build_imagenet("resnet50", {3, 4, 6, 3}, bottleneck, options);
}

Graph build_resnet20(ClassifierOptions options) {
  return build_cifar("resnet20", 3, options);
}

Graph build_resnet32(ClassifierOptions options) {
  return build_cifar("resnet32", 5, options);
}

}  // namespace lithe
