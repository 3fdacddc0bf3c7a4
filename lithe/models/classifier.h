// What the convolutional classifiers share: input, convolution with norm, head.
#pragma once

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "lithe/base/error.h"
#include "lithe/models/builder.h"
#include "lithe/models/models.h"

namespace lithe {

class ConvNetBuilder : public GraphBuilder {
 public:
  ConvNetBuilder(const std::string& name, const ClassifierOptions& options)
      : GraphBuilder(name, options.seed, options.opset), options_(options) {
    if (options.classes < 1 || options.image_size < 1 || options.image_channels < 1 || !(options.width > 0))
      fail("{}: classes, image size, image channels and width must be positive", name);
  }

  std::string image() {
    return input("input",
                 {options_.batch, options_.image_channels, options_.image_size, options_.image_size});
  }

  std::int64_t scaled(std::int64_t channels) const {
    return std::max<std::int64_t>(1, std::llround(static_cast<double>(channels) * options_.width));
  }

  /// A convolution and its batch norm, or a convolution with bias where norms are folded.
  std::string conv_norm(const std::string& conv_name, const std::string& norm_name, const std::string& x,
                        ConvOptions options) {
    options.bias = !options_.batch_norm;
    if (!options_.batch_norm) return conv(conv_name, x, options);
    const double gain = std::exchange(options.gain, 1.0);
    return batch_norm(norm_name, conv(conv_name, x, options), gain);
  }

  /// What joins a residual block's paths: x itself, or a strided 1x1 convolution where size or channels
  /// change.
  std::string projection(const std::string& block, const std::string& x, std::int64_t channels,
                         std::int64_t stride) {
    if (stride == 1 && this->channels(x) == channels) return x;
    return conv_norm(block + ".downsample.0", block + ".downsample.1", x,
                     {.channels = channels, .kernel = 1, .stride = stride});
  }

  /// Global average pool, flatten, fully connected layer.
  Graph classify(const std::string& x, const std::string& name) {
    const std::int64_t features = channels(x);
    const std::string pooled = flatten("flatten", global_average_pool("avgpool", x));
    output("logits", gemm(name, pooled, features, options_.classes), {options_.batch, options_.classes});
    return finish();
  }

 private:
  ClassifierOptions options_;
};

}  // namespace lithe
