#include "lithe/quantize/upgrade_opset.h"

#include <algorithm>
#include <map>
#include <set>

#include "lithe/base/error.h"

namespace lithe {
namespace {

constexpr std::int64_t kNewest = 22;

/// Operators whose meaning for a model of opset 11 is the same at opset 22: later versions only added types,
/// attributes whose defaults keep the old meaning, or optional inputs.
const std::set<std::string, std::less<>>& unchanged_operators() {
  static const std::set<std::string, std::less<>> names{"Abs",
                                                        "Acos",
                                                        "Acosh",
                                                        "Add",
                                                        "And",
                                                        "ArgMax",
                                                        "ArgMin",
                                                        "Asin",
                                                        "Asinh",
                                                        "Atan",
                                                        "Atanh",
                                                        "Attention",
                                                        "AveragePool",
                                                        "Bernoulli",
                                                        "BitShift",
                                                        "BitwiseAnd",
                                                        "BitwiseNot",
                                                        "BitwiseOr",
                                                        "BitwiseXor",
                                                        "BlackmanWindow",
                                                        "Cast",
                                                        "CastLike",
                                                        "Ceil",
                                                        "Celu",
                                                        "CenterCropPad",
                                                        "Clip",
                                                        "Col2Im",
                                                        "Compress",
                                                        "Concat",
                                                        "ConcatFromSequence",
                                                        "Constant",
                                                        "ConstantOfShape",
                                                        "Conv",
                                                        "ConvInteger",
                                                        "ConvTranspose",
                                                        "Cos",
                                                        "Cosh",
                                                        "CumSum",
                                                        "DeformConv",
                                                        "DepthToSpace",
                                                        "DequantizeLinear",
                                                        "Det",
                                                        "Div",
                                                        "DynamicQuantizeLinear",
                                                        "Einsum",
                                                        "Elu",
                                                        "Equal",
                                                        "Erf",
                                                        "Exp",
                                                        "Expand",
                                                        "EyeLike",
                                                        "Flatten",
                                                        "Floor",
                                                        "GRU",
                                                        "Gather",
                                                        "GatherElements",
                                                        "GatherND",
                                                        "Gelu",
                                                        "Gemm",
                                                        "GlobalAveragePool",
                                                        "GlobalLpPool",
                                                        "GlobalMaxPool",
                                                        "Greater",
                                                        "GreaterOrEqual",
                                                        "HammingWindow",
                                                        "HannWindow",
                                                        "HardSigmoid",
                                                        "HardSwish",
                                                        "Hardmax",
                                                        "Identity",
                                                        "If",
                                                        "InstanceNormalization",
                                                        "IsInf",
                                                        "IsNaN",
                                                        "LRN",
                                                        "LSTM",
                                                        "LayerNormalization",
                                                        "LeakyRelu",
                                                        "Less",
                                                        "LessOrEqual",
                                                        "Log",
                                                        "LogSoftmax",
                                                        "Loop",
                                                        "LpNormalization",
                                                        "LpPool",
                                                        "MatMul",
                                                        "MatMulInteger",
                                                        "Max",
                                                        "MaxPool",
                                                        "MaxRoiPool",
                                                        "MaxUnpool",
                                                        "Mean",
                                                        "MeanVarianceNormalization",
                                                        "Min",
                                                        "Mish",
                                                        "Mod",
                                                        "Mul",
                                                        "Multinomial",
                                                        "Neg",
                                                        "NonMaxSuppression",
                                                        "NonZero",
                                                        "Not",
                                                        "OneHot",
                                                        "Or",
                                                        "PRelu",
                                                        "Pad",
                                                        "Pow",
                                                        "QLinearConv",
                                                        "QLinearMatMul",
                                                        "QuantizeLinear",
                                                        "RNN",
                                                        "RandomNormal",
                                                        "RandomNormalLike",
                                                        "RandomUniform",
                                                        "RandomUniformLike",
                                                        "Range",
                                                        "Reciprocal",
                                                        "ReduceSum",
                                                        "Relu",
                                                        "Reshape",
                                                        "Resize",
                                                        "ReverseSequence",
                                                        "Round",
                                                        "Scan",
                                                        "ScatterElements",
                                                        "ScatterND",
                                                        "Selu",
                                                        "SequenceAt",
                                                        "SequenceConstruct",
                                                        "SequenceEmpty",
                                                        "SequenceErase",
                                                        "SequenceInsert",
                                                        "SequenceLength",
                                                        "Shape",
                                                        "Shrink",
                                                        "Sigmoid",
                                                        "Sign",
                                                        "Sin",
                                                        "Sinh",
                                                        "Size",
                                                        "Slice",
                                                        "Softmax",
                                                        "Softplus",
                                                        "Softsign",
                                                        "SpaceToDepth",
                                                        "Split",
                                                        "SplitToSequence",
                                                        "Sqrt",
                                                        "Squeeze",
                                                        "Sub",
                                                        "Sum",
                                                        "Tan",
                                                        "Tanh",
                                                        "ThresholdedRelu",
                                                        "Tile",
                                                        "TopK",
                                                        "Transpose",
                                                        "Trilu",
                                                        "Unique",
                                                        "Unsqueeze",
                                                        "Where",
                                                        "Xor"};
  return names;
}

const std::set<std::string, std::less<>>& late_reductions() {
  static const std::set<std::string, std::less<>> names{"ReduceL1",  "ReduceL2",   "ReduceLogSum",
                                                        "ReduceMax", "ReduceMean", "ReduceLogSumExp",
                                                        "ReduceMin", "ReduceProd", "ReduceSumSquare"};
  return names;
}

class Upgrade {
 public:
  Upgrade(Graph& graph, std::int64_t from, std::int64_t to) : graph_(graph), from_(from), to_(to) {}

  void run() {
    std::vector<Node> nodes = std::move(graph_.nodes);
    graph_.nodes.clear();
    for (Node& node : nodes) {
      for (auto& [name, attribute] : node.attributes) convert_subgraphs(attribute);
      if (node.domain.empty()) convert(node);
      graph_.nodes.push_back(std::move(node));
      for (Node& one : behind_) graph_.nodes.push_back(std::move(one));
      behind_.clear();
    }
  }

 private:
  bool crosses(std::int64_t version) const { return from_ < version && version <= to_; }

  void convert_subgraphs(Attribute& attribute) const {
    const auto upgraded = [&](const GraphPtr& inner) {
      Graph copy = *inner;
      Upgrade(copy, from_, to_).run();
      return std::make_shared<const Graph>(std::move(copy));
    };
    if (auto* one = std::get_if<GraphPtr>(&attribute)) *one = upgraded(*one);
    if (auto* many = std::get_if<std::vector<GraphPtr>>(&attribute))
      for (GraphPtr& inner : *many) inner = upgraded(inner);
  }

  /// Moves a list attribute to an input. Names are made from the node's output, which is unique.
  void attribute_to_input(Node& node, std::string_view attribute, std::size_t input) {
    const auto* values = node.find<std::vector<std::int64_t>>(attribute);
    if (!values) return;
    const std::string name = fmt::format("{}.{}", node.output(0), attribute);
    add_constant(node, input,
                 TensorData::from<std::int64_t>({static_cast<std::int64_t>(values->size())}, *values), name);
    node.attributes.erase(node.attributes.find(attribute));
  }

  void add_constant(Node& node, std::size_t input, TensorData data, const std::string& name) {
    if (node.inputs.size() <= input) node.inputs.resize(input + 1);
    std::string unique = name;
    for (int i = 1; graph_.is_constant(unique); ++i) unique = fmt::format("{}_{}", name, i);
    graph_.constants.emplace(unique, std::move(data));
    node.inputs[input] = unique;
  }

  [[noreturn]] void refuse(const Node& node, std::string_view reason) const {
    fail("{}: cannot be raised from opset {} to {}: {}; export the model at opset {} or newer",
         describe(node), from_, to_, reason, to_);
  }

  /// Before opset 13 Softmax flattened everything from `axis` on into one axis.
  void convert_softmax(Node& node) {
    const std::int64_t axis = node.attr("axis", std::int64_t{1});
    const ValueInfo* info = graph_.info(node.input(0));
    const auto rank = info && info->shape ? static_cast<std::int64_t>(info->shape->size()) : -1;
    if (axis == -1 || (rank > 0 && axis == rank - 1)) {
      node.attributes["axis"] = std::int64_t{-1};
      return;
    }
    // Flatten gives the same two axes; the input's shape is restored afterwards.
    const std::string x = node.input(0), y = node.output(0);
    const std::string flat = y + ".flat", result = y + ".rows", shape = y + ".shape";
    Node flatten{.name = y + "/flatten", .op_type = "Flatten", .inputs = {x}, .outputs = {flat}};
    flatten.attributes["axis"] = axis;
    const Node sizes{.name = y + "/shape", .op_type = "Shape", .inputs = {x}, .outputs = {shape}};
    const Node restore{
        .name = y + "/restore", .op_type = "Reshape", .inputs = {result, shape}, .outputs = {y}};
    node.inputs[0] = flat;
    node.outputs[0] = result;
    node.attributes["axis"] = std::int64_t{-1};
    graph_.nodes.push_back(std::move(flatten));
    behind_ = {sizes, restore};
  }

  void convert_dropout(Node& node) {
    if (const auto* ratio = node.find<float>("ratio")) {
      add_constant(node, 1, TensorData::scalar(*ratio), node.output(0) + ".ratio");
      node.attributes.erase("ratio");
    }
  }

  void convert_batch_norm(Node& node) const {
    if (node.outputs.size() > 1) refuse(node, "it is in training form");
  }

  void convert_group_norm(Node& node) {
    // Scale and bias counted groups at opset 18 and count channels since 21.
    refuse(node, "its scale and bias changed from one number a group to one a channel");
  }

  void convert(Node& node) {
    const std::string& op = node.op_type;
    const bool softmax = op == "Softmax" || op == "LogSoftmax" || op == "Hardmax";
    if (op == "Dropout") {
      if (crosses(12)) convert_dropout(node);
      return;
    }
    if (op == "BatchNormalization") {
      if (crosses(14)) convert_batch_norm(node);
      return;
    }
    if (op == "GroupNormalization") {
      if (crosses(21)) convert_group_norm(node);
      return;
    }
    if (op == "GridSample") {
      if (crosses(20)) {
        const std::string mode = node.attr("mode", "bilinear");
        if (mode == "bilinear") node.attributes["mode"] = std::string("linear");
        if (mode == "bicubic") node.attributes["mode"] = std::string("cubic");
      }
      return;
    }
    if (op == "RoiAlign") {
      // Opset 16 added half-pixel coordinates and made them the default.
      if (crosses(16) && !node.has("coordinate_transformation_mode"))
        node.attributes["coordinate_transformation_mode"] = std::string("output_half_pixel");
      return;
    }
    if (late_reductions().contains(op)) {
      if (crosses(18)) attribute_to_input(node, "axes", 1);
      return;
    }
    if (!unchanged_operators().contains(op))
      refuse(node, fmt::format("what changed in {} is not known here", op));
    if (softmax && crosses(13)) convert_softmax(node);
    if (crosses(13)) {
      if (op == "Squeeze" || op == "Unsqueeze" || op == "ReduceSum") attribute_to_input(node, "axes", 1);
      if (op == "Split") attribute_to_input(node, "split", 1);
    }
    if (op == "Split" && crosses(18) && node.input(1).empty() && !node.has("num_outputs"))
      node.attributes["num_outputs"] = static_cast<std::int64_t>(node.outputs.size());
  }

  Graph& graph_;
  std::int64_t from_, to_;
  std::vector<Node> behind_;
};

/// The IR version that first allowed the opset.
std::int64_t ir_version_for(std::int64_t opset) {
  if (opset >= 21) return 10;
  if (opset >= 19) return 9;
  if (opset >= 15) return 8;
  return 7;
}

}  // namespace

void upgrade_opset(Graph& graph, std::int64_t target) {
  const std::int64_t now = graph.opset();
  if (target > kNewest) fail("opset {} is newer than {}, the newest that can be written", target, kNewest);
  if (now > target)
    fail("the model is of opset {} and cannot be lowered to {}; ask for --opset {} or newer", now, target,
         now);
  graph.header.ir_version = std::max(graph.header.ir_version, ir_version_for(target));
  if (now == target) return;
  Upgrade(graph, now, target).run();
  graph.header.opsets[""] = target;
  graph.validate();
}

}  // namespace lithe
