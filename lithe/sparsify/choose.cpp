#include "lithe/sparsify/choose.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>

#include "lithe/base/error.h"
#include "lithe/metrics/evaluate.h"
#include "lithe/sparsify/masked_graph.h"
#include "lithe/train/batch_norm.h"
#include "lithe/train/trainable.h"

namespace lithe {
namespace {

constexpr double kSlack = 1e-9;  // of sums of shares

double cost_of(const SparseLayer& layer, SparsityBudget::Of of) {
  if (of == SparsityBudget::Of::Macs) return static_cast<double>(layer.macs);
  double count = 1;
  for (const std::int64_t size : layer.shape) count *= static_cast<double>(size);
  return count;
}

double density_of(const SparsityPattern& pattern) {
  return static_cast<double>(pattern.kept) / static_cast<double>(pattern.group);
}

bool may_have(const SparseLayer& layer, const SparsityPattern& candidate, Ragged ragged) {
  return layer.pattern && !layer.ruled &&
         (ragged == Ragged::Pad || layer.groups.channels % candidate.group == 0);
}

/// The density of a layer whose pattern is not for the budget to choose; 1 at first for the others.
double given_density(const SparseLayer& layer) {
  return layer.pattern && layer.ruled ? layer.density() : 1;
}

/// `density` gives the least density of layer i.
template <typename Density>
void require_reachable(const std::vector<SparseLayer>& layers, const SparsityBudget& budget,
                       Density&& density) {
  double all = 0, least = 0;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const double cost = cost_of(layers[i], budget.of);
    if (budget.of == SparsityBudget::Of::Macs && cost == 0)
      fail("the multiply-adds of layer '{}' are not known; give a budget of size", layers[i].name);
    all += cost;
    least += cost * density(i);
  }
  if (least > budget.share * all * (1 + kSlack))
    fail(
        "a budget of {:.3f} cannot be met: the sparsest patterns leave {:.3f}; raise the budget, prune more "
        "layers (--include) or give sparser --candidates",
        budget.share, least / all);
}

/// Without labels the error of the output stands for the loss.
double harm_of(const Evaluation& score) {
  if (score.loss) return *score.loss;
  return score.sqnr_db ? std::pow(10.0, -*score.sqnr_db / 10) : 0.0;
}

}  // namespace

SparsityBudget parse_sparsity_budget(const std::string& text) {
  const auto number = [&](std::string_view digits) -> std::optional<double> {
    double value = 0;
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (code != std::errc() || end != digits.data() + digits.size() || !(value > 0 && value <= 1))
      return std::nullopt;
    return value;
  };
  const bool weights = text.starts_with("size=");
  if (weights || text.starts_with("macs="))
    if (const auto share = number(std::string_view(text).substr(5)))
      return {weights ? SparsityBudget::Of::Weights : SparsityBudget::Of::Macs, *share};
  fail(
      "'{}' is no budget; write size=SHARE or macs=SHARE with a share above 0 and at most 1, for example "
      "size=0.3",
      text);
}

std::vector<Sensitivity> measure_sensitivity(const Graph& graph, const std::vector<SparseLayer>& layers,
                                             const DatasetPtr& data, const ChooseOptions& options,
                                             Progress& progress) {
  const at::NoGradGuard no_grad;
  Executor dense(graph, {.device = options.device}), executor(graph, {.device = options.device});
  const DatasetPtr scored = seeded_subset(data, options.samples, options.seed);
  const ReestimateOptions norms{.batches = options.norm_batches,
                                .batch = options.batch,
                                .threads = options.threads,
                                .seed = options.seed};
  std::map<std::string, at::Tensor> statistics;
  for (const std::string& name : running_statistics(graph))
    statistics[name] = executor.constant(name).clone();
  const auto score = [&] {
    reestimate_batch_norm(executor, data, norms);
    const Evaluation result = evaluate(
        graph, [&](const Feeds& feeds) { return executor.run(feeds); }, scored,
        {.batch = options.batch, .threads = options.threads},
        [&](const Feeds& feeds) { return dense.run(feeds); });
    for (const auto& [name, value] : statistics) executor.set_constant(name, value.clone());
    return harm_of(result);
  };

  std::vector<Sensitivity> found;
  for (std::size_t i = 0; i < layers.size(); ++i)
    for (const SparsityPattern& pattern : options.candidates)
      if (may_have(layers[i], pattern, options.ragged)) found.push_back({i, pattern, 0});
  progress.start("sensitivity", static_cast<std::int64_t>(found.size()));
  const double before = score();
  if (!std::isfinite(before))
    fail("the loss of the dense model is {} on these data; a budget has nothing to measure by", before);
  for (Sensitivity& one : found) {
    SparseLayer layer = layers[one.layer];
    layer.pattern = one.pattern;
    const at::Tensor weight = executor.constant(layer.weight);
    const auto mask = mask_of(graph.constants.at(layer.weight), layer);
    executor.set_constant(
        layer.weight,
        weight *
            at::tensor(at::ArrayRef<std::uint8_t>(mask), at::kByte).view_as(weight).to(weight.options()));
    const double after = score();
    one.harm = std::isfinite(after) ? after - before : HUGE_VAL;
    executor.set_constant(layer.weight, weight);
    progress.advance(1, layer.name);
  }
  progress.finish();
  return found;
}

void check_budget(const std::vector<SparseLayer>& layers, const ChooseOptions& options,
                  const SparsityBudget& budget) {
  require_reachable(layers, budget, [&](std::size_t i) {
    double density = given_density(layers[i]);
    for (const SparsityPattern& candidate : options.candidates)
      if (may_have(layers[i], candidate, options.ragged)) density = std::min(density, density_of(candidate));
    return density;
  });
}

void choose_patterns(std::vector<SparseLayer>& layers, const std::vector<Sensitivity>& sensitivities,
                     const SparsityBudget& budget) {
  require_reachable(layers, budget, [&](std::size_t i) {
    double density = given_density(layers[i]);
    for (const Sensitivity& one : sensitivities)
      if (one.layer == i) density = std::min(density, density_of(one.pattern));
    return density;
  });
  struct State {
    double density = 1, harm = 0;
    std::optional<SparsityPattern> pattern;
  };
  std::vector<State> states(layers.size());
  double all = 0, now = 0;
  for (std::size_t i = 0; i < layers.size(); ++i) {
    states[i].density = given_density(layers[i]);
    all += cost_of(layers[i], budget.of);
    now += cost_of(layers[i], budget.of) * states[i].density;
  }
  while (now > budget.share * all * (1 + kSlack)) {
    const Sensitivity* best = nullptr;
    double best_rate = 0;
    for (const Sensitivity& one : sensitivities) {
      const State& state = states[one.layer];
      const double saved = (state.density - density_of(one.pattern)) * cost_of(layers[one.layer], budget.of);
      if (saved <= 0) continue;
      const double rate = std::isfinite(one.harm) ? (one.harm - state.harm) / saved : HUGE_VAL;
      if (!best || rate < best_rate) best = &one, best_rate = rate;
    }
    // The check above leaves a step as long as the budget does not hold.
    State& state = states[best->layer];
    now -= (state.density - density_of(best->pattern)) * cost_of(layers[best->layer], budget.of);
    state = {density_of(best->pattern), best->harm, best->pattern};
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    if (!layers[i].pattern || layers[i].ruled) continue;
    layers[i].pattern = states[i].pattern;
    if (!states[i].pattern) layers[i].dense_reason = "the budget leaves it dense";
  }
}

}  // namespace lithe
