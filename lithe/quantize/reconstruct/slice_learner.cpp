#include "lithe/quantize/reconstruct/slice_learner.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <numeric>
#include <optional>

#include "lithe/base/error.h"
#include "lithe/base/random.h"
#include "lithe/kernels/fake_quantize.h"
#include "lithe/ops/registry.h"
#include "lithe/quantize/reconstruct/adam.h"
#include "lithe/quantize/reconstruct/reconstruction_loss.h"
#include "lithe/quantize/reconstruct/soft_weight.h"

namespace lithe {
namespace {

constexpr std::int64_t kProgressStride = 10;

/// Independent streams of one seed: which samples a step draws, which elements it drops.
enum class Stream : std::uint64_t { Draw = 1, Drop = 2, Cut = 3 };

std::uint64_t stream_of(Stream purpose, std::uint64_t pass, std::uint64_t slice) {
  return (pass * 1000003 + slice) * 8 + static_cast<std::uint64_t>(purpose);
}

std::uint64_t mixed(std::uint64_t x) {
  return drop::mix64(x + drop::kStride);
}

at::Tensor drop_tensor(std::uint64_t key, double keep) {
  return at::tensor(
      {static_cast<std::int64_t>(key >> 1), static_cast<std::int64_t>(std::lround(keep * 65536))}, at::kLong);
}

/// Which samples each step learns from.
class Sampler {
 public:
  Sampler(const ReconstructOptions& options, std::uint64_t pass, std::uint64_t slice, std::int64_t samples)
      : draw_(options.draw),
        batch_(options.batch),
        rng_(options.seed, stream_of(Stream::Draw, pass, slice)),
        order_(Rng(options.seed, stream_of(Stream::Cut, 0, 0)).permutation(samples)) {}

  at::Tensor next() {
    const auto count = static_cast<std::uint64_t>(order_.size());
    std::vector<std::int64_t> picked(static_cast<std::size_t>(batch_));
    switch (draw_) {
      case Draw::Distinct:  // the front of an unfinished shuffle
        for (std::size_t i = 0; i < picked.size(); ++i) {
          std::swap(order_[i], order_[i + rng_.below(count - i)]);
          picked[i] = order_[i];
        }
        break;
      case Draw::Any:
        for (std::int64_t& sample : picked) sample = static_cast<std::int64_t>(rng_.below(count));
        break;
      case Draw::Batches: {
        const std::uint64_t first = rng_.below(count / picked.size()) * picked.size();
        std::copy_n(order_.begin() + static_cast<std::ptrdiff_t>(first), picked.size(), picked.begin());
        break;
      }
    }
    return at::tensor(picked, at::kLong);
  }

 private:
  Draw draw_;
  std::int64_t batch_;
  Rng rng_;
  std::vector<std::int64_t> order_;
};

constexpr std::int64_t kElementsAThread = 65536;  // fewer are not worth starting one

/// Runs work(position, row) for each of `indices`, on several threads if the rows are long enough.
template <typename Work>
void for_each_row(const at::Tensor& indices, std::int64_t elements, const Work& work) {
  const auto* picked = indices.data_ptr<std::int64_t>();
  const std::int64_t grain =
      std::max<std::int64_t>(1, kElementsAThread / std::max<std::int64_t>(1, elements));
  at::parallel_for(0, indices.numel(), grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) work(i, picked[i]);
  });
}

/// What `mix` makes of the gathered samples of both caches, without gathering them first; undefined where the
/// caches hold anything but float32.
at::Tensor gather_mixed(const SampleCache& quantized, const SampleCache& full, const at::Tensor& indices,
                        const DropMask& mask) {
  const at::Tensor from = quantized.float_rows(), other = full.float_rows();
  if (!from.defined() || !other.defined() || from.sizes() != other.sizes()) return {};
  const std::int64_t elements = from.size(1);
  at::Tensor blend = at::empty({indices.numel(), elements}, from.options());
  const float *a = from.data_ptr<float>(), *b = other.data_ptr<float>();
  float* to = blend.data_ptr<float>();
  for_each_row(indices, elements, [&](std::int64_t i, std::int64_t row) {
    mix(a + row * elements, b + row * elements, to + i * elements, elements, mask, i * elements);
  });
  return quantized.present(blend);
}

/// Sum of squares of y - wanted; `gradient` becomes y - wanted times `factor`.
double squared_error(const float* y, const float* wanted, float* gradient, std::int64_t count, float factor) {
  constexpr std::int64_t kLanes = 16, kBlock = 2048;  // partial sums short enough for float32
  double sum = 0;
  for (std::int64_t begin = 0; begin < count; begin += kBlock) {
    const std::int64_t end = std::min(count, begin + kBlock), whole = begin + (end - begin) / kLanes * kLanes;
    std::array<float, kLanes> lanes{};
    std::int64_t j = begin;
    for (; j < whole; j += kLanes)
      for (std::int64_t k = 0; k < kLanes; ++k) {
        const float difference = y[j + k] - wanted[j + k];
        lanes[static_cast<std::size_t>(k)] += difference * difference;
        gradient[j + k] = difference * factor;
      }
    for (; j < end; ++j) {
      const float difference = y[j] - wanted[j];
      lanes[0] += difference * difference;
      gradient[j] = difference * factor;
    }
    for (const float lane : lanes) sum += lane;
  }
  return sum;
}

/// Whether `gather` would lay the tensor out as it is: samples one after the other, images in NHWC order.
bool in_row_order(const at::Tensor& x) {
  return x.dim() == 4 ? x.permute({0, 2, 3, 1}).is_contiguous() : x.is_contiguous();
}

/// The squared error and its gradient in one pass over output and cache; nothing where `reconstruction_loss`
/// must do it.
std::optional<ReconstructionLoss> fused_loss(const at::Tensor& output, const SampleCache& cache,
                                             const at::Tensor& indices, double scale) {
  const at::Tensor rows = cache.float_rows();
  if (!rows.defined() || !output.device().is_cpu() || output.scalar_type() != at::kFloat ||
      !in_row_order(output) || output.numel() != indices.numel() * rows.size(1))
    return std::nullopt;
  const std::int64_t elements = rows.size(1);
  at::Tensor gradient = at::empty_like(output);
  const float *y = output.data_ptr<float>(), *wanted = rows.data_ptr<float>();
  float* to = gradient.data_ptr<float>();
  std::vector<double> sums(static_cast<std::size_t>(indices.numel()));
  for_each_row(indices, elements, [&](std::int64_t i, std::int64_t row) {
    sums[static_cast<std::size_t>(i)] =
        squared_error(y + i * elements, wanted + row * elements, to + i * elements, elements,
                      static_cast<float>(2 * scale));
  });
  return ReconstructionLoss{std::accumulate(sums.begin(), sums.end(), 0.0) * scale, gradient};
}

/// One learnt scale.
struct Scale {
  std::vector<std::size_t> activations;
  at::Tensor value;
  Adam adam;
};

}  // namespace

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

SliceResult SliceLearner::learn(std::size_t index, const Slice& slice, const SliceData& data, QdqPlan& plan,
                                const std::vector<std::size_t>& weights,
                                const std::vector<std::vector<std::size_t>>& scales, Progress& progress) {
  const auto started = std::chrono::steady_clock::now();
  SliceResult result{.name = slice.name, .units = slice.units};
  std::vector<std::unique_ptr<SoftWeight>> soft;
  for (const std::size_t w : weights) {
    soft.push_back(make_soft_weight(plan.weights[w],
                                    to_tensor(reference_.constants.at(plan.weights[w].constant)),
                                    {.learn_scale = options_.learn_weight_scales,
                                     .from_codes = pass_.from_codes,
                                     .composed = options_.composed,
                                     .device = options_.device}));
    result.weights += soft.back()->count();
  }
  std::vector<Scale> learnt_scales;
  for (const auto& group : scales)
    learnt_scales.push_back(
        {.activations = group,
         .value = plan.activations[group.front()].quantizer.scale.reshape({}).to(options_.device).clone()});
  if (soft.empty() && learnt_scales.empty()) {
    progress.advance(pass_.steps, slice.name);
    return result;
  }

  Sampler sampler(options_, pass_.stream, index, data.samples);
  const bool drops = pass_.keep < 1 && !pass_.float_activations;
  const std::uint64_t drop_seed =
      mixed(options_.seed * 0x9e3779b97f4a7c15u + stream_of(Stream::Drop, pass_.stream, index));
  const RoundingSchedule schedule{.steps = pass_.steps,
                                  .warmup = options_.schedule.warmup,
                                  .start = options_.schedule.start,
                                  .end = options_.schedule.end};
  std::vector<std::string> fetch;
  for (const SliceTarget& target : data.targets) fetch.push_back(target.value);
  bool regularised = false;
  for (std::int64_t step = 1; step <= pass_.steps; ++step) {
    const at::Tensor picked = sampler.next();
    double loss = 0;
    for (std::int64_t first = 0; first < options_.batch; first += run_batch_) {
      const at::Tensor indices = picked.narrow(0, first, run_batch_);
      std::uint64_t key = mixed(drop_seed + static_cast<std::uint64_t>(step * options_.batch + first));
      Feeds feeds = feeds_for(data, indices, key);
      const at::AutoGradMode grad(true);
      for (std::size_t i = 0; i < soft.size(); ++i) feeds[names_.weights[weights[i]]] = soft[i]->soft();
      for (Scale& scale : learnt_scales) {
        if (!scale.value.requires_grad()) scale.value.requires_grad_(true);
        for (const std::size_t a : scale.activations) feeds[names_.scales[a]] = scale.value;
      }
      if (drops)
        for (const std::size_t a : slice.activations)
          feeds[names_.drops[a]] = drop_tensor(key = mixed(key), pass_.keep);
      const Feeds outputs = simulated_.run(feeds, fetch);
      torch::autograd::variable_list roots, gradients;
      for (const SliceTarget& target : data.targets) {
        const at::Tensor& output = outputs.at(target.value);
        if (!output.requires_grad()) continue;
        const at::NoGradGuard no_grad;
        const double share = static_cast<double>(run_batch_) / static_cast<double>(options_.batch);
        const double scale = target.weight * share / positions(output);
        std::optional<ReconstructionLoss> one;
        if (!target.importance && pass_.error_exponent == 2 && !options_.composed)
          one = fused_loss(output.detach(), *target.wanted, indices, scale);
        if (!one) {
          const at::Tensor wanted = target.wanted->gather(indices).to(options_.device);
          const at::Tensor importance =
              target.importance ? target.importance->gather(indices).to(options_.device) : at::Tensor();
          one = reconstruction_loss(
              output.detach(), wanted, importance,
              {.fisher = options_.fisher, .exponent = pass_.error_exponent, .factor = scale});
        }
        loss += one->value;
        roots.push_back(output);
        gradients.push_back(one->gradient);
      }
      if (!std::isfinite(loss))
        fail("slice '{}': the loss is not finite at step {}; lower the learning rates, or look at the data{}",
             slice.name, step,
             options_.checkpoints.empty() ? "" : "; finished slices are kept in the checkpoint");
      if (!roots.empty()) torch::autograd::backward(roots, gradients);
    }
    const at::NoGradGuard no_grad;
    const bool regularise = schedule.regularises(step) && !soft.empty();
    double regulariser = 0;
    for (const auto& weight : soft)
      regulariser +=
          weight->step({.step = step,
                        .rate = pass_.rounding_rate > 0 ? pass_.rounding_rate : options_.rounding_rate,
                        .regulariser = regularise ? pass_.rounding_weight : 0,
                        .exponent = schedule.exponent(step),
                        .scale_rate = cosine_rate(options_.weight_scale_rate, step - 1, pass_.steps)});
    for (Scale& scale : learnt_scales) {
      if (!scale.value.grad().defined()) continue;
      scale.adam.step(scale.value, scale.value.grad(), step,
                      cosine_rate(pass_.scale_rate, step - 1, pass_.steps));
      scale.value.mutable_grad() = at::Tensor();
    }
    if (regularise && !regularised) {
      regularised = true;
      result.loss_at_warmup = loss;
      result.regulariser_at_warmup = pass_.rounding_weight * regulariser;
    }
    if (step % kProgressStride == 0 || step == pass_.steps)
      progress.advance(step % kProgressStride == 0 ? kProgressStride : step % kProgressStride,
                       fmt::format("{}, loss {:.4g}", slice.name, loss));
  }
  result.steps = pass_.steps;

  for (std::size_t i = 0; i < soft.size(); ++i) {
    QuantizedWeight& weight = plan.weights[weights[i]];
    result.undecided += soft[i]->undecided();
    soft[i]->harden(weight);
    simulated_.set_constant(names_.weights[weights[i]],
                            decode(weight.quantizer, weight.codes).to(options_.device));
  }
  for (const Scale& scale : learnt_scales) {
    const at::Tensor value = scale.value.detach().abs().clamp_min(kLeastScale).to(at::kCPU);
    for (const std::size_t a : scale.activations) {
      Quantizer& quantizer = plan.activations[a].quantizer;
      quantizer.scale = value.reshape(quantizer.scale.sizes()).clone();
      simulated_.set_constant(names_.scales[a], value.to(options_.device));
    }
  }
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  return result;
}

double SliceLearner::evaluate(const SliceData& data, const std::vector<std::string>& keep, CacheMap* kept,
                              CacheArena* arena) const {
  const at::NoGradGuard no_grad;
  std::vector<std::string> fetch = keep;
  for (const SliceTarget& target : data.targets)
    if (std::find(fetch.begin(), fetch.end(), target.value) == fetch.end()) fetch.push_back(target.value);
  double sum = 0;
  for (std::int64_t first = 0; first < data.samples; first += run_batch_) {
    Feeds feeds;
    for (const auto& [name, cache] : data.inputs)
      feeds.emplace(name, cache->range(first, run_batch_).to(options_.device));
    const Feeds outputs = simulated_.run(feeds, fetch);
    for (const SliceTarget& target : data.targets) {
      const at::Tensor& output = outputs.at(target.value);
      const at::Tensor wanted = target.wanted->range(first, run_batch_).to(options_.device);
      sum += target.weight * (output - wanted).square().sum(at::kDouble).item<double>() / positions(output) *
             static_cast<double>(run_batch_);
    }
    if (!kept) continue;
    for (const std::string& name : keep) {
      SampleCachePtr& cache = (*kept)[name];
      if (!cache) cache = std::make_shared<SampleCache>(*arena, name, data.samples);
      cache->append(outputs.at(name).to(at::kCPU), run_batch_);
    }
  }
  return sum / static_cast<double>(data.samples);
}

}  // namespace lithe
