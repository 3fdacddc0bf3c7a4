#include "lithe/kernels/two_bit_conv.h"

#include <gmock/gmock.h>

#include <numeric>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/base/random.h"
#include "lithe/kernels/bound_quantize.h"

namespace lithe {
namespace {

using ::testing::ElementsAre;
using Bytes = std::vector<std::uint8_t>;

Bytes random_codes(std::int64_t count, std::uint64_t most, Rng& rng) {
  Bytes codes(static_cast<std::size_t>(count));
  for (auto& code : codes) code = static_cast<std::uint8_t>(rng.below(most + 1));
  return codes;
}

TEST(TwoBit, GoldenPackingAndPlanes) {
  const Bytes k{0, 1, 2, 3, 3, 2, 1, 0, 2, 2, 0, 3, 1, 1, 3, 0};
  Bytes bytes(4), back(16);
  pack_codes(k.data(), 16, bytes.data());
  EXPECT_THAT(bytes, ElementsAre(0xe4, 0x1b, 0xca, 0x35));
  unpack_codes(bytes.data(), 16, back.data());
  EXPECT_EQ(back, k);
  const Bytes q{5, 0, 15, 7, 3, 9, 12, 1, 8, 4, 2, 6, 11, 13, 10, 14};
  std::int64_t direct = 0, k1 = 0, k0 = 0;
  for (std::size_t i = 0; i < 16; ++i) {
    direct += (2 * k[i] - 3) * q[i];
    k1 += (k[i] >> 1) * q[i];
    k0 += (k[i] & 1) * q[i];
  }
  EXPECT_EQ(k1, 62);
  EXPECT_EQ(k0, 62);
  EXPECT_EQ(std::accumulate(q.begin(), q.end(), 0), 120);
  EXPECT_EQ(direct, 12);
  EXPECT_EQ(bit_serial_dot(k.data(), q.data(), 16, 4), 12);
}

TEST(TwoBit, BitSerialIsDirect) {
  Rng rng(1);
  for (const int bits : {2, 3, 8}) {
    const Bytes k = random_codes(150, 3, rng), q = random_codes(150, (1u << bits) - 1, rng);
    std::int64_t direct = 0;
    for (std::size_t i = 0; i < 150; ++i) direct += (2 * k[i] - 3) * q[i];
    EXPECT_EQ(bit_serial_dot(k.data(), q.data(), 150, bits), direct);
  }
}

// 8 -> 8 channels in four branches of two, 3x3, padded: the accumulators that the authors' quantisers lead
// to. With bounds by place, as their code has it, the branches of 4 bits take the bounds of places 0 and 1.
class GoldenConvolution : public ::testing::Test {
 protected:
  GoldenConvolution() {
    for (int j = 0; j < 8 * 2 * 9; ++j) weights_.push_back(static_cast<float>(37 * j % 101) / 101.0f - 0.5f);
    for (int j = 0; j < 8 * 16; ++j) input_.push_back(3.0f * static_cast<float>(53 * j % 97) / 97.0f);
  }

  Bytes weight_codes(int branch, int slot) const {
    Bytes codes(36);
    bound_codes(weights_.data() + branch * 36, codes.data(), 36,
                bound_quantize_spec(-0.4f, 0.4f + 0.05f * static_cast<float>(slot), 3, true));
    return codes;
  }

  /// Sums [16 positions, 2] of the branch at the place, of channels 2 slot and 2 slot + 1 of the input.
  std::vector<std::int32_t> run(int branch, int slot, int bits) const {
    const Bytes weight = weight_codes(branch, slot);
    const TwoBitPlane plane = pack_plane(weight.data(), 2, 2, 9);
    const auto at = static_cast<float>(slot);
    const BoundQuantizeSpec spec =
        bound_quantize_spec(0.1f * at, 2 + 0.25f * at, (std::int64_t{1} << bits) - 1, false);
    Bytes codes(16 * 4);
    for (std::size_t p = 0; p < 16; ++p)
      for (std::size_t c = 0; c < 2; ++c)
        bound_codes(&input_[(2 * static_cast<std::size_t>(slot) + c) * 16 + p], &codes[4 * p + c], 1, spec);
    const TwoBitConv conv{.plane = &plane,
                          .outputs = 2,
                          .inputs = 2,
                          .height = 4,
                          .width = 4,
                          .out_height = 4,
                          .out_width = 4,
                          .kernel_height = 3,
                          .kernel_width = 3,
                          .pad_top = 1,
                          .pad_left = 1};
    std::vector<std::int32_t> sums(16 * 16), out;
    Bytes patches(static_cast<std::size_t>(conv.patch_bytes()));
    std::vector<std::int8_t> scratch(static_cast<std::size_t>(conv.weight_bytes()));
    two_bit_conv(conv, codes.data(), sums.data(), patches.data(), scratch.data(), best_two_bit_target());
    for (std::size_t p = 0; p < 16; ++p)
      for (std::size_t c = 0; c < 2; ++c) out.push_back(sums[16 * p + c]);
    return out;
  }

  std::vector<float> weights_, input_;
};

TEST_F(GoldenConvolution, Accumulators) {
  struct Case {
    int bits, first, count;
    std::vector<std::int32_t> at_one_one;
    std::int64_t all;
    double mean;  // of the branches, channel 0
  };
  const Case cases[] = {{2, 0, 1, {-9, 11}, -96, -1.0},
                        {4, 1, 2, {-53, -55, -114, -60}, -958, -1.855556},
                        {6, 1, 3, {-227, -215, -501, -237, 166, -458}, -5840, -0.991182},
                        {8, 0, 4, {-496, 988, -745, 1061, -478, -1490, -1298, -470}, -64952, -0.985947}};
  for (const Case& one : cases) {
    std::vector<std::int32_t> here;
    std::int64_t all = 0;
    double mean = 0;
    for (int slot = 0; slot < one.count; ++slot) {
      const auto sums = run(one.first + slot, slot, one.bits);
      here.insert(here.end(), {sums[2 * 5], sums[2 * 5 + 1]});
      all = std::accumulate(sums.begin(), sums.end(), all);
      mean += static_cast<double>(sums[2 * 5]) / (3 * ((1 << one.bits) - 1)) / one.count;
    }
    EXPECT_EQ(here, one.at_one_one) << one.bits;
    EXPECT_EQ(all, one.all) << one.bits;
    EXPECT_NEAR(mean, one.mean, 1e-6) << one.bits;
  }
}

// Branch 2 is quantised by the bounds of place 0 at 4 bits and of place 1 at 8: its codes are not the same.
TEST_F(GoldenConvolution, CodesDependOnTheSlot) {
  const Bytes first = weight_codes(1, 0), second = weight_codes(1, 1);
  int differing = 0;
  for (std::size_t i = 0; i < 36; ++i) differing += first[i] != second[i] ? 1 : 0;
  EXPECT_EQ(differing, 2);
  std::vector<int> row;
  for (std::size_t i = 0; i < 18; ++i) row.push_back(2 * first[i] - 3);
  EXPECT_THAT(row, ElementsAre(-3, 1, 3, -1, 1, -3, -1, 1, -3, -1, 3, -3, 1, 3, -1, 1, -3, -1));
}

struct Shape {
  std::int64_t outputs, inputs, used_outputs, used_inputs, height, width, kernel, stride, pad, dilation;
};

TwoBitConv conv_of(const Shape& s, const TwoBitPlane& plane) {
  const auto size = [&](std::int64_t in) {
    return (in + 2 * s.pad - s.dilation * (s.kernel - 1) - 1) / s.stride + 1;
  };
  return {.plane = &plane,
          .outputs = s.used_outputs,
          .inputs = s.used_inputs,
          .height = s.height,
          .width = s.width,
          .out_height = size(s.height),
          .out_width = size(s.width),
          .kernel_height = s.kernel,
          .kernel_width = s.kernel,
          .stride_y = s.stride,
          .stride_x = s.stride,
          .pad_top = s.pad,
          .pad_left = s.pad,
          .dilation_y = s.dilation,
          .dilation_x = s.dilation};
}

Bytes activations(const TwoBitConv& conv, Rng& rng, bool largest) {
  Bytes codes(static_cast<std::size_t>(conv.height * conv.width * conv.input_stride()));
  for (std::int64_t p = 0; p < conv.height * conv.width; ++p)
    for (std::int64_t c = 0; c < conv.inputs; ++c)
      codes[static_cast<std::size_t>(p * conv.input_stride() + c)] =
          largest ? 255 : static_cast<std::uint8_t>(rng.below(256));
  return codes;
}

TEST(TwoBit, EveryTargetGivesTheReference) {
  Rng rng(4);
  const Shape shapes[] = {{16, 16, 16, 16, 8, 8, 3, 1, 1, 1}, {20, 7, 20, 7, 5, 6, 3, 2, 1, 1},
                          {33, 12, 33, 12, 7, 7, 1, 1, 0, 1}, {33, 12, 9, 5, 7, 7, 3, 1, 1, 1},
                          {8, 64, 8, 64, 3, 3, 3, 1, 0, 1},   {16, 8, 16, 8, 9, 9, 3, 1, 2, 2},
                          {5, 600, 5, 600, 4, 4, 1, 2, 0, 1}};
  for (const Shape& shape : shapes)
    for (const bool largest : {false, true}) {
      Bytes codes = random_codes(shape.outputs * shape.inputs * shape.kernel * shape.kernel, 3, rng);
      if (largest) std::fill(codes.begin(), codes.end(), std::uint8_t{3});
      const TwoBitPlane plane =
          pack_plane(codes.data(), shape.outputs, shape.inputs, shape.kernel * shape.kernel);
      const TwoBitConv conv = conv_of(shape, plane);
      const Bytes q = activations(conv, rng, largest);
      const auto count = static_cast<std::size_t>(conv.out_height * conv.out_width * conv.output_stride());
      std::vector<std::int32_t> expected(count), sums(count);
      two_bit_conv_reference(conv, q.data(), expected.data());
      Bytes patches(static_cast<std::size_t>(conv.patch_bytes()));
      std::vector<std::int8_t> weights(static_cast<std::size_t>(conv.weight_bytes()));
      for (const TwoBitTarget target : {TwoBitTarget::Portable, TwoBitTarget::Avx2, TwoBitTarget::Vnni}) {
        if (!two_bit_target_supported(target)) continue;
        two_bit_conv(conv, q.data(), sums.data(), patches.data(), weights.data(), target);
        for (std::int64_t p = 0; p < conv.out_height * conv.out_width; ++p)
          for (std::int64_t o = 0; o < conv.outputs; ++o) {
            const auto at = static_cast<std::size_t>(p * conv.output_stride() + o);
            ASSERT_EQ(sums[at], expected[at]) << two_bit_target_name(target) << " " << p << " " << o;
          }
      }
    }
}

TEST(TwoBit, DepthwiseGivesTheReference) {
  Rng rng(5);
  for (const std::int64_t used : {10, 7}) {
    const Bytes codes = random_codes(10 * 9, 3, rng);
    const TwoBitPlane plane = pack_depthwise(codes.data(), 10, 9);
    EXPECT_EQ(plane.bytes.size(), 9u * 3);  // 4 channels a byte
    TwoBitConv conv = conv_of({1, 10, used, used, 6, 5, 3, 2, 1, 1}, plane);
    const Bytes q = activations(conv, rng, false);
    std::vector<std::int32_t> sums(
        static_cast<std::size_t>(conv.out_height * conv.out_width * conv.output_stride()));
    std::vector<std::int8_t> weights(static_cast<std::size_t>(9 * conv.input_stride()));
    two_bit_depthwise(conv, q.data(), sums.data(), weights.data());
    for (std::int64_t y = 0; y < conv.out_height; ++y)
      for (std::int64_t x = 0; x < conv.out_width; ++x)
        for (std::int64_t c = 0; c < used; ++c) {
          std::int32_t sum = 0;
          for (std::int64_t tap = 0; tap < 9; ++tap) {
            const std::int64_t row = 2 * y - 1 + tap / 3, column = 2 * x - 1 + tap % 3;
            if (row < 0 || row >= 6 || column < 0 || column >= 5) continue;
            sum += (2 * codes[static_cast<std::size_t>(c * 9 + tap)] - 3) *
                   q[static_cast<std::size_t>((row * 5 + column) * conv.input_stride() + c)];
          }
          ASSERT_EQ(sums[static_cast<std::size_t>((y * conv.out_width + x) * conv.output_stride() + c)], sum);
        }
  }
}

TEST(TwoBit, RefusesSumsThatMightNotFit) {
  EXPECT_THROW(pack_plane(nullptr, 1, kMostTerms, 2), Error);
  EXPECT_THROW(pack_plane(nullptr, 1, kMostTerms / 9 + 1, 9), Error);
}

}  // namespace
}  // namespace lithe
