#include <algorithm>
#include <optional>
#include <utility>

#include "lithe/base/error.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/tokens/compress.h"
#include "lithe/tokens/node_writer.h"
#include "lithe/tokens/segments.h"

namespace lithe {
namespace {

using Sizes = std::vector<std::int64_t>;

Graph sized(const Graph& graph, std::int64_t batch) {
  Graph result = graph;
  infer_shapes(result, concrete_input_shapes(result, {}, batch));
  return result;
}

/// At two batch sizes, so that what follows the batch can be told; equal where the file fixes it.
std::pair<Graph, Graph> sized_twice(const Graph& graph) {
  try {
    return {sized(graph, 2), sized(graph, 3)};
  } catch (const Error&) {
    return {sized(graph, 1), sized(graph, 1)};
  }
}

std::optional<Sizes> sizes_of(const Graph& graph, const std::string& value) {
  const ValueInfo* info = graph.info(value);
  if (!info || !info->shape) return std::nullopt;
  Sizes sizes;
  for (const Dim& dim : *info->shape) {
    if (!dim.known()) return std::nullopt;
    sizes.push_back(dim.value);
  }
  return sizes;
}

/// `shape` with the size at `axis` `factor` times the batch of the graph's input.
std::string sizes_by_batch(Graph& graph, const std::string& name, const Sizes& shape, std::size_t axis,
                           std::int64_t factor) {
  NodeWriter write(graph);
  const std::string batch =
      write.op(name + ".batch", "Gather",
               {write.op(name + ".input_shape", "Shape", {graph.required_inputs().at(0)->name}),
                write.ints(name + ".first", {0})});
  const auto place = shape.begin() + static_cast<std::ptrdiff_t>(axis);
  std::vector<std::string> parts;
  if (axis > 0) parts.push_back(write.ints(name + ".front", {shape.begin(), place}));
  parts.push_back(write.op(name + ".times", "Mul", {batch, write.ints(name + ".factor", {factor})}));
  if (axis + 1 < shape.size()) parts.push_back(write.ints(name + ".back", {place + 1, shape.end()}));
  return write.op(name + ".sizes", "Concat", std::move(parts), {{"axis", std::int64_t{0}}});
}

}  // namespace

void free_token_count(Graph& graph, const TokenModel& model, const std::vector<std::int64_t>& tokens,
                      bool class_rows, bool fixed) {
  const auto [two, three] = sized_twice(graph);
  std::vector<std::string> sums;
  for (const AttentionBlock& block : model.blocks) sums.push_back(block.residual);
  const std::vector<int> segments = token_segments(graph, model, sums, class_rows);
  for (std::size_t i = 0; i < segments.size(); ++i) {
    if (segments[i] < 0 || !graph.nodes[i].is("Reshape")) continue;
    const Node node = graph.nodes[i];
    const auto from = sizes_of(two, node.input(0)), to = sizes_of(two, node.output(0)),
               other = sizes_of(three, node.input(0)), more = sizes_of(three, node.output(0));
    if (!from || !to || !other || !more)
      fail("{}: its sizes are not known, so that fewer tokens cannot be passed", describe(node));
    // The Reshape keeps its constants where its tokens do not stand in them.
    const auto place = model.places.find(node.output(0));
    const std::int64_t held = model.tokens - (place == model.places.end() ? 0 : place->second.from);
    const std::int64_t count = tokens[static_cast<std::size_t>(segments[i])] - (model.tokens - held);
    if (!graph.is_constant(node.input(1)) && from->empty()) continue;
    Sizes shape;
    std::size_t copied = 0;
    while (copied < from->size() && copied < to->size() && (*from)[copied] == (*to)[copied] &&
           (*other)[copied] == (*more)[copied]) {
      shape.push_back(0);
      ++copied;
    }
    const auto holds_tokens = [&](std::size_t d) {
      return place != model.places.end() && std::any_of(place->second.axes.begin(), place->second.axes.end(),
                                                        [d](const TokenAxis& one) { return one.axis == d; });
    };
    bool open = false;
    std::optional<std::size_t> follows;  // the axis of the batch, where that of the tokens is -1 instead
    for (std::size_t d = copied; d < to->size(); ++d)
      if ((*to)[d] != (*more)[d]) {
        if (open)
          fail("{}: several sizes of its output follow the batch, so that fewer tokens cannot be passed",
               describe(node));
        open = true;
        shape.push_back(-1);
      } else {
        shape.push_back((*to)[d]);
      }
    for (std::size_t d = copied; d < to->size(); ++d) {
      if (shape[d] == -1 || !holds_tokens(d)) continue;
      if (open && !fixed) {
        const auto batch =
            static_cast<std::size_t>(std::find(shape.begin(), shape.end(), -1) - shape.begin());
        if (follows || holds_tokens(batch) || 3 * (*to)[batch] != 2 * (*more)[batch])
          fail("{}: needs the number of tokens, so that images cannot keep counts of their own",
               describe(node));
        follows = batch;
        shape[d] = -1;
        continue;
      }
      shape[d] = open ? (*to)[d] / held * count : -1;
      open = true;
    }
    graph.nodes[i].attributes.erase("allowzero");
    std::string sizes = follows ? sizes_by_batch(graph, node.output(0), shape, *follows, (*to)[*follows] / 2)
                                : NodeWriter(graph).ints(node.output(0) + ".sizes", std::move(shape));
    graph.nodes[i].inputs[1] = std::move(sizes);
  }
}

}  // namespace lithe
