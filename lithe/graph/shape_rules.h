// Inside shape inference: how one operator's outputs follow from its inputs.
#pragma once

#include <fmt/format.h>

#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/graph/quantity.h"

namespace lithe {

/// Dimensions beyond this are errors; below it, arithmetic on them with attributes of 31 bits does not
/// overflow.
inline constexpr std::int64_t kLargestSize = std::int64_t{1} << 48;

/// What is known of a value.
struct ValueType {
  DType dtype = DType::Undefined;
  std::optional<Shape> shape;
  bool tensor = true;  // false: a sequence, optional or map
};

class ShapeScope;

/// One node seen by its rule. `set` stores results; what is not set stays unknown.
class ShapeCall {
 public:
  ShapeCall(const Node& node, std::int64_t opset, ShapeScope& scope);

  const Node& node;
  const std::int64_t opset;
  ShapeScope& scope;

  bool has(std::size_t i) const { return i < node.inputs.size() && !node.inputs[i].empty(); }
  std::size_t input_count() const { return node.inputs.size(); }
  const ValueType& type(std::size_t i) const { return i < types_.size() ? types_[i] : unknown_; }
  DType dtype(std::size_t i) const { return type(i).dtype; }
  /// The shape, or nullptr if not even the rank is known.
  const Shape* shape(std::size_t i) const { return type(i).shape ? &*type(i).shape : nullptr; }
  /// The elements of a small input as far as they are known, or nullptr.
  const KnownTensor* known(std::size_t i) const;
  /// The elements of an integer input if all are known.
  std::optional<std::vector<std::int64_t>> ints(std::size_t i) const;
  /// Integers that are an input in newer opsets and an attribute in older ones. Nothing: they exist, but are
  /// unknown.
  std::optional<std::vector<std::int64_t>> ints(std::size_t i, std::string_view attribute,
                                                std::vector<std::int64_t> fallback) const;

  void set(std::size_t output, DType dtype, std::optional<Shape> shape = std::nullopt);
  void set(std::size_t output, ValueType type);
  void set_known(std::size_t output, KnownTensor tensor);

  /// -rank..rank-1 (or up to rank where `inclusive`) as 0..rank; fails on others.
  std::size_t axis(std::int64_t value, std::size_t rank, bool inclusive = false) const;
  /// Fails with the node's name.
  template <typename... Args>
  [[noreturn]] void contradiction(fmt::format_string<Args...> format, Args&&... args) const {
    fail("{}: {}", describe(node), fmt::format(format, std::forward<Args>(args)...));
  }
  /// Fails unless the shape, where known, has this rank.
  void require_rank(std::size_t input, std::size_t rank) const;

 private:
  std::vector<ValueType> types_;
  ValueType unknown_;
};

using ShapeRule = void (*)(ShapeCall&);
using ShapeRules = std::unordered_map<std::string_view, ShapeRule>;

/// The rules of ONNX's own domain, by operator.
const ShapeRules& shape_rules();

// The families, one file each.
void add_elementwise_rules(ShapeRules&);  // shapes_elementwise.cpp
void add_window_rules(ShapeRules&);       // shapes_window.cpp: convolution, pooling
void add_linear_rules(ShapeRules&);       // shapes_linear.cpp: Gemm, MatMul, Einsum, recurrent nets
void add_layout_rules(ShapeRules&);       // shapes_layout.cpp: Reshape, Transpose, Concat, Slice, Pad, ...
void add_indexing_rules(ShapeRules&);     // shapes_indexing.cpp: Gather, OneHot, Reduce*, TopK, ...
void add_image_rules(ShapeRules&);        // shapes_image.cpp: Resize, GridSample, RoiAlign, ...
void add_quantize_rules(ShapeRules&);     // shapes_quantize.cpp
void add_generator_rules(ShapeRules&);    // shapes_generator.cpp: Constant, Shape, Range, Random*, ...
void add_control_rules(ShapeRules&);      // shapes_control.cpp: If, Loop
void add_token_rules(ShapeRules&);        // shapes_tokens.cpp: learnt token counts
void add_point_rules(ShapeRules&);        // shapes_points.cpp: searches among points

/// What follows for the elements of small tensors; after the shape rule has run.
void propagate_known(ShapeCall& call);

/// The names visible at one level: a graph, a sub-graph, or the body of a function.
class ShapeScope {
 public:
  ShapeScope(const Graph& model, const ShapeScope* parent, int depth)
      : model(model), parent(parent), depth(depth) {}

  const Graph& model;  // has the functions and opsets
  const ShapeScope* parent;
  const int depth;

  std::unordered_map<std::string, ValueType> types;
  std::unordered_map<std::string, KnownTensor> known;
  const std::map<std::string, std::int64_t, std::less<>>* opsets = nullptr;

  const ValueType* find_type(const std::string& name) const;
  const KnownTensor* find_known(const std::string& name) const;
  std::int64_t opset(std::string_view domain) const;

  void add_constants(const Graph& graph);
  void run(const Node& node);
  /// A sub-graph that sees this scope; types of its inputs may be bound beforehand. Returns its outputs.
  std::vector<std::pair<ValueType, std::optional<KnownTensor>>> run_subgraph(
      const Graph& graph, const std::vector<ValueType>& inputs) const;

 private:
  void run_function(const Function& function, const Node& node);
};

// Common to several rules.

std::optional<Shape> broadcast(const ShapeCall& call, const std::optional<Shape>& a,
                               const std::optional<Shape>& b);
/// What holds of both.
ValueType merge_alternatives(const ValueType& a, const ValueType& b);
/// Output 0 has the type of input 0.
void same_as_first(ShapeCall& call);
Quantity product(const Shape& shape, std::size_t begin, std::size_t end);

}  // namespace lithe
