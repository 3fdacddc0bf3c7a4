#include "lithe/quantize/dfsq/value_sizes.h"

#include <algorithm>
#include <map>

#include "lithe/base/error.h"
#include "lithe/data/loader.h"
#include "lithe/graph/shape_inference.h"

namespace lithe {
namespace {

/// Values that are there at a time: what an operator reads and makes, and what it unfolds or copies.
constexpr std::int64_t kAlive = 4;

bool has_fixed_inputs(const Graph& graph) {
  const std::vector<const ValueInfo*> inputs = graph.required_inputs();
  return std::all_of(inputs.begin(), inputs.end(), [](const ValueInfo* input) {
    return input->shape && !input->shape->empty() &&
           std::all_of(input->shape->begin() + 1, input->shape->end(),
                       [](const Dim& dim) { return dim.known(); });
  });
}

std::int64_t numbers_of(const Feeds& feeds) {
  std::int64_t numbers = 0;
  for (const auto& [name, tensor] : feeds) numbers += tensor.numel();
  return numbers;
}

InputShapes largest_inputs(const Graph& graph, const DatasetPtr& data, int threads) {
  Loader loader(has_fixed_inputs(graph) ? subset(data, {0}) : data, {.batch = 1, .threads = threads});
  InputShapes shapes;
  std::int64_t most = -1;
  for (Batch batch; loader.next(batch);) {
    const std::int64_t numbers = numbers_of(batch.inputs);
    if (numbers <= most) continue;
    most = numbers;
    shapes.clear();
    for (const auto& [name, tensor] : bind_inputs(graph, batch.inputs)) shapes[name] = tensor.sizes().vec();
  }
  return shapes;
}

/// Bytes of a value of known shape as float32, 0 of others.
std::int64_t bytes_of(const ValueInfo& value) {
  if (!value.shape) return 0;
  std::int64_t bytes = sizeof(float);
  for (const Dim& dim : *value.shape) {
    if (!dim.known()) return 0;
    bytes *= dim.value;
  }
  return bytes;
}

}  // namespace

std::optional<ValueSizes> value_sizes(const Graph& graph, const DatasetPtr& data,
                                      const std::vector<std::string>& kept, int threads) {
  const InputShapes shapes = largest_inputs(graph, data, threads);
  Graph sized = graph;
  try {
    infer_shapes(sized, shapes);
  } catch (const Error&) {
    return std::nullopt;  // running it says why
  }
  ValueSizes sizes;
  const auto look = [&](const std::string& name) {
    const ValueInfo* info = sized.info(name);
    return info ? bytes_of(*info) : 0;
  };
  for (const ValueInfo& input : sized.inputs) sizes.widest = std::max(sizes.widest, bytes_of(input));
  for (const Node& node : sized.nodes)
    for (const std::string& output : node.outputs) sizes.widest = std::max(sizes.widest, look(output));
  for (const std::string& name : kept) sizes.kept += look(name);
  return sizes;
}

std::int64_t samples_within(std::int64_t memory, const ValueSizes& sizes, std::int64_t wanted) {
  const std::int64_t each = std::max<std::int64_t>(1, kAlive * sizes.widest + sizes.kept);
  return std::clamp<std::int64_t>(memory / each, 1, std::max<std::int64_t>(1, wanted));
}

}  // namespace lithe
