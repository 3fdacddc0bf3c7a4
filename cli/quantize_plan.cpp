#include "cli/quantize_plan.h"

#include <algorithm>
#include <map>

#include "cli/plan_report.h"
#include "cli/quantize_notes.h"
#include "cli/quantize_report.h"
#include "lithe/base/error.h"
#include "lithe/graph/cost.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/graph/units.h"
#include "lithe/quantize/reconstruct/reconstruct.h"
#include "lithe/quantize/reconstruct/step_memory.h"

namespace lithe::cli {
namespace {

json shape_json(const Graph& graph, const std::string& value) {
  const ValueInfo* info = graph.info(value);
  if (!info || !info->shape) return nullptr;
  json shape = json::array();
  for (const Dim& dim : *info->shape) shape.push_back(dim.known() ? json(dim.value) : json(nullptr));
  return shape;
}

json shapes_json(const Graph& graph, const std::vector<std::string>& values) {
  json shapes = json::array();
  for (const std::string& value : values) shapes.push_back(shape_json(graph, value));
  return shapes;
}

/// "1x16x8x8", several with commas between.
std::string shapes_text(const json& shapes) {
  std::string text;
  for (const json& shape : shapes) {
    if (!text.empty()) text += ", ";
    if (!shape.is_array()) text += "?";
    for (std::size_t i = 0; i < shape.size(); ++i)
      text += (i > 0 ? "x" : "") + (shape[i].is_null() ? std::string("?") : shape[i].dump());
  }
  return text;
}

/// The groups that would be learnt together; nothing where losses are to be measured first.
std::optional<std::vector<std::vector<int>>> plan_groups(const std::vector<Unit>& units,
                                                         const std::vector<double>& capacity,
                                                         const ReconstructOptions& learning,
                                                         const InputShapes& shapes, const Graph& graph,
                                                         std::vector<std::string>& notes) {
  GroupingOptions grouping = learning.grouping;
  StepMemory memory;
  if (learning.memory > 0) {
    Graph step = graph;
    infer_shapes(step, concrete_input_shapes(graph, shapes));
    const std::int64_t at_once = std::max<std::int64_t>(1, fixed_batch(graph));
    memory = StepMemory(step, units, at_once);
    std::vector<std::vector<int>> singles;
    for (std::size_t i = 0; i < units.size(); ++i) singles.push_back({static_cast<int>(i)});
    const StepBatch batch =
        choose_step_batch(memory, units, singles, learning.batch, at_once, learning.memory);
    if (batch.samples < learning.batch)
      notes.push_back(fmt::format("to stay within --memory, {} of the {} samples of a step run at a time",
                                  batch.samples, learning.batch));
    grouping.max_bytes = learning.memory;
    grouping.bytes = [&memory, at_once](int first, int last) { return memory.bytes(first, last, at_once); };
  }
  if (learning.capacity == CapacityMetric::ModCap) grouping.margin = 0;  // known exactly
  const bool ranked = grouping.selector == Grouping::TopK || grouping.selector == Grouping::Drop;
  if (ranked && learning.capacity == CapacityMetric::Loss) {
    notes.push_back(fmt::format(
        "which units are grouped is chosen after their losses were measured (grouping {}); --capacity modcap "
        "goes by weights, bits and strides and is known beforehand",
        grouping_name(grouping.selector)));
    return std::nullopt;
  }
  if (grouping.selector == Grouping::Preset)
    grouping.preset = parse_groups(learning.preset, static_cast<int>(units.size()));
  return choose_groups(units, capacity, grouping, &notes);
}

}  // namespace

void check_listed_groups(const Graph& model, const QuantizeOptions& options) {
  if (!options.reconstruct || options.reconstruct->grouping.selector != Grouping::Preset) return;
  const auto units =
      reconstruction_units(plan_quantization(model, options).graph, options.reconstruct->granularity);
  parse_groups(options.reconstruct->preset, static_cast<int>(units.size()));
}

void show_quantization_plan(Invocation& call, const Graph& model, const QuantizeOptions& options,
                            const std::vector<std::string>& shapes) {
  call.check_outputs(false);
  QuantizationPlan plan = plan_quantization(model, options);
  Graph graph = plan.graph;
  const InputShapes given = parse_shape_flags(shapes);
  infer_shapes(graph, concrete_input_shapes(graph, given));
  const Cost cost = measure_cost(graph);
  std::map<std::string, int> bits;
  for (const LayerResult& layer : plan.layers) bits[layer.name] = layer.weight_bits;
  const auto bits_of = [&](const Node& node) {
    const auto found = bits.find(layer_name(node));
    return found == bits.end() ? kFloatBits : found->second;
  };
  const auto& learning = options.reconstruct;
  const std::vector<Unit> found =
      reconstruction_units(graph, learning ? learning->granularity : Granularity::Block);
  const double stride_factor = learning ? learning->stride_factor : ReconstructOptions{}.stride_factor;
  json units = json::array();
  std::vector<double> capacity;
  std::vector<std::vector<std::string>> rows;
  for (const Unit& unit : found) {
    json ops = json::array();
    std::string words;
    std::int64_t macs = 0;
    for (const int node : unit.nodes) {
      ops.push_back(graph.nodes[static_cast<std::size_t>(node)].op_type);
      macs += cost.node_macs.at(static_cast<std::size_t>(node));
    }
    for (const int node : unit.layers)
      words += (words.empty() ? "" : " ") + graph.nodes[static_cast<std::size_t>(node)].op_type;
    capacity.push_back(unit_capacity(graph, unit, bits_of, stride_factor));
    const std::int64_t weights = unit_weights(graph, unit);
    const json in = shapes_json(graph, unit.inputs), out = shapes_json(graph, unit.outputs);
    rows.push_back({fmt::format("{:>3}  {}", units.size(), unit.name), words, std::to_string(weights),
                    std::to_string(macs), shapes_text(in), shapes_text(out),
                    fmt::format("{:.0f}", capacity.back()), unit.stage_boundary ? "yes" : ""});
    units.push_back({{"name", unit.name},
                     {"ops", ops},
                     {"weights", weights},
                     {"macs", macs},
                     {"modcap", capacity.back()},
                     {"inputs", unit.inputs},
                     {"outputs", unit.outputs},
                     {"input_shapes", in},
                     {"output_shapes", out},
                     {"stage_boundary", unit.stage_boundary}});
  }
  json groups = json::array();  // calibrated methods learn nothing together
  std::string grouped;
  if (learning) {
    const auto chosen = plan_groups(found, capacity, *learning, given, plan.graph, plan.notes);
    groups = chosen ? json(*chosen) : json(nullptr);
    grouped =
        chosen ? "learnt together: " + format_groups(*chosen) : "learnt together: chosen when it is run";
  }
  json planned = json::array();
  for (const LayerResult& layer : plan.layers)
    planned.push_back({{"name", layer.name},
                       {"op", layer.op},
                       {"weight_bits", layer.weight_bits},
                       {"activation_bits", layer.activation_bits},
                       {"bytes", layer.bytes},
                       {"float_bytes", layer.float_bytes},
                       {"weight_range", {layer.weight_low, layer.weight_high}}});
  const auto notes = notes_on_use(options.target, plan.reduce_range, plan.layers, graph);
  plan.notes.insert(plan.notes.end(), notes.begin(), notes.end());
  if (const std::string warning = nothing_quantized(plan.layers); !warning.empty()) call.warn(warning);
  call.say("{}",
           format_table({"  #  unit", "layers", "weights", "MACs", "in", "out", "ModCap", "stage boundary"},
                        rows));
  if (!grouped.empty()) call.say("{}", grouped);
  call.say("\n{}", layer_table(plan.layers));
  for (const std::string& note : plan.notes) call.say("note: {}", note);
  json result{{"units", units}, {"groups", groups}, {"layers", planned}, {"notes", plan.notes}};
  result.update(choices_json(plan.profile, plan.placement, plan.reduce_range));
  std::vector<std::string> remarks = plan.notes;
  if (!grouped.empty()) remarks.insert(remarks.begin(), grouped);
  finish_plan(
      call, result,
      {table_of("Units", units, {"name", "ops", "weights", "macs", "modcap", "stage_boundary"}),
       table_of("Layers", planned, {"name", "op", "weight_bits", "activation_bits", "bytes", "float_bytes"})},
      remarks);
}

}  // namespace lithe::cli
