#include "lithe/graph/point_function.h"

#include <algorithm>
#include <limits>

#include "lithe/base/error.h"

namespace lithe {
namespace {

using Ints = std::vector<std::int64_t>;
using Names = std::vector<std::string>;
using Attributes = std::map<std::string, Attribute, std::less<>>;

constexpr std::int32_t kFloatAttribute = 1, kIntAttribute = 2;  // of AttributeProto
// As lithe/kernels/point_search.h has them.
constexpr float kFarthestDistance = 1e10f, kOriginPadding = 1e-3f;

/// Writes a body line by line; every value bears the name of its node.
class Body {
 public:
  std::string op(const std::string& output, const std::string& type, Names inputs,
                 Attributes attributes = {}) {
    nodes.push_back({.name = output,
                     .op_type = type,
                     .inputs = std::move(inputs),
                     .outputs = {output},
                     .attributes = std::move(attributes)});
    return output;
  }
  std::string constant(const std::string& name, TensorData value) {
    return op(name, "Constant", {}, {{"value", std::move(value)}});
  }
  std::string number(const std::string& name, float value) {
    return constant(name, TensorData::scalar(value));
  }
  std::string whole(const std::string& name, std::int64_t value) {
    return constant(name, TensorData::scalar(value));
  }
  std::string ints(const std::string& name, Ints values) {
    const auto count = static_cast<std::int64_t>(values.size());
    return constant(name, TensorData::from<std::int64_t>({count}, std::move(values)));
  }
  std::string attribute(const std::string& name) {
    return op(name, "Constant", {}, {{"value_int", AttributeReference{name, kIntAttribute}}});
  }
  std::string float_attribute(const std::string& name) {
    return op(name, "Constant", {}, {{"value_float", AttributeReference{name, kFloatAttribute}}});
  }
  std::string as_list(const std::string& output, const std::string& scalar) {
    return op(output, "Reshape", {scalar, ints(output + ".shape", {1})});
  }
  std::string unsqueeze(const std::string& output, const std::string& x, std::int64_t axis) {
    return op(output, "Unsqueeze", {x, ints(output + ".axes", {axis})});
  }
  std::string length(const std::string& output, const std::string& x, std::int64_t axis) {
    return op(output, "Gather", {op(output + ".shape", "Shape", {x}), whole(output + ".axis", axis)});
  }
  std::string range(const std::string& output, const std::string& end) {
    return op(output, "Range", {whole(output + ".start", 0), end, whole(output + ".step", 1)});
  }
  /// x [b, n], y and z of points [b, n, 3]: `prefix`0 to 2.
  void coordinates(const std::string& prefix, const std::string& points) {
    for (std::int64_t axis = 0; axis < 3; ++axis) {
      const std::string name = prefix + std::to_string(axis);
      op(name, "Gather", {points, whole(name + ".axis", axis)}, {{"axis", std::int64_t{2}}});
    }
  }
  /// (x^2 + y^2) + z^2, rounded in this order, of three values.
  std::string squared_length(const std::string& output, const Names& parts) {
    for (const std::string& part : parts) op(part + ".square", "Mul", {part, part});
    op(output + ".flat", "Add", {parts[0] + ".square", parts[1] + ".square"});
    return op(output, "Add", {output + ".flat", parts[2] + ".square"});
  }
  /// Squared distances [b, m, n] between `centres` [b, m, 3] and `points` [b, n, 3].
  std::string squared_distances(const std::string& centres) {
    coordinates("p", "points");
    coordinates("c", centres);
    Names parts;
    for (int axis = 0; axis < 3; ++axis) {
      const std::string a = std::to_string(axis);
      parts.push_back(
          op("d" + a, "Sub",
             {unsqueeze("p" + a + ".row", "p" + a, 1), unsqueeze("c" + a + ".column", "c" + a, 2)}));
    }
    return squared_length("distances", parts);
  }

  std::vector<Node> nodes;
};

Function finished(const char* name, std::int64_t opset, Names inputs, Names outputs, Names attributes,
                  Body body) {
  return {.name = name,
          .domain = "lithe",
          .inputs = std::move(inputs),
          .outputs = std::move(outputs),
          .attributes = std::move(attributes),
          .opsets = {{"", opset}},
          .nodes = std::move(body.nodes)};
}

/// One turn of farthest point sampling: (turn, condition, nearest [b, n], last [b, 1]) -> (condition,
/// nearest, last, last), with the coordinates from outside.
GraphPtr farthest_turn() {
  Body body;
  Names parts;
  for (int axis = 0; axis < 3; ++axis) {
    const std::string a = std::to_string(axis);
    parts.push_back(body.op("turn.d" + a, "Sub",
                            {"p" + a, body.op("turn.last" + a, "GatherElements", {"p" + a, "turn.last"},
                                              {{"axis", std::int64_t{1}}})}));
  }
  const std::string distance = body.squared_length("turn.distance", parts);
  body.op("turn.nearer", "Where",
          {body.op("turn.is_nearer", "Less", {distance, "turn.nearest"}), distance, "turn.nearest"});
  body.op("turn.next", "ArgMax", {"turn.nearer"}, {{"axis", std::int64_t{1}}, {"keepdims", std::int64_t{1}}});
  body.op("turn.chosen", "Identity", {"turn.next"});
  body.op("turn.on", "Identity", {"turn.condition"});
  auto graph = std::make_shared<Graph>();
  graph->name = "turn";
  graph->nodes = std::move(body.nodes);
  const auto value = [](const char* name, DType dtype, std::optional<DimVector> shape = std::nullopt) {
    return ValueInfo{.name = name, .dtype = dtype, .shape = std::move(shape)};
  };
  graph->inputs = {value("turn.index", DType::Int64, DimVector{}),
                   value("turn.condition", DType::Bool, DimVector{}), value("turn.nearest", DType::Float32),
                   value("turn.last", DType::Int64)};
  graph->outputs = {value("turn.on", DType::Bool), value("turn.nearer", DType::Float32),
                    value("turn.next", DType::Int64), value("turn.chosen", DType::Int64)};
  return graph;
}

Function farthest_function(std::int64_t opset) {
  Body body;
  body.coordinates("p", "points");
  const std::string length = body.squared_length("length", {"p0", "p1", "p2"});
  body.op("skips", "Cast", {body.attribute("skip_origin")}, {{"to", static_cast<std::int64_t>(DType::Bool)}});
  body.op("least", "Where", {"skips", body.number("padding", kOriginPadding), body.number("nothing", -1)});
  body.op(
      "is_point", "And",
      {body.op("beyond", "Greater", {length, "least"}),
       body.op("finite", "Less", {length, body.number("infinity", std::numeric_limits<float>::infinity())})});
  body.op("nearest", "Where", {"is_point", body.number("farthest", kFarthestDistance), "nothing"});
  body.op("first_shape", "Concat",
          {body.as_list("batch_1", body.length("batch", "points", 0)), body.ints("one_1", {1})},
          {{"axis", std::int64_t{0}}});
  body.op("first", "ConstantOfShape", {"first_shape"}, {{"value", TensorData::from<std::int64_t>({1}, {0})}});
  body.op("turns", "Sub", {body.attribute("count"), body.whole("one", 1)});
  body.op("go", "Cast", {"one"}, {{"to", static_cast<std::int64_t>(DType::Bool)}});
  body.op("rest", "Loop", {"turns", "go", "nearest", "first"}, {{"body", farthest_turn()}});
  body.nodes.back().outputs = {"last_nearest", "last_chosen", "rest"};
  // No turn leaves an empty value, whose rank runtimes do not agree on.
  body.op("rest_shape", "Concat", {body.as_list("turns_1", "turns"), "batch_1"}, {{"axis", std::int64_t{0}}});
  body.op("rest_flat", "Reshape", {"rest", "rest_shape"});
  body.op("rest_rows", "Transpose", {"rest_flat"}, {{"perm", Ints{1, 0}}});
  body.op("indices", "Concat", {"first", "rest_rows"}, {{"axis", std::int64_t{1}}});
  return finished(kFarthestPointSample, opset, {"points"}, {"indices"}, {"count", "skip_origin"},
                  std::move(body));
}

Function ball_function(std::int64_t opset) {
  Body body;
  const std::string distances = body.squared_distances("centres");
  body.float_attribute("radius");
  body.op("within", "Less", {distances, body.op("bound", "Mul", {"radius", "radius"})});
  const std::string n = body.length("n", "points", 1), index = body.range("index", n);
  body.whole("zero", 0);
  body.op("key", "Where", {"within", body.op("rank", "Sub", {n, index}), "zero"});  // early indices rank high
  body.op("most", "Min", {body.attribute("samples"), n});
  body.op("ranks", "TopK", {"key", body.as_list("most_1", "most")}, {{"axis", std::int64_t{-1}}});
  body.nodes.back().outputs = {"ranks", "hits"};
  body.op("first", "Slice",
          {"hits", body.ints("from_0", {0}), body.ints("to_1", {1}), body.ints("axis_2", {2})});
  body.op("first_rank", "Slice", {"ranks", "from_0", "to_1", "axis_2"});
  body.op("filler", "Where", {body.op("any", "Greater", {"first_rank", "zero"}), "first", "zero"});
  // Where there are fewer points than samples, the last columns are fillers.
  const std::string column = body.range("column", "samples");
  body.op("own_column", "Min", {column, body.op("last_column", "Sub", {n, body.whole("one", 1)})});
  body.op("all_hits", "Gather", {"hits", "own_column"}, {{"axis", std::int64_t{2}}});
  body.op("all_ranks", "Gather", {"ranks", "own_column"}, {{"axis", std::int64_t{2}}});
  body.op("found", "And",
          {body.op("ranked", "Greater", {"all_ranks", "zero"}), body.op("there", "Less", {column, n})});
  body.op("indices", "Where", {"found", "all_hits", "filler"});
  return finished(kBallQuery, opset, {"points", "centres"}, {"indices"}, {"radius", "samples"},
                  std::move(body));
}

Function nearest_function(std::int64_t opset) {
  Body body;
  const std::string distances = body.squared_distances("queries");
  body.op("squares", "TopK", {distances, body.as_list("k_1", body.attribute("k"))},
          {{"axis", std::int64_t{-1}}, {"largest", std::int64_t{0}}});
  body.nodes.back().outputs = {"squares", "indices"};
  body.op("roots", "Sqrt", {"squares"});
  body.op("inverse", "Reciprocal",
          {body.op("apart", "Add", {"roots", body.number("small", kSmallestPointDistance)})});
  body.op("total", "ReduceSum", {"inverse", body.ints("last_axis", {-1})}, {{"keepdims", std::int64_t{1}}});
  body.op("weights", "Div", {"inverse", "total"});
  return finished(kNearestPoints, opset, {"points", "queries"}, {"indices", "weights"}, {"k"},
                  std::move(body));
}

Function centres_function(std::int64_t opset) {
  Body body;
  body.op("largest", "ReduceMax", {"ids"}, {{"keepdims", std::int64_t{0}}});
  body.op("count", "Add", {"largest", body.whole("one", 1)});
  const std::string batch = body.as_list("batch_1", body.length("batch", "points", 0)),
                    slots = body.as_list("count_1", "count");
  const auto zeros = [&](const std::string& name, Names sizes) {
    return body.op(name, "ConstantOfShape",
                   {body.op(name + ".shape", "Concat", std::move(sizes), {{"axis", std::int64_t{0}}})});
  };
  const std::string id_column = body.unsqueeze("id_column", "ids", 2);
  body.op("places", "Expand", {id_column, body.op("points_shape", "Shape", {"points"})});
  const Attributes add{{"axis", std::int64_t{1}}, {"reduction", std::string("add")}};
  body.op("sums", "ScatterElements",
          {zeros("no_sums", {batch, slots, body.ints("three", {3})}), "places", "points"}, add);
  body.op("ones", "ConstantOfShape", {body.op("column_shape", "Shape", {id_column})},
          {{"value", TensorData::from<float>({1}, {1})}});
  body.op("sizes", "ScatterElements",
          {zeros("no_sizes", {batch, slots, body.ints("single", {1})}), id_column, "ones"}, add);
  body.op("centres", "Div", {"sums", body.op("some", "Max", {"sizes", body.number("least", 1)})});
  return finished(kSuperpointCentres, opset, {"points", "ids"}, {"centres"}, {}, std::move(body));
}

Function stop_function(std::int64_t opset) {
  Body body;
  body.op("y", "Identity", {"x"});
  return finished(kStopGradient, opset, {"x"}, {"y"}, {}, std::move(body));
}

}  // namespace

void add_point_functions(Graph& graph) {
  constexpr std::int64_t kLeastOpset = 17, kFirstWithFunctions = 8;
  if (graph.opset() < kLeastOpset)
    fail("operators on points need opset {}, but the model is of opset {}; build it with a newer one",
         kLeastOpset, graph.opset());
  graph.header.ir_version = std::max(graph.header.ir_version, kFirstWithFunctions);
  graph.header.opsets.emplace("lithe", 1);
  const std::int64_t opset = graph.opset();
  for (Function& function :
       std::vector<Function>{farthest_function(opset), ball_function(opset), nearest_function(opset),
                             centres_function(opset), stop_function(opset)}) {
    const auto is_it = [&](const auto& one, const std::string& name) {
      return one.domain == function.domain && name == function.name;
    };
    const bool used = std::any_of(graph.nodes.begin(), graph.nodes.end(),
                                  [&](const Node& node) { return is_it(node, node.op_type); });
    const auto& known = graph.header.functions;
    const bool declared =
        std::any_of(known.begin(), known.end(), [&](const Function& one) { return is_it(one, one.name); });
    if (used && !declared) graph.header.functions.push_back(std::move(function));
  }
}

}  // namespace lithe
