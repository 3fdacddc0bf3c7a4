// The random numbers of sampling, by image: neither the batch nor the number of processes changes an image.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

namespace lithe {

/// Images first..first+count-1 of a seed; `shape` is that of one: channels, height, width.
struct ImageRange {
  std::uint64_t seed = 0;
  std::int64_t first = 0, count = 1;
  std::vector<std::int64_t> shape;
};

/// Standard normal float32 [count, ...shape] that depends on (seed, index of the image) alone: where sampling
/// starts. Throws Error(Input) for a negative or too large range or shape.
at::Tensor start_noise(const ImageRange& images);

/// The same for the noise that a sampler adds at point `step` (from 0) of its plan; independent of the above.
at::Tensor step_noise(const ImageRange& images, std::int64_t step);

/// Labels 0..classes-1, uniform, int64 [count], that depend on (seed, index of the image) alone.
at::Tensor random_labels(std::uint64_t seed, std::int64_t first, std::int64_t count, std::int64_t classes);

}  // namespace lithe
