#include <algorithm>
#include <optional>
#include <utility>

#include "lithe/base/error.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/tokens/compress.h"
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

}  // namespace

void free_token_count(Graph& graph, const TokenModel& model, const std::vector<std::int64_t>& tokens,
                      bool class_rows, bool fixed) {
  const auto [two, three] = sized_twice(graph);
  std::vector<std::string> sums;
  for (const AttentionBlock& block : model.blocks) sums.push_back(block.residual);
  const std::vector<int> segments = token_segments(graph, model, sums, class_rows);
  for (std::size_t i = 0; i < graph.nodes.size(); ++i) {
    Node& node = graph.nodes[i];
    if (segments[i] < 0 || !node.is("Reshape")) continue;
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
      if (open && !fixed)
        fail("{}: needs the number of tokens, so that images cannot keep counts of their own",
             describe(node));
      shape[d] = open ? (*to)[d] / held * count : -1;
      open = true;
    }
    const auto rank = static_cast<std::int64_t>(shape.size());
    node.inputs[1] = graph.add_constant(node.output(0) + ".sizes",
                                        TensorData::from<std::int64_t>({rank}, std::move(shape)));
    node.attributes.erase("allowzero");
  }
}

}  // namespace lithe
