#include "lithe/kernels/two_bit_conv.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>

#include "lithe/base/error.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace lithe {
namespace {

constexpr std::int64_t kRows = 4;  // positions that a kernel works on at a time
constexpr std::int64_t kWeightStep = kPlaneOutputs * kPlaneInputs;  // bytes of weights for 4 inputs

/// The four weights of a byte.
constexpr std::array<std::array<std::int8_t, 4>, 256> kWeights = [] {
  std::array<std::array<std::int8_t, 4>, 256> table{};
  for (unsigned byte = 0; byte < 256; ++byte)
    for (unsigned i = 0; i < 4; ++i)
      table[byte][i] = static_cast<std::int8_t>(2 * static_cast<int>(byte >> (2 * i) & 3) - 3);
  return table;
}();

std::int64_t groups_of(std::int64_t inputs) {
  return (inputs + kPlaneInputs - 1) / kPlaneInputs;
}

/// Weights [taps * groups][16 outputs][4 inputs] of one block of outputs.
void unpack_block(const TwoBitConv& conv, std::int64_t block, std::int8_t* weights) {
  const TwoBitPlane& plane = *conv.plane;
  const std::int64_t all = groups_of(plane.inputs), used = groups_of(conv.inputs);
  for (std::int64_t tap = 0; tap < conv.taps(); ++tap) {
    const std::uint8_t* from = plane.bytes.data() + ((block * plane.taps + tap) * all) * kPlaneOutputs;
    for (std::int64_t i = 0; i < used * kPlaneOutputs; ++i, weights += 4)
      std::memcpy(weights, kWeights[from[i]].data(), 4);
  }
}

/// Rows of codes [positions, taps, input_stride()].
void gather_patches(const TwoBitConv& conv, const std::uint8_t* codes, std::uint8_t* patches) {
  const std::int64_t bytes = conv.input_stride();
  for (std::int64_t y = 0; y < conv.out_height; ++y)
    for (std::int64_t x = 0; x < conv.out_width; ++x)
      for (std::int64_t ky = 0; ky < conv.kernel_height; ++ky) {
        const std::int64_t row = y * conv.stride_y - conv.pad_top + ky * conv.dilation_y;
        const std::int64_t column = x * conv.stride_x - conv.pad_left;
        const bool inside = row >= 0 && row < conv.height && column >= 0 && conv.dilation_x == 1 &&
                            column + conv.kernel_width <= conv.width;
        if (inside) {
          std::memcpy(patches, codes + (row * conv.width + column) * bytes,
                      static_cast<std::size_t>(conv.kernel_width * bytes));
          patches += conv.kernel_width * bytes;
          continue;
        }
        for (std::int64_t kx = 0; kx < conv.kernel_width; ++kx, patches += bytes) {
          const std::int64_t at = column + kx * conv.dilation_x;
          if (row >= 0 && row < conv.height && at >= 0 && at < conv.width)
            std::memcpy(patches, codes + (row * conv.width + at) * bytes, static_cast<std::size_t>(bytes));
          else
            std::memset(patches, 0, static_cast<std::size_t>(bytes));
        }
      }
}

/// sums[r][0..15] of `rows` rows of `steps` groups of 4 codes.
using Kernel = void (*)(const std::uint8_t* codes, std::int64_t row_bytes, const std::int8_t* weights,
                        std::int64_t steps, std::int32_t* sums, std::int64_t sum_stride);

void multiply_portable(const std::uint8_t* codes, std::int64_t row_bytes, const std::int8_t* weights,
                       std::int64_t steps, std::int32_t* sums, std::int64_t sum_stride) {
  for (std::int64_t r = 0; r < kRows; ++r) {
    std::array<std::int32_t, kPlaneOutputs> sum{};
    for (std::int64_t s = 0; s < steps; ++s)
      for (std::int64_t i = 0; i < kPlaneInputs; ++i) {
        const std::int32_t code = codes[r * row_bytes + s * kPlaneInputs + i];
        for (std::int64_t o = 0; o < kPlaneOutputs; ++o)
          sum[static_cast<std::size_t>(o)] += code * weights[s * kWeightStep + o * kPlaneInputs + i];
      }
    std::copy(sum.begin(), sum.end(), sums + r * sum_stride);
  }
}

#if defined(__x86_64__)
constexpr std::int64_t kSafeSteps = 16;  // of at most 1530 in 16 bits; 21 would still fit

__attribute__((target("avx2"))) inline __m256i codes_for_all(const std::uint8_t* codes) {
  std::int32_t four;
  std::memcpy(&four, codes, 4);
  return _mm256_set1_epi32(four);
}

__attribute__((target("avx2"))) void multiply_avx2(const std::uint8_t* codes, std::int64_t row_bytes,
                                                   const std::int8_t* weights, std::int64_t steps,
                                                   std::int32_t* sums, std::int64_t sum_stride) {
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i total[kRows][2];
  for (auto& row : total) row[0] = row[1] = _mm256_setzero_si256();
  for (std::int64_t first = 0; first < steps; first += kSafeSteps) {
    const std::int64_t last = std::min(steps, first + kSafeSteps);
    __m256i a0 = _mm256_setzero_si256(), a1 = a0, b0 = a0, b1 = a0, c0 = a0, c1 = a0, d0 = a0, d1 = a0;
    for (std::int64_t s = first; s < last; ++s) {
      const auto* at = reinterpret_cast<const __m256i*>(weights + s * kWeightStep);
      const __m256i w0 = _mm256_loadu_si256(at), w1 = _mm256_loadu_si256(at + 1);
      const std::uint8_t* q = codes + s * kPlaneInputs;
      __m256i x = codes_for_all(q);
      a0 = _mm256_add_epi16(a0, _mm256_maddubs_epi16(x, w0));
      a1 = _mm256_add_epi16(a1, _mm256_maddubs_epi16(x, w1));
      x = codes_for_all(q + row_bytes);
      b0 = _mm256_add_epi16(b0, _mm256_maddubs_epi16(x, w0));
      b1 = _mm256_add_epi16(b1, _mm256_maddubs_epi16(x, w1));
      x = codes_for_all(q + 2 * row_bytes);
      c0 = _mm256_add_epi16(c0, _mm256_maddubs_epi16(x, w0));
      c1 = _mm256_add_epi16(c1, _mm256_maddubs_epi16(x, w1));
      x = codes_for_all(q + 3 * row_bytes);
      d0 = _mm256_add_epi16(d0, _mm256_maddubs_epi16(x, w0));
      d1 = _mm256_add_epi16(d1, _mm256_maddubs_epi16(x, w1));
    }
    const __m256i parts[kRows][2] = {{a0, a1}, {b0, b1}, {c0, c1}, {d0, d1}};
    for (std::int64_t r = 0; r < kRows; ++r)
      for (int half = 0; half < 2; ++half)
        total[r][half] = _mm256_add_epi32(total[r][half], _mm256_madd_epi16(parts[r][half], ones));
  }
  for (std::int64_t r = 0; r < kRows; ++r)
    for (int half = 0; half < 2; ++half)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + r * sum_stride + 8 * half), total[r][half]);
}

__attribute__((target("avx2,avx512vl,avx512vnni"))) void multiply_vnni(const std::uint8_t* codes,
                                                                       std::int64_t row_bytes,
                                                                       const std::int8_t* weights,
                                                                       std::int64_t steps, std::int32_t* sums,
                                                                       std::int64_t sum_stride) {
  __m256i total[kRows][2];
  for (auto& row : total) row[0] = row[1] = _mm256_setzero_si256();
  for (std::int64_t s = 0; s < steps; ++s) {
    const auto* at = reinterpret_cast<const __m256i*>(weights + s * kWeightStep);
    const __m256i w0 = _mm256_loadu_si256(at), w1 = _mm256_loadu_si256(at + 1);
    for (std::int64_t r = 0; r < kRows; ++r) {
      std::int32_t four;
      std::memcpy(&four, codes + r * row_bytes + s * kPlaneInputs, 4);
      const __m256i x = _mm256_set1_epi32(four);
      total[r][0] = _mm256_dpbusd_epi32(total[r][0], x, w0);
      total[r][1] = _mm256_dpbusd_epi32(total[r][1], x, w1);
    }
  }
  for (std::int64_t r = 0; r < kRows; ++r)
    for (int half = 0; half < 2; ++half)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + r * sum_stride + 8 * half), total[r][half]);
}
#endif

Kernel kernel_for(TwoBitTarget target) {
#if defined(__x86_64__)
  if (target == TwoBitTarget::Vnni) return multiply_vnni;
  if (target == TwoBitTarget::Avx2) return multiply_avx2;
#endif
  return multiply_portable;
}

}  // namespace

void pack_codes(const std::uint8_t* codes, std::int64_t count, std::uint8_t* bytes) {
  for (std::int64_t i = 0; i < count; i += 4) {
    unsigned byte = 0;
    for (std::int64_t j = i; j < std::min(count, i + 4); ++j)
      byte |= static_cast<unsigned>(codes[j] & 3) << (2 * (j - i));
    bytes[i / 4] = static_cast<std::uint8_t>(byte);
  }
}

void unpack_codes(const std::uint8_t* bytes, std::int64_t count, std::uint8_t* codes) {
  for (std::int64_t i = 0; i < count; ++i)
    codes[i] = static_cast<std::uint8_t>(bytes[i / 4] >> (2 * (i % 4)) & 3);
}

std::int64_t bit_serial_dot(const std::uint8_t* codes, const std::uint8_t* activations, std::int64_t count,
                            int bits) {
  std::int64_t high = 0, low = 0, all = 0;
  for (std::int64_t i = 0; i < count; i += 64) {
    const std::int64_t last = std::min(count, i + 64);
    std::uint64_t k1 = 0, k0 = 0;
    for (std::int64_t j = i; j < last; ++j) {
      k1 |= static_cast<std::uint64_t>(codes[j] >> 1 & 1) << (j - i);
      k0 |= static_cast<std::uint64_t>(codes[j] & 1) << (j - i);
    }
    for (int bit = 0; bit < bits; ++bit) {
      std::uint64_t plane = 0;
      for (std::int64_t j = i; j < last; ++j)
        plane |= static_cast<std::uint64_t>(activations[j] >> bit & 1) << (j - i);
      high += static_cast<std::int64_t>(std::popcount(plane & k1)) << bit;
      low += static_cast<std::int64_t>(std::popcount(plane & k0)) << bit;
      all += static_cast<std::int64_t>(std::popcount(plane)) << bit;
    }
  }
  return 4 * high + 2 * low - 3 * all;
}

std::string_view two_bit_target_name(TwoBitTarget target) {
  return target == TwoBitTarget::Vnni ? "AVX-512 VNNI" : target == TwoBitTarget::Avx2 ? "AVX2" : "portable";
}

bool two_bit_target_supported(TwoBitTarget target) {
#if defined(__x86_64__)
  if (target == TwoBitTarget::Avx2) return __builtin_cpu_supports("avx2");
  if (target == TwoBitTarget::Vnni)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512vnni");
#endif
  return target == TwoBitTarget::Portable;
}

TwoBitTarget best_two_bit_target() {
  for (const TwoBitTarget target : {TwoBitTarget::Vnni, TwoBitTarget::Avx2})
    if (two_bit_target_supported(target)) return target;
  return TwoBitTarget::Portable;
}

TwoBitPlane pack_plane(const std::uint8_t* codes, std::int64_t outputs, std::int64_t inputs,
                       std::int64_t taps) {
  if (inputs * taps > kMostTerms)
    fail("a convolution of {} inputs and {} taps has more than {} terms, whose sum need not fit into 32 bits",
         inputs, taps, kMostTerms);
  TwoBitPlane plane{outputs, inputs, taps, {}};
  const std::int64_t blocks = (outputs + kPlaneOutputs - 1) / kPlaneOutputs, groups = groups_of(inputs);
  plane.bytes.resize(static_cast<std::size_t>(blocks * taps * groups * kPlaneOutputs));
  std::uint8_t* to = plane.bytes.data();
  for (std::int64_t block = 0; block < blocks; ++block)
    for (std::int64_t tap = 0; tap < taps; ++tap)
      for (std::int64_t group = 0; group < groups; ++group)
        for (std::int64_t o = block * kPlaneOutputs; o < (block + 1) * kPlaneOutputs; ++o, ++to) {
          std::array<std::uint8_t, 4> four{};
          for (std::int64_t i = 0; i < kPlaneInputs; ++i)
            if (const std::int64_t input = group * kPlaneInputs + i; o < outputs && input < inputs)
              four[static_cast<std::size_t>(i)] = codes[(o * inputs + input) * taps + tap];
          pack_codes(four.data(), kPlaneInputs, to);
        }
  return plane;
}

TwoBitPlane pack_depthwise(const std::uint8_t* codes, std::int64_t channels, std::int64_t taps) {
  const std::int64_t groups = groups_of(channels);
  TwoBitPlane plane{1, channels, taps, std::vector<std::uint8_t>(static_cast<std::size_t>(groups * taps))};
  std::vector<std::uint8_t> row(static_cast<std::size_t>(channels));
  for (std::int64_t tap = 0; tap < taps; ++tap) {
    for (std::int64_t c = 0; c < channels; ++c) row[static_cast<std::size_t>(c)] = codes[c * taps + tap];
    pack_codes(row.data(), channels, plane.bytes.data() + tap * groups);
  }
  return plane;
}

std::int64_t TwoBitConv::patch_bytes() const {
  const std::int64_t rows = (out_height * out_width + kRows - 1) / kRows * kRows;
  return rows * taps() * input_stride();
}

void two_bit_conv(const TwoBitConv& conv, const std::uint8_t* codes, std::int32_t* sums,
                  std::uint8_t* patches, std::int8_t* weights, TwoBitTarget target) {
  const std::int64_t positions = conv.out_height * conv.out_width,
                     row_bytes = conv.taps() * conv.input_stride();
  const std::int64_t steps = row_bytes / kPlaneInputs, stride = conv.output_stride();
  // A convolution of single positions reads the codes where they lie.
  const bool in_place = conv.taps() == 1 && conv.stride_y == 1 && conv.stride_x == 1 && conv.pad_top == 0 &&
                        conv.pad_left == 0 && conv.out_height == conv.height && conv.out_width == conv.width;
  if (!in_place) gather_patches(conv, codes, patches);
  const std::uint8_t* rows = in_place ? codes : patches;
  const Kernel multiply = kernel_for(target);
  for (std::int64_t block = 0; block * kPlaneOutputs < conv.outputs; ++block) {
    unpack_block(conv, block, weights);
    std::int32_t* to = sums + block * kPlaneOutputs;
    std::int64_t p = 0;
    for (; p + kRows <= positions; p += kRows)
      multiply(rows + p * row_bytes, row_bytes, weights, steps, to + p * stride, stride);
    if (p == positions) continue;
    // The last rows, again with some that are done if there are enough.
    if (positions >= kRows) {
      p = positions - kRows;
      multiply(rows + p * row_bytes, row_bytes, weights, steps, to + p * stride, stride);
      continue;
    }
    std::array<std::int32_t, kRows * kPlaneOutputs> few{};
    for (; p < positions; ++p) {
      multiply(rows + p * row_bytes, 0, weights, steps, few.data(), kPlaneOutputs);
      std::copy_n(few.begin(), kPlaneOutputs, to + p * stride);
    }
  }
}

void two_bit_conv_reference(const TwoBitConv& conv, const std::uint8_t* codes, std::int32_t* sums) {
  const TwoBitPlane& plane = *conv.plane;
  const std::int64_t groups = groups_of(plane.inputs), stride = conv.output_stride();
  for (std::int64_t y = 0; y < conv.out_height; ++y)
    for (std::int64_t x = 0; x < conv.out_width; ++x)
      for (std::int64_t o = 0; o < conv.outputs; ++o) {
        std::int32_t sum = 0;
        for (std::int64_t tap = 0; tap < conv.taps(); ++tap) {
          const std::int64_t row =
                                 y * conv.stride_y - conv.pad_top + tap / conv.kernel_width * conv.dilation_y,
                             column = x * conv.stride_x - conv.pad_left +
                                      tap % conv.kernel_width * conv.dilation_x;
          if (row < 0 || row >= conv.height || column < 0 || column >= conv.width) continue;
          for (std::int64_t i = 0; i < conv.inputs; ++i) {
            const std::int64_t at =
                ((o / kPlaneOutputs * plane.taps + tap) * groups + i / kPlaneInputs) * kPlaneOutputs +
                o % kPlaneOutputs;
            const int k = plane.bytes[static_cast<std::size_t>(at)] >> (2 * (i % kPlaneInputs)) & 3;
            sum += (2 * k - 3) * codes[(row * conv.width + column) * conv.input_stride() + i];
          }
        }
        sums[(y * conv.out_width + x) * stride + o] = sum;
      }
}

void two_bit_depthwise(const TwoBitConv& conv, const std::uint8_t* codes, std::int32_t* sums,
                       std::int8_t* weights) {
  const TwoBitPlane& plane = *conv.plane;
  const std::int64_t groups = groups_of(plane.inputs), bytes = conv.input_stride(),
                     stride = conv.output_stride();
  for (std::int64_t tap = 0; tap < conv.taps(); ++tap)
    for (std::int64_t c = 0; c < bytes; c += kPlaneInputs)
      std::memcpy(weights + tap * bytes + c,
                  kWeights[plane.bytes[static_cast<std::size_t>(tap * groups + c / kPlaneInputs)]].data(), 4);
  const std::int64_t channels = conv.inputs;
  for (std::int64_t y = 0; y < conv.out_height; ++y)
    for (std::int64_t x = 0; x < conv.out_width; ++x) {
      std::int32_t* to = sums + (y * conv.out_width + x) * stride;
      std::fill(to, to + channels, 0);
      for (std::int64_t tap = 0; tap < conv.taps(); ++tap) {
        const std::int64_t row = y * conv.stride_y - conv.pad_top + tap / conv.kernel_width * conv.dilation_y,
                           column =
                               x * conv.stride_x - conv.pad_left + tap % conv.kernel_width * conv.dilation_x;
        if (row < 0 || row >= conv.height || column < 0 || column >= conv.width) continue;
        const std::uint8_t* q = codes + (row * conv.width + column) * bytes;
        const std::int8_t* w = weights + tap * bytes;
        for (std::int64_t c = 0; c < channels; ++c) to[c] += std::int32_t{q[c]} * std::int32_t{w[c]};
      }
    }
}

}  // namespace lithe
