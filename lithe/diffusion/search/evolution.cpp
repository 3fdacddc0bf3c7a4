#include "lithe/diffusion/search/evolution.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>
#include <string>

#include "lithe/base/error.h"

namespace lithe {
namespace {

constexpr int kAttempts = 10;     // a child, as the published program has it
constexpr int kDraws = 50;        // of a number of skips that fits the budget
constexpr int kFirstStage = 5;    // generations after which layers join at the latest
constexpr int kPruningSteps = 5;  // in which the share of skipped layers grows

void check(const SearchSpace& space, const EvolutionOptions& options) {
  check_space(space);
  if (options.population < 2 || options.parents < 1 || options.generations < 1 || options.mutations < 0 ||
      options.crossovers < 0 || options.mutations + options.crossovers > options.population)
    fail(
        "a population of {} cannot hold {} mutants and {} crossovers; it must be 2 at least, with a parent "
        "and "
        "a generation",
        options.population, options.mutations, options.crossovers);
  if (options.mutation < 0 || options.mutation > 1 || options.images < 2)
    fail("the chance of mutation must lie in 0..1, and an evaluation needs two images at least");
  if (options.most_pruned < options.least_pruned || options.most_pruned > space.most_skipped)
    fail("a step may skip {:.3g} to {:.3g} of the layers, which the space (at most {:.3g}) does not allow",
         options.least_pruned, options.most_pruned, space.most_skipped);
}

class Evolution {
 public:
  Evolution(const SearchSpace& space, const EvolutionOptions& options, Evaluator& evaluator,
            Progress& progress)
      : full_(space), space_(space), options_(options), evaluator_(evaluator), progress_(progress) {}

  SearchResult run(const Candidate& uniform) {
    check(full_, options_);
    steps_ = uniform.size();
    enter_stage(0, 0);
    progress_.start("search", std::int64_t{options_.population} * options_.generations);
    std::vector<Candidate> children = first_generation(uniform);
    while (true) {
      evaluate(children);
      record();
      if (++generation_ == options_.generations) break;
      widen();
      children = next_generation();
    }
    progress_.finish();
    SearchResult result{.best = archive_, .history = history_};
    for (Scored& one : result.best) one.candidate = distinct(one.candidate);
    return result;
  }

 private:
  // --- the two stages -------------------------------------------------------------------------------------

  void enter_stage(double least, double most) {
    pruning_ = {.least = least, .most = most, .weights = {}};
    if (most > 0 || options_.most_pruned == 0) {
      space_ = full_;
    } else {  // time steps alone, all layers
      space_.least = space_.most = steps_;
    }
    if (options_.most_pruned == 0) space_.least = space_.most = steps_;
  }

  /// Layers join when the best candidate stays, or when the first stage is over; then more of them.
  void widen() {
    if (options_.most_pruned == 0) return;
    const std::string best = key_of(archive_.front().candidate);
    double most = pruning_.most, least = pruning_.least;
    const double step = options_.most_pruned / kPruningSteps;
    if (most == 0) {
      if (best == last_best_ || generation_ >= kFirstStage) most = step;
    } else {
      most = std::min(options_.most_pruned, most + step);
    }
    if (generation_ > kFirstStage) least = std::min(options_.least_pruned, most);
    last_best_ = best;
    enter_stage(least, most);
  }

  // --- candidates -----------------------------------------------------------------------------------------

  Candidate random(Rng& rng) const {
    if (pruning_.most == 0) {
      Candidate out;
      for (const std::int64_t t : draw_steps(space_, steps_, {}, rng)) out.push_back({.t = t, .skipped = {}});
      return out;
    }
    Candidate out;
    std::vector<std::int64_t> order = rng.permutation(space_.grid);
    double left = space_.budget;
    for (const std::int64_t t : order) {
      if (out.size() == space_.most) break;
      Gene gene{.t = t, .skipped = {}};
      for (int draw = 0; draw < kDraws; ++draw) {
        gene.skipped = skips(rng);
        if (cost_of_gene(space_, gene) <= left) break;
      }
      if (cost_of_gene(space_, gene) > left)
        gene.skipped = draw_layers(space_, space_.skips(pruning_.most), pruning_, rng);
      if (cost_of_gene(space_, gene) > left) break;
      left -= cost_of_gene(space_, gene);
      out.push_back(gene);
    }
    return out;
  }

  std::vector<int> skips(Rng& rng) const {
    const double share = pruning_.least + (pruning_.most - pruning_.least) * rng.uniform();
    return draw_layers(space_, space_.skips(share), pruning_, rng);
  }

  Candidate mutant(const Candidate& parent, double chance, Rng& rng) const {
    Candidate child = parent;
    std::vector<std::int64_t> taken = steps_of(parent);
    for (Gene& gene : child) {
      if (rng.uniform() >= chance) continue;
      const auto fresh = draw_steps(space_, 1, taken, rng);
      if (fresh.empty()) continue;
      gene.t = fresh[0];
      taken.push_back(fresh[0]);  // an old step does not return to what can be drawn
    }
    if (pruning_.most > 0)
      for (Gene& gene : child) mutate_skips(gene.skipped, chance, rng);
    return child;
  }

  void mutate_skips(std::vector<int>& skipped, double chance, Rng& rng) const {
    if (skipped.empty()) {
      if (rng.uniform() < chance) skipped = skips(rng);
      return;
    }
    if (options_.frozen_skips) return;
    const std::vector<int> before = skipped;
    for (int& layer : skipped) {
      if (rng.uniform() >= chance) continue;
      Pruning rest{.weights = std::vector<double>(space_.layer_costs.size(), 1)};
      for (const int other : skipped) rest.weights[static_cast<std::size_t>(other)] = 0;
      for (const int other : before) rest.weights[static_cast<std::size_t>(other)] = 0;
      if (const auto fresh = draw_layers(space_, 1, rest, rng); !fresh.empty()) layer = fresh[0];
    }
    std::sort(skipped.begin(), skipped.end());
  }

  static Candidate crossed(const Candidate& a, const Candidate& b, Rng& rng) {
    Candidate child = a.size() >= b.size() ? a : b;
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) child[i] = rng.below(2) == 0 ? a[i] : b[i];
    return child;
  }

  /// Makes it legal and new; false if that fails.
  bool accept(Candidate child, Rng& rng, std::vector<Candidate>& children) {
    if (options_.unsorted) {  // equal steps and lists in another order pass, as published
      if (child.empty() || cost_of(space_, child) > space_.budget * (1 + 1e-9)) return false;
    } else {
      auto repaired = repair(space_, std::move(child), pruning_, rng);
      if (!repaired) return false;
      child = std::move(*repaired);
    }
    if (!seen_.insert(key_of(child)).second) return false;
    children.push_back(std::move(child));
    return true;
  }

  // --- generations ----------------------------------------------------------------------------------------

  std::vector<Candidate> first_generation(const Candidate& uniform) {
    std::vector<Candidate> children;
    const auto wanted = static_cast<std::size_t>(options_.population);
    Rng rng = search_rng(options_.seed, SearchPurpose::Start, 0, 0);
    if (!accept(uniform, rng, children))
      fail("the evenly spaced schedule of {} full steps does not meet the budget; ask for fewer steps",
           steps_);
    fill(children, wanted / 2 + 1, SearchPurpose::Random, [&](Rng& draws) { return random(draws); });
    fill(children, wanted, SearchPurpose::Mutate,
         [&](Rng& draws) { return mutant(uniform, options_.first_mutation, draws); });
    fill(children, wanted, SearchPurpose::Fill, [&](Rng& draws) { return random(draws); });
    return children;
  }

  std::vector<Candidate> next_generation() {
    std::vector<Candidate> children;
    const auto mutants = static_cast<std::size_t>(options_.mutations);
    const auto parent = [&](Rng& rng) -> const Candidate& {
      const auto count = std::min<std::size_t>(archive_.size(), static_cast<std::size_t>(options_.parents));
      return archive_[rng.below(count)].candidate;
    };
    fill(children, mutants, SearchPurpose::Mutate,
         [&](Rng& rng) { return mutant(parent(rng), options_.mutation, rng); });
    fill(children, children.size() + static_cast<std::size_t>(options_.crossovers), SearchPurpose::Cross,
         [&](Rng& rng) {
           const Candidate& a = parent(rng);
           return crossed(a, parent(rng), rng);
         });
    fill(children, static_cast<std::size_t>(options_.population), SearchPurpose::Fill,
         [&](Rng& rng) { return random(rng); });
    return children;
  }

  /// Adds children until there are `wanted`, in a bounded number of attempts: small spaces run dry.
  void fill(std::vector<Candidate>& children, std::size_t wanted, SearchPurpose purpose,
            const std::function<Candidate(Rng&)>& make) {
    const std::size_t missing = wanted > children.size() ? wanted - children.size() : 0;
    for (std::size_t attempt = 0; attempt < kAttempts * missing && children.size() < wanted; ++attempt) {
      Rng rng = search_rng(options_.seed, purpose, generation_, static_cast<std::int64_t>(attempt));
      accept(make(rng), rng, children);
    }
  }

  void evaluate(const std::vector<Candidate>& children) {
    std::vector<EvaluationRequest> requests;
    for (const Candidate& child : children)
      requests.push_back(
          {.candidate = child,
           .images = options_.images,
           .stream = options_.fresh_noise ? options_.stream + 1 + judged_++ : options_.stream});
    const std::vector<double> scores = evaluator_(requests, progress_);
    double sum = 0;
    int finite = 0;
    for (std::size_t i = 0; i < children.size(); ++i) {
      archive_.push_back({children[i], scores[i], options_.images});
      if (!std::isfinite(scores[i])) continue;
      sum += scores[i];
      ++finite;
    }
    mean_ = finite > 0 ? sum / finite : std::numeric_limits<double>::infinity();
    std::stable_sort(archive_.begin(), archive_.end(),
                     [](const Scored& a, const Scored& b) { return a.fitness < b.fitness; });
    archive_.resize(std::min(archive_.size(), static_cast<std::size_t>(options_.population)));
  }

  void record() {
    history_.push_back({.generation = generation_,
                        .best = archive_.front().fitness,
                        .mean = mean_,
                        .evaluations = evaluator_.evaluations(),
                        .calls = evaluator_.calls(),
                        .most_skipped = pruning_.most});
  }

  SearchSpace full_, space_;
  const EvolutionOptions& options_;
  Evaluator& evaluator_;
  Progress& progress_;
  std::size_t steps_ = 0;
  Pruning pruning_;
  std::vector<Scored> archive_;
  std::set<std::string> seen_;
  std::vector<GenerationRecord> history_;
  std::string last_best_;
  double mean_ = 0;
  std::int64_t generation_ = 0;
  std::uint64_t judged_ = 0;
};

}  // namespace

SearchResult evolve(const SearchSpace& space, const Candidate& uniform, const EvolutionOptions& options,
                    Evaluator& evaluator, Progress& progress) {
  return Evolution(space, options, evaluator, progress).run(uniform);
}

}  // namespace lithe
