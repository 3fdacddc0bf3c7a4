// DFSQ: activations rounded to a few multiplier-free points, for image-to-image networks.
//
//   Quantized result = quantize(model, calibration, {.weight_bits = 4, .activation_bits = 4,
//                                                    .dfsq = DfsqOptions{}}, progress);
//
// Zhong et al., "Distribution-Flexible Subset Quantization for Post-Quantizing Super-Resolution Networks",
// arXiv 2305.05888, on Oh et al., "Non-uniform Step Size Quantization for Accurate Post-Training
// Quantization", ECCV 2022. Channels are normalised to [-1, 1] and rounded to 2^b values of a universal set
// (universal_set.h), which calibration chooses for each channel (select_points.h). docs/dfsq.md says what
// differs from the paper.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lithe {

enum class SubsetStatistics {
  Dynamic,  // of each channel of each sample, as published
  Static,   // of each channel over the calibration data; folded into weights and biases
};
enum class PointMethod {
  KMeans,   // as published
  Exact,    // least squared error, by dynamic programming
  Uniform,  // evenly spread over the range of least squared error: what points are compared with
};
enum class SubsetWeights {
  MinMax,  // as published
  Mse,     // the ranges of least error
};

struct DfsqOptions {
  SubsetStatistics statistics = SubsetStatistics::Static;
  PointMethod points = PointMethod::Exact;
  SubsetWeights weights = SubsetWeights::Mse;
  int restarts = 5;  // of K-means
  std::uint64_t seed = 1005;
  /// Bytes for what is kept until points are chosen (more passes if it needs more), and for the values of the
  /// network while it runs (fewer samples at once, one at least).
  std::int64_t memory = std::int64_t{1} << 30;
};

/// A layer whose input is rounded to points.
struct DfsqLayer {
  std::string name, input;
  int bits = 8;
  std::int64_t channels = 0;
  bool centred = false;       // the mean is subtracted: the input does not come from a Relu
  double used = 0;            // points a channel that some of the data are nearest to, mean over channels
  std::int64_t constant = 0;  // channels that do not vary on the calibration data
  double noise = 0;           // squared error over squared normalised values, on the calibration data
};

struct DfsqReport {
  DfsqOptions options;
  std::vector<DfsqLayer> layers;
  double observe_seconds = 0, select_seconds = 0;
  std::int64_t numbers = 0;  // that points were chosen for
};

}  // namespace lithe
