// Training samples: kept in memory where they fit, and changed at random in every epoch.
#pragma once

#include <cstdint>
#include <vector>

#include "lithe/base/random.h"
#include "lithe/data/dataset.h"
#include "lithe/train/train.h"

namespace lithe {

/// The same samples from memory if they take at most `memory_bytes` there, which is then lowered by what they
/// take; else the data set itself. Images whose numbers stem from 8-bit pixels by `preprocess` are kept as
/// pixels, and come out bit for bit as they went in.
DatasetPtr keep_in_memory(DatasetPtr dataset, const Preprocess& preprocess, std::int64_t& memory_bytes,
                          int threads);

struct EpochOptions {
  Augmentation augmentation;
  Preprocess preprocess;
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;
};

/// Sample i of the result is sample order[i] of `dataset`, augmented. The changes depend on seed, epoch and
/// order[i] alone. Under mixup a sample's target is [label, other label, share of the first].
/// `get` throws Error(Input) naming the sample if it has no single image input, or is too small for its
/// patch.
DatasetPtr augmented(DatasetPtr dataset, std::vector<std::int64_t> order, const EpochOptions& options);

/// Whether the augmentation changes anything.
bool augments(const Augmentation& augmentation, bool image_targets);

/// A draw from Beta(alpha, alpha).
double beta_draw(Rng& rng, double alpha);

/// The seed of what `purpose` names, so that uses of one seed are independent.
std::uint64_t seed_for(std::uint64_t seed, std::uint64_t purpose);

}  // namespace lithe
