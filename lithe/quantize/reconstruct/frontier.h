// The values of the float and the quantised network between two slices.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lithe/data/dataset.h"
#include "lithe/engine/executor.h"
#include "lithe/quantize/reconstruct/simulated_graph.h"
#include "lithe/quantize/reconstruct/slice_data.h"
#include "lithe/quantize/reconstruct/slice_learner.h"

namespace lithe {

struct FrontierOptions {
  std::int64_t samples = 0;       // of the data, a multiple of run_batch
  std::int64_t run_batch = 1;     // that run at a time
  std::int64_t step_samples = 1;  // of a step
  int threads = 2;                // that decode
  at::Device device = at::kCPU;
};

/// Walks over the slices in their order and keeps what later ones still read.
class Frontier {
 public:
  Frontier(const Graph& graph, const DatasetPtr& data, const SimulatedGraph& names,
           const std::vector<Slice>& slices, Executor& plain, CacheArena& arena,
           const FrontierOptions& options);

  /// Reads the data: the graph's inputs, quantised where the plan says so.
  void read_inputs(Executor& simulated);

  /// Runs the float network through the slice and says what the slice is to learn. `mixes`: its inputs are
  /// mixed with those of the float network.
  SliceData enter(std::size_t slice, bool mixes);
  /// What later slices read of the slice's outputs.
  std::vector<std::string> read_later(std::size_t slice) const;
  /// Takes in what the quantised network makes of those, and forgets what no later slice reads.
  void leave(std::size_t slice, CacheMap made);

  /// The first output of the float network for all samples.
  SampleCachePtr float_logits();
  /// Sets the importance of each target's elements (Fisher).
  void weigh(std::size_t slice, SliceData& data, const SliceLearner& learner, const SampleCache& logits);

  /// Mean over samples and positions of the squared float outputs, as the loss counts them.
  double power_of(const SliceData& data) const;

 private:
  double power_of(const SliceTarget& target) const;
  void append(CacheMap& caches, const std::string& name, const at::Tensor& value, std::int64_t count,
              bool input = false);
  /// Forgets what no slice behind `done` reads.
  void retire(CacheMap& caches, std::size_t done, std::vector<std::string> Slice::*reads);

  const Graph& graph_;
  DatasetPtr data_;
  const SimulatedGraph& names_;
  const std::vector<Slice>& slices_;
  Executor& plain_;
  CacheArena& arena_;
  FrontierOptions options_;
  CacheMap quantized_values_;  // by value of the simulated graph
  CacheMap float_values_;      // by value of the float graph
};

/// Throws Error(Input) naming the first of `values` (of the graph of `plain`) that does not hold its samples
/// along the first axis: Lithe caches samples as rows. Does nothing where the model's batch is fixed, or
/// where there are fewer than 2 samples.
void require_samples_first(Executor& plain, const DatasetPtr& data, const std::vector<std::string>& values);

}  // namespace lithe
