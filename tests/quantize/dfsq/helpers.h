// Networks and data for the tests of DFSQ.
#pragma once

#include "lithe/models/models.h"
#include "lithe/quantize/quantize.h"
#include "quantize/helpers.h"

namespace lithe::testing_helpers {

inline SuperResolutionOptions small_network() {
  return {.scale = 2, .channels = 8, .blocks = 2, .image_channels = 3, .image_size = 16};
}

inline DatasetPtr smooth_images(std::int64_t count, std::uint64_t seed, std::int64_t size = 16) {
  const at::Tensor coarse = random_tensor({count, 3, size / 4, size / 4}, seed);
  return tensor_dataset({{"", at::sigmoid(coarse.repeat_interleave(4, 2).repeat_interleave(4, 3) +
                                          0.1 * random_tensor({count, 3, size, size}, seed + 1))}});
}

inline Quantized quantized_by(const Graph& graph, const DfsqOptions& dfsq, int bits,
                              std::int64_t report = 8) {
  Progress silent;
  return quantize(graph, smooth_images(8, 3),
                  {.weight_bits = bits, .activation_bits = bits, .dfsq = dfsq, .report_samples = report},
                  silent);
}

}  // namespace lithe::testing_helpers
