#include "lithe/multibit/learn.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "lithe/base/error.h"
#include "lithe/base/random.h"
#include "lithe/data/loader.h"
#include "lithe/kernels/bound_quantize.h"
#include "lithe/ops/registry.h"
#include "lithe/train/checkpoint.h"
#include "lithe/train/samples.h"

namespace lithe {
namespace {

constexpr std::uint64_t kSandwich = 0x73616e64, kStart = 0x62647300;

std::string text(bool value) {
  return value ? "yes" : "no";
}

}  // namespace

at::Tensor soft_cross_entropy(const at::Tensor& student, const at::Tensor& teacher) {
  return -(at::softmax(teacher.detach(), 1) * at::log_softmax(student, 1)).sum(1).mean();
}

BitHooks::BitHooks(const BranchGraph& branches, const BitTraining& options, const TrainOptions& training)
    : branches_(branches),
      options_(options),
      reestimate_({.batches = options.norm_batches,
                   .batch = training.batch,
                   .threads = training.threads,
                   .seed = training.seed,
                   .collective = training.collective}),
      seed_(training.seed),
      losses_(branches.paths.size()),
      counts_(branches.paths.size()) {}

/// Esser et al., section 2.2: the gradient of a step over sqrt(N high), with N the weights or the features.
void BitHooks::before_training(Executor& executor) {
  for (const LearntScale& scale : branches_.scales) {
    double count = 0;
    if (scale.weight) {
      count = static_cast<double>(executor.constant(scale.value).numel());
    } else {
      const ValueInfo* info = branches_.graph.info(scale.value);
      count = 1;
      if (info && info->shape)
        for (std::size_t i = 1; i < info->shape->size(); ++i)
          count *= static_cast<double>(std::max<std::int64_t>(1, (*info->shape)[i].value));
    }
    factors_[scale.scale] = 1 / std::sqrt(count * static_cast<double>(std::max<std::int64_t>(1, scale.high)));
  }
}

void BitHooks::after_gradients(Executor& executor, std::int64_t, std::int64_t) {
  const at::NoGradGuard no_grad;
  for (const auto& [name, factor] : factors_)
    if (at::Tensor gradient = executor.constant(name).grad(); gradient.defined()) gradient.mul_(factor);
}

void BitHooks::after_step(Executor& executor, std::int64_t, std::int64_t) {
  const at::NoGradGuard no_grad;
  for (const LearntBounds& one : branches_.bounds) {
    at::Tensor low = executor.constant(one.low).detach(), high = executor.constant(one.high).detach();
    const auto bottom = low.item<float>();
    if (high.item<float>() - bottom >= kSmallestWidth) continue;
    ++crossed_;
    float top = bottom + kSmallestWidth;
    while (!(top - bottom >= kSmallestWidth)) top = std::nextafter(top, INFINITY);
    high.fill_(top);
  }
}

std::vector<std::string> BitHooks::step_outputs(std::int64_t epoch, std::int64_t step) {
  const std::size_t most = branches_.paths.size() - 1;
  step_paths_ = {most};
  if (options_.sandwich && most > 0) {
    Rng rng(seed_for(seed_, kSandwich),
            static_cast<std::uint64_t>(epoch) << 32 | static_cast<std::uint64_t>(step));
    step_paths_.push_back(rng.below(most));
  } else {
    for (std::size_t i = most; i-- > 0;) step_paths_.push_back(i);
  }
  std::vector<std::string> outputs;
  for (const std::size_t path : step_paths_) outputs.push_back(branches_.paths[path].output);
  return outputs;
}

at::Tensor BitHooks::step_loss(const Feeds& outputs,
                               const std::function<at::Tensor(const at::Tensor&)>& loss) {
  at::Tensor sum, teacher;
  for (const std::size_t path : step_paths_) {
    const at::Tensor& scores = outputs.at(branches_.paths[path].output);
    at::Tensor one;
    if (!teacher.defined() || options_.teaching == Teaching::None)
      one = loss(scores);
    else if (options_.teaching == Teaching::Recursive)
      one = soft_cross_entropy(scores, teacher);
    else
      one = (loss(scores) + soft_cross_entropy(scores, teacher)) / 2;
    if (!teacher.defined() || options_.teaching == Teaching::Recursive) teacher = scores;
    losses_[path] += one.item<double>();
    ++counts_[path];
    sum = sum.defined() ? sum + one : one;
  }
  return sum;
}

std::vector<std::string> BitHooks::scored_outputs() const {
  std::vector<std::string> outputs;
  for (const BitPath& path : branches_.paths) outputs.push_back(path.output);
  return outputs;
}

void BitHooks::before_evaluation(Executor& executor, const DatasetPtr& data) {
  if (options_.norm_batches > 0) reestimate_batch_norm(executor, data, reestimate_);
}

std::map<std::string, double> BitHooks::epoch_numbers(Executor&, std::int64_t) {
  std::map<std::string, double> numbers{{"bounds crossed", static_cast<double>(crossed_)}};
  for (std::size_t i = 0; i < losses_.size(); ++i) {
    if (counts_[i] > 0)
      numbers[fmt::format("loss of {} bits", branches_.paths[i].bits)] = losses_[i] / counts_[i];
    losses_[i] = counts_[i] = 0;
  }
  return numbers;
}

std::map<std::string, at::Tensor> BitHooks::state() const {
  return {{"losses", at::tensor(at::ArrayRef<double>(losses_), at::kDouble)},
          {"counts", at::tensor(at::ArrayRef<double>(counts_), at::kDouble)},
          {"crossed", at::full({}, crossed_, at::kLong)}};
}

void BitHooks::load_state(const std::map<std::string, at::Tensor>& state) {
  const auto take = [&](const char* name, std::int64_t count) {
    const auto found = state.find(name);
    if (found == state.end() || found->second.numel() != count)
      fail("the checkpoint lacks the '{}' of the bit-widths; leave --resume out", name);
    return found->second.to(at::kCPU).contiguous();
  };
  const auto numbers = [&](const char* name, std::vector<double>& into) {
    const at::Tensor values = take(name, static_cast<std::int64_t>(into.size())).to(at::kDouble);
    std::copy_n(values.data_ptr<double>(), into.size(), into.begin());
  };
  numbers("losses", losses_);
  numbers("counts", counts_);
  crossed_ = take("crossed", 1).item<std::int64_t>();
}

std::map<std::string, std::string> BitHooks::recipe() const {
  const BranchOptions& branches = branches_.options;
  std::map<std::string, std::string> recipe = options_.recipe;
  recipe["method"] = multibit_method_name(branches.method);
  std::string bits;
  for (const int one : branches.bits) bits += fmt::format("{}{}", bits.empty() ? "" : ",", one);
  recipe["bit-widths"] = bits;
  recipe["amortised"] = text(branches.amortise);
  recipe["slots"] = text(branches.slots);
  recipe["noise of branches"] = fmt::format("{}", branches.branch_noise);
  recipe["teaching"] = options_.teaching == Teaching::InPlace     ? "in place"
                       : options_.teaching == Teaching::Recursive ? "recursive"
                                                                  : "none";
  recipe["sandwich"] = text(options_.sandwich);
  recipe["batches for norms"] = fmt::format("{}", options_.norm_batches);
  for (const auto& [full, narrow] : branches_.widths)
    recipe[fmt::format("part of {} channels", full)] = fmt::format("{}", narrow);
  return recipe;
}

namespace {

double deviation(const at::Tensor& x) {
  return x.numel() > 1 ? x.to(at::kDouble).std(/*unbiased=*/true).item<double>() : 0;
}

void start_weights(BranchGraph& branches) {
  auto& constants = branches.graph.constants;
  for (const LearntBounds& one : branches.bounds) {
    if (!one.weight) continue;
    const double bound = std::max(3 * deviation(to_tensor(constants.at(one.value))), 0.5e-4);
    constants[one.low] = TensorData::scalar(static_cast<float>(-bound));
    constants[one.high] = TensorData::scalar(static_cast<float>(bound));
  }
  for (const LearntScale& one : branches.scales) {
    if (!one.weight) continue;
    const double size = to_tensor(constants.at(one.value)).abs().mean().item<double>();
    const double step = 2 * size / std::sqrt(static_cast<double>(std::max<std::int64_t>(1, one.high)));
    constants[one.scale] = TensorData::scalar(static_cast<float>(std::max(step, 1e-6)));
  }
}

/// Starts activations of one bit-width as their values come by.
class ActivationStarter {
 public:
  ActivationStarter(const BranchGraph& branches, Executor& executor, int bits)
      : branches_(branches), executor_(executor), bits_(bits) {
    for (const LearntBounds& one : branches.bounds)
      if (!one.weight && one.bits == bits) {
        own(one.low);
        own(one.high);
      }
    for (const LearntScale& one : branches.scales)
      if (!one.weight) own(one.scale);
  }

  void see(const std::string& name, const at::Tensor& value) {
    for (const LearntBounds& one : branches_.bounds) {
      if (one.weight || one.bits != bits_ || one.value != name) continue;
      constexpr double kLeast = 10 * static_cast<double>(kSmallestWidth);
      const double low = value.min().item<double>();
      double high = 3 * deviation(value) / std::sqrt(1 - 2 / std::numbers::pi);
      if (high - low < kLeast) high = value.max().item<double>();  // all lies above that
      still_ += high - low < kLeast ? 1 : 0;
      executor_.constant(one.low).fill_(low);
      executor_.constant(one.high).fill_(std::max(high, low + kLeast));
    }
    for (const LearntScale& one : branches_.scales) {
      if (one.weight || one.value != name) continue;
      const double step = 2 * value.abs().mean().item<double>() / std::sqrt(static_cast<double>(one.high));
      executor_.constant(one.scale).fill_(std::max(step, 1e-6));
    }
  }

  std::int64_t still() const { return still_; }

 private:
  /// Constants share the graph's bytes; these are about to change in place.
  void own(const std::string& name) { executor_.set_constant(name, executor_.constant(name).clone()); }

  const BranchGraph& branches_;
  Executor& executor_;
  int bits_;
  std::int64_t still_ = 0;
};

}  // namespace

std::int64_t start_bounds(BranchGraph& branches, const DatasetPtr& data, const TrainOptions& training) {
  start_weights(branches);
  const at::NoGradGuard no_grad;
  Executor executor(branches.graph, {.device = training.device, .training = true, .fuse = false});
  const std::int64_t batch = std::min(training.batch, data->size());
  const std::vector<std::int64_t> order = Rng(seed_for(training.seed, kStart)).permutation(data->size());
  const std::int64_t batches = std::max<std::int64_t>(1, data->size() / batch);
  std::int64_t still = 0, turn = 0;
  for (const BitPath& path : branches.paths) {
    std::vector<std::int64_t> own(order.begin() + turn % batches * batch,
                                  order.begin() + (turn % batches + 1) * batch);
    ++turn;
    Batch samples;
    if (!Loader(subset(data, std::move(own)), {.batch = batch, .threads = training.threads}).next(samples))
      fail("the data hold no sample to start from");
    Feeds feeds = bind_inputs(branches.graph, samples.inputs);
    for (auto& [name, value] : feeds) value = value.to(training.device);
    ActivationStarter starter(branches, executor, path.bits);
    executor.run(feeds, {path.output},
                 [&](const std::string& name, const at::Tensor& value) { starter.see(name, value); });
    still += starter.still();
  }
  NamedTensors learnt;
  for (const LearntBounds& one : branches.bounds)
    for (const std::string& name : {one.low, one.high})
      learnt[name] = to_tensor_data(executor.constant(name));
  for (const LearntScale& one : branches.scales)
    learnt[one.scale] = to_tensor_data(executor.constant(one.scale));
  apply_constants(branches.graph, learnt);
  return still;
}

}  // namespace lithe
