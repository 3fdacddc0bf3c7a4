#include "lithe/quantize/reconstruct/learning_plan.h"

#include <algorithm>
#include <numeric>

#include "lithe/base/error.h"
#include "lithe/data/loader.h"
#include "lithe/quantize/batches.h"

namespace lithe {
namespace {

bool is_ranked(Grouping selector) {
  return selector == Grouping::TopK || selector == Grouping::Drop;
}

/// What a step of one sample, or of as many as the model takes, holds.
StepMemory measure_step(const Graph& graph, const std::vector<Unit>& units, std::int64_t fixed,
                        const InputShapes& shapes) {
  Graph shaped = graph;
  const InputShapes concrete = concrete_input_shapes(graph, shapes);
  infer_shapes(shaped, concrete);
  std::int64_t samples = fixed;
  for (const ValueInfo* input : graph.required_inputs()) {
    if (samples > 0) break;
    const auto found = concrete.find(input->name);
    if (found != concrete.end() && !found->second.empty()) samples = found->second.front();
  }
  return {shaped, units, std::max<std::int64_t>(1, samples)};
}

}  // namespace

UnitGroups LearningPlan::singles() const {
  UnitGroups groups;
  for (std::size_t i = 0; i < units.size(); ++i) groups.push_back({static_cast<int>(i)});
  return groups;
}

UnitGroups LearningPlan::whole() const {
  UnitGroups groups(1, std::vector<int>(units.size()));
  std::iota(groups[0].begin(), groups[0].end(), 0);
  return groups;
}

StepBatch LearningPlan::batch_for(const UnitGroups& groups) const {
  if (memory <= 0) return {.samples = whole_batch};
  return choose_step_batch(step, units, groups, whole_batch, unit_batch, memory);
}

InputShapes input_shapes_of(const Graph& graph, const DatasetPtr& data, int threads) {
  const std::int64_t samples = std::max<std::int64_t>(1, fixed_batch(graph));
  InputShapes shapes;
  for_each_batch(graph, data, {.batch = samples, .threads = threads, .limit = samples},
                 [&](const Feeds& feeds, std::int64_t) {
                   for (const auto& [name, value] : feeds) shapes.emplace(name, value.sizes().vec());
                 });
  return shapes;
}

bool groups_by_losses(const ReconstructOptions& options) {
  return options.capacity == CapacityMetric::Loss && is_ranked(options.grouping.selector);
}

UnitGroups group_units(const LearningPlan& plan, const std::vector<double>& capacity,
                       const ReconstructOptions& options, std::vector<std::string>& notes) {
  GroupingOptions grouping = options.grouping;
  if (grouping.selector == Grouping::None) return plan.singles();
  if (grouping.selector == Grouping::Preset)
    grouping.preset = parse_groups(options.preset, static_cast<int>(plan.units.size()));
  if (!groups_by_losses(options)) grouping.margin = 0;  // known exactly
  grouping.max_bytes = plan.memory;
  if (plan.memory > 0)
    grouping.bytes = [&plan](int first, int last) { return plan.step.bytes(first, last, plan.unit_batch); };
  return choose_groups(plan.units, capacity, grouping, &notes);
}

LearningPlan plan_learning(const Graph& graph, const LayerBits& bits, const ReconstructOptions& options,
                           std::int64_t whole_batch, const InputShapes& shapes) {
  const std::int64_t fixed = fixed_batch(graph);
  LearningPlan plan{.units = reconstruction_units(graph, options.granularity),
                    .whole_batch = fixed > 0 ? fixed : whole_batch,
                    .unit_batch = std::max<std::int64_t>(1, fixed),
                    .memory = options.memory};
  if (plan.units.empty()) fail("the model has no layer to reconstruct");
  for (const Unit& unit : plan.units)
    plan.capacity.push_back(unit_capacity(graph, unit, bits, options.stride_factor));
  if (plan.memory > 0) plan.step = measure_step(graph, plan.units, fixed, shapes);
  const StepBatch single = plan.batch_for(plan.singles());
  if (single.samples < plan.whole_batch)
    plan.notes.push_back(fmt::format("to stay within --memory, {} of the {} samples of a step run at a time",
                                     single.samples, plan.whole_batch));
  if (options.polish_steps > 0) plan.batch_for(plan.whole());  // refused now or never
  if (!groups_by_losses(options)) plan.groups = group_units(plan, plan.capacity, options, plan.notes);
  return plan;
}

}  // namespace lithe
