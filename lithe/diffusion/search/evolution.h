// AutoDiffusion: the evolutionary search of time steps and layers of Li et al., "AutoDiffusion:
// Training-Free Optimization of Time Steps and Architectures for Automated Diffusion Model Acceleration",
// ICCV 2023, section 3.
#pragma once

#include <cstdint>

#include "lithe/base/progress.h"
#include "lithe/diffusion/search/evaluator.h"
#include "lithe/diffusion/search/result.h"

namespace lithe {

/// The defaults are those of the authors' scripts.
struct EvolutionOptions {
  int population = 50;  // candidates of a generation
  int parents = 10;     // the best of all so far
  int mutations = 25;   // children of one parent
  int crossovers = 15;  // children of two; what remains of the population is drawn anew
  int generations = 10;
  double mutation = 0.25;       // chance that a gene changes
  double first_mutation = 0.1;  // likewise, of the mutants in the first generation
  std::int64_t images = 1000;   // of an evaluation
  std::uint64_t stream = 0;     // of their noise, the same for all
  std::uint64_t seed = 0;

  /// Shares of the layers that a step skips at most and at least, once time steps alone no longer improve or
  /// five generations have passed. 0: layers are not searched. The space must allow them.
  double most_pruned = 0, least_pruned = 0;

  // What the published program does otherwise, to measure what it costs:
  bool unsorted = false;      // genes keep their order: the same steps in another order count as new, and
                              // crossover mixes unrelated places
  bool frozen_skips = false;  // mutation never changes a set of skipped layers that is not empty
  bool fresh_noise = false;   // every candidate is judged on noise of its own
};

/// Searches `space` from the evenly spaced schedule `uniform` on (random candidates and mutants of it join
/// it). With layers to skip, the number of steps follows from the budget; without, it is that of `uniform`.
/// Deterministic in the seed. Throws Error(Input) for options out of range, Interrupted after Ctrl-C.
SearchResult evolve(const SearchSpace& space, const Candidate& uniform, const EvolutionOptions& options,
                    Evaluator& evaluator, Progress& progress);

}  // namespace lithe
