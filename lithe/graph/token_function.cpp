#include "lithe/graph/token_function.h"

#include <algorithm>
#include <limits>

#include "lithe/base/error.h"

namespace lithe {
namespace {

using Ints = std::vector<std::int64_t>;
using Names = std::vector<std::string>;
using Attributes = std::map<std::string, Attribute, std::less<>>;

constexpr std::int32_t kFloatAttribute = 1, kIntAttribute = 2, kIntsAttribute = 7;  // of AttributeProto

/// Writes a body line by line; every value bears the name of its node.
class Body {
 public:
  explicit Body(std::int64_t opset) : opset_(opset) {
    ints("from_0", {0});
    ints("from_1", {1});
    ints("step_1", {1});
    ints("to_end", {std::numeric_limits<std::int64_t>::max()});
    ints("axis_0", {0});
    ints("axis_1", {1});
    ints("axis_2", {2});
  }

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
  std::string ints(const std::string& name, Ints values) {
    const auto count = static_cast<std::int64_t>(values.size());
    return constant(name, TensorData::from<std::int64_t>({count}, std::move(values)));
  }
  std::string whole(const std::string& name, std::int64_t value) {
    return constant(name, TensorData::scalar(value));
  }
  std::string number(const std::string& name, float value) {
    return constant(name, TensorData::scalar(value));
  }

  /// An attribute of the function as a scalar `name` and, of whole numbers, a list `name_1` of one.
  void attribute(const std::string& name) {
    op(name, "Constant", {}, {{"value_int", AttributeReference{name, kIntAttribute}}});
    op(name + "_1", "Reshape", {name, "step_1"});
  }
  void float_attribute(const std::string& name) {
    op(name, "Constant", {}, {{"value_float", AttributeReference{name, kFloatAttribute}}});
  }
  void list_attribute(const std::string& name) {
    op(name, "Constant", {}, {{"value_ints", AttributeReference{name, kIntsAttribute}}});
  }

  std::string cast(const std::string& output, const std::string& input, DType dtype) {
    return op(output, "Cast", {input}, {{"to", static_cast<std::int64_t>(dtype)}});
  }
  /// Along `axis` (0 to 2).
  std::string slice(const std::string& output, const std::string& x, const std::string& from,
                    const std::string& to, int axis, const std::string& step = "step_1") {
    return op(output, "Slice", {x, from, to, "axis_" + std::to_string(axis), step});
  }
  std::string unsqueeze(const std::string& output, const std::string& x, std::int64_t axis) {
    if (opset_ < 13) return op(output, "Unsqueeze", {x}, {{"axes", Ints{axis}}});
    return op(output, "Unsqueeze", {x, ints(output + ".axes", {axis})});
  }
  std::string squeeze_last(const std::string& output, const std::string& x) {
    if (opset_ < 13) return op(output, "Squeeze", {x}, {{"axes", Ints{-1}}});
    return op(output, "Squeeze", {x, ints(output + ".axes", {-1})});
  }
  std::string reduce(const std::string& output, const std::string& type, const std::string& x, Ints axes,
                     std::int64_t keep = 0) {
    const std::int64_t with_input = type == "ReduceSum" ? 13 : 18;
    if (opset_ < with_input) return op(output, type, {x}, {{"axes", std::move(axes)}, {"keepdims", keep}});
    return op(output, type, {x, ints(output + ".axes", std::move(axes))}, {{"keepdims", keep}});
  }
  /// Indices of the largest, equal ones in ascending order of index.
  std::string largest(const std::string& output, const std::string& keys, const std::string& count_1) {
    op(output, "TopK", {keys, count_1}, {{"axis", std::int64_t{-1}}});
    nodes.back().outputs = {output + ".values", output};
    return output;
  }
  /// Rows `index` [b, k] of x [b, n, ...].
  std::string rows(const std::string& output, const std::string& x, const std::string& index) {
    return op(output, "GatherND", {x, unsqueeze(output + ".places", index, -1)},
              {{"batch_dims", std::int64_t{1}}});
  }
  /// The length of axis `axis` of x as a scalar.
  std::string length(const std::string& output, const std::string& x, std::int64_t axis) {
    return op(output, "Gather", {op(output + ".shape", "Shape", {x}), whole(output + ".axis", axis)});
  }
  std::string range(const std::string& output, const std::string& end) {
    return op(output, "Range", {whole(output + ".start", 0), end, whole(output + ".step", 1)});
  }
  /// x over its length along the last axis.
  std::string direction(const std::string& output, const std::string& x) {
    const std::string squares =
        reduce(output + ".squares", "ReduceSum", op(output + ".square", "Mul", {x, x}), {-1}, 1);
    return op(
        output, "Div",
        {x, op(output + ".length", "Max",
               {op(output + ".root", "Sqrt", {squares}), number(output + ".least", kSmallestTokenLength)})});
  }
  std::string transposed(const std::string& output, const std::string& x) {
    return op(output, "Transpose", {x}, {{"perm", Ints{0, 2, 1}}});
  }
  /// [b, groups, n] of 1 where token i belongs to group j, from `index` [b, n] and the number of groups.
  std::string membership(const std::string& output, const std::string& index, const std::string& groups) {
    const std::string column = unsqueeze(output + ".column", range(output + ".range", groups), 1);
    const std::string row = unsqueeze(output + ".row", index, 1);
    return cast(output, op(output + ".equal", "Equal", {column, row}), DType::Float32);
  }
  /// matrix [b, m, n] times vector [b, n].
  std::string times_vector(const std::string& output, const std::string& matrix, const std::string& vector) {
    return squeeze_last(
        output, op(output + ".product", "MatMul", {matrix, unsqueeze(output + ".column", vector, -1)}));
  }
  std::string times_rows(const std::string& output, const std::string& x, const std::string& factor) {
    return op(output, "Mul", {x, unsqueeze(output + ".column", factor, -1)});
  }
  std::string full_sizes() {
    const std::string shape = op("x_shape", "Shape", {"x"});
    return op("all_sizes", "Expand", {"size", slice("size_shape", shape, "from_0", "axis_2", 0)});
  }

  std::vector<Node> nodes;

 private:
  std::int64_t opset_;
};

/// `key` [b, n], by which tokens of `importance` [b, n] are sorted: special ones in front.
void write_key(Body& body) {
  const std::string position = body.range("position", body.length("count", "attention", 3));
  const std::string special = body.op("special", "Less", {position, "specials"});
  // Above 1, which no importance exceeds, and falling.
  const std::string rank =
      body.cast("rank",
                body.op("rank_long", "Sub",
                        {body.op("top_rank", "Add", {"specials", body.whole("one_long", 1)}), position}),
                DType::Float32);
  body.op("key", "Where", {special, rank, "importance"});
}

/// `importance` and `key` [b, n].
void write_importance(Body& body) {
  body.attribute("specials");
  body.attribute("rows");
  body.slice("queries", "attention", "from_0", "rows_1", 2);
  body.reduce("importance", "ReduceMean", "queries", {1, 2});
  write_key(body);
}

/// `order`, `tokens` and `sizes` of the most important `count` (an attribute).
void write_selection(Body& body, const std::string& count) {
  write_importance(body);
  body.attribute(count);
  body.largest("order", "key", count + "_1");
  body.rows("tokens", "x", "order");
  body.rows("sizes", body.full_sizes(), "order");
}

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

Function prune_function(std::int64_t opset) {
  Body body(opset);
  write_selection(body, "kept");
  return finished(kTokenPrune, opset, {"x", "attention", "size"}, {"tokens", "sizes"},
                  {"kept", "specials", "rows"}, std::move(body));
}

/// `y` and `new_size`: `tokens` and `sizes` behind the first `merge` folded into these. Where `present` [b,
/// n] is given, only tokens with a 1 there have a part in it.
void write_merge(Body& body, const std::string& merge, const std::string& present = "") {
  for (const char* name : {"scaled", "weighted", "least"}) body.float_attribute(name);
  body.number("one", 1);
  const auto if_present = [&](const std::string& output, const std::string& value, const std::string& from,
                              const std::string& to) {
    if (present.empty()) return value;
    return body.op(output, "Mul", {value, body.slice(output + ".present", present, from, to, 1)});
  };
  const std::string merge_1 = merge + "_1";
  const std::string targets = body.slice("targets", "tokens", "from_0", merge_1, 1);
  const std::string sources = body.slice("sources", "tokens", merge_1, "to_end", 1);
  const std::string unit = body.direction("unit", "tokens");
  const std::string similarity = body.op(
      "similarity", "MatMul",
      {body.slice("source_units", unit, merge_1, "to_end", 1),
       body.transposed("target_columns", body.slice("target_units", unit, "specials_1", merge_1, 1))});
  const std::string cosine = body.reduce("cosine", "ReduceMax", similarity, {-1});
  const std::string nearest = body.op("nearest", "Add",
                                      {body.op("nearest_free", "ArgMax", {similarity},
                                               {{"axis", std::int64_t{-1}}, {"keepdims", std::int64_t{0}}}),
                                       "specials"});
  const std::string group = body.membership("group", nearest, merge);
  const std::string target_sizes = body.slice("target_sizes", "sizes", "from_0", merge_1, 1);
  const std::string source_sizes = body.slice("source_sizes", "sizes", merge_1, "to_end", 1);
  // 1 + switch (value - 1) is the value or exactly 1.
  const auto either = [&](const std::string& output, const std::string& value, const std::string& wanted) {
    return body.op(output, "Add",
                   {"one", body.op(output + ".part", "Mul",
                                   {wanted, body.op(output + ".rest", "Sub", {value, "one"})})});
  };
  const std::string target_weights = either("target_weights", target_sizes, "weighted");
  const std::string source_weights =
      if_present("present_weights", either("source_weights", source_sizes, "weighted"), merge_1, "to_end");
  const std::string sum = body.op(
      "sum", "Add",
      {body.times_rows("weighted_targets", targets, target_weights),
       body.op("gathered", "MatMul", {group, body.times_rows("weighted_sources", sources, source_weights)})});
  std::string total =
      body.op("total", "Add", {target_weights, body.times_vector("gathered_weights", group, source_weights)});
  if (!present.empty())
    total = body.op("some_total", "Max", {total, body.number("some", kSmallestTokenSize)});
  body.op("y", "Div", {sum, body.unsqueeze("total_column", total, -1)});
  const std::string shrunk = if_present(
      "present_shrunk",
      body.op("shrunk", "Max",
              {body.op("scaled_sizes", "Mul", {source_sizes, either("factor", cosine, "scaled")}), "least"}),
      merge_1, "to_end");
  const std::string grown = body.op("own_sizes", "Max", {target_sizes, "least"});
  const std::string size =
      body.op(present.empty() ? "new_size" : "any_size", "Max",
              {body.op("size_sum", "Add", {grown, body.times_vector("gathered_sizes", group, shrunk)}),
               body.number("smallest", kSmallestTokenSize)});
  if_present("new_size", size, "from_0", merge_1);
}

Function reduce_function(std::int64_t opset) {
  Body body(opset);
  write_selection(body, "prune");
  body.attribute("merge");
  write_merge(body, "merge");
  return finished(kTokenReduce, opset, {"x", "attention", "size"}, {"y", "new_size"},
                  {"prune", "merge", "specials", "rows", "scaled", "weighted", "least"}, std::move(body));
}

/// As many tokens as the image of the batch that needs most; what others do not need is zero, of size 0. One
/// token more of that kind stands behind them while they are merged, so that no part is ever empty.
Function reduce_own_function(std::int64_t opset) {
  Body body(opset);
  for (const char* name : {"specials", "rows", "prune", "merge"}) body.attribute(name);
  body.float_attribute("mass");
  const std::string nothing = body.number("nothing", 0);
  const auto as_float = [&](const std::string& output, const std::string& input) {
    return body.cast(output, input, DType::Float32);
  };
  const std::string sizes = body.full_sizes();
  const std::string here = as_float("here", body.op("is_here", "Greater", {sizes, nothing}));
  const std::string votes = body.slice("votes", here, "from_0", "rows_1", 1);
  const std::string mean_heads =
      body.reduce("mean_heads", "ReduceMean", body.slice("queries", "attention", "from_0", "rows_1", 2), {1});
  const std::string weighed = body.times_vector("weighed", body.transposed("columns", mean_heads), votes);
  const std::string voters = body.reduce("voters", "ReduceSum", votes, {-1}, 1);
  body.op("importance", "Mul", {body.op("mean_vote", "Div", {weighed, voters}), here});
  write_key(body);

  // Of the most important `prune` or fewer, as many as hold the share `mass` of what all patches have.
  const std::string most = body.op("most", "Min", {"prune", "count"});
  body.largest("sorted", "key", body.op("most_1", "Reshape", {most, "step_1"}));
  const std::string falling = body.slice("falling", "sorted.values", "specials_1", "to_end", 1);
  const std::string sums = body.op("sums", "CumSum", {falling, body.whole("sum_axis", 1)});
  const std::string all = body.reduce(
      "all", "ReduceSum", body.op("patches", "Where", {"special", nothing, "importance"}), {-1}, 1);
  const std::string short_of =
      as_float("short_of", body.op("is_short", "Less", {sums, body.op("needed", "Mul", {all, "mass"})}));
  const std::string wanted =
      body.op("wanted", "Add",
              {body.reduce("steps", "ReduceSum", short_of, {-1}, 1),
               as_float("first", body.op("first_long", "Add", {"specials", "one_long"}))});
  const std::string kept = body.op(
      "kept", "Min",
      {wanted, as_float("most_float", most), body.reduce("present_count", "ReduceSum", here, {-1}, 1)});
  const std::string width =
      body.cast("width", body.reduce("widest", "ReduceMax", kept, {0, 1}), DType::Int64);
  const std::string order =
      body.slice("order", "sorted", "from_0", body.op("width_1", "Reshape", {width, "step_1"}), 1);
  const std::string stays =
      as_float("stays", body.op("is_kept", "Less", {as_float("places", body.range("place", width)), kept}));

  const auto with_one_more = [&](const std::string& output, const std::string& value, Ints pads) {
    return body.op(output, "Pad", {value, body.ints(output + ".pads", std::move(pads))});
  };
  with_one_more("tokens", body.times_rows("own_tokens", body.rows("sorted_tokens", "x", order), stays),
                {0, 0, 0, 0, 1, 0});
  with_one_more("sizes", body.op("left_sizes", "Mul", {body.rows("sorted_sizes", sizes, order), stays}),
                {0, 0, 0, 1});
  const std::string present = with_one_more("present", stays, {0, 0, 0, 1});
  body.op("into_1", "Reshape", {body.op("into", "Min", {"merge", width}), "step_1"});
  write_merge(body, "into", present);
  return finished(kTokenReduceOwn, opset, {"x", "attention", "size"}, {"y", "new_size"},
                  {"prune", "merge", "specials", "rows", "mass", "scaled", "weighted", "least"},
                  std::move(body));
}

Function evit_function(std::int64_t opset) {
  Body body(opset);
  write_importance(body);
  body.attribute("kept");
  body.largest("order", "key", body.op("count_1", "Reshape", {"count", "step_1"}));
  const std::string sorted = body.rows("sorted", "x", "order");
  const std::string rest = body.slice("rest", sorted, "kept_1", "to_end", 1);
  const std::string weights =
      body.slice("weights", body.rows("sorted_importance", "importance", "order"), "kept_1", "to_end", 1);
  const std::string fused = body.op("fused", "MatMul", {body.unsqueeze("weight_row", weights, 1), rest});
  body.op("y", "Concat", {body.slice("stay", sorted, "from_0", "kept_1", 1), fused},
          {{"axis", std::int64_t{1}}});
  return finished(kEvitReduce, opset, {"x", "attention"}, {"y"}, {"kept", "specials", "rows"},
                  std::move(body));
}

Function tome_function(std::int64_t opset) {
  Body body(opset);
  body.attribute("removed");
  body.attribute("specials");
  body.list_attribute("order");
  body.ints("step_2", {2});
  const std::string unit =
      body.direction("unit", body.transposed("metric", body.reduce("mean_keys", "ReduceMean", "keys", {1})));
  const std::string two = body.ints("two", {2});
  const std::string even_specials =
      body.op("even_specials", "Div", {body.op("specials_up", "Add", {"specials_1", "from_1"}), two});
  const std::string odd_specials = body.op("odd_specials", "Div", {"specials_1", two});
  const auto halves = [&](const std::string& name, const std::string& x) {
    body.slice(name + "_even", x, "from_0", "to_end", 1, "step_2");
    body.slice(name + "_odd", x, "from_1", "to_end", 1, "step_2");
  };
  halves("unit", unit);
  halves("x", "x");
  halves("size", body.full_sizes());
  const std::string scores = body.op(
      "scores", "MatMul",
      {body.slice("free_even", "unit_even", even_specials, "to_end", 1),
       body.transposed("free_odd_columns", body.slice("free_odd", "unit_odd", odd_specials, "to_end", 1))});
  const std::string best = body.reduce("best", "ReduceMax", scores, {-1});
  const std::string match = body.op(
      "match", "Add",
      {body.op("match_free", "ArgMax", {scores}, {{"axis", std::int64_t{-1}}, {"keepdims", std::int64_t{0}}}),
       odd_specials});
  const std::string merged = body.largest("merged", best, "removed_1");
  const std::string target = body.rows("target", match, merged);
  const std::string source = body.op("source", "Add", {merged, even_specials});
  const std::string odd_count = body.length("odd_count", "x_odd", 1);
  const std::string even_count = body.length("even_count", "x_even", 1);
  const std::string group = body.membership("group", target, odd_count);
  const std::string source_sizes = body.rows("source_sizes", "size_even", source);
  const std::string sum = body.op(
      "sum", "Add",
      {body.times_rows("odd_sums", "x_odd", "size_odd"),
       body.op(
           "gathered", "MatMul",
           {group, body.times_rows("source_sums", body.rows("sources", "x_even", source), source_sizes)})});
  const std::string total =
      body.op("total", "Add", {"size_odd", body.times_vector("gathered_sizes", group, source_sizes)});
  const std::string odd = body.op("odd", "Div", {sum, body.unsqueeze("total_column", total, -1)});
  // What stays of the even ones, in ascending order: those have the largest keys.
  const std::string taken =
      body.reduce("taken", "ReduceSum", body.membership("taken_group", source, even_count), {-1});
  const std::string falling = body.cast(
      "falling", body.op("falling_long", "Sub", {even_count, body.range("even_position", even_count)}),
      DType::Float32);
  const std::string left_key =
      body.op("left_key", "Mul", {falling, body.op("not_taken", "Sub", {body.number("one", 1), taken})});
  const std::string left = body.largest(
      "left", left_key,
      body.op("left_count", "Sub", {body.op("even_1", "Reshape", {even_count, "step_1"}), "removed_1"}));
  const auto put_out = [&](const std::string& output, const std::string& even, const std::string& tail) {
    const std::string joined =
        body.op(output + ".joined", "Concat", {body.rows(output + ".left", even, left), tail},
                {{"axis", std::int64_t{1}}});
    body.op(output, "Gather", {joined, "order"}, {{"axis", std::int64_t{1}}});
  };
  put_out("y", "x_even", odd);
  put_out("new_size", "size_even", total);
  return finished(kTomeMerge, opset, {"x", "keys", "size"}, {"y", "new_size"},
                  {"removed", "specials", "order"}, std::move(body));
}

}  // namespace

void add_token_functions(Graph& graph) {
  constexpr std::int64_t kLeastOpset = 12, kFirstWithFunctions = 8;
  if (graph.opset() < kLeastOpset)
    fail("operators on tokens need opset {}, but the model is of opset {}; export it again with a newer one",
         kLeastOpset, graph.opset());
  graph.header.ir_version = std::max(graph.header.ir_version, kFirstWithFunctions);
  graph.header.opsets.emplace("lithe", 1);
  const auto declared = [&](const Function& function) {
    return std::any_of(
        graph.header.functions.begin(), graph.header.functions.end(),
        [&](const Function& one) { return one.domain == function.domain && one.name == function.name; });
  };
  const std::int64_t opset = graph.opset();
  for (Function& function :
       std::vector<Function>{prune_function(opset), reduce_function(opset), reduce_own_function(opset),
                             tome_function(opset), evit_function(opset)}) {
    const bool used = std::any_of(graph.nodes.begin(), graph.nodes.end(), [&](const Node& node) {
      return node.domain == function.domain && node.op_type == function.name;
    });
    if (used && !declared(function)) graph.header.functions.push_back(std::move(function));
  }
}

}  // namespace lithe
