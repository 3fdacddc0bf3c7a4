#include "lithe/diffusion/search/racing.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <string>

#include "lithe/base/error.h"

namespace lithe {
namespace {

constexpr int kAttempts = 20;        // to make one child that is new
constexpr double kSpread = 0.6;      // of the log of a move's size
constexpr double kLeastHarm = 0.02;  // of the fitness, below which layers are skipped alike

/// A candidate and its fitness at each level that it has reached.
struct Racer {
  Candidate candidate;
  std::vector<double> fitness;
  std::size_t level() const { return fitness.size() - 1; }
};

bool ahead(const Racer& a, const Racer& b) {
  if (a.level() != b.level()) return a.level() > b.level();
  return a.fitness.back() < b.fitness.back();
}

class Race {
 public:
  Race(const SearchSpace& space, const RacingOptions& options, Evaluator& evaluator, Progress& progress)
      : space_(space), options_(options), evaluator_(evaluator), progress_(progress) {}

  SearchResult run() {
    check();
    const bool must_skip = options_.most_pruned > 0 && !fits_unpruned();
    // Levels above the first are few; what the bar counts is candidates on the first level and their
    // promotions.
    progress_.start("search", expected());
    judge(start());
    record(0);
    for (std::int64_t round = 1; round <= options_.rounds; ++round) {
      if (options_.most_calls > 0 && evaluator_.calls() >= options_.most_calls) break;
      if (options_.most_pruned > 0 && weights_.empty() && (must_skip || 2 * round > options_.rounds))
        weigh_layers();
      judge(children(round));
      record(round);
    }
    progress_.finish();
    SearchResult result{.best = {}, .history = history_};
    for (const Racer& racer : racers_)
      result.best.push_back({racer.candidate, racer.fitness.back(), options_.images[racer.level()]});
    return result;
  }

 private:
  void check() const {
    check_space(space_);
    if (options_.rounds < 0 || options_.children < 1 || options_.parents < 1 || options_.images.empty() ||
        options_.images.front() < 2 || !std::is_sorted(options_.images.begin(), options_.images.end()) ||
        std::adjacent_find(options_.images.begin(), options_.images.end()) != options_.images.end())
      fail("a race needs a child and a parent, and levels of 2 images or more that ascend");
    if (options_.start.empty()) fail("a race needs a schedule to start from");
    if (!(options_.first_move > 0 && options_.last_move > 0 && options_.promoted >= 0 &&
          options_.promoted <= 1))
      fail("moves of a race are positive, and the promoted share lies in 0..1");
    if (options_.most_pruned < 0 || options_.most_pruned > space_.most_skipped)
      fail("a step may skip {:.3g} of the layers at most, not {:.3g}", space_.most_skipped,
           options_.most_pruned);
  }

  bool fits_unpruned() const {
    const auto calls = static_cast<double>(options_.start.front().size() - space_.free_points);
    return space_.step_cost * calls <= space_.budget * (1 + 1e-9);
  }

  std::int64_t expected() const {
    const auto of = [&](std::size_t count) {
      std::int64_t all = 0;
      auto here = static_cast<double>(count);
      for (std::size_t level = 0; level < options_.images.size(); ++level) {
        all += static_cast<std::int64_t>(here);
        here = std::ceil(options_.promoted * here);
      }
      return all;
    };
    return of(options_.start.size()) + options_.rounds * of(static_cast<std::size_t>(options_.children));
  }

  // --- judging --------------------------------------------------------------------------------------------

  /// Judges new candidates on the first level, and the better ones of each level on the next.
  void judge(const std::vector<Candidate>& fresh) {
    std::vector<Racer> group;
    for (const Candidate& one : fresh) group.push_back({one, {}});
    for (std::size_t level = 0; level < options_.images.size() && !group.empty(); ++level) {
      score(group, level);
      std::stable_sort(group.begin(), group.end(), ahead);
      if (level + 1 == options_.images.size()) break;
      std::size_t onward = promotions(group, level);
      racers_.insert(racers_.end(), group.begin() + static_cast<std::ptrdiff_t>(onward), group.end());
      group.resize(onward);
    }
    racers_.insert(racers_.end(), group.begin(), group.end());
    std::stable_sort(racers_.begin(), racers_.end(), ahead);
  }

  void score(std::vector<Racer>& group, std::size_t level) {
    std::vector<EvaluationRequest> requests;
    for (const Racer& one : group)
      requests.push_back({.candidate = one.candidate,
                          .images = options_.images[level],
                          .stream = options_.stream,
                          .already = level == 0 ? 0 : options_.images[level - 1]});
    const std::vector<double> scores = evaluator_(requests, progress_);
    for (std::size_t i = 0; i < group.size(); ++i) group[i].fitness.push_back(scores[i]);
  }

  /// How many of the sorted group go on: a share, of those that are no worse here than the parents were.
  std::size_t promotions(const std::vector<Racer>& group, std::size_t level) const {
    const auto share = static_cast<std::size_t>(
        std::ceil(options_.promoted * static_cast<double>(std::max<std::size_t>(group.size(), 1))));
    std::vector<double> bar;
    for (const Racer& one : racers_)
      if (one.level() > level) bar.push_back(one.fitness[level]);
    std::sort(bar.begin(), bar.end());
    const auto parents = static_cast<std::size_t>(options_.parents);
    const double worst = bar.size() < parents ? std::numeric_limits<double>::infinity() : bar[parents - 1];
    std::size_t count = 0;
    while (count < std::min(share, group.size()) && group[count].fitness[level] <= worst &&
           std::isfinite(group[count].fitness[level]))
      ++count;
    return count;
  }

  void record(std::int64_t round) {
    double sum = 0;
    std::int64_t finite = 0;
    for (const Racer& one : racers_)
      if (std::isfinite(one.fitness.front())) {
        sum += one.fitness.front();
        ++finite;
      }
    history_.push_back(
        {.generation = round,
         .best = racers_.front().fitness.back(),
         .mean = finite > 0 ? sum / static_cast<double>(finite) : std::numeric_limits<double>::infinity(),
         .evaluations = evaluator_.evaluations(),
         .calls = evaluator_.calls(),
         .most_skipped = weights_.empty() ? 0 : options_.most_pruned});
  }

  // --- candidates -----------------------------------------------------------------------------------------

  Pruning pruning() const { return {.least = 0, .most = options_.most_pruned, .weights = weights_}; }

  std::vector<Candidate> start() {
    std::vector<Candidate> out;
    for (std::size_t i = 0; i < options_.start.size(); ++i) {
      Rng rng = search_rng(options_.seed, SearchPurpose::Start, 0, static_cast<std::int64_t>(i));
      accept(options_.start[i], rng, out);
    }
    if (out.empty()) fail("none of the {} schedules to start from fits the budget", options_.start.size());
    return out;
  }

  bool accept(const Candidate& child, Rng& rng, std::vector<Candidate>& out) {
    const auto repaired = repair(space_, child, pruning(), rng);
    if (!repaired || !seen_.insert(key_of(*repaired)).second) return false;
    out.push_back(*repaired);
    return true;
  }

  std::vector<Candidate> children(std::int64_t round) {
    const std::size_t wanted = static_cast<std::size_t>(options_.children) * (options_.forecast ? 2 : 1);
    const double progress = options_.rounds > 1 ? static_cast<double>(round - 1) / (options_.rounds - 1) : 0;
    const double size = options_.first_move * std::pow(options_.last_move / options_.first_move, progress);
    std::vector<Candidate> out;
    for (std::size_t attempt = 0; attempt < wanted * kAttempts && out.size() < wanted; ++attempt) {
      Rng rng = search_rng(options_.seed, SearchPurpose::Move, round, static_cast<std::int64_t>(attempt));
      accept(child(size, rng), rng, out);
    }
    return options_.forecast ? better_half(out) : out;
  }

  std::vector<Candidate> better_half(const std::vector<Candidate>& all) const {
    const std::vector<double> forecast = options_.forecast(all);
    std::vector<std::size_t> order(all.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return forecast[a] < forecast[b]; });
    std::vector<Candidate> out;
    for (std::size_t i = 0; i < (all.size() + 1) / 2; ++i) out.push_back(all[order[i]]);
    return out;
  }

  const Candidate& parent(Rng& rng) const {
    const auto count = std::min<std::size_t>(racers_.size(), static_cast<std::size_t>(options_.parents));
    return racers_[rng.below(count)].candidate;
  }

  Candidate child(double size, Rng& rng) const {
    const double kind = rng.uniform();
    Candidate out = parent(rng);
    if (!weights_.empty() && rng.below(2) == 0) return moved_skips(std::move(out), rng);
    if (kind < options_.moves) {
      const double step =
          std::max(1.0, size * static_cast<double>(space_.grid) * std::exp(kSpread * rng.normal()));
      switch (rng.below(3)) {
        case 0:
          move(out[rng.below(out.size())], step, rng);
          break;
        case 1:
          move_some(out, step, rng);
          break;
        default:
          stretch(out, step, rng);
      }
      return out;
    }
    if (kind < options_.moves + options_.crossovers) return crossed(std::move(out), parent(rng), rng);
    if (const auto fresh = draw_steps(space_, 1, steps_of(out), rng); !fresh.empty())
      out[rng.below(out.size())].t = fresh[0];
    return out;
  }

  std::int64_t on_grid(double t) const {
    return static_cast<std::int64_t>(std::clamp(std::round(t), 0.0, static_cast<double>(space_.grid - 1)));
  }

  /// By one step at least.
  void move(Gene& gene, double size, Rng& rng) const {
    double by = size * rng.normal();
    if (std::abs(by) < 1) by = by < 0 ? -1 : 1;
    gene.t = on_grid(static_cast<double>(gene.t) + by);
  }

  void move_some(Candidate& candidate, double size, Rng& rng) const {
    for (Gene& gene : candidate)
      if (rng.below(2) == 0) move(gene, size, rng);
  }

  /// Moves both ends, and what lies between in proportion.
  void stretch(Candidate& candidate, double size, Rng& rng) const {
    const auto first = static_cast<double>(candidate.front().t),
               last = static_cast<double>(candidate.back().t);
    const double to_first = first + size * rng.normal(), to_last = last + size * rng.normal();
    for (Gene& gene : candidate) {
      const double place = last > first ? (static_cast<double>(gene.t) - first) / (last - first) : 1;
      gene.t = on_grid(to_first + place * (to_last - to_first));
    }
  }

  static Candidate crossed(Candidate a, const Candidate& b, Rng& rng) {
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i)
      if (rng.below(2) == 0) a[i] = b[i];
    return a;
  }

  // --- layers ---------------------------------------------------------------------------------------------

  /// Chances of layers to be skipped: what it saves against the harm that it does, alone, at every step.
  void weigh_layers() {
    const Racer& best = racers_.front();
    std::vector<EvaluationRequest> requests;
    for (int layer = 0; layer < space_.layers(); ++layer) {
      Candidate without = best.candidate;
      for (std::size_t i = space_.free_points; i < without.size(); ++i) without[i].skipped = {layer};
      requests.push_back({.candidate = without, .images = options_.images[0], .stream = options_.stream});
    }
    const std::vector<double> scores = evaluator_(requests, progress_);
    const double level = std::max(best.fitness.front(), 1e-12);
    weights_.assign(space_.layer_costs.size(), 0);
    for (std::size_t i = 0; i < weights_.size(); ++i) {
      const double harm = std::max(0.0, scores[i] - best.fitness.front()) + kLeastHarm * level;
      if (std::isfinite(harm)) weights_[i] = std::max(space_.layer_costs[i], 0.0) / harm;
    }
    if (std::accumulate(weights_.begin(), weights_.end(), 0.0) <= 0)
      weights_.assign(space_.layer_costs.size(), 1);
  }

  /// One layer more, less or another one at some step; or, where steps may be added, one more between two.
  Candidate moved_skips(Candidate candidate, Rng& rng) const {
    const std::size_t first = space_.free_points;
    Gene& gene = candidate[first + rng.below(candidate.size() - first)];
    const std::size_t most = space_.skips(options_.most_pruned);
    const std::uint64_t kind = rng.below(candidate.size() < space_.most ? 4 : 3);
    if (kind == 3) return with_step(std::move(candidate), rng);
    if (kind >= 1 && !gene.skipped.empty())
      gene.skipped.erase(gene.skipped.begin() + static_cast<std::ptrdiff_t>(rng.below(gene.skipped.size())));
    if (kind == 1) return candidate;
    for (std::size_t count = 1 + rng.below(3); count > 0 && gene.skipped.size() < most; --count) {
      Pruning rest = pruning();
      for (const int layer : gene.skipped) rest.weights[static_cast<std::size_t>(layer)] = 0;
      const std::vector<int> next = draw_layers(space_, 1, rest, rng);
      if (next.empty()) break;
      gene.skipped.insert(std::upper_bound(gene.skipped.begin(), gene.skipped.end(), next[0]), next[0]);
    }
    return candidate;
  }

  /// One more step in the middle of the widest gap, skipping what its neighbour skips; the repair then skips
  /// as much as the budget asks for.
  Candidate with_step(Candidate candidate, Rng& rng) const {
    std::size_t widest = 0;
    for (std::size_t i = 1; i + 1 < candidate.size(); ++i)
      if (candidate[i + 1].t - candidate[i].t > candidate[widest + 1].t - candidate[widest].t) widest = i;
    Gene fresh = candidate[widest];
    fresh.t = candidate.size() > 1
                  ? (candidate[widest].t + candidate[widest + 1].t) / 2
                  : static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(space_.grid)));
    candidate.push_back(fresh);
    return candidate;
  }

  const SearchSpace& space_;
  const RacingOptions& options_;
  Evaluator& evaluator_;
  Progress& progress_;
  std::vector<Racer> racers_;  // the leader first
  std::set<std::string> seen_;
  std::vector<double> weights_;  // of layers; empty while only time steps are searched
  std::vector<GenerationRecord> history_;
};

}  // namespace

SearchResult race(const SearchSpace& space, const RacingOptions& options, Evaluator& evaluator,
                  Progress& progress) {
  return Race(space, options, evaluator, progress).run();
}

}  // namespace lithe
