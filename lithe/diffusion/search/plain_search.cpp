#include "lithe/diffusion/search/plain_search.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <string>

#include "lithe/base/error.h"

namespace lithe {
namespace {

constexpr int kAttempts = 20;  // to make one child that is new

class PlainSearch {
 public:
  PlainSearch(const SearchSpace& space, const PlainSearchOptions& options, Evaluator& evaluator,
              Progress& progress)
      : space_(space), options_(options), evaluator_(evaluator), progress_(progress) {
    check_space(space);
    if (options.evaluations < 1 || options.children < 1 || options.images < 2)
      fail("a search needs an evaluation, a child and two images at least");
  }

  /// `make` draws a candidate; `count` of them are judged together.
  template <typename Make>
  SearchResult run(std::size_t count, Make&& make) {
    progress_.start("search", options_.evaluations);
    std::vector<Candidate> next;
    Rng none(options_.seed);
    for (const Candidate& one : options_.start)
      if (const auto fitting = repair(space_, one, {}, none)) add(*fitting, next);
    for (std::int64_t round = 0; left() > 0; ++round) {
      if (!next.empty() || round > 0) judge(next, round);
      next.clear();
      const std::size_t wanted = std::min<std::size_t>(count, static_cast<std::size_t>(left()));
      for (std::size_t attempt = 0; attempt < wanted * kAttempts && next.size() < wanted; ++attempt) {
        Rng rng = search_rng(options_.seed, SearchPurpose::Random, round, static_cast<std::int64_t>(attempt));
        if (const auto child = repair(space_, make(best_, rng), {}, rng)) add(*child, next);
      }
      if (next.empty()) break;  // the space is exhausted
    }
    progress_.finish();
    return {.best = best_, .history = history_};
  }

 private:
  std::int64_t left() const { return options_.evaluations - judged_; }

  void add(const Candidate& candidate, std::vector<Candidate>& to) {
    if (seen_.insert(key_of(candidate)).second) to.push_back(candidate);
  }

  void judge(std::vector<Candidate> candidates, std::int64_t round) {
    candidates.resize(std::min<std::size_t>(candidates.size(), static_cast<std::size_t>(left())));
    std::vector<EvaluationRequest> requests;
    for (const Candidate& one : candidates)
      requests.push_back({.candidate = one, .images = options_.images, .stream = options_.stream});
    const std::vector<double> scores = evaluator_(requests, progress_);
    double sum = 0;
    int finite = 0;
    for (std::size_t i = 0; i < candidates.size(); ++i) {
      best_.push_back({candidates[i], scores[i], options_.images});
      if (!std::isfinite(scores[i])) continue;
      sum += scores[i];
      ++finite;
    }
    judged_ += static_cast<std::int64_t>(candidates.size());
    std::stable_sort(best_.begin(), best_.end(),
                     [](const Scored& a, const Scored& b) { return a.fitness < b.fitness; });
    history_.push_back({.generation = round,
                        .best = best_.front().fitness,
                        .mean = finite > 0 ? sum / finite : std::numeric_limits<double>::infinity(),
                        .evaluations = evaluator_.evaluations(),
                        .calls = evaluator_.calls(),
                        .most_skipped = 0});
  }

  const SearchSpace& space_;
  const PlainSearchOptions& options_;
  Evaluator& evaluator_;
  Progress& progress_;
  std::vector<Scored> best_;
  std::vector<GenerationRecord> history_;
  std::set<std::string> seen_;
  std::int64_t judged_ = 0;
};

}  // namespace

SearchResult search_at_random(const SearchSpace& space, const PlainSearchOptions& options,
                              Evaluator& evaluator, Progress& progress) {
  return PlainSearch(space, options, evaluator, progress)
      .run(static_cast<std::size_t>(options.children), [&](const std::vector<Scored>&, Rng& rng) {
        return candidate_of(draw_steps(space, space.most, {}, rng));
      });
}

SearchResult climb(const SearchSpace& space, const PlainSearchOptions& options, Evaluator& evaluator,
                   Progress& progress) {
  if (options.start.empty()) fail("hill climbing needs a schedule to start from");
  return PlainSearch(space, options, evaluator, progress)
      .run(static_cast<std::size_t>(options.children), [&](const std::vector<Scored>& best, Rng& rng) {
        Candidate child = best.empty() ? options.start.front() : best.front().candidate;
        const double sd = std::max(1.0, options.move * static_cast<double>(space.grid));
        for (Gene& gene : child)
          if (rng.below(2) == 0)
            gene.t = std::clamp(gene.t + static_cast<std::int64_t>(std::lround(sd * rng.normal())),
                                std::int64_t{0}, space.grid - 1);
        return child;
      });
}

std::vector<std::size_t> cheapest_jumps(const std::vector<std::vector<double>>& cost, std::size_t steps,
                                        double gamma) {
  if (cost.size() < 2) fail("a path needs two nodes at least");
  const std::size_t last = cost.size() - 1;
  if (steps < 1 || steps > last) fail("{} jumps do not fit between {} nodes", steps, cost.size());
  constexpr double kNever = std::numeric_limits<double>::infinity();
  // value[k][j]: the cheapest way on from j in k jumps; next[k][j]: where its first jump leads.
  std::vector<std::vector<double>> value(steps + 1, std::vector<double>(cost.size(), kNever));
  std::vector<std::vector<std::size_t>> next(steps + 1, std::vector<std::size_t>(cost.size(), last));
  for (std::size_t j = 0; j < last; ++j) value[1][j] = cost[j].at(last);
  for (std::size_t k = 2; k <= steps; ++k)
    for (std::size_t j = 0; j < last; ++j)
      for (std::size_t i = j + 1; i < last; ++i)
        if (const double through = cost[j].at(i) + gamma * value[k - 1][i]; through < value[k][j]) {
          value[k][j] = through;
          next[k][j] = i;
        }
  std::vector<std::size_t> nodes{0};
  for (std::size_t k = steps; k > 1; --k) nodes.push_back(next[k][nodes.back()]);
  return nodes;
}

double cost_of_jumps(const std::vector<std::vector<double>>& cost, const std::vector<std::size_t>& nodes,
                     double gamma) {
  double total = 0;
  for (std::size_t k = nodes.size(); k-- > 0;) {
    const std::size_t to = k + 1 < nodes.size() ? nodes[k + 1] : cost.size() - 1;
    total = cost.at(nodes[k]).at(to) + gamma * total;
  }
  return total;
}

}  // namespace lithe
