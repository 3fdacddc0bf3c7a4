#include "cli/inspect_report.h"

#include <algorithm>
#include <map>

#include "cli/inspect_operators.h"
#include "cli/inspect_sparsity.h"
#include "cli/sizes.h"
#include "lithe/base/error.h"
#include "lithe/graph/blocks.h"
#include "lithe/graph/cost.h"
#include "lithe/graph/finite.h"

namespace lithe::cli {
namespace {

using nlohmann::json;

json type_to_json(const ValueInfo& value) {
  json shape;
  if (value.shape) {
    shape = json::array();
    for (const Dim& dim : *value.shape) {
      if (dim.known())
        shape.push_back(dim.value);
      else if (dim.symbol.empty())
        shape.push_back(nullptr);
      else
        shape.push_back(dim.symbol);
    }
  }
  const bool tensor = value.other_type.empty();
  return {{"name", value.name}, {"dtype", tensor ? dtype_name(value.dtype) : "other"}, {"shape", shape}};
}

json count_operators(const Graph& graph) {
  std::map<std::pair<std::string, std::string>, std::int64_t> counts;
  for (const Node& node : graph.nodes) ++counts[{node.op_type, node.domain}];
  json operators = json::array();
  for (const auto& [key, count] : counts)
    operators.push_back({{"op", key.first}, {"domain", key.second}, {"count", count}});
  return operators;
}

json block_to_json(const Graph& graph, const Block& block, const Cost* cost) {
  json macs;
  if (cost) {
    std::int64_t sum = 0;
    for (const int node : block.nodes) sum += cost->node_macs[static_cast<std::size_t>(node)];
    macs = sum;
  }
  json children = json::array();
  for (const Block& child : block.children) children.push_back(block_to_json(graph, child, cost));
  return {{"name", block.name},
          {"kind", block_kind_name(block.kind)},
          {"entry", block.entry},
          {"exit", block.exit},
          {"side_inputs", block.side_inputs},
          {"depth", block.depth},
          {"skippable", block.skippable},
          {"nodes", block.nodes.size()},
          {"parameters", count_parameters(graph, block.nodes)},
          {"macs", macs},
          {"children", children}};
}

}  // namespace

json inspect_model(Graph graph, const InspectOptions& options) {
  json result;
  result["ir_version"] = graph.header.ir_version;
  result["opsets"] = json::object();
  for (const auto& [domain, version] : graph.header.opsets)
    result["opsets"][domain.empty() ? "ai.onnx" : domain] = version;
  result["producer"] = graph.header.producer_name;
  json inputs = json::array();
  for (const ValueInfo* input : graph.required_inputs()) inputs.push_back(type_to_json(*input));
  result["inputs"] = inputs;

  std::vector<std::string> notes;
  // An input that leaves more than the batch open still leaves much to tell.
  std::optional<InputShapes> shapes;
  try {
    shapes = concrete_input_shapes(graph, options.shapes);
  } catch (const Error& error) {
    if (!options.shapes.empty()) throw;
    notes.push_back(error.what());
  }
  std::optional<Sized> sized;
  if (shapes) sized = options.shapes.empty() ? find_batch(graph, *shapes) : give_sizes(graph, *shapes);
  Graph declared = graph;
  if (!sized || sized->note.empty()) infer_shapes(declared);
  json outputs = json::array();
  for (const ValueInfo& output : declared.outputs) outputs.push_back(type_to_json(output));
  result["outputs"] = outputs;
  result["operators"] = count_operators(graph);
  result["nodes"] = graph.nodes.size();
  result["parameters"] = count_parameters(graph);

  std::optional<Cost> cost;
  if (sized) {
    graph = std::move(sized->graph);
    cost = measure_cost(graph);
    result["shapes"] = json::object();
    for (const auto& [name, sizes] : sized->shapes) result["shapes"][name] = sizes;
    if (!sized->note.empty()) notes.push_back(sized->note);
    if (!cost->unknown_values.empty())
      notes.push_back(fmt::format("the sizes of {} values are not known and not counted, first '{}'",
                                  cost->unknown_values.size(), cost->unknown_values.front()));
  }
  const std::vector<std::string> unusable = unusable_constants(declared);
  if (!unusable.empty())
    notes.push_back(unusable.front() + (unusable.size() > 1
                                            ? fmt::format(" ({} more hold such numbers)", unusable.size() - 1)
                                            : ""));
  if (!notes.empty()) result["note"] = fmt::format("{}", fmt::join(notes, "; "));
  result["unsupported"] = unsupported_json(declared);
  result["macs"] = cost ? json(cost->macs) : json();
  result["activation_bytes"] = cost ? json(cost->activation_peak_bytes) : json();
  result["activation_bytes_sum"] = cost ? json(cost->activation_sum_bytes) : json();
  json blocks = json::array();
  const Graph& typed = sized ? graph : declared;
  for (const Block& block : find_blocks(typed))
    blocks.push_back(block_to_json(typed, block, cost ? &*cost : nullptr));
  result["blocks"] = blocks;
  if (options.sparsity) result.update(check_sparsity_json(graph, *options.sparsity));
  return result;
}

}  // namespace lithe::cli
