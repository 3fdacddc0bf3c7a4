#include "lithe/graph/weights.h"

#include <array>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

namespace lithe {
namespace {

/// Inputs that may hold the weight, by operator.
const std::vector<std::size_t>* weight_inputs(const Node& node) {
  static const std::unordered_map<std::string_view, std::vector<std::size_t>> table{{"Conv", {1}},
                                                                                    {"ConvTranspose", {1}},
                                                                                    {"DeformConv", {1}},
                                                                                    {"ConvInteger", {1}},
                                                                                    {"QLinearConv", {3}},
                                                                                    {"FusedConv", {1}},
                                                                                    {"Gemm", {1, 0}},
                                                                                    {"FusedGemm", {1, 0}},
                                                                                    {"MatMul", {1, 0}},
                                                                                    {"FusedMatMul", {1, 0}},
                                                                                    {"MatMulInteger", {1, 0}},
                                                                                    {"QLinearMatMul", {3, 0}},
                                                                                    {"MatMulNBits", {1}},
                                                                                    {"Einsum", {1, 0}},
                                                                                    {"LSTM", {1}},
                                                                                    {"GRU", {1}},
                                                                                    {"RNN", {1}}};
  if (!node.domain.empty() && node.domain != "com.microsoft") return nullptr;
  const auto found = table.find(node.op_type);
  return found == table.end() ? nullptr : &found->second;
}

bool passes_constants(const Node& node) {
  static const std::unordered_set<std::string_view> table{"DequantizeLinear", "QuantizeLinear", "Cast",
                                                          "Identity",         "Transpose",      "Reshape",
                                                          "Squeeze",          "Unsqueeze"};
  return node.domain.empty() && table.contains(node.op_type);
}

}  // namespace

std::string constant_behind(const Graph& graph, const GraphIndex& index, const std::string& value) {
  std::string name = value;
  for (int steps = 0; steps < 16; ++steps) {
    if (graph.is_constant(name)) return name;
    const int maker = index.producer(name);
    if (maker < 0) return "";
    const Node& node = graph.nodes[static_cast<std::size_t>(maker)];
    if (!passes_constants(node)) return "";
    name = node.input(0);
  }
  return "";
}

std::optional<Weight> find_weight(const Graph& graph, const GraphIndex& index, const Node& node) {
  const auto* inputs = weight_inputs(node);
  if (!inputs) return std::nullopt;
  for (const std::size_t input : *inputs) {
    if (node.input(input).empty()) continue;
    const std::string constant = constant_behind(graph, index, node.input(input));
    if (!constant.empty()) return Weight{input, constant, graph.constant(constant)->count()};
  }
  return std::nullopt;
}

}  // namespace lithe
