// A search of schedules that spends less: it starts from every schedule made by hand, moves steps a little,
// and judges most candidates on few images.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "lithe/base/progress.h"
#include "lithe/diffusion/search/evaluator.h"
#include "lithe/diffusion/search/result.h"

namespace lithe {

/// Successive halving (Jamieson and Talwalkar, AISTATS 2016) inside an evolutionary search of schedules.
/// All candidates are judged on the same noise, the first images of one sequence, so that those of a level
/// compare like with like and a promotion only adds images.
struct RacingOptions {
  std::vector<Candidate> start;  // by hand; those that do not fit the space are mended or left out
  int rounds = 8;
  int children = 12;                               // of a round
  int parents = 4;                                 // the best so far: those judged on more images come first
  std::vector<std::int64_t> images{50, 100, 300};  // of the levels, ascending
  double promoted = 0.25;                          // share of a level that goes on to the next
  double most_calls = 0;                           // of the network; no round starts beyond it. 0: no bound
  /// Moves: one step, several, or all of them stretched, by about this share of the grid at first and that
  /// share at the end; the rest of the children crosses two parents or draws one step anew.
  double first_move = 0.06, last_move = 0.01;
  double moves = 0.7, crossovers = 0.15;
  std::uint64_t stream = 0, seed = 0;

  /// Share of layers that a step may skip at most; 0: only time steps are searched. Layers join after half of
  /// the rounds (at once where the budget asks for it), chosen by how little each harms the best schedule
  /// when it is skipped throughout.
  double most_pruned = 0;

  /// A cheap forecast of a candidate's fitness. With it, twice as many children are made, and the better half
  /// by it is judged.
  std::function<std::vector<double>(const std::vector<Candidate>&)> forecast;
};

/// Deterministic in the seed, for any number of workers. Candidates in the result are ordered by the number
/// of images that they were judged on, then by fitness. Throws Error(Input) if no schedule of the start fits
/// or options are out of range, Interrupted after Ctrl-C.
SearchResult race(const SearchSpace& space, const RacingOptions& options, Evaluator& evaluator,
                  Progress& progress);

}  // namespace lithe
