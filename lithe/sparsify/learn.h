// Training under masks.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "lithe/sparsify/masked_graph.h"
#include "lithe/train/batch_norm.h"
#include "lithe/train/train.h"

namespace lithe {

/// When the spatial masks are measured again.
enum class SpatialUpdate { Step, Epoch, Never };

struct MaskTraining {
  SpatialUpdate update = SpatialUpdate::Epoch;
  /// A position changes only if it keeps this share more or less than the average (hysteresis); 0: always.
  double margin = 0;
  /// Epochs in which N falls from M to what the pattern says (Kao et al., "Training Recipe for N:M Structured
  /// Sparsity with Decaying Pruning Mask", 2022); 0: it is what the pattern says from the start.
  std::int64_t tighten_epochs = 0;
  std::int64_t norm_batches = 40;  // to re-estimate batch norms on, before every evaluation
  /// What else a checkpoint must agree in, by name.
  std::map<std::string, std::string> recipe = {};
};

/// Keeps the spatial masks up to date, re-estimates batch norms under frozen masks before every evaluation,
/// and reports by epoch the share of weight masks (`mask_flips`) and of kernel positions (`spatial_flips`)
/// that changed in it, and the share of weight masks that differ from those at the start of training
/// (`mask_divergence`, the architecture divergence of Zhou et al., ICLR 2021, over the number of weights). A
/// checkpoint holds the masks that are not functions of the weights, fixed ones among them, and is refused if
/// it was made under other options or patterns.
class MaskHooks : public TrainHooks {
 public:
  MaskHooks(const MaskedGraph& masked, const MaskTraining& options, const TrainOptions& training);

  void before_training(Executor& executor) override;
  void before_step(Executor& executor, std::int64_t epoch, std::int64_t step) override;
  void before_evaluation(Executor& executor, const DatasetPtr& data) override;
  std::map<std::string, double> epoch_numbers(Executor& executor, std::int64_t epoch) override;
  std::map<std::string, at::Tensor> state() const override;
  std::map<std::string, std::string> recipe() const override;
  void load_state(const std::map<std::string, at::Tensor>& state) override;

 private:
  void refresh(Executor& executor);
  void set_kept(Executor& executor, std::int64_t epoch) const;
  std::vector<std::uint8_t> weight_mask(Executor& executor, const MaskedLayer& layer) const;

  const MaskedGraph& masked_;
  MaskTraining options_;
  ReestimateOptions reestimate_;
  std::vector<std::vector<std::uint8_t>> spatial_, weights_, fixed_;  // by layer; masks as last seen
  std::vector<std::vector<std::uint8_t>> start_;                      // of the weights, before the first step
  std::int64_t spatial_flips_ = 0, spatial_asked_ = 0;                // in this epoch
};

/// N in epoch `epoch` (from 0) when it falls from M in equal steps over `epochs` epochs, the last of which
/// already has the pattern.
std::int64_t tightened(const SparsityPattern& pattern, std::int64_t epoch, std::int64_t epochs);

/// Options for `reestimate_batch_norm` that go with the training options.
ReestimateOptions reestimate_options(const TrainOptions& training, std::int64_t batches);

}  // namespace lithe
