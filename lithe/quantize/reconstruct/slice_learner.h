// Learning of one slice of the network.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "lithe/base/progress.h"
#include "lithe/engine/executor.h"
#include "lithe/quantize/reconstruct/reconstruct.h"
#include "lithe/quantize/reconstruct/sample_cache.h"
#include "lithe/quantize/reconstruct/simulated_graph.h"

namespace lithe {

using CacheMap = std::map<std::string, SampleCachePtr, std::less<>>;

/// An output that the slice is to reproduce.
struct SliceTarget {
  std::string value;          // of the simulated graph
  SampleCachePtr wanted;      // what the float network gives
  SampleCachePtr importance;  // of each element (Fisher); null: all the same
  double weight = 1;          // of its squared error in the loss
};

struct SliceData {
  CacheMap inputs;        // what the quantised network feeds, by value of the simulated graph
  CacheMap float_inputs;  // what the float network feeds, likewise; only where inputs are mixed
  std::vector<SliceTarget> targets;
  std::int64_t samples = 0;
};

/// What one pass over the network learns.
struct PassSettings {
  bool weights = true, scales = true;
  bool from_codes = false;         // roundings go on from the codes they have
  double rounding_rate = 0;        // 0: that of the options
  double keep = 1;                 // share of activations and inputs that are quantised in a step
  bool float_activations = false;  // no activation is quantised at all
  double error_exponent = 2;       // of the reconstruction loss
  std::int64_t steps = 2000;
  double scale_rate = 4e-5;
  double rounding_weight = 0.01;
  std::uint64_t stream = 0;  // of the random numbers, another one for every pass
};

class SliceLearner {
 public:
  /// `run_batch` samples go through the network at once; a step draws `options.batch`, a multiple of it.
  SliceLearner(Executor& simulated, const SimulatedGraph& names, const Graph& reference,
               const ReconstructOptions& options, const PassSettings& pass, std::int64_t run_batch);

  /// Learns the roundings of the weights `weights` and the scales of the activation groups `scales` (indices
  /// into the plan; each scale is shared by several activations), writes them into `plan` and the executor.
  SliceResult learn(std::size_t index, const Slice& slice, const SliceData& data, QdqPlan& plan,
                    const std::vector<std::size_t>& weights,
                    const std::vector<std::vector<std::size_t>>& scales, Progress& progress);

  /// The loss on all samples as the executor stands, and what each sample of the outputs `keep` becomes.
  double evaluate(const SliceData& data, const std::vector<std::string>& keep, CacheMap* kept,
                  CacheArena* arena) const;

 private:
  Feeds feeds_for(const SliceData& data, const at::Tensor& indices, std::uint64_t key) const;

  Executor& simulated_;
  const SimulatedGraph& names_;
  const Graph& reference_;
  const ReconstructOptions& options_;
  PassSettings pass_;
  std::int64_t run_batch_;
};

}  // namespace lithe
