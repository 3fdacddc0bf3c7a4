// Puts single operators to Lithe's engine and to stock ONNX Runtime and compares what they make of them.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lithe/base/random.h"
#include "lithe/graph/graph.h"

namespace lithe {

using Ints = std::vector<std::int64_t>;

/// An input of a node; left out where it has no data.
struct Operand {
  std::optional<TensorData> data;
  Operand() = default;
  Operand(const at::Tensor& tensor);
  Operand(TensorData tensor) : data(std::move(tensor)) {}
};

struct OperatorCase {
  std::string op_type;
  std::vector<Operand> inputs;
  std::map<std::string, Attribute, std::less<>> attributes = {};
  std::int64_t opset = 20;
  std::size_t outputs = 1;
  DType cast = DType::Undefined;  // what the outputs are cast to, where ONNX Runtime cannot hand them over
};

/// Makes operands; equal seeds make equal ones.
class Operands {
 public:
  explicit Operands(std::uint64_t seed) : rng_(seed) {}
  /// Uniform in [low, high).
  at::Tensor floats(const Ints& shape, double low = -1, double high = 1);
  /// Uniform in {low, .., high - 1}, as int64.
  at::Tensor ints(const Ints& shape, std::int64_t low, std::int64_t high);
  /// The same of a type that LibTorch lacks: unsigned above 8 bits, or 4 bits.
  TensorData codes(DType dtype, const Ints& shape, std::int64_t low, std::int64_t high);

 private:
  Rng rng_;
};

/// A vector of int64: a shape, axes, pads, ...
inline at::Tensor list(const Ints& values) {
  return at::tensor(values, at::kLong);
}
inline at::Tensor reals(const std::vector<float>& values) {
  return at::tensor(values, at::kFloat);
}
inline at::Tensor number(double value, at::ScalarType type = at::kFloat) {
  return at::scalar_tensor(value, type);
}

/// Expects type, shape and elements of all outputs to agree: integers exactly, floats within rtol 1e-4 and
/// atol 1e-5 (float16: 2e-3). All cases of an opset share one session of ONNX Runtime.
void expect_as_onnx_runtime(const std::vector<OperatorCase>& cases);

}  // namespace lithe
