// Feature vectors of images, from an inner value of any network.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>

#include "lithe/data/dataset.h"
#include "lithe/engine/executor.h"
#include "lithe/metrics/frechet.h"

namespace lithe {

/// The value that the last layer with weights reads: the penultimate features of a classifier. Throws
/// Error(Input) if the network ends in no such layer.
std::string penultimate_value(const Graph& graph);

/// A network whose inner value serves as features. What is not [n, d] is averaged over its further axes.
class FeatureNetwork {
 public:
  /// `value` is the name of an inner value; "" for the penultimate one. Throws Error(Input) that names the
  /// value if the network has none of that name.
  FeatureNetwork(const Graph& graph, const Preprocess& preprocess, const std::string& value = "",
                 at::Device device = at::kCPU);

  /// Features [n, d] in float64 of 8-bit pixels [n, c, h, w], uint8: they are brought to the size of the
  /// network (bilinear, antialiased when made smaller) and its channels (gray is repeated), and preprocessed.
  at::Tensor operator()(const at::Tensor& pixels);

  const std::string& value() const { return value_; }

 private:
  at::Tensor fit(const at::Tensor& pixels) const;

  Executor executor_;
  Preprocess preprocess_;
  std::string input_, value_;
  std::int64_t channels_ = 0, height_ = 0, width_ = 0;  // 0: any
};

/// Images in -1..1 [n, c, h, w] as 8-bit pixels: (x + 1) 127.5, rounded and clipped.
at::Tensor to_uint8(const at::Tensor& images);

/// Pictures of a data set as pixels [n, c, h, w] uint8; at most `limit` of them (negative: all). The data set
/// must give images in -1..1 of one size.
at::Tensor load_pixels(const DatasetPtr& dataset, std::int64_t limit = -1, int threads = 2);

/// Features of many pixels, in batches.
at::Tensor features_of(FeatureNetwork& network, const at::Tensor& pixels, std::int64_t batch = 100);

}  // namespace lithe
