// Baselines that any search of schedules has to beat.
#pragma once

#include <cstdint>
#include <vector>

#include "lithe/base/progress.h"
#include "lithe/diffusion/search/evaluator.h"
#include "lithe/diffusion/search/result.h"

namespace lithe {

struct PlainSearchOptions {
  std::vector<Candidate> start;  // judged first; hill climbing starts from the best of them
  int evaluations = 100;         // in all
  int children = 8;    // of hill climbing: judged together, the best one is moved to if it is better
  double move = 0.04;  // of hill climbing: standard deviation, as a share of the grid
  std::int64_t images = 300;
  std::uint64_t stream = 0, seed = 0;
};

/// Schedules drawn uniformly.
SearchResult search_at_random(const SearchSpace& space, const PlainSearchOptions& options,
                              Evaluator& evaluator, Progress& progress);

/// (1 + lambda): from the best schedule so far, always.
SearchResult climb(const SearchSpace& space, const PlainSearchOptions& options, Evaluator& evaluator,
                   Progress& progress);

/// The cheapest way from node 0 to the last one in `steps` jumps, where cost[i][j], j > i, is that of a jump:
/// V(j, 1) = c(j, n), V(j, k) = min over i > j of c(j, i) + gamma V(i, k - 1), so that gamma above 1 makes
/// late errors count more (Chen et al., "On the Trajectory Regularity of ODE-based Diffusion Sampling", ICML
/// 2024, section 4). Returns the nodes visited, 0 first, without the last one; equal costs choose the smaller
/// next node.
std::vector<std::size_t> cheapest_jumps(const std::vector<std::vector<double>>& cost, std::size_t steps,
                                        double gamma = 1.15);
double cost_of_jumps(const std::vector<std::vector<double>>& cost, const std::vector<std::size_t>& nodes,
                     double gamma);

}  // namespace lithe
