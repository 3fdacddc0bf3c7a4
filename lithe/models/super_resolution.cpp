// EDSR (Lim et al., CVPRW 2017) and RDN (Zhang et al., CVPR 2018).
#include "lithe/base/error.h"
#include "lithe/models/builder.h"
#include "lithe/models/models.h"

namespace lithe {
namespace {

class SuperResolutionBuilder : public GraphBuilder {
 public:
  SuperResolutionBuilder(const std::string& name, const SuperResolutionOptions& options)
      : GraphBuilder(name, options.seed, options.opset), options_(options) {
    if (options.scale < 1 || options.channels < 1 || options.blocks < 1 || options.image_channels < 1 ||
        options.image_size < 1 || options.growth < 1 || options.layers < 1)
      fail("{}: all sizes must be positive", name);
  }

  std::string image() {
    return input("input",
                 {options_.batch, options_.image_channels, options_.image_size, options_.image_size});
  }

  /// Convolution to scale^2 as many channels, pixel shuffle, convolution to an image.
  Graph upscale(const std::string& x) {
    const std::int64_t s = options_.scale;
    const std::string wide = conv("upsample.conv", x, {.channels = options_.channels * s * s});
    const std::string shuffled =
        node("DepthToSpace", "upsample.shuffle", {wide}, {{"blocksize", s}, {"mode", std::string("CRD")}});
    set_channels(shuffled, options_.channels);
    output("output", conv("tail", shuffled, {.channels = options_.image_channels}),
           {options_.batch, options_.image_channels, options_.image_size * s, options_.image_size * s});
    return finish();
  }

 private:
  SuperResolutionOptions options_;
};

}  // namespace

Graph build_edsr(const SuperResolutionOptions& options) {
  SuperResolutionBuilder net("edsr", options);
  const std::int64_t c = options.channels;
  const std::string head = net.conv("head", net.image(), {.channels = c});
  std::string x = head;
  for (std::int64_t i = 0; i < options.blocks; ++i) {
    const std::string name = fmt::format("body.{}", i);
    std::string y = net.relu(name + ".relu", net.conv(name + ".conv1", x, {.channels = c}));
    y = net.conv(name + ".conv2", y, {.channels = c, .gain = 0.5});
    x = net.add(name + ".add", y, x);
  }
  x = net.conv("body.conv", x, {.channels = c});
  return net.upscale(net.add("body.add", x, head));
}

Graph build_rdn(const SuperResolutionOptions& options) {
  SuperResolutionBuilder net("rdn", options);
  const std::int64_t c = options.channels;
  const std::string shallow = net.conv("shallow1", net.image(), {.channels = c});
  std::string x = net.conv("shallow2", shallow, {.channels = c});
  std::vector<std::string> blocks;
  for (std::int64_t i = 0; i < options.blocks; ++i) {
    std::string dense = x;
    for (std::int64_t j = 0; j < options.layers; ++j) {
      const std::string name = fmt::format("block{}.layer{}", i, j);
      const std::string y =
          net.relu(name + ".relu", net.conv(name + ".conv", dense, {.channels = options.growth}));
      dense = net.concat(name + ".concat", {dense, y});
    }
    const std::string name = fmt::format("block{}", i);
    x = net.add(name + ".add", net.conv(name + ".fusion", dense, {.channels = c, .kernel = 1, .gain = 0.5}),
                x);
    blocks.push_back(x);
  }
  std::string fused = net.conv("fusion1", net.concat("fusion.concat", blocks), {.channels = c, .kernel = 1});
  fused = net.conv("fusion2", fused, {.channels = c});
  return net.upscale(net.add("global.add", fused, shallow));
}

}  // namespace lithe
