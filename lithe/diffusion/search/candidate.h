// What the search of sampling schedules chooses from.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "lithe/base/random.h"

namespace lithe {

/// One point of a schedule: its place on a grid of time steps, and the layers left out there.
struct Gene {
  std::int64_t t = 0;
  std::vector<int> skipped;  // ascending
  bool operator==(const Gene&) const = default;
};

/// A schedule under search; `canonical` ones ascend strictly in t.
using Candidate = std::vector<Gene>;

/// Which candidates there are. Costs are in any unit: calls, layers, multiply-accumulates, milliseconds.
struct SearchSpace {
  std::int64_t grid = 1000;  // t is in 0 .. grid - 1
  std::size_t least = 1;     // genes
  std::size_t most = 1;      // genes
  std::size_t free_points =
      0;                     // of the smallest t, which cost nothing and skip nothing: where DPM-Solver ends
  bool first_whole = false;  // the noisiest gene skips nothing: there is nothing yet to reuse
  double step_cost = 1;      // of a gene with all layers
  std::vector<double> layer_costs;  // what leaving each layer out saves; empty: only time steps are searched
  double budget = std::numeric_limits<double>::infinity();  // of the whole candidate
  double most_skipped = 0;                                  // share of the layers that a gene may skip

  int layers() const { return static_cast<int>(layer_costs.size()); }
  /// How many layers a gene may skip under a share of `most`.
  std::size_t skips(double most) const;
};

/// Throws Error(Input) naming the numbers if the space is empty: more genes than steps, or a budget below the
/// cheapest candidate.
void check_space(const SearchSpace& space);

double cost_of(const SearchSpace& space, const Candidate& candidate);
double cost_of_gene(const SearchSpace& space, const Gene& gene);

/// Whether it ascends strictly, lies on the grid, has a legal number of genes and skips, and meets the
/// budget.
bool is_valid(const SearchSpace& space, const Candidate& candidate);

/// Sorted by t.
Candidate canonical(Candidate candidate);
/// Likewise; of genes with equal t the one with fewer skips.
Candidate distinct(Candidate candidate);

/// "94 217 354:3,7 574": equal for equal candidates alone.
std::string key_of(const Candidate& candidate);

/// Without skips.
Candidate candidate_of(const std::vector<std::int64_t>& steps);
std::vector<std::int64_t> steps_of(const Candidate& candidate);

nlohmann::json to_json(const Candidate& candidate);  // [[94, []], [354, [3, 7]]]

/// The shares of layers that a new gene skips are drawn from.
struct Pruning {
  double least = 0, most = 0;
  /// Chances of each layer to be the next one skipped; empty: equal.
  std::vector<double> weights;
};

/// Distinct steps not in `taken`, in random order; fewer if there are not so many.
std::vector<std::int64_t> draw_steps(const SearchSpace& space, std::size_t count,
                                     const std::vector<std::int64_t>& taken, Rng& rng);
/// `count` distinct layers by `pruning.weights`, ascending.
std::vector<int> draw_layers(const SearchSpace& space, std::size_t count, const Pruning& pruning, Rng& rng);

/// Makes a candidate valid: of genes with equal t the one with fewer skips stays; surplus genes go, missing
/// ones are drawn; over the budget layers are left out, as far as `pruning` allows, then genes. Nothing if
/// that does not lead to a valid one.
std::optional<Candidate> repair(const SearchSpace& space, Candidate candidate, const Pruning& pruning,
                                Rng& rng);

}  // namespace lithe
