#include "lithe/quantize/reconstruct/frontier.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "lithe/base/error.h"
#include "lithe/quantize/batches.h"
#include "lithe/quantize/reconstruct/fisher.h"
#include "lithe/quantize/reconstruct/reconstruction_loss.h"

namespace lithe {
namespace {

constexpr double kLeastPower = 1e-3;  // of an output against the mean: weaker ones do not count more

/// Values that the slices behind `done` read.
std::set<std::string> needed_after(const std::vector<Slice>& slices, std::size_t done,
                                   std::vector<std::string> Slice::*reads) {
  std::set<std::string> needed;
  for (std::size_t s = done + 1; s < slices.size(); ++s)
    needed.insert((slices[s].*reads).begin(), (slices[s].*reads).end());
  return needed;
}

}  // namespace

Frontier::Frontier(const Graph& graph, const DatasetPtr& data, const SimulatedGraph& names,
                   const std::vector<Slice>& slices, Executor& plain, CacheArena& arena,
                   const FrontierOptions& options)
    : graph_(graph),
      data_(data),
      names_(names),
      slices_(slices),
      plain_(plain),
      arena_(arena),
      options_(options) {}

void Frontier::append(CacheMap& caches, const std::string& name, const at::Tensor& value, std::int64_t count,
                      bool input) {
  SampleCachePtr& cache = caches[name];
  if (!cache) cache = std::make_shared<SampleCache>(arena_, name, options_.samples, input);
  cache->append(value.to(at::kCPU), count);
}

void Frontier::read_inputs(Executor& simulated) {
  std::vector<std::string> quantized;
  for (const auto& [name, original] : names_.float_of)
    for (const ValueInfo* input : graph_.required_inputs())
      if (input->name == original) quantized.push_back(name);
  for_each_batch(graph_, data_,
                 {.batch = options_.run_batch, .threads = options_.threads, .limit = options_.samples},
                 [&](const Feeds& feeds, std::int64_t count) {
                   Feeds moved;
                   for (const auto& [name, value] : feeds) {
                     append(float_values_, name, value, count, true);
                     moved.emplace(name, value.to(options_.device));
                   }
                   if (quantized.empty()) return;
                   for (const auto& [name, value] : simulated.run(moved, quantized))
                     append(quantized_values_, name, value, count);
                 });
  for (const auto& [name, cache] : float_values_) quantized_values_.emplace(name, cache);
}

SampleCachePtr Frontier::float_logits() {
  const std::string& last = graph_.outputs.at(0).name;
  CacheMap made;
  for (std::int64_t first = 0; first < options_.samples; first += options_.run_batch) {
    Feeds feeds;
    for (const auto& [name, cache] : float_values_)
      feeds.emplace(name, cache->range(first, options_.run_batch).to(options_.device));
    append(made, last, plain_.run(feeds, {last}).at(last), options_.run_batch);
  }
  return made.at(last);
}

SliceData Frontier::enter(std::size_t index, bool mixes) {
  const Slice& slice = slices_[index];
  for (std::int64_t first = 0; first < options_.samples; first += options_.run_batch) {
    Feeds feeds;
    for (const std::string& name : slice.float_inputs)
      feeds.emplace(name, float_values_.at(name)->range(first, options_.run_batch).to(options_.device));
    for (const auto& [name, value] : plain_.run(feeds, slice.float_outputs))
      append(float_values_, name, value, options_.run_batch);
  }
  SliceData data{.samples = options_.samples};
  for (const std::string& name : slice.inputs) {
    data.inputs[name] = quantized_values_.at(name);
    const SampleCachePtr& full = float_values_.at(names_.original(name));
    if (mixes && full != data.inputs[name]) data.float_inputs[name] = full;
  }
  const std::set<std::string> outputs(slice.outputs.begin(), slice.outputs.end());
  for (const std::string& name : slice.outputs) {
    const SampleCachePtr& wanted = float_values_.at(names_.original(name));
    const bool also_quantized = std::any_of(outputs.begin(), outputs.end(), [&](const std::string& other) {
      return other != name && names_.original(other) == name;
    });
    if (!also_quantized && !wanted->shared()) data.targets.push_back({.value = name, .wanted = wanted});
  }
  // Outputs of different size count by how well each is met, in the measure of the single ones.
  if (data.targets.size() > 1) {
    std::vector<double> powers;
    for (const SliceTarget& target : data.targets) powers.push_back(power_of(target));
    const double mean =
        std::accumulate(powers.begin(), powers.end(), 0.0) / static_cast<double>(powers.size());
    for (std::size_t i = 0; i < powers.size() && mean > 0; ++i)
      data.targets[i].weight =
          mean / std::max(powers[i], kLeastPower * mean) / static_cast<double>(powers.size());
  }
  if (data.float_inputs.empty()) retire(float_values_, index, &Slice::float_inputs);
  return data;
}

std::vector<std::string> Frontier::read_later(std::size_t slice) const {
  const std::set<std::string> needed = needed_after(slices_, slice, &Slice::inputs);
  std::vector<std::string> outputs;
  for (const std::string& name : slices_[slice].outputs)
    if (needed.contains(name)) outputs.push_back(name);
  return outputs;
}

void Frontier::leave(std::size_t slice, CacheMap made) {
  for (auto& one : made) quantized_values_[one.first] = std::move(one.second);
  retire(float_values_, slice, &Slice::float_inputs);
  retire(quantized_values_, slice, &Slice::inputs);
}

void Frontier::retire(CacheMap& caches, std::size_t done, std::vector<std::string> Slice::*reads) {
  const std::set<std::string> needed = needed_after(slices_, done, reads);
  std::erase_if(caches, [&](const auto& item) { return !needed.contains(item.first); });
}

void Frontier::weigh(std::size_t slice, SliceData& data, const SliceLearner& learner,
                     const SampleCache& logits) {
  CacheMap made, values;
  learner.evaluate(data, slices_[slice].outputs, &made, &arena_);
  const auto take = [&](const CacheMap& caches) {
    for (const auto& [name, cache] : caches)  // the quantised form of a value replaces the plain one
      if (names_.float_of.contains(name) || !values.contains(name)) values[names_.original(name)] = cache;
  };
  take(quantized_values_);
  take(made);
  std::vector<std::string> outputs;
  for (const SliceTarget& target : data.targets) outputs.push_back(names_.original(target.value));
  const auto importance = fisher_importance(plain_, values, logits, outputs, options_.samples,
                                            options_.run_batch, options_.step_samples, arena_);
  for (SliceTarget& target : data.targets) target.importance = importance.at(names_.original(target.value));
}

double Frontier::power_of(const SliceTarget& target) const {
  double sum = 0;
  for (std::int64_t first = 0; first < options_.samples; first += options_.run_batch) {
    const at::Tensor wanted = target.wanted->range(first, options_.run_batch);
    sum += wanted.square().sum(at::kDouble).item<double>() / positions(wanted) *
           static_cast<double>(options_.run_batch);
  }
  return sum / static_cast<double>(options_.samples);
}

double Frontier::power_of(const SliceData& data) const {
  double sum = 0;
  for (const SliceTarget& target : data.targets) sum += target.weight * power_of(target);
  return sum;
}

void require_samples_first(Executor& plain, const DatasetPtr& data, const std::vector<std::string>& values) {
  if (fixed_batch(plain.graph()) > 0 || data->size() < 2) return;
  const auto run = [&](std::int64_t samples) {
    Feeds outputs;
    for_each_batch(plain.graph(), data, {.batch = samples, .threads = 1, .limit = samples},
                   [&](const Feeds& feeds, std::int64_t) {
                     Feeds moved;
                     for (const auto& [name, value] : feeds)
                       moved.emplace(name, value.to(plain.options().device));
                     outputs = plain.run(moved, values);
                   });
    return outputs;
  };
  Feeds one, two;
  try {
    one = run(1);
    two = run(2);
  } catch (const Error&) {
    return;  // a batch that an exporter baked in: no other number of samples can be tried
  }
  for (const auto& [name, value] : two) {
    const at::Tensor& single = one.at(name);
    if (value.sizes() == single.sizes()) continue;  // does not count samples
    std::vector<std::int64_t> expected = single.sizes().vec();
    if (!expected.empty() && expected[0] == 1) expected[0] = 2;
    if (value.sizes() == at::IntArrayRef(expected)) continue;
    fail(
        "the value '{}' has shape {} for one sample and {} for two: learning keeps samples along the first "
        "axis "
        "only; use --method mse for this model",
        name, fmt::join(single.sizes(), "x"), fmt::join(value.sizes(), "x"));
  }
}

}  // namespace lithe
