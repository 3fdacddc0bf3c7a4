// Convolutions of 8-bit codes with 2-bit weights, in whole numbers.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

namespace lithe {

// A weight of 2 bits has a code k in 0..3 and stands for 2 k - 3: -3, -1, 1 or 3. Activations are codes of up
// to 8 bits. All sums are exact: |sum| <= 3 * 255 * terms, which fits into 32 bits.

/// Inputs times taps that a convolution may have.
inline constexpr std::int64_t kMostTerms = std::int64_t{1} << 21;

/// Four codes a byte, the first one in the lowest bits; the last byte is filled up with code 0.
void pack_codes(const std::uint8_t* codes, std::int64_t count, std::uint8_t* bytes);
void unpack_codes(const std::uint8_t* bytes, std::int64_t count, std::uint8_t* codes);

/// sum (2 k_i - 3) q_i from bit planes of both: 4 sum(k1 q) + 2 sum(k0 q) - 3 sum(q), k = 2 k1 + k0, each sum
/// by AND and population count over `bits` planes of q. For processors without better; and to count what
/// bit-serial hardware would do.
std::int64_t bit_serial_dot(const std::uint8_t* codes, const std::uint8_t* activations, std::int64_t count,
                            int bits);

/// The instruction sets that the kernels below are written for.
enum class TwoBitTarget {
  Portable,
  Avx2,  // vpmaddubsw: pairs of products, at most 1530, added up in 16 bits for 16 steps, then in 32
  Vnni,  // vpdpbusd of AVX-512 VNNI with 256-bit vectors
};
std::string_view two_bit_target_name(TwoBitTarget target);
bool two_bit_target_supported(TwoBitTarget target);
TwoBitTarget best_two_bit_target();

/// The weights [outputs, inputs, taps] of a convolution, stored once in 2 bits. In memory: blocks of 16
/// outputs; in a block, tap by tap, groups of 4 inputs; of a group one byte for each output. The first rows
/// and columns of a plane are the plane's own first blocks and groups, so that a narrower convolution runs
/// from the same bytes.
struct TwoBitPlane {
  std::int64_t outputs = 0, inputs = 0, taps = 0;
  std::vector<std::uint8_t> bytes;
};
inline constexpr std::int64_t kPlaneOutputs = 16, kPlaneInputs = 4;

/// `codes` [outputs, inputs, taps]. Throws Error(Input) if there are more than kMostTerms terms.
TwoBitPlane pack_plane(const std::uint8_t* codes, std::int64_t outputs, std::int64_t inputs,
                       std::int64_t taps);

/// The weights [channels, taps] of a depthwise convolution, tap by tap, 4 channels a byte: a plane of one
/// output for `two_bit_depthwise`.
TwoBitPlane pack_depthwise(const std::uint8_t* codes, std::int64_t channels, std::int64_t taps);

/// One convolution of one image. Codes in and sums out lie channels-last.
struct TwoBitConv {
  const TwoBitPlane* plane = nullptr;
  std::int64_t outputs = 0, inputs = 0;  // that are used, from the first on
  std::int64_t height = 0, width = 0, out_height = 0, out_width = 0;
  std::int64_t kernel_height = 1, kernel_width = 1, stride_y = 1, stride_x = 1, pad_top = 0, pad_left = 0;
  std::int64_t dilation_y = 1, dilation_x = 1;
  /// Distance of two positions of the input, a multiple of 4; codes behind the inputs must be 0.
  std::int64_t input_stride() const { return (inputs + kPlaneInputs - 1) / kPlaneInputs * kPlaneInputs; }
  /// Distance of two positions of the output.
  std::int64_t output_stride() const { return (outputs + kPlaneOutputs - 1) / kPlaneOutputs * kPlaneOutputs; }
  std::int64_t taps() const { return kernel_height * kernel_width; }
  /// Bytes of scratch memory that `two_bit_conv` wants.
  std::int64_t patch_bytes() const;
  std::int64_t weight_bytes() const { return taps() * input_stride() * kPlaneOutputs; }
};

/// sums [out_height, out_width, output_stride()] of codes [height, width, input_stride()]; padding stands for
/// code 0. Sums behind the outputs are of no use. `patches` and `weights` are scratch memory.
void two_bit_conv(const TwoBitConv& conv, const std::uint8_t* codes, std::int32_t* sums,
                  std::uint8_t* patches, std::int8_t* weights, TwoBitTarget target);
/// The same by definition.
void two_bit_conv_reference(const TwoBitConv& conv, const std::uint8_t* codes, std::int32_t* sums);

/// A depthwise convolution: the plane is one of `pack_depthwise`, inputs and outputs are its channels, of
/// which the first `inputs` are used. `weights` is scratch of taps * input_stride() bytes.
void two_bit_depthwise(const TwoBitConv& conv, const std::uint8_t* codes, std::int32_t* sums,
                       std::int8_t* weights);

}  // namespace lithe
