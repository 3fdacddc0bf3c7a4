#include "lithe/graph/subset_function.h"

#include <algorithm>
#include <limits>

#include "lithe/base/error.h"

namespace lithe {
namespace {

using Ints = std::vector<std::int64_t>;

constexpr std::int64_t kEntries = kSubsetEntries, kMiddle = kEntries / 2;

/// Writes a body line by line.
class Body {
 public:
  std::string constant(const std::string& name, TensorData value) {
    nodes.push_back(
        {.name = name, .op_type = "Constant", .outputs = {name}, .attributes = {{"value", value}}});
    return name;
  }
  std::string ints(const std::string& name, Ints values) {
    const auto count = static_cast<std::int64_t>(values.size());
    return constant(name, TensorData::from<std::int64_t>({count}, std::move(values)));
  }
  std::string scalar(const std::string& name, float value) {
    return constant(name, TensorData::scalar(value));
  }
  std::string op(const std::string& output, const std::string& type, std::vector<std::string> inputs,
                 std::map<std::string, Attribute, std::less<>> attributes = {}) {
    nodes.push_back({.name = output,
                     .op_type = type,
                     .inputs = std::move(inputs),
                     .outputs = {output},
                     .attributes = std::move(attributes)});
    return output;
  }
  std::string cast(const std::string& output, const std::string& input, DType dtype) {
    return op(output, "Cast", {input}, {{"to", static_cast<std::int64_t>(dtype)}});
  }

  std::vector<Node> nodes;
};

/// The table [c * kEntries] from the points: every point but the first adds its distance from the one before
/// at the border between them, and the running sum and the first point make the table. Borders between equal
/// points may meet; what stands there is 0 either way.
std::string table(Body& body) {
  const std::string zero = body.ints("zero", {0}), one = body.ints("one", {1}),
                    last = body.ints("last", {-1}),
                    end = body.ints("end", {std::numeric_limits<std::int64_t>::max()}),
                    middle = body.ints("middle", {kMiddle});
  const std::string points = body.cast("points_long", "points", DType::Int64);
  const std::string first = body.op("first", "Slice", {points, zero, one, one}),
                    below = body.op("below", "Slice", {points, zero, last, one}),
                    above = body.op("above", "Slice", {points, one, end, one});
  const std::string borders =
      body.op("borders", "Add", {body.op("twice_borders", "Add", {below, above}), middle});
  const std::string distances = body.op("distances", "Sub", {above, below});
  const std::string channels =
      body.op("channels", "Slice", {body.op("points_shape", "Shape", {"points"}), zero, one});
  const std::string shape = body.op("table_shape", "Concat", {channels, body.ints("entries", {kEntries})},
                                    {{"axis", std::int64_t{0}}});
  const std::string empty =
      body.op("empty", "ConstantOfShape", {shape},
              {{"value", TensorData::from<std::int64_t>({1}, std::vector<std::int64_t>{0})}});
  const std::string scattered =
      body.op("scattered", "ScatterElements", {empty, borders, distances}, {{"axis", std::int64_t{1}}});
  const std::string sums =
      body.op("sums", "CumSum", {scattered, body.constant("axis", TensorData::scalar<std::int64_t>(1))});
  const std::string entries = body.op("table_entries", "Add", {sums, first});
  const std::string values =
      body.op("values", "Mul",
              {body.cast("entries_float", entries, DType::Float32), body.scalar("unit", 1.0f / 1024.0f)});
  return body.op("table", "Reshape", {values, last});
}

/// The entry for each element of y, as `output`.
void lookup(Body& body, const std::string& y, const std::string& output) {
  const std::string entries = table(body);
  const std::string length =
      body.op("length", "Squeeze", {body.op("length_list", "Shape", {entries}), "zero"});
  const std::string starts = body.op("starts", "Range",
                                     {body.constant("start", TensorData::scalar<std::int64_t>(0)), length,
                                      body.constant("stride", TensorData::scalar<std::int64_t>(kEntries))});
  const std::string offsets = body.op(
      "offsets", "Reshape", {body.op("centres", "Add", {starts, "middle"}), body.ints("column", {-1, 1, 1})});
  const std::string floors =
      body.op("floors", "Floor", {body.op("scaled", "Mul", {y, body.scalar("steps_of_one", 2048.0f)})});
  const std::string limited =
      body.op("limited", "Clip", {floors, body.scalar("lowest", -2048.0f), body.scalar("highest", 2048.0f)});
  // NaN passes a Clip of floats; as an integer it is far outside.
  const std::string whole =
      body.op("whole", "Clip",
              {body.cast("index", limited, DType::Int64),
               body.constant("lowest_index", TensorData::scalar<std::int64_t>(-kMiddle)),
               body.constant("highest_index", TensorData::scalar<std::int64_t>(kMiddle))});
  body.op(output, "Gather", {entries, body.op("place", "Add", {whole, offsets})},
          {{"axis", std::int64_t{0}}});
}

Function static_function(std::int64_t opset) {
  Body body;
  const std::string y = body.op("normal", "Div", {body.op("centred", "Sub", {"x", "mean"}), "scale"});
  lookup(body, y, "y");
  return {.name = kSubsetQuantize,
          .domain = "lithe",
          .inputs = {"x", "points", "mean", "scale"},
          .outputs = {"y"},
          .opsets = {{"", opset}},
          .nodes = std::move(body.nodes)};
}

Function dynamic_function(std::int64_t opset) {
  Body body;
  const std::string mean =
      body.op("mean", "Mul", {body.op("plain_mean", "GlobalAveragePool", {"x"}), "centre"});
  const std::string centred = body.op("centred", "Sub", {"x", mean});
  const std::string most = body.op("most", "GlobalMaxPool", {body.op("magnitude", "Abs", {centred})});
  const std::string scale = body.op("scale", "Add", {most, body.scalar("epsilon", 1e-8f)});
  lookup(body, body.op("normal", "Div", {centred, scale}), "nearest");
  body.op("y", "Add", {body.op("scaled_back", "Mul", {"nearest", scale}), mean});
  return {.name = kDynamicSubsetQuantize,
          .domain = "lithe",
          .inputs = {"x", "points", "centre"},
          .outputs = {"y"},
          .opsets = {{"", opset}},
          .nodes = std::move(body.nodes)};
}

}  // namespace

void add_subset_functions(Graph& graph) {
  if (graph.opset() < 13)
    fail("rounding to points of a table needs opset 13, but the model is of opset {}", graph.opset());
  constexpr std::int64_t kFirstWithFunctions = 8;
  graph.header.ir_version = std::max(graph.header.ir_version, kFirstWithFunctions);
  graph.header.opsets.emplace("lithe", 1);
  const auto declared = [&](const Function& function) {
    return std::any_of(
        graph.header.functions.begin(), graph.header.functions.end(),
        [&](const Function& one) { return one.domain == function.domain && one.name == function.name; });
  };
  std::vector<Function> functions{static_function(graph.opset()), dynamic_function(graph.opset())};
  for (Function& function : functions) {
    const bool used = std::any_of(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) {
      return node.domain == function.domain && node.op_type == function.name;
    });
    if (used && !declared(function)) graph.header.functions.push_back(std::move(function));
  }
}

}  // namespace lithe
