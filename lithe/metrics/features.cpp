#include "lithe/metrics/features.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/data/loader.h"

namespace lithe {
namespace {

std::int64_t known(const DimVector& shape, std::size_t axis) {
  return shape.at(axis).known() ? shape[axis].value : 0;
}

}  // namespace

std::string penultimate_value(const Graph& graph) {
  for (auto node = graph.nodes.rbegin(); node != graph.nodes.rend(); ++node) {
    const bool product = node->is("Gemm") || node->is("MatMul") || node->is("Conv");
    if (product && node->inputs.size() > 1 && !graph.is_constant(node->input(0)) &&
        graph.is_constant(node->input(1)))
      return node->input(0);
  }
  fail("the network '{}' has no last layer with weights whose input could serve as features; name a value",
       graph.name);
}

FeatureNetwork::FeatureNetwork(const Graph& graph, const Preprocess& preprocess, const std::string& value,
                               at::Device device)
    : executor_(graph, {.device = device}),
      preprocess_(preprocess),
      value_(value.empty() ? penultimate_value(graph) : value) {
  const GraphIndex index(graph);
  if (index.producer(value_) < 0) fail("the feature network '{}' makes no value '{}'", graph.name, value_);
  const auto inputs = graph.required_inputs();
  if (inputs.size() != 1 || !inputs[0]->shape || inputs[0]->shape->size() != 4)
    fail("the feature network '{}' must have one input, an image [n, c, h, w]", graph.name);
  if (preprocess.layout != ImageLayout::Nchw)
    fail("the feature network '{}' must take images in NCHW", graph.name);
  const DimVector& shape = *inputs[0]->shape;
  input_ = inputs[0]->name;
  channels_ = known(shape, 1);
  height_ = known(shape, 2);
  width_ = known(shape, 3);
}

at::Tensor FeatureNetwork::fit(const at::Tensor& pixels) const {
  at::Tensor x = pixels.to(at::kFloat);
  if (channels_ > 0 && x.size(1) != channels_) {
    if (x.size(1) != 1 && channels_ != 1)
      fail("the feature network takes {} channels, the images have {}", channels_, x.size(1));
    x = x.size(1) == 1 ? x.expand({x.size(0), channels_, x.size(2), x.size(3)}) : x.mean(1, true);
  }
  std::int64_t height = height_, width = width_;
  if (height == 0 && preprocess_.resize) {
    height = preprocess_.resize->height;
    width = preprocess_.resize->width;
  }
  if (height > 0 && width > 0 && (x.size(2) != height || x.size(3) != width)) {
    const bool smaller = height < x.size(2) || width < x.size(3);
    x = smaller ? at::_upsample_bilinear2d_aa(x, {height, width}, false, c10::nullopt, c10::nullopt)
                : at::upsample_bilinear2d(x, {height, width}, false, c10::nullopt, c10::nullopt);
  }
  x = x * preprocess_.scale;
  std::vector<float> mean, std;
  for (std::int64_t c = 0; c < x.size(1); ++c) {
    mean.push_back(static_cast<float>(preprocess_.mean_of(c)));
    std.push_back(static_cast<float>(preprocess_.std_of(c)));
  }
  const std::vector<std::int64_t> by_channel{1, x.size(1), 1, 1};
  return (x - at::tensor(mean).view(by_channel)) / at::tensor(std).view(by_channel);
}

at::Tensor FeatureNetwork::operator()(const at::Tensor& pixels) {
  if (pixels.dim() != 4 || pixels.scalar_type() != at::kByte)
    fail("features are of 8-bit pixels [n, channels, height, width]");
  const at::NoGradGuard no_grad;
  const at::Device device = executor_.options().device;
  at::Tensor y = executor_.run({{input_, fit(pixels).to(device)}}, {value_}).at(value_);
  y = y.to(at::kCPU, at::kDouble);
  if (y.dim() < 2 || y.size(0) != pixels.size(0))
    fail("the value '{}' of the feature network has no row for each image", value_);
  return y.dim() == 2 ? y : y.flatten(2).mean(2);
}

at::Tensor to_uint8(const at::Tensor& images) {
  return ((images + 1) * 127.5).round().clamp(0, 255).to(at::kByte);
}

at::Tensor load_pixels(const DatasetPtr& dataset, std::int64_t limit, int threads) {
  const std::int64_t wanted = limit < 0 ? dataset->size() : std::min(limit, dataset->size());
  std::vector<std::int64_t> first(static_cast<std::size_t>(wanted));
  std::iota(first.begin(), first.end(), std::int64_t{0});
  Loader loader(subset(dataset, first), {.batch = 256, .threads = threads});
  std::vector<at::Tensor> parts;
  for (Batch batch; loader.next(batch);) {
    const at::Tensor& images = batch.inputs.begin()->second;
    if (batch.inputs.size() != 1 || images.dim() != 4) fail("{}: is no image", batch.names[0]);
    if (!parts.empty() && parts[0].sizes().slice(1) != images.sizes().slice(1))
      fail("{}: differs in size from the images before it; give --resize", batch.names[0]);
    parts.push_back(to_uint8(images));
  }
  return at::cat(parts);
}

at::Tensor features_of(FeatureNetwork& network, const at::Tensor& pixels, std::int64_t batch) {
  std::vector<at::Tensor> parts;
  for (std::int64_t at = 0; at < pixels.size(0); at += batch)
    parts.push_back(network(pixels.narrow(0, at, std::min(batch, pixels.size(0) - at))));
  if (parts.empty()) fail("there are no images to take features of");
  return at::cat(parts);
}

}  // namespace lithe
