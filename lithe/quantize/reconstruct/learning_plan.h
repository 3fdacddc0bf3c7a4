// What reconstruction will do, as far as shapes and bits tell: the one answer for `--dry-run` and the run.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lithe/data/dataset.h"
#include "lithe/graph/graph.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/graph/units.h"
#include "lithe/quantize/reconstruct/reconstruct.h"
#include "lithe/quantize/reconstruct/step_memory.h"

namespace lithe {

using UnitGroups = std::vector<std::vector<int>>;
/// Bits of the weights of a layer; kFloatBits for those in float.
using LayerBits = std::function<int(const Node& layer)>;

struct LearningPlan {
  std::vector<Unit> units;
  std::vector<double> capacity;      // of each unit without data (ModCap)
  std::optional<UnitGroups> groups;  // learnt together; nothing where losses are to be measured first
  // Samples that the model takes at once where nothing bounds them, and at the least.
  std::int64_t whole_batch = 1, unit_batch = 1;
  std::int64_t memory = 0;  // ReconstructOptions::memory
  StepMemory step;          // only with a bound on the memory
  std::vector<std::string> notes;

  UnitGroups singles() const;  // every unit alone
  UnitGroups whole() const;    // all as one
  /// How many samples run at a time where these groups are learnt, and what a step then holds (0 bytes
  /// without a bound). Throws Error(Input), naming units and bytes, if one sample does not fit.
  StepBatch batch_for(const UnitGroups& groups) const;
};

/// Whether groups are chosen after the units' losses were measured one by one.
bool groups_by_losses(const ReconstructOptions& options);

/// `graph` is the float network after folding. `whole_batch`: samples that run at once at the most; `shapes`:
/// of all inputs, for any number of samples; needed only with a bound on the memory. Throws Error(Input) if
/// there is no layer to reconstruct, if a listed group does not fit, or if a step through a single unit, or
/// with polishing through the network, passes the memory on one sample.
LearningPlan plan_learning(const Graph& graph, const LayerBits& bits, const ReconstructOptions& options,
                           std::int64_t whole_batch, const InputShapes& shapes);

/// Of one sample of the data, or of as many as the model takes at the least.
InputShapes input_shapes_of(const Graph& graph, const DatasetPtr& data, int threads);

/// Groups by the capacities given, in the plan's memory; what stays apart for it is told in `notes`.
UnitGroups group_units(const LearningPlan& plan, const std::vector<double>& capacity,
                       const ReconstructOptions& options, std::vector<std::string>& notes);

}  // namespace lithe
