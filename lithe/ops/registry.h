// How operators compute: ONNX operators, and Lithe's own, as differentiable functions of LibTorch tensors.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

class Collective;

/// One execution of a node.
struct OpCall {
  const Node& node;
  std::int64_t opset;                  // of the node's domain
  std::span<const at::Tensor> inputs;  // an undefined tensor stands for an input that is left out
  bool training = false;               // batch norm and dropout behave as in training
  at::Device device = at::kCPU;        // where operators without inputs put their results
  at::Generator generator = {};        // of the CPU; undefined: LibTorch's default (at::manual_seed)
  std::span<const DType> types = {};   // as the model declares the inputs, where that is known
  Collective* collective = nullptr;    // processes that share batch statistics; nullptr: alone

  bool has(std::size_t index) const { return index < inputs.size() && inputs[index].defined(); }
  /// The input; throws Error(Input) naming the node if it is left out.
  const at::Tensor& input(std::size_t index) const;
  /// The input, or an undefined tensor.
  at::Tensor optional(std::size_t index) const { return has(index) ? inputs[index] : at::Tensor(); }
  /// The element type that the model declares for the input: tells types apart that LibTorch lacks and that
  /// tensors widen (int4, uint16, ...). The tensor's own type if nothing is declared.
  DType dtype(std::size_t index) const;
  /// A small integer input (shape, axes, pads, ...) as numbers. Any device.
  std::vector<std::int64_t> ints(std::size_t index) const;
  /// Integers that moved from an attribute to an input between opsets: the input if present, else the
  /// attribute, else the fallback.
  std::vector<std::int64_t> ints(std::size_t index, std::string_view attribute,
                                 std::vector<std::int64_t> fallback = {}) const;
};

/// Returns the outputs in the node's order; outputs that the node leaves out may be undefined.
using OpFunction = std::vector<at::Tensor> (*)(const OpCall&);

struct OpEntry {
  OpFunction run;
  std::int64_t since;  // first opset whose form of the operator is understood
  std::int64_t until;  // last opset known to hold; newer models are refused only if the operator changed
};

/// All operators by domain and type. One file a family adds its own; see `register_all`.
class OpRegistry {
 public:
  void add(std::string_view op_type, OpFunction run, std::int64_t since = 1, std::int64_t until = 24,
           std::string_view domain = "");
  const OpEntry* find(std::string_view domain, std::string_view op_type) const;
  const std::map<std::pair<std::string, std::string>, OpEntry>& entries() const { return entries_; }

 private:
  std::map<std::pair<std::string, std::string>, OpEntry> entries_;
};

/// The registry of everything that Lithe runs.
const OpRegistry& op_registry();

/// A constant as a tensor that shares its bytes (sub-byte types are widened to int8 or uint8).
at::Tensor to_tensor(const TensorData& data);
/// A tensor as a constant; copies, from any device.
TensorData to_tensor_data(const at::Tensor& tensor);
at::ScalarType scalar_type_of(DType dtype);
DType dtype_of_scalar(at::ScalarType type);

// The families, one file each.
void register_elementwise(OpRegistry&);     // elementwise.cpp: arithmetic, unary functions, activations
void register_logic(OpRegistry&);           // logic.cpp: comparisons, Where, bitwise
void register_reduction(OpRegistry&);       // reduction.cpp: Reduce*, ArgMax, CumSum, TopK
void register_shape(OpRegistry&);           // shape.cpp: Reshape, Transpose, Slice, Concat, Pad, Expand, ...
void register_indexing(OpRegistry&);        // indexing.cpp: Gather*, Scatter*, NonZero, OneHot, ...
void register_generator(OpRegistry&);       // generator.cpp: Constant, ConstantOfShape, Range, Random*, ...
void register_convolution(OpRegistry&);     // convolution.cpp: Conv, ConvTranspose, DeformConv
void register_pooling(OpRegistry&);         // pooling.cpp
void register_normalization(OpRegistry&);   // normalization.cpp: batch, instance, group, layer norm, softmax
void register_linear(OpRegistry&);          // linear.cpp: Gemm, MatMul, Einsum, attention
void register_recurrent(OpRegistry&);       // recurrent.cpp: RNN, GRU, LSTM
void register_image(OpRegistry&);           // image.cpp: Resize, Upsample, GridSample, NMS, RoiAlign
void register_quantization(OpRegistry&);    // quantization.cpp: QuantizeLinear, QLinear*, *Integer
void register_sparse(OpRegistry&);          // sparse.cpp: lithe.NmPrune, lithe.SpatialBranch
void register_bound_quantize(OpRegistry&);  // bound_quantize.cpp: lithe.BoundQuantize
void register_fake_quantize(OpRegistry&);   // fake_quantize.cpp: lithe.FakeQuantize
void register_subset_quantize(
    OpRegistry&);  // subset_quantize.cpp: lithe.SubsetQuantize, lithe.DynamicSubsetQuantize
void register_token_reduce(OpRegistry&);  // token_reduce.cpp: lithe.TokenPrune, lithe.TokenReduce
void register_token_soft(OpRegistry&);    // token_soft.cpp: lithe.TokenReduceSoft and what goes with it
void register_point_search(OpRegistry&);  // point_search.cpp: lithe.FarthestPointSample and the like

}  // namespace lithe
