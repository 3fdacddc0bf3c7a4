// Integer codes for the weights of layers.
#pragma once

#include <string>
#include <vector>

#include "lithe/quantize/layers.h"
#include "lithe/quantize/placement.h"
#include "lithe/quantize/quantizer.h"

namespace lithe {

/// Which 8-bit layers keep to 7 bits, so that processors that add pairs of u8 x s8 products in 16 bits (x86
/// without VNNI) do not saturate: 255 * 64 * 2 < 2^15.
enum class ReduceRange { Off, FirstLast, All };

struct WeightOptions {
  RangeMethod method = RangeMethod::Mse;  // Percentile: as MinMax
  MseSearch search = MseSearch::Shrink;
  Scheme scheme =
      Scheme::Asymmetric;  // 8 bits are always symmetric: codes less zero-point must fit into int8
  ReduceRange reduce_range = ReduceRange::Off;
};

/// One constant, quantised for all layers that read it with the same channel axis.
struct QuantizedWeight {
  std::string constant;
  std::vector<std::size_t> layers;  // indices
  int bits = 8;
  bool reduced = false;  // symmetric codes of 7 bits because of ReduceRange
  Quantizer quantizer;
  at::Tensor codes;  // whole numbers in float32, shaped like the constant
};

/// Which constants are to be quantised and to how many bits: those of all layers that have weight bits. A
/// shared constant gets the most bits that one of its layers asks for. Quantisers and codes stay empty.
std::vector<QuantizedWeight> assign_weights(const std::vector<Layer>& layers, ReduceRange reduce_range);

/// Quantises the weights of all layers that have weight bits, per output channel where the layer has such an
/// axis. Channels of zeros get scale 1.
std::vector<QuantizedWeight> quantize_weights(const Graph& graph, const std::vector<Layer>& layers,
                                              const WeightOptions& options);

/// Bias as integers of scale s_x * s_w: round(bias / (input_scale * weight_scale)), half to even.
/// The scales must not let a number pass 2^31 - 1 (see raise_scales); throws Error(Input) otherwise.
at::Tensor quantize_bias(const at::Tensor& bias, double input_scale, const at::Tensor& weight_scale);

/// Raises the weight scales to |bias| / (input_scale * 2^30) where they are smaller, so that the bias fits
/// into int32, and encodes those channels of `weight` again. Returns how many channels changed.
int raise_scales(QuantizedWeight& weight, const at::Tensor& values, const at::Tensor& bias,
                 double input_scale);

}  // namespace lithe
