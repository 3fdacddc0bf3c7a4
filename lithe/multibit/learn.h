// Training every bit-width at once.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "lithe/multibit/branch_graph.h"
#include "lithe/train/batch_norm.h"
#include "lithe/train/train.h"

namespace lithe {

/// What lower bit-widths learn besides the labels.
enum class Teaching {
  InPlace,    // half from the labels, half from the scores of the most bits in the same step
  Recursive,  // from the scores of the next higher bit-width alone, as Any-Precision networks do
  None,
};

/// Mean over the samples of -sum_c softmax(teacher)_c log softmax(student)_c; [n, classes] both. The teacher
/// gets no gradient.
at::Tensor soft_cross_entropy(const at::Tensor& student, const at::Tensor& teacher);

struct BitTraining {
  Teaching teaching = Teaching::InPlace;
  /// A step trains the most bits and one other bit-width, drawn at random, instead of all.
  bool sandwich = false;
  std::int64_t norm_batches = 10;                  // to re-estimate batch norms on, before every evaluation
  std::map<std::string, std::string> recipe = {};  // what else a checkpoint must agree in, by name
};

/// A step minimises the sum of the losses of its bit-widths: of the most bits that of the options, of the
/// others what `teaching` says. After a step bounds that crossed or met are moved apart, to the smallest
/// width that the quantiser works with, and counted. Batch norms are re-estimated before every evaluation,
/// and the mean score over all bit-widths tells which weights are best. Reports by epoch the mean loss of
/// every bit-width ("loss of 4 bits") and the bounds that were moved apart so far ("bounds crossed").
class BitHooks : public TrainHooks {
 public:
  BitHooks(const BranchGraph& branches, const BitTraining& options, const TrainOptions& training);

  void before_training(Executor& executor) override;
  void after_gradients(Executor& executor, std::int64_t epoch, std::int64_t step) override;
  void after_step(Executor& executor, std::int64_t epoch, std::int64_t step) override;
  std::vector<std::string> step_outputs(std::int64_t epoch, std::int64_t step) override;
  at::Tensor step_loss(const Feeds& outputs,
                       const std::function<at::Tensor(const at::Tensor&)>& loss) override;
  std::vector<std::string> scored_outputs() const override;
  void before_evaluation(Executor& executor, const DatasetPtr& data) override;
  std::map<std::string, double> epoch_numbers(Executor& executor, std::int64_t epoch) override;
  std::map<std::string, at::Tensor> state() const override;
  std::map<std::string, std::string> recipe() const override;
  void load_state(const std::map<std::string, at::Tensor>& state) override;

  std::int64_t crossed() const { return crossed_; }

 private:
  const BranchGraph& branches_;
  BitTraining options_;
  ReestimateOptions reestimate_;
  std::uint64_t seed_;
  std::vector<std::size_t> step_paths_;    // of this step, the most bits first
  std::vector<double> losses_, counts_;    // of this epoch, by path
  std::map<std::string, double> factors_;  // on the gradients of scales
  std::int64_t crossed_ = 0;
};

/// Starts the bounds: of weights at -3 and 3 deviations of the slice that they serve; of activations, on one
/// batch of the data for every bit-width, ascending, at the least value and at 3 deviations over
/// sqrt(1 - 2 / pi), or at the largest value where all lie above that. Steps of the LSQ method start at 2
/// mean |x| / sqrt(high) (Esser et al., section 2.1). Returns how many activations did not vary and got the
/// smallest width.
std::int64_t start_bounds(BranchGraph& branches, const DatasetPtr& data, const TrainOptions& training);

}  // namespace lithe
