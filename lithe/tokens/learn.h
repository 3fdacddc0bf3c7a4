// Learning how many tokens each block keeps, with frozen weights.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "lithe/tokens/search_graph.h"
#include "lithe/train/train.h"

namespace lithe {

/// L = task + penalty r^2 + multiplier r with r = 4.6 (F - share), where F is the share of dense
/// multiply-accumulates (4.6 is what DeiT-S costs in G, for which the authors chose the penalty of 5). The
/// multiplier starts at 0 and grows by multiplier_rate r in every step, never below 0, so that the budget is
/// met; 0: the paper's penalty alone.
struct RateLearning {
  double share = 0.6;
  double penalty = 5;
  double multiplier_rate = 0.5;
  double least_rate = 0.1;  // of the learning rate, where the cosine over the epochs ends
};

/// The share of the learning rate in an epoch (from 0): half a cosine from 1 to `least`, one epoch late, as
/// the authors' scheduler runs.
double rate_share(std::int64_t epoch, std::int64_t epochs, double least);

/// The task loss comes from the options of the training; counts and cost from the outputs of the search
/// graph. Reports by epoch "macs" (share), "multiplier" and "tokens behind block N".
class RateHooks : public TrainHooks {
 public:
  RateHooks(const SearchGraph& search, const RateLearning& learning, std::int64_t epochs);

  void after_gradients(Executor& executor, std::int64_t epoch, std::int64_t step) override;
  void after_step(Executor& executor, std::int64_t epoch, std::int64_t step) override;
  std::vector<std::string> step_outputs(std::int64_t epoch, std::int64_t step) override;
  at::Tensor step_loss(const Feeds& outputs,
                       const std::function<at::Tensor(const at::Tensor&)>& loss) override;
  std::map<std::string, double> epoch_numbers(Executor& executor, std::int64_t epoch) override;
  std::map<std::string, at::Tensor> state() const override;
  std::map<std::string, std::string> recipe() const override;
  void load_state(const std::map<std::string, at::Tensor>& state) override;

 private:
  const SearchGraph& search_;
  RateLearning learning_;
  std::int64_t epochs_;
  double multiplier_ = 0, macs_ = 1;
  std::map<std::string, double> counts_;
  std::map<std::string, at::Tensor> before_;  // rates ahead of this step
};

struct LearntRates {
  TokenSchedule schedule;  // as learnt; its cost is near the budget, not at it
  std::vector<EpochRecord> history;
  std::vector<std::string> notes;
  bool complete = true;
};

/// Learns the rates alone on `data`. Where it has no labels, the model's own scores are what is to be kept
/// (the divergence from them); `training.distillation` is then set. The learning rate is that of `training`,
/// by `rate_share`.
LearntRates learn_rates(const Graph& prepared, const TokenModel& model, const SearchGraph& search,
                        const DatasetPtr& data, const RateLearning& learning, TrainOptions training,
                        Progress& progress);

/// The data with the class that the model scores highest as the label of each sample.
DatasetPtr labelled_by(const Graph& model, const DatasetPtr& data, std::int64_t batch, int threads,
                       at::Device device);

}  // namespace lithe
