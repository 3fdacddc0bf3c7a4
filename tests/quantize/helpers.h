// Small graphs and data for the tests of quantisation.
#pragma once

#include <ATen/ATen.h>

#include <string>
#include <vector>

#include "lithe/base/random.h"
#include "lithe/data/dataset.h"
#include "lithe/engine/executor.h"
#include "lithe/graph/graph.h"
#include "lithe/ops/registry.h"

namespace lithe::testing_helpers {

inline at::Tensor random_tensor(const std::vector<std::int64_t>& shape, std::uint64_t seed) {
  Rng rng(seed);
  at::Tensor tensor = at::empty(shape, at::kFloat);
  float* first = tensor.data_ptr<float>();
  for (std::int64_t i = 0; i < tensor.numel(); ++i) first[i] = static_cast<float>(rng.normal());
  return tensor;
}

inline TensorData random_data(const std::vector<std::int64_t>& shape, std::uint64_t seed) {
  return to_tensor_data(random_tensor(shape, seed));
}

inline TensorData floats(const std::vector<std::int64_t>& shape, std::vector<float> values) {
  return TensorData::from<float>(shape, std::move(values));
}

inline ValueInfo image(const std::string& name, const std::vector<std::int64_t>& shape) {
  DimVector dims;
  for (const std::int64_t dim : shape) dims.push_back(dim < 0 ? Dim{.symbol = "batch"} : Dim{.value = dim});
  return {.name = name, .dtype = DType::Float32, .shape = dims};
}

inline Node make(const std::string& op, const std::string& output, std::vector<std::string> inputs,
                 std::map<std::string, Attribute, std::less<>> attributes = {}) {
  return {.name = output + "_node",
          .op_type = op,
          .inputs = std::move(inputs),
          .outputs = {output},
          .attributes = std::move(attributes)};
}

inline std::vector<std::int64_t> ints(std::vector<std::int64_t> values) {
  return values;
}

/// `samples` standard normal images for a graph of one input.
inline DatasetPtr random_dataset(const std::vector<std::int64_t>& shape, std::uint64_t seed) {
  return tensor_dataset({{"", random_tensor(shape, seed)}});
}

inline at::Tensor run(const Graph& graph, const at::Tensor& x) {
  Executor executor(graph);
  return executor(x);
}

inline double largest_gap(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

}  // namespace lithe::testing_helpers
