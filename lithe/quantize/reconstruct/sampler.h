// Which samples each step learns from.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "lithe/base/random.h"
#include "lithe/quantize/reconstruct/reconstruct.h"

namespace lithe {

/// Independent streams of one seed: which samples a step draws, which elements it drops.
enum class RandomStream : std::uint64_t { Draw = 1, Drop = 2, Cut = 3 };

/// The stream of a slice in a pass over the network.
constexpr std::uint64_t stream_of(RandomStream purpose, std::uint64_t pass, std::uint64_t slice) {
  return (pass * 1000003 + slice) * 8 + static_cast<std::uint64_t>(purpose);
}

class Sampler {
 public:
  /// Draws `options.batch` of `samples` as `options.draw` says. The batches of Draw::Batches are the same for
  /// all passes and slices.
  Sampler(const ReconstructOptions& options, std::uint64_t pass, std::uint64_t slice, std::int64_t samples);

  /// Indices of the samples of the next step, [batch] of int64.
  at::Tensor next();

 private:
  Draw draw_;
  std::int64_t batch_;
  Rng rng_;
  std::vector<std::int64_t> order_;
};

}  // namespace lithe
