#include "lithe/diffusion/search/candidate.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "lithe/base/error.h"

namespace lithe {
namespace {

constexpr double kSlack = 1e-9;  // of a budget, against rounding of sums

bool within(const SearchSpace& space, const Candidate& candidate) {
  return cost_of(space, candidate) <= space.budget * (1 + kSlack);
}

double cheapest_gene(const SearchSpace& space) {
  std::vector<double> savings = space.layer_costs;
  std::sort(savings.rbegin(), savings.rend());
  const std::size_t count = std::min(space.skips(space.most_skipped), savings.size());
  return std::accumulate(savings.begin(), savings.begin() + static_cast<std::ptrdiff_t>(count),
                         space.step_cost, std::minus<>());
}

void drop_random_gene(const SearchSpace& space, Candidate& candidate, Rng& rng) {
  const std::size_t first = std::min(space.free_points, candidate.size() - 1);
  const auto at = first + rng.below(candidate.size() - first);
  candidate.erase(candidate.begin() + static_cast<std::ptrdiff_t>(at));
}

/// Leaves one more layer out somewhere; false if every gene skips all it may.
bool skip_one_more(const SearchSpace& space, Candidate& candidate, const Pruning& pruning, Rng& rng) {
  const std::size_t most = std::min(space.skips(pruning.most), space.skips(space.most_skipped));
  std::vector<std::size_t> open;
  for (std::size_t i = space.free_points; i + (space.first_whole ? 1 : 0) < candidate.size(); ++i)
    if (candidate[i].skipped.size() < most) open.push_back(i);
  if (open.empty()) return false;
  std::vector<int>& skipped = candidate[open[rng.below(open.size())]].skipped;
  Pruning rest = pruning;
  if (rest.weights.empty()) rest.weights.assign(space.layer_costs.size(), 1);
  for (const int layer : skipped) rest.weights[static_cast<std::size_t>(layer)] = 0;
  const std::vector<int> next = draw_layers(space, 1, rest, rng);
  if (next.empty()) return false;
  skipped.insert(std::upper_bound(skipped.begin(), skipped.end(), next[0]), next[0]);
  return true;
}

}  // namespace

std::size_t SearchSpace::skips(double share) const {
  return static_cast<std::size_t>(std::floor(share * layers() + kSlack));
}

void check_space(const SearchSpace& space) {
  if (space.least < 1 || space.most < space.least)
    fail("a schedule needs one step at least, and no fewer at most ({} to {})", space.least, space.most);
  if (static_cast<std::int64_t>(space.least) > space.grid)
    fail("{} steps do not fit on a grid of {}; ask for fewer", space.least, space.grid);
  if (space.most_skipped < 0 || space.most_skipped > 1)
    fail("the share of skipped layers must lie in 0..1, not {}", space.most_skipped);
  if (space.least <= space.free_points)
    fail("{} points make no call of the network; ask for more steps", space.least);
  const double needed = cheapest_gene(space) * static_cast<double>(space.least - space.free_points);
  if (needed > space.budget * (1 + kSlack))
    fail(
        "the budget of {:.6g} is below the cheapest schedule, {:.6g}: raise it, lower the number of steps, "
        "or "
        "allow more layers to be skipped",
        space.budget, needed);
}

double cost_of_gene(const SearchSpace& space, const Gene& gene) {
  double cost = space.step_cost;
  for (const int layer : gene.skipped) cost -= space.layer_costs.at(static_cast<std::size_t>(layer));
  return cost;
}

double cost_of(const SearchSpace& space, const Candidate& candidate) {
  double cost = 0;
  for (std::size_t i = space.free_points; i < candidate.size(); ++i)
    cost += cost_of_gene(space, candidate[i]);
  return cost;
}

bool is_valid(const SearchSpace& space, const Candidate& candidate) {
  if (candidate.size() < space.least || candidate.size() > space.most) return false;
  std::int64_t before = -1;
  for (std::size_t i = 0; i < candidate.size(); ++i) {
    const Gene& gene = candidate[i];
    if (gene.t <= before || gene.t >= space.grid) return false;
    before = gene.t;
    const bool whole = i < space.free_points || (space.first_whole && i + 1 == candidate.size());
    if (gene.skipped.size() > (whole ? 0 : space.skips(space.most_skipped))) return false;
    int last = -1;
    for (const int layer : gene.skipped) {
      if (layer <= last || layer >= space.layers()) return false;
      last = layer;
    }
  }
  return within(space, candidate);
}

Candidate canonical(Candidate candidate) {
  std::stable_sort(candidate.begin(), candidate.end(),
                   [](const Gene& a, const Gene& b) { return a.t < b.t; });
  return candidate;
}

Candidate distinct(Candidate candidate) {
  std::stable_sort(candidate.begin(), candidate.end(), [](const Gene& a, const Gene& b) {
    return a.t != b.t ? a.t < b.t : a.skipped.size() < b.skipped.size();
  });
  candidate.erase(std::unique(candidate.begin(), candidate.end(),
                              [](const Gene& a, const Gene& b) { return a.t == b.t; }),
                  candidate.end());
  return candidate;
}

std::string key_of(const Candidate& candidate) {
  std::string key;
  for (const Gene& gene : candidate) {
    key += fmt::format("{}{}", key.empty() ? "" : " ", gene.t);
    if (!gene.skipped.empty()) key += fmt::format(":{}", fmt::join(gene.skipped, ","));
  }
  return key;
}

Candidate candidate_of(const std::vector<std::int64_t>& steps) {
  Candidate out;
  for (const std::int64_t t : steps) out.push_back({.t = t, .skipped = {}});
  return canonical(std::move(out));
}

std::vector<std::int64_t> steps_of(const Candidate& candidate) {
  std::vector<std::int64_t> out;
  for (const Gene& gene : candidate) out.push_back(gene.t);
  return out;
}

nlohmann::json to_json(const Candidate& candidate) {
  nlohmann::json out = nlohmann::json::array();
  for (const Gene& gene : candidate) out.push_back({gene.t, gene.skipped});
  return out;
}

std::vector<std::int64_t> draw_steps(const SearchSpace& space, std::size_t count,
                                     const std::vector<std::int64_t>& taken, Rng& rng) {
  std::set<std::int64_t> used(taken.begin(), taken.end());
  std::vector<std::int64_t> out;
  while (out.size() < count && static_cast<std::int64_t>(used.size()) < space.grid) {
    const auto t = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(space.grid)));
    if (used.insert(t).second) out.push_back(t);
  }
  return out;
}

std::vector<int> draw_layers(const SearchSpace& space, std::size_t count, const Pruning& pruning, Rng& rng) {
  std::vector<double> weights = pruning.weights;
  if (weights.empty()) weights.assign(space.layer_costs.size(), 1);
  std::vector<int> out;
  double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  while (out.size() < count && total > 0) {
    double place = rng.uniform() * total;
    std::size_t chosen = weights.size();
    for (std::size_t i = 0; i < weights.size(); ++i) {
      if (weights[i] <= 0) continue;
      chosen = i;
      if ((place -= weights[i]) < 0) break;
    }
    out.push_back(static_cast<int>(chosen));
    weights[chosen] = 0;
    total = std::accumulate(weights.begin(), weights.end(), 0.0);
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::optional<Candidate> repair(const SearchSpace& space, Candidate candidate, const Pruning& pruning,
                                Rng& rng) {
  candidate = distinct(std::move(candidate));
  while (candidate.size() > space.most) drop_random_gene(space, candidate, rng);
  if (candidate.size() < space.least) {
    for (const std::int64_t t : draw_steps(space, space.least - candidate.size(), steps_of(candidate), rng))
      candidate.push_back({.t = t, .skipped = {}});
    candidate = canonical(std::move(candidate));
  }
  for (std::size_t i = 0; i < std::min(space.free_points, candidate.size()); ++i)
    candidate[i].skipped.clear();
  if (space.first_whole && !candidate.empty()) candidate.back().skipped.clear();
  while (!within(space, candidate)) {
    if (skip_one_more(space, candidate, pruning, rng)) continue;
    if (candidate.size() <= space.least) return std::nullopt;
    drop_random_gene(space, candidate, rng);
    if (space.first_whole) candidate.back().skipped.clear();
  }
  if (!is_valid(space, candidate)) return std::nullopt;
  return candidate;
}

}  // namespace lithe
