// What a search of schedules gives back.
#pragma once

#include <cstdint>
#include <vector>

#include "lithe/diffusion/search/candidate.h"

namespace lithe {

/// A scored candidate.
struct Scored {
  Candidate candidate;
  double fitness = 0;
  std::int64_t images = 0;  // that the score was taken over
};

struct GenerationRecord {
  std::int64_t generation = 0;  // from 0
  double best = 0, mean = 0;  // fitness of the best so far; mean over the finite ones of this generation (of
                              // racing: of all so far)
  std::int64_t evaluations = 0;  // so far
  double calls = 0;              // of the network, so far
  double most_skipped = 0;       // share of the layers that new genes may skip
};

struct SearchResult {
  std::vector<Scored> best;  // ascending fitness
  std::vector<GenerationRecord> history;
};

/// A sequence of its own for each use of one seed, whatever else is drawn.
enum class SearchPurpose : std::uint64_t {
  Start = 1,
  Mutate,
  Cross,
  Fill,
  Move,
  Repair,
  Noise,
  Random,
  Layers
};
inline Rng search_rng(std::uint64_t seed, SearchPurpose purpose, std::int64_t generation,
                      std::int64_t child) {
  return Rng(seed, (static_cast<std::uint64_t>(purpose) << 56) |
                       (static_cast<std::uint64_t>(generation) << 32) | static_cast<std::uint64_t>(child));
}

}  // namespace lithe
