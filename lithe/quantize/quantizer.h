// Uniform quantisers: integer codes for real numbers, and how their scales are chosen.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace lithe {

/// The integers that a quantiser may use, both ends included.
struct CodeRange {
  std::int64_t low = 0, high = 255;
  bool operator==(const CodeRange&) const = default;
};

/// A code q stands for (q - zero_point) * scale. Scales and zero-points hold one number for the whole tensor
/// (shape []), or one a channel (shape [channels]) along `axis`.
struct Quantizer {
  at::Tensor scale;       // float32, positive
  at::Tensor zero_point;  // float32, whole numbers
  CodeRange codes;
  std::int64_t axis = -1;  // -1: one scale for the whole tensor
};

/// What the zero-point may be.
enum class Scheme {
  Asymmetric,  // codes 0 .. 2^b - 1, any zero-point among them
  Symmetric,   // zero-point 0, signed codes
};

/// How a range is chosen from data.
enum class RangeMethod {
  MinMax,      // covers every value
  Percentile,  // cuts the outermost values off (activations; weights keep min-max)
  Mse,         // the range of least mean |x - x^|^2.4
};

/// How the range of least error is searched.
enum class MseSearch {
  Shrink,  // both ends times 1, 0.99, ..., 0.21 (Li et al., "BRECQ", ICLR 2021)
  Grid,    // 100 widths times all zero-points (Wei et al., "QDrop", ICLR 2022); 5 and more bits: Shrink
};

/// Ends of a range; shape [] or [channels]; low <= 0 <= high.
struct Range {
  at::Tensor low, high;
};

/// Least scale that is used, so that constant channels do not divide by zero.
inline constexpr double kLeastScale = 1.1920929e-7;

/// Exponent of the error that the search minimises.
inline constexpr double kErrorExponent = 2.4;

/// The codes of a symmetric quantiser: -2^(b-1) .. 2^(b-1) - 1, without the lowest for 8 bits, so that a
/// product of two of them cannot be 2^14; for data that are never negative 0 .. min(2^b - 1, 127), which an
/// int8 container holds.
CodeRange symmetric_codes(int bits, bool non_negative = false);
inline CodeRange asymmetric_codes(int bits) {
  return {0, (std::int64_t{1} << bits) - 1};
}

/// Smallest and largest element, extended to contain 0, of the whole tensor (axis -1) or of each channel.
/// Throws Error(Input) if the tensor is empty.
Range min_max_range(const at::Tensor& x, std::int64_t axis = -1);

/// Scale (high - low) / (2^b - 1) and zero-point -round(low / scale) for asymmetric codes; for symmetric
/// codes the least scale with which the range fits. Ranges are extended to contain 0.
Quantizer quantizer_for_range(const Range& range, Scheme scheme, const CodeRange& codes,
                              std::int64_t axis = -1);

/// The range among the candidates of `search` with the least mean |x - x^|^2.4; the first one on ties.
/// `steps` is the number of shrunk ranges (Shrink). Symmetric quantisers always shrink.
Range search_mse_range(const at::Tensor& x, std::int64_t axis, Scheme scheme, const CodeRange& codes,
                       MseSearch search = MseSearch::Shrink, int steps = 80);

/// Mean |x - x^|^2.4, of the whole tensor ([]) or of each channel ([channels]).
at::Tensor quantization_error(const Quantizer& quantizer, const at::Tensor& x);

/// Codes of x as whole numbers in float32, rounded half to even and clipped.
at::Tensor encode(const Quantizer& quantizer, const at::Tensor& x);
/// What the codes stand for.
at::Tensor decode(const Quantizer& quantizer, const at::Tensor& codes);
/// decode(encode(x)).
inline at::Tensor fake_quantize(const Quantizer& quantizer, const at::Tensor& x) {
  return decode(quantizer, encode(quantizer, x));
}

/// A tensor of shape [channels] shaped to broadcast along `axis` of a tensor of `rank` dimensions; scalars
/// stay as they are.
at::Tensor along_axis(const at::Tensor& values, std::int64_t axis, std::int64_t rank);

}  // namespace lithe
