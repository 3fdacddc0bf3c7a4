// The small transformer of the published numbers: weights from a linear congruential generator.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "lithe/models/models.h"

namespace lithe {

/// u in [-0.5, 0.5): s <- 1664525 s + 1013904223 mod 2^32 first, then s / 2^32 - 0.5.
class ToyNumbers {
 public:
  explicit ToyNumbers(std::uint32_t seed) : state_(seed) {}
  double operator()() {
    state_ = 1664525u * state_ + 1013904223u;
    return static_cast<double>(state_) / 4294967296.0 - 0.5;
  }

 private:
  std::uint32_t state_;
};

/// Image 3 x 8 x 8 in patches of 2 (17 tokens), 8 channels, 3 blocks, 2 heads, 3 classes.
inline Graph toy_vit(std::int64_t batch = -1) {
  Graph graph = build_vit({.image_size = 8,
                           .patch = 2,
                           .dim = 8,
                           .depth = 3,
                           .heads = 2,
                           .classes = 3,
                           .layer_norm_operator = true,
                           .batch = batch});
  for (Node& node : graph.nodes)
    if (node.is("LayerNormalization")) node.attributes["epsilon"] = 1e-5f;
  ToyNumbers next(12345);
  const auto fill = [&](const std::string& name, std::vector<std::int64_t> shape, double factor,
                        double center = 0) {
    std::int64_t count = 1;
    for (const std::int64_t size : shape) count *= size;
    std::vector<float> values;
    for (std::int64_t i = 0; i < count; ++i) values.push_back(static_cast<float>(center + factor * next()));
    graph.constants.at(name) = TensorData::from<float>(std::move(shape), std::move(values));
  };
  // The numbers are of a weight [out, in]; the graph multiplies from the right.
  const auto linear = [&](const std::string& name, std::int64_t out, std::int64_t in, double factor) {
    std::vector<float> values(static_cast<std::size_t>(out * in));
    for (std::int64_t o = 0; o < out; ++o)
      for (std::int64_t i = 0; i < in; ++i)
        values[static_cast<std::size_t>(i * out + o)] = static_cast<float>(factor * next());
    graph.constants.at(name + ".weight") = TensorData::from<float>({in, out}, std::move(values));
    fill(name + ".bias", {out}, 0.2);
  };
  const auto norm = [&](const std::string& name) {
    fill(name + ".weight", {8}, 0.2, 1);
    fill(name + ".bias", {8}, 0.2);
  };
  fill("cls_token", {1, 1, 8}, 1.2);
  fill("pos_embed", {1, 17, 8}, 1.2);
  fill("patch_embed.proj.weight", {8, 3, 2, 2}, 1.2);
  fill("patch_embed.proj.bias", {8}, 0.2);
  for (int l = 0; l < 3; ++l) {
    const std::string block = "blocks." + std::to_string(l);
    norm(block + ".norm1");
    linear(block + ".attn.qkv", 24, 8, 2);
    linear(block + ".attn.proj", 8, 8, 1.2);
    norm(block + ".norm2");
    linear(block + ".mlp.fc1", 32, 8, 1.2);
    linear(block + ".mlp.fc2", 8, 32, 1.2);
  }
  norm("norm");
  fill("head.weight", {3, 8}, 1.2);
  fill("head.bias", {3}, 0.2);
  return graph;
}

inline at::Tensor toy_images() {
  ToyNumbers next(777);
  at::Tensor images = at::empty({2, 3, 8, 8});
  float* data = images.data_ptr<float>();
  for (std::int64_t i = 0; i < images.numel(); ++i) data[i] = static_cast<float>(4 * next());
  return images;
}

}  // namespace lithe
