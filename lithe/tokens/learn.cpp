#include "lithe/tokens/learn.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "lithe/base/error.h"
#include "lithe/data/loader.h"
#include "lithe/train/trainable.h"

namespace lithe {
namespace {

constexpr double kUnit = 4.6;  // G multiply-accumulates of DeiT-S, whose penalty the paper gives

/// Samples with labels of their own.
class Relabelled : public Dataset {
 public:
  Relabelled(DatasetPtr data, std::vector<std::int64_t> labels)
      : data_(std::move(data)), labels_(std::move(labels)) {}
  std::int64_t size() const override { return data_->size(); }
  Sample get(std::int64_t index) const override {
    Sample sample = data_->get(index);
    sample.label = labels_.at(static_cast<std::size_t>(index));
    return sample;
  }
  bool labelled() const override { return true; }

 private:
  DatasetPtr data_;
  std::vector<std::int64_t> labels_;
};

std::string count_name(const LearntBlock& block) {
  return fmt::format("tokens behind block {}", block.block + 1);
}

}  // namespace

double rate_share(std::int64_t epoch, std::int64_t epochs, double least) {
  const double turn = static_cast<double>(std::max<std::int64_t>(0, epoch - 1)) / static_cast<double>(epochs);
  return least + (1 - least) * (1 + std::cos(std::numbers::pi * turn)) / 2;
}

RateHooks::RateHooks(const SearchGraph& search, const RateLearning& learning, std::int64_t epochs)
    : search_(search), learning_(learning), epochs_(epochs) {}

void RateHooks::after_gradients(Executor& executor, std::int64_t, std::int64_t) {
  const at::NoGradGuard no_grad;
  for (const std::string& name : search_.thetas) before_[name] = executor.constant(name).detach().clone();
}

/// A step of AdamW without decay is proportional to the learning rate: the schedule can act on it afterwards.
void RateHooks::after_step(Executor& executor, std::int64_t epoch, std::int64_t) {
  const at::NoGradGuard no_grad;
  const double share = rate_share(epoch, epochs_, learning_.least_rate);
  for (const auto& [name, before] : before_)
    if (share != 1) executor.constant(name).copy_(before + (executor.constant(name) - before) * share);
  multiplier_ = std::max(0.0, multiplier_ + learning_.multiplier_rate * kUnit * (macs_ - learning_.share));
}

std::vector<std::string> RateHooks::step_outputs(std::int64_t, std::int64_t) {
  std::vector<std::string> outputs{search_.graph.outputs[0].name, search_.macs};
  for (const LearntBlock& block : search_.blocks) outputs.insert(outputs.end(), {block.pruned, block.merged});
  return outputs;
}

at::Tensor RateHooks::step_loss(const Feeds& outputs,
                                const std::function<at::Tensor(const at::Tensor&)>& loss) {
  const at::Tensor& macs = outputs.at(search_.macs);
  macs_ = macs.item<double>();
  double least = static_cast<double>(search_.patches + search_.specials);
  for (const LearntBlock& block : search_.blocks) {
    for (const std::string* name : {&block.pruned, &block.merged})
      least = std::min(least, outputs.at(*name).item<double>());
    counts_[count_name(block)] = least;
  }
  const at::Tensor gap = kUnit * (macs - learning_.share);
  return loss(outputs.at(search_.graph.outputs[0].name)) + learning_.penalty * gap * gap + multiplier_ * gap;
}

std::map<std::string, double> RateHooks::epoch_numbers(Executor&, std::int64_t) {
  std::map<std::string, double> numbers = counts_;
  numbers["macs"] = macs_;
  numbers["multiplier"] = multiplier_;
  return numbers;
}

std::map<std::string, at::Tensor> RateHooks::state() const {
  std::vector<double> values{multiplier_, macs_};
  for (const LearntBlock& block : search_.blocks) {
    const auto found = counts_.find(count_name(block));
    values.push_back(found == counts_.end() ? 0 : found->second);
  }
  return {{"token rates", at::tensor(at::ArrayRef<double>(values), at::kDouble)}};
}

void RateHooks::load_state(const std::map<std::string, at::Tensor>& state) {
  const auto found = state.find("token rates");
  if (found == state.end() || found->second.numel() != static_cast<std::int64_t>(search_.blocks.size()) + 2)
    fail("the checkpoint is not of a search for token rates; leave --resume out");
  const at::Tensor values = found->second.to(at::kCPU, at::kDouble).contiguous();
  const double* data = values.data_ptr<double>();
  multiplier_ = data[0];
  macs_ = data[1];
  for (std::size_t i = 0; i < search_.blocks.size(); ++i)
    counts_[count_name(search_.blocks[i])] = data[i + 2];
}

std::map<std::string, std::string> RateHooks::recipe() const {
  std::string learnt;
  for (const std::string& name : search_.thetas) learnt += name + " ";
  return {{"share of multiply-accumulates", fmt::format("{}", learning_.share)},
          {"penalty", fmt::format("{}", learning_.penalty)},
          {"multiplier rate", fmt::format("{}", learning_.multiplier_rate)},
          {"least learning rate", fmt::format("{}", learning_.least_rate)},
          {"granularity", fmt::format("{}", search_.granularity)},
          {"rates", learnt}};
}

DatasetPtr labelled_by(const Graph& model, const DatasetPtr& data, std::int64_t batch, int threads,
                       at::Device device) {
  const at::NoGradGuard no_grad;
  Executor executor(model, {.device = device});
  const std::string& output = model.outputs.at(0).name;
  std::vector<std::int64_t> labels;
  Loader loader(data, {.batch = batch, .threads = threads});
  for (Batch samples; loader.next(samples);) {
    Feeds feeds = bind_batch(model, samples);
    for (auto& [name, value] : feeds) value = value.to(device);
    const at::Tensor scores = executor.run(feeds, {output}).at(output);
    if (scores.dim() != 2)
      fail("the output '{}' has the shape {}; token counts are learnt for classifiers, [n, classes]", output,
           format_shape(scores.sizes().vec()));
    const at::Tensor best = scores.argmax(1).to(at::kCPU, at::kLong).contiguous();
    labels.insert(labels.end(), best.data_ptr<std::int64_t>(), best.data_ptr<std::int64_t>() + best.numel());
  }
  return std::make_shared<Relabelled>(data, std::move(labels));
}

LearntRates learn_rates(const Graph& prepared, const TokenModel& model, const SearchGraph& search,
                        const DatasetPtr& data, const RateLearning& learning, TrainOptions training,
                        Progress& progress) {
  LearntRates result;
  DatasetPtr samples = data;
  if (!data->labelled()) {
    samples = labelled_by(prepared, data, training.batch, training.threads, training.device);
    training.distillation = {.teacher = std::make_shared<Graph>(prepared), .temperature = 1, .weight = 1};
  }
  training.frozen.clear();
  for (const Trainable& one : trainable_constants(search.graph)) training.frozen.push_back(one.name);
  std::erase_if(training.frozen, [&](const std::string& name) {
    return std::find(search.thetas.begin(), search.thetas.end(), name) != search.thetas.end();
  });
  training.also_learn = search.thetas;
  training.optimiser = AdamW{};
  training.schedule = Schedule::Constant;
  training.warmup_epochs = 0;
  training.weight_decay = 0;
  training.loss = TrainLoss::CrossEntropy;
  training.divergence_factor = 0;  // the penalty starts large where the budget is far
  training.validation = nullptr;
  training.validation_share = 0;
  const auto report = training.on_note;
  training.on_note = [&](const std::string& text) {
    result.notes.push_back(text);
    if (report) report(text);
  };
  RateHooks hooks(search, learning, training.epochs);
  TrainResult trained = train(search.graph, samples, training, progress, &hooks);
  result.schedule = learnt_schedule(trained.last, search, model);
  result.history = std::move(trained.history);
  result.complete = trained.complete;
  return result;
}

}  // namespace lithe
