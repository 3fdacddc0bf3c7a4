#include "cli/quantize_plan.h"

#include <algorithm>
#include <map>

#include "cli/plan_report.h"
#include "cli/quantize_notes.h"
#include "cli/quantize_report.h"
#include "lithe/base/error.h"
#include "lithe/data/loader.h"
#include "lithe/graph/cost.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/graph/units.h"
#include "lithe/quantize/reconstruct/learning_plan.h"
#include "lithe/quantize/reconstruct/reconstruct.h"

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
  // Methods that learn nothing have units and capacities too.
  const ReconstructOptions shown = learning.value_or(ReconstructOptions{});
  if (learning)
    require_enough_samples(shown, shown.batch, std::max<std::int64_t>(1, fixed_batch(plan.graph)));
  const LearningPlan planned = plan_learning(plan.graph, bits_of, shown, shown.batch, given);
  json units = json::array();
  std::vector<std::vector<std::string>> rows;
  for (const Unit& unit : planned.units) {
    json ops = json::array();
    std::string words;
    std::int64_t macs = 0;
    for (const int node : unit.nodes) {
      ops.push_back(graph.nodes[static_cast<std::size_t>(node)].op_type);
      macs += cost.node_macs.at(static_cast<std::size_t>(node));
    }
    for (const int node : unit.layers)
      words += (words.empty() ? "" : " ") + graph.nodes[static_cast<std::size_t>(node)].op_type;
    const double capacity = planned.capacity[units.size()];
    const std::int64_t weights = unit_weights(graph, unit);
    const json in = shapes_json(graph, unit.inputs), out = shapes_json(graph, unit.outputs);
    rows.push_back({fmt::format("{:>3}  {}", units.size(), unit.name), words, std::to_string(weights),
                    std::to_string(macs), shapes_text(in), shapes_text(out), fmt::format("{:.0f}", capacity),
                    unit.stage_boundary ? "yes" : ""});
    units.push_back({{"name", unit.name},
                     {"ops", ops},
                     {"weights", weights},
                     {"macs", macs},
                     {"modcap", capacity},
                     {"inputs", unit.inputs},
                     {"outputs", unit.outputs},
                     {"input_shapes", in},
                     {"output_shapes", out},
                     {"stage_boundary", unit.stage_boundary}});
  }
  json groups = json::array();  // calibrated methods learn nothing together
  std::string grouped;
  if (learning) {
    plan.notes.insert(plan.notes.end(), planned.notes.begin(), planned.notes.end());
    groups = planned.groups ? json(*planned.groups) : json(nullptr);
    grouped = planned.groups ? "learnt together: " + format_groups(*planned.groups)
                             : "learnt together: chosen when it is run";
    if (!planned.groups)
      plan.notes.push_back(fmt::format(
          "which units are grouped is chosen after their losses were measured (grouping {}); --capacity "
          "modcap goes by weights, bits and strides and is known beforehand",
          grouping_name(learning->grouping.selector)));
  }
  json layers = json::array();
  for (const LayerResult& layer : plan.layers)
    layers.push_back({{"name", layer.name},
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
  json result{{"units", units}, {"groups", groups}, {"layers", layers}, {"notes", plan.notes}};
  result.update(choices_json(plan.profile, plan.placement, plan.reduce_range));
  std::vector<std::string> remarks = plan.notes;
  if (!grouped.empty()) remarks.insert(remarks.begin(), grouped);
  finish_plan(
      call, result,
      {table_of("Units", units, {"name", "ops", "weights", "macs", "modcap", "stage_boundary"}),
       table_of("Layers", layers, {"name", "op", "weight_bits", "activation_bits", "bytes", "float_bytes"})},
      remarks);
}

}  // namespace lithe::cli
