#include "lithe/quantize/reconstruct/slice_learner.h"

#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <optional>

#include "lithe/base/clock.h"
#include "lithe/base/error.h"
#include "lithe/kernels/fake_quantize.h"
#include "lithe/ops/registry.h"
#include "lithe/quantize/reconstruct/adam.h"
#include "lithe/quantize/reconstruct/cached_rows.h"
#include "lithe/quantize/reconstruct/reconstruction_loss.h"
#include "lithe/quantize/reconstruct/sampler.h"
#include "lithe/quantize/reconstruct/soft_weight.h"

namespace lithe {
namespace {

constexpr std::int64_t kProgressStride = 10;

std::uint64_t mixed(std::uint64_t x) {
  return drop::mix64(x + drop::kStride);
}

at::Tensor drop_tensor(std::uint64_t key, double keep) {
  return at::tensor(
      {static_cast<std::int64_t>(key >> 1), static_cast<std::int64_t>(std::lround(keep * 65536))}, at::kLong);
}

/// One learnt scale.
struct LearntScale {
  std::vector<std::size_t> activations;
  at::Tensor value;
  Adam adam;
};

}  // namespace

struct SliceLearner::Variables {
  std::vector<std::unique_ptr<SoftWeight>> soft;  // by weight of the job
  std::vector<LearntScale> scales;
  std::int64_t count = 0;  // soft roundings
};

SliceLearner::SliceLearner(Executor& simulated, const SimulatedGraph& names, const Graph& reference,
                           const ReconstructOptions& options, const PassSettings& pass,
                           std::int64_t run_batch)
    : simulated_(simulated),
      names_(names),
      reference_(reference),
      options_(options),
      pass_(pass),
      run_batch_(run_batch) {}

Feeds SliceLearner::feeds_for(const SliceData& data, const at::Tensor& indices, std::uint64_t key) const {
  const DropMask mask{.key = key, .keep = pass_.keep};
  Feeds feeds;
  for (const auto& [name, cache] : data.inputs) {
    const auto full = data.float_inputs.find(name);
    const bool fused = !options_.composed;  // caches are in memory whatever runs the network
    at::Tensor value;
    if (full != data.float_inputs.end() && fused)
      value = gather_mixed(*cache, *full->second, indices,
                           {.key = mixed(mask.key + feeds.size()), .keep = mask.keep});
    if (value.defined()) {
      feeds.emplace(name, value);
      continue;
    }
    value = cache->gather(indices);
    if (full != data.float_inputs.end() && !cache->shared() && value.scalar_type() == at::kFloat) {
      const at::Tensor plain = full->second->gather(indices);
      if (fused) {
        // Both lie in the order of the rows.
        at::Tensor blend = at::empty_like(value);
        mix(value.data_ptr<float>(), plain.data_ptr<float>(), blend.data_ptr<float>(), value.numel(),
            {.key = mixed(mask.key + feeds.size()), .keep = mask.keep});
        value = blend;
      } else {
        value = at::where(at::rand_like(value) < mask.keep, value, plain);
      }
    }
    feeds.emplace(name, value.to(options_.device));
  }
  return feeds;
}

SliceLearner::Variables SliceLearner::open(const SliceJob& job, const QdqPlan& plan) const {
  Variables variables;
  for (const std::size_t w : job.weights) {
    const QuantizedWeight& weight = plan.weights[w];
    variables.soft.push_back(make_soft_weight(weight, to_tensor(reference_.constants.at(weight.constant)),
                                              {.learn_scale = options_.learn_weight_scales,
                                               .from_codes = pass_.from_codes,
                                               .composed = options_.composed,
                                               .device = options_.device}));
    variables.count += variables.soft.back()->count();
  }
  for (const auto& group : job.scales)
    variables.scales.push_back(
        {.activations = group,
         .value = plan.activations[group.front()].quantizer.scale.reshape({}).to(options_.device).clone()});
  return variables;
}

double SliceLearner::loss_of(const SliceTarget& target, const at::Tensor& output, const at::Tensor& indices,
                             at::Tensor& gradient) const {
  const at::NoGradGuard no_grad;
  const double share = static_cast<double>(run_batch_) / static_cast<double>(options_.batch);
  const double scale = target.weight * share / positions(output);
  std::optional<ReconstructionLoss> loss;
  if (!target.importance && pass_.error_exponent == 2 && !options_.composed)
    loss = fused_loss(output.detach(), *target.wanted, indices, scale);
  if (!loss) {
    const at::Tensor wanted = target.wanted->gather(indices).to(options_.device);
    const at::Tensor importance =
        target.importance ? target.importance->gather(indices).to(options_.device) : at::Tensor();
    loss =
        reconstruction_loss(output.detach(), wanted, importance,
                            {.fisher = options_.fisher, .exponent = pass_.error_exponent, .factor = scale});
  }
  gradient = loss->gradient;
  return loss->value;
}

double SliceLearner::descend(const SliceJob& job, Variables& variables, const at::Tensor& picked,
                             std::int64_t step, std::uint64_t drop_seed) {
  const bool drops = pass_.keep < 1 && !pass_.float_activations;
  std::vector<std::string> fetch;
  for (const SliceTarget& target : job.data.targets) fetch.push_back(target.value);
  double loss = 0;
  for (std::int64_t first = 0; first < options_.batch; first += run_batch_) {
    const at::Tensor indices = picked.narrow(0, first, run_batch_);
    std::uint64_t key = mixed(drop_seed + static_cast<std::uint64_t>(step * options_.batch + first));
    Feeds feeds = feeds_for(job.data, indices, key);
    const at::AutoGradMode grad(true);
    for (std::size_t i = 0; i < variables.soft.size(); ++i)
      feeds[names_.weights[job.weights[i]]] = variables.soft[i]->soft();
    for (LearntScale& scale : variables.scales) {
      if (!scale.value.requires_grad()) scale.value.requires_grad_(true);
      for (const std::size_t a : scale.activations) feeds[names_.scales[a]] = scale.value;
    }
    if (drops)
      for (const std::size_t a : job.slice.activations)
        feeds[names_.drops[a]] = drop_tensor(key = mixed(key), pass_.keep);
    const Feeds outputs = simulated_.run(feeds, fetch);
    torch::autograd::variable_list roots, gradients;
    for (const SliceTarget& target : job.data.targets) {
      const at::Tensor& output = outputs.at(target.value);
      if (!output.requires_grad()) continue;
      roots.push_back(output);
      gradients.emplace_back();
      loss += loss_of(target, output, indices, gradients.back());
    }
    if (!std::isfinite(loss)) return loss;
    if (!roots.empty()) torch::autograd::backward(roots, gradients);
  }
  return loss;
}

double SliceLearner::move(Variables& variables, std::int64_t step, double rounding_weight,
                          double exponent) const {
  const at::NoGradGuard no_grad;
  double regulariser = 0;
  for (const auto& weight : variables.soft)
    regulariser +=
        weight->step({.step = step,
                      .rate = pass_.rounding_rate,
                      .regulariser = rounding_weight,
                      .exponent = exponent,
                      .scale_rate = cosine_rate(options_.weight_scale_rate, step - 1, pass_.steps)});
  for (LearntScale& scale : variables.scales) {
    if (!scale.value.grad().defined()) continue;
    scale.adam.step(scale.value, scale.value.grad(), step,
                    cosine_rate(pass_.scale_rate, step - 1, pass_.steps));
    scale.value.mutable_grad() = at::Tensor();
  }
  return regulariser;
}

void SliceLearner::close(const SliceJob& job, const Variables& variables, QdqPlan& plan) const {
  for (std::size_t i = 0; i < variables.soft.size(); ++i)
    variables.soft[i]->harden(plan.weights[job.weights[i]]);
  for (const LearntScale& scale : variables.scales) {
    const at::Tensor value = scale.value.detach().abs().clamp_min(kLeastScale).to(at::kCPU);
    for (const std::size_t a : scale.activations) {
      Quantizer& quantizer = plan.activations[a].quantizer;
      quantizer.scale = value.reshape(quantizer.scale.sizes()).clone();
    }
  }
}

void SliceLearner::apply(const SliceJob& job, const QdqPlan& plan) {
  for (const std::size_t w : job.weights)
    simulated_.set_constant(names_.weights[w],
                            decode(plan.weights[w].quantizer, plan.weights[w].codes).to(options_.device));
  for (const auto& group : job.scales)
    for (const std::size_t a : group)
      simulated_.set_constant(names_.scales[a],
                              plan.activations[a].quantizer.scale.reshape({}).to(options_.device));
}

SliceResult SliceLearner::learn(const SliceJob& job, QdqPlan& plan, Progress& progress) {
  const auto started = Clock::now();
  SliceResult result{.name = job.slice.name, .units = job.slice.units};
  Variables variables = open(job, plan);
  result.weights = variables.count;
  if (job.empty()) {
    progress.advance(pass_.steps, job.slice.name);
    return result;
  }
  Sampler sampler(options_, pass_.stream, job.index, job.data.samples);
  const std::uint64_t drop_seed =
      mixed(options_.seed * 0x9e3779b97f4a7c15u + stream_of(RandomStream::Drop, pass_.stream, job.index));
  const RoundingSchedule schedule{.steps = pass_.steps,
                                  .warmup = options_.schedule.warmup,
                                  .start = options_.schedule.start,
                                  .end = options_.schedule.end};
  bool regularised = false;
  for (std::int64_t step = 1; step <= pass_.steps; ++step) {
    const double loss = descend(job, variables, sampler.next(), step, drop_seed);
    if (!std::isfinite(loss)) {
      result.steps = result.diverged = step;
      result.seconds = seconds_since(started);
      progress.advance(pass_.steps - (step - 1) / kProgressStride * kProgressStride, job.slice.name);
      return result;
    }
    const bool regularise = schedule.regularises(step) && !variables.soft.empty();
    const double regulariser =
        move(variables, step, regularise ? pass_.rounding_weight : 0, schedule.exponent(step));
    if (regularise && !regularised) {
      regularised = true;
      result.loss_at_warmup = loss;
      result.regulariser_at_warmup = pass_.rounding_weight * regulariser;
    }
    if (step % kProgressStride == 0 || step == pass_.steps)
      progress.advance(step % kProgressStride == 0 ? kProgressStride : step % kProgressStride,
                       fmt::format("{}, loss {:.4g}", job.slice.name, loss));
  }
  result.steps = pass_.steps;
  for (const auto& weight : variables.soft) result.undecided += weight->undecided();
  close(job, variables, plan);
  apply(job, plan);
  result.seconds = seconds_since(started);
  return result;
}

SliceLoss SliceLearner::evaluate(const SliceData& data, const std::vector<std::string>& keep, CacheMap* kept,
                                 CacheArena* arena) const {
  const at::NoGradGuard no_grad;
  std::vector<std::string> fetch = keep;
  for (const SliceTarget& target : data.targets)
    if (std::find(fetch.begin(), fetch.end(), target.value) == fetch.end()) fetch.push_back(target.value);
  SliceLoss sum;
  for (std::int64_t first = 0; first < data.samples; first += run_batch_) {
    Feeds feeds;
    for (const auto& [name, cache] : data.inputs)
      feeds.emplace(name, cache->range(first, run_batch_).to(options_.device));
    const Feeds outputs = simulated_.run(feeds, fetch);
    for (const SliceTarget& target : data.targets) {
      const at::Tensor& output = outputs.at(target.value);
      const at::Tensor wanted = target.wanted->range(first, run_batch_).to(options_.device);
      const double scale = target.weight * static_cast<double>(run_batch_) / positions(output) /
                           static_cast<double>(data.samples);
      const double error = (output - wanted).square().sum(at::kDouble).item<double>() * scale;
      sum.error += error;
      if (!target.importance && pass_.error_exponent == 2) {
        sum.objective += error;
        continue;
      }
      const at::Tensor importance =
          target.importance ? target.importance->range(first, run_batch_).to(options_.device) : at::Tensor();
      sum.objective +=
          reconstruction_loss(output, wanted, importance,
                              {.fisher = options_.fisher, .exponent = pass_.error_exponent, .factor = scale})
              .value;
    }
    if (!kept) continue;
    for (const std::string& name : keep) {
      SampleCachePtr& cache = (*kept)[name];
      if (!cache) cache = std::make_shared<SampleCache>(*arena, name, data.samples);
      cache->append(outputs.at(name).to(at::kCPU), run_batch_);
    }
  }
  return sum;
}

}  // namespace lithe
