// A model as a graph: nodes that read and write named values, constants, inputs and outputs.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "lithe/graph/tensor_data.h"

namespace lithe {

class Graph;

/// One dimension of a value: a number, a symbol such as "batch", or unknown.
struct Dim {
  std::int64_t value = -1;  // -1: not a number
  std::string symbol;       // "" where there is none
  bool known() const { return value >= 0; }
  bool operator==(const Dim&) const = default;
};
using DimVector = std::vector<Dim>;

/// What is declared or inferred of a value.
struct ValueInfo {
  std::string name;
  DType dtype = DType::Undefined;
  std::optional<DimVector> shape;  // nothing: even the rank is unknown
  std::string other_type;  // serialised TypeProto of a value that is no tensor (sequence, optional, map)
  std::string doc;
  std::string extra;  // serialised fields that this version does not interpret, written back as they came
};

/// "float32 [batch, 3, 224, 224]"
std::string format_type(const ValueInfo& value);

/// A serialised protobuf message of a kind that Lithe keeps but does not interpret.
struct OpaqueProto {
  std::int32_t attribute_type = 0;
  std::string bytes;
};

/// In the body of a function an attribute may stand for one of the function's own.
struct AttributeReference {
  std::string name;
  std::int32_t attribute_type = 0;
};

using GraphPtr = std::shared_ptr<const Graph>;
using Attribute = std::variant<float, std::int64_t, std::string, TensorData, GraphPtr, std::vector<float>,
                               std::vector<std::int64_t>, std::vector<std::string>, std::vector<TensorData>,
                               std::vector<GraphPtr>, AttributeReference, OpaqueProto>;

struct Node {
  std::string name;
  std::string op_type;
  std::string domain;                // "" is ONNX's own; "ai.onnx" is read as ""
  std::vector<std::string> inputs;   // "" marks an optional input that is left out
  std::vector<std::string> outputs;  // likewise
  std::map<std::string, Attribute, std::less<>> attributes;
  std::string overload;  // tells model-local functions of one name apart (IR 10)
  std::string doc;
  std::string extra;

  bool is(std::string_view type) const { return op_type == type && domain.empty(); }
  bool has(std::string_view attribute) const { return attributes.find(attribute) != attributes.end(); }
  const std::string& input(std::size_t index) const;   // "" past the end
  const std::string& output(std::size_t index) const;  // likewise

  // An attribute's value, or the fallback if it is absent. Throw Error(Input) if it has another type.
  std::int64_t attr(std::string_view name, std::int64_t fallback) const;
  float attr(std::string_view name, float fallback) const;
  std::string attr(std::string_view name, const char* fallback) const;
  std::vector<std::int64_t> attr(std::string_view name, std::vector<std::int64_t> fallback) const;
  /// The attribute, or nullptr if it is absent or of another type.
  template <typename T>
  const T* find(std::string_view name) const {
    const auto found = attributes.find(name);
    return found == attributes.end() ? nullptr : std::get_if<T>(&found->second);
  }
};

/// "Conv node 'layer1/conv1'" or, for nodes without a name, "Conv node that makes 'x12'": for messages.
std::string describe(const Node& node);

/// A model-local function: a node of (domain, name) stands for this body.
struct Function {
  std::string name, domain, overload;
  std::vector<std::string> inputs, outputs;
  std::vector<std::string> attributes;  // those without a default
  std::map<std::string, Attribute, std::less<>> default_attributes;
  std::map<std::string, std::int64_t, std::less<>> opsets;
  std::vector<Node> nodes;
  std::string doc;
  std::string extra;
};

/// What the file says of the model as a whole; empty in sub-graphs.
struct ModelHeader {
  std::int64_t ir_version = 8;
  std::map<std::string, std::int64_t, std::less<>> opsets{{"", 17}};  // by domain
  std::string producer_name, producer_version, domain, doc;
  std::int64_t model_version = 0;
  std::map<std::string, std::string, std::less<>> metadata;
  std::vector<Function> functions;
  std::string extra;
};

/// Nodes refer to values by name, and every value has exactly one maker: a graph input, a constant or a node.
/// Nodes stand in topological order (`sort` restores it after edits). The members are open to rewrites;
/// `validate` states what must hold again afterwards.
class Graph {
 public:
  std::string name = "graph";
  std::string doc;
  std::vector<Node> nodes;
  std::vector<ValueInfo>
      inputs;  // may include names that are also constants: defaults that a caller may override
  std::vector<ValueInfo> outputs;
  std::map<std::string, TensorData, std::less<>> constants;
  std::map<std::string, ValueInfo, std::less<>> values;  // declared or inferred types of inner values
  std::vector<std::string> quantization_annotations;     // serialised, kept as they came
  std::vector<std::string> sparse_constants;             // serialised SparseTensorProto, kept as they came
  std::string extra;
  ModelHeader header;

  bool is_constant(std::string_view value) const { return constants.find(value) != constants.end(); }
  /// The constant of that name, or nullptr.
  const TensorData* constant(std::string_view value) const;
  /// The input, inner value or output of that name, or nullptr if nothing is known of it.
  const ValueInfo* info(std::string_view value) const;
  /// Inputs that a caller must feed: those without a default.
  std::vector<const ValueInfo*> required_inputs() const;
  std::int64_t opset(std::string_view domain = "") const;  // 0 if not imported
  /// The function that the node calls, or nullptr.
  const Function* function_of(const Node& node) const;

  /// A value name not used anywhere in this graph or its sub-graphs: `base`, else base_1, base_2, ...
  std::string unique_name(std::string_view base) const;
  /// Adds a constant under a unique name made from `base`, and returns that name.
  std::string add_constant(std::string_view base, TensorData value);
  /// Makes every node and sub-graph that reads `from` read `to`; graph outputs keep their names.
  void replace_uses(const std::string& from, const std::string& to);
  /// Orders nodes topologically, keeping the present order where it is free; throws Error(Input) on a cycle.
  void sort();
  /// Drops nodes and constants that no graph output needs.
  void remove_dead();
  /// Throws Error(Input) naming the value or node if a value has two makers or none, or if nodes form a
  /// cycle.
  void validate() const;
};

/// Names that the node's sub-graphs read from the graphs around them.
std::vector<std::string> captured_values(const Node& node);
/// The inputs that are not left out, and the captured values.
std::vector<std::string> all_reads(const Node& node);

/// Who makes and who reads each value; built once over a graph that then must not change.
class GraphIndex {
 public:
  explicit GraphIndex(const Graph& graph);
  /// Index of the node that makes the value; -1 for inputs, constants and unknown names.
  int producer(std::string_view value) const;
  /// Indices of the nodes that read the value (sub-graphs included), ascending, each once.
  const std::vector<int>& consumers(std::string_view value) const;
  bool is_output(std::string_view value) const;

 private:
  struct Entry {
    int producer = -1;
    bool output = false;
    std::vector<int> consumers;
  };
  struct Hash {
    using is_transparent = void;
    std::size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  const Entry* find(std::string_view value) const;
  std::unordered_map<std::string, Entry, Hash, std::equal_to<>> entries_;
};

}  // namespace lithe
