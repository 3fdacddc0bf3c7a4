// What a model's file says of the N:M patterns of its weights.
#pragma once

#include <string>
#include <vector>

#include "lithe/graph/graph.h"
#include "lithe/graph/sparsity.h"

namespace lithe {

/// One pruned layer, as it stands in the metadata under "lithe.sparsity".
struct SparsityRecord {
  std::string layer;   // name of the node, or of its output if it has none
  std::string weight;  // the constant, when it was pruned
  SparsityPattern pattern;
  std::size_t axis = 1;  // of the input channels
  std::string checksum;  // of the constant's bytes, see `weight_checksum`
};

/// 64-bit FNV-1a of the bytes, in hexadecimal.
std::string weight_checksum(const TensorData& data);

/// Empty where the model says nothing. Throws Error(Input) if what it says cannot be read.
std::vector<SparsityRecord> sparsity_records(const Graph& graph);

/// Writes them; none: removes the entry.
void keep_sparsity_records(Graph& graph, const std::vector<SparsityRecord>& records);

/// How a recorded layer stands now.
struct RecordState {
  SparsityRecord record;
  std::string problem;   // why its pattern does not hold, for people; "" if it does
  bool changed = false;  // the weight is not the recorded one any more, for example because it was quantised
};

/// Holds the weights against the records. A layer is looked for by its name, then by its weight's.
std::vector<RecordState> check_sparsity_records(const Graph& graph);

/// Leaves out the records whose pattern does not hold any more, and refreshes the checksums of the others.
/// Returns those left out.
std::vector<RecordState> update_sparsity_records(Graph& graph);

}  // namespace lithe
