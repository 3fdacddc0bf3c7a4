// Learning of one slice of the network.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "lithe/base/progress.h"
#include "lithe/engine/executor.h"
#include "lithe/quantize/reconstruct/reconstruct.h"
#include "lithe/quantize/reconstruct/simulated_graph.h"
#include "lithe/quantize/reconstruct/slice_data.h"

namespace lithe {

/// What one pass over the network learns.
struct PassSettings {
  bool weights = true, scales = true;
  bool from_codes = false;  // roundings go on from the codes they have
  double rounding_rate = 1e-3;
  double keep = 1;                 // share of activations and inputs that are quantised in a step
  bool float_activations = false;  // no activation is quantised at all
  double error_exponent = 2;       // of the reconstruction loss
  std::int64_t steps = 2000;
  double scale_rate = 4e-5;
  double rounding_weight = 0.01;
  std::uint64_t stream = 0;  // of the random numbers, another one for every pass
};

/// What is learnt in a slice: roundings of weights and scales, each shared by several activations, by index
/// in the plan.
struct SliceJob {
  std::size_t index = 0;
  const Slice& slice;
  const SliceData& data;
  std::vector<std::size_t> weights;
  std::vector<std::vector<std::size_t>> scales;

  bool empty() const { return weights.empty() && scales.empty(); }
};

/// How far a slice is from what it should give, with hard codes and every activation quantised.
struct SliceLoss {
  double error = 0;  // the squared error, see SliceResult::loss_before
  double objective =
      0;  // what a step learns to lower: the error, or what Fisher weights or exponent make of it
};

class SliceLearner {
 public:
  /// `run_batch` samples go through the network at once; a step draws `options.batch`, a multiple of it.
  SliceLearner(Executor& simulated, const SimulatedGraph& names, const Graph& reference,
               const ReconstructOptions& options, const PassSettings& pass, std::int64_t run_batch);

  /// Learns, and writes codes and scales into `plan` and the executor. Where a step's loss is not finite it
  /// stops and leaves them as they were: SliceResult::diverged.
  SliceResult learn(const SliceJob& job, QdqPlan& plan, Progress& progress);

  /// Makes the executor compute with the codes and scales that the plan has for the job.
  void apply(const SliceJob& job, const QdqPlan& plan);

  /// The loss on all samples as the executor stands, and what each sample of the outputs `keep` becomes.
  SliceLoss evaluate(const SliceData& data, const std::vector<std::string>& keep, CacheMap* kept,
                     CacheArena* arena) const;

 private:
  struct Variables;

  Variables open(const SliceJob& job, const QdqPlan& plan) const;
  /// One forward and backward pass over the drawn samples, in parts; the loss. Without gradients if it is not
  /// finite.
  double descend(const SliceJob& job, Variables& variables, const at::Tensor& picked, std::int64_t step,
                 std::uint64_t drop_seed);
  /// Moves what is learnt; the regulariser before, not weighted.
  double move(Variables& variables, std::int64_t step, double rounding_weight, double exponent) const;
  void close(const SliceJob& job, const Variables& variables, QdqPlan& plan) const;

  Feeds feeds_for(const SliceData& data, const at::Tensor& indices, std::uint64_t key) const;
  double loss_of(const SliceTarget& target, const at::Tensor& output, const at::Tensor& indices,
                 at::Tensor& gradient) const;

  Executor& simulated_;
  const SimulatedGraph& names_;
  const Graph& reference_;
  const ReconstructOptions& options_;
  PassSettings pass_;
  std::int64_t run_batch_;
};

}  // namespace lithe
