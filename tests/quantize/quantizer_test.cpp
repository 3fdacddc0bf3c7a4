#include "lithe/quantize/quantizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/base/random.h"

namespace lithe {
namespace {

// The numbers below are golden cases of the specification of reconstruction methods: the quantisers of BRECQ
// (Li et al., ICLR 2021), QDrop (Wei et al., ICLR 2022) and MRECG (Ma et al., CVPR 2023) on small vectors.

at::Tensor vec(const std::vector<float>& values) {
  return at::tensor(values);
}
const std::vector<float> kX{-1, -0.4f, 0, 0.3f, 0.55f, 0.9f, 1.7f, 2.6f};
const std::vector<float> kPositive{0, 0.1f, 0.25f, 0.4f, 0.8f, 1.1f, 1.9f, 3.2f};
at::Tensor weights() {
  return vec({0.31f, -0.52f, 0.07f, 0.94f, -0.11f, 0.02f, 0.26f, -0.33f}).reshape({2, 4});
}

void expect_near(const at::Tensor& value, const std::vector<double>& expected, double relative = 1e-6) {
  ASSERT_EQ(value.numel(), static_cast<std::int64_t>(expected.size()));
  const at::Tensor flat = value.to(at::kDouble).contiguous().reshape({-1});
  for (std::size_t i = 0; i < expected.size(); ++i)
    EXPECT_NEAR(flat[static_cast<std::int64_t>(i)].item<double>(), expected[i],
                relative * std::max(1.0, std::abs(expected[i])))
        << "element " << i;
}

struct MinMaxCase {
  bool positive;
  int bits;
  double scale, zero;
  std::vector<double> values;
};

class MinMaxGolden : public testing::TestWithParam<MinMaxCase> {};

TEST_P(MinMaxGolden, ScaleZeroAndValues) {
  const MinMaxCase& golden = GetParam();
  const at::Tensor x = vec(golden.positive ? kPositive : kX);
  const Quantizer quantizer =
      quantizer_for_range(min_max_range(x), Scheme::Asymmetric, asymmetric_codes(golden.bits));
  expect_near(quantizer.scale, {golden.scale}, 1e-7);
  expect_near(quantizer.zero_point, {golden.zero});
  expect_near(fake_quantize(quantizer, x), golden.values);
}

INSTANTIATE_TEST_SUITE_P(
    Published, MinMaxGolden,
    testing::Values(
        MinMaxCase{false, 2, 1.2, 1, {-1.2, 0, 0, 0, 0, 1.2, 1.2, 2.4}},
        MinMaxCase{false,
                   3,
                   0.514285684,
                   2,
                   {-1.028571, -0.514286, 0, 0.514286, 0.514286, 1.028571, 1.542857, 2.571428}},
        MinMaxCase{false, 4, 0.24, 4, {-0.96, -0.48, 0, 0.24, 0.48, 0.96, 1.68, 2.64}},
        MinMaxCase{false,
                   8,
                   0.014117647,
                   71,
                   {-1.002353, -0.395294, 0, 0.296471, 0.550588, 0.903529, 1.694118, 2.597647}},
        MinMaxCase{true, 2, 1.06666672, 0, {0, 0, 0, 0, 1.066667, 1.066667, 2.133333, 3.2}},
        MinMaxCase{true, 3, 0.45714286, 0, {0, 0, 0.457143, 0.457143, 0.914286, 0.914286, 1.828571, 3.2}},
        MinMaxCase{true, 4, 0.213333338, 0, {0, 0, 0.213333, 0.426667, 0.853333, 1.066667, 1.92, 3.2}},
        MinMaxCase{
            true, 8, 0.0125490194, 0, {0, 0.100392, 0.25098, 0.401569, 0.803137, 1.104314, 1.894902, 3.2}}));

TEST(Quantizer, SymmetrisedRangeAsInBrecq) {
  const at::Tensor x = vec(kX), reach = x.abs().max();
  const Quantizer quantizer =
      quantizer_for_range({reach.neg(), reach}, Scheme::Asymmetric, asymmetric_codes(4));
  expect_near(quantizer.scale, {0.346666664});
  expect_near(quantizer.zero_point, {8});
  expect_near(fake_quantize(quantizer, x),
              {-1.04, -0.3466667, 0, 0.3466667, 0.6933333, 1.04, 1.7333333, 2.4266667});
}

struct SearchCase {
  bool positive;
  int bits;
  MseSearch search;
  double scale, zero, low, high, error;  // error < 0: not given
};

class SearchGolden : public testing::TestWithParam<SearchCase> {};

TEST_P(SearchGolden, ChosenRange) {
  const SearchCase& golden = GetParam();
  const at::Tensor x = vec(golden.positive ? kPositive : kX);
  const CodeRange codes = asymmetric_codes(golden.bits);
  const Range range = search_mse_range(x, -1, Scheme::Asymmetric, codes, golden.search);
  const Quantizer quantizer = quantizer_for_range(range, Scheme::Asymmetric, codes);
  expect_near(quantizer.scale, {golden.scale});
  expect_near(quantizer.zero_point, {golden.zero});
  expect_near(range.low, {golden.low});
  expect_near(range.high, {golden.high});
  if (golden.error >= 0) {
    EXPECT_NEAR(quantization_error(quantizer, x).item<double>(), golden.error, 1e-5 * golden.error);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Published, SearchGolden,
    testing::Values(SearchCase{false, 2, MseSearch::Shrink, 1.02, 1, -0.85, 2.21, 0.0824804753},
                    SearchCase{false, 3, MseSearch::Shrink, 0.514285684, 2, -1, 2.6, 0.00625840202},
                    SearchCase{false, 4, MseSearch::Shrink, 0.2376, 4, -0.99, 2.574, 0.000897358055},
                    SearchCase{true, 2, MseSearch::Shrink, 1.01333332, 0, 0, 3.04, 0.0246822182},
                    SearchCase{true, 3, MseSearch::Shrink, 0.45714286, 0, 0, 3.2, -1},
                    SearchCase{true, 4, MseSearch::Shrink, 0.213333338, 0, 0, 3.2, -1},
                    SearchCase{true, 8, MseSearch::Shrink, 0.0125490194, 0, 0, 3.2, -1},
                    SearchCase{false, 2, MseSearch::Grid, 1.02, 1, -1.02, 2.04, -1},
                    SearchCase{false, 4, MseSearch::Grid, 0.237599984, 4, -0.9504, 2.6136, -1},
                    SearchCase{false, 3, MseSearch::Grid, 0.514285684, 2, -1.02857137, 2.57142842,
                               0.00625840202},
                    SearchCase{true, 2, MseSearch::Grid, 1.01333344, 0, 0, 3.04, -1},
                    SearchCase{true, 3, MseSearch::Grid, 0.45714286, 0, 0, 3.2, -1},
                    SearchCase{true, 4, MseSearch::Grid, 0.213333338, 0, 0, 3.2, -1},
                    SearchCase{true, 8, MseSearch::Grid, 0.0125490194, 0, 0, 3.2, -1}));

TEST(Quantizer, MinMaxErrorsAreTheGoldenOnes) {
  const auto error = [](const at::Tensor& x, int bits) {
    const CodeRange codes = asymmetric_codes(bits);
    return quantization_error(quantizer_for_range(min_max_range(x), Scheme::Asymmetric, codes), x)
        .item<double>();
  };
  EXPECT_NEAR(error(vec(kX), 2), 0.0864696652, 1e-7);
  EXPECT_NEAR(error(vec(kX), 4), 0.000915625715, 1e-9);
  EXPECT_NEAR(error(vec(kPositive), 2), 0.0279244799, 1e-8);
}

TEST(Quantizer, PerChannelSearch) {
  const auto quantizer_of = [](int bits, MseSearch search) {
    const CodeRange codes = asymmetric_codes(bits);
    return quantizer_for_range(search_mse_range(weights(), 0, Scheme::Asymmetric, codes, search),
                               Scheme::Asymmetric, codes, 0);
  };
  for (const MseSearch search : {MseSearch::Shrink, MseSearch::Grid}) {
    const Quantizer two = quantizer_of(2, search);
    expect_near(two.scale, {0.442866683, 0.175033331});
    expect_near(two.zero_point, {1, 2});
    expect_near(encode(two, weights()), {2, 0, 1, 3, 1, 2, 3, 0});
    const Quantizer four = quantizer_of(4, search);
    expect_near(four.scale, {0.096359998, 0.0393333361});
    expect_near(four.zero_point, {5, 8});
    expect_near(encode(four, weights()), {8, 0, 6, 15, 5, 9, 15, 0});
  }
  const Quantizer three = quantizer_of(3, MseSearch::Shrink);
  expect_near(three.scale, {0.196057156, 0.0842857212});
  expect_near(three.zero_point, {2, 4});
}

TEST(Quantizer, ScalingAChannelScalesTheScaleAndMirrorsTheCodes) {
  const at::Tensor w = vec({0.31f, -0.52f, 0.07f, 0.94f, -0.2f, 0.45f});
  const CodeRange codes = asymmetric_codes(3);
  const auto quantizer_of = [&](double factor) {
    return quantizer_for_range(search_mse_range(w * factor, -1, Scheme::Asymmetric, codes),
                               Scheme::Asymmetric, codes);
  };
  for (const auto& [factor, scale, zero] :
       {std::tuple{1.0, 0.198142856, 2.0}, {0.5, 0.0990714282, 2.0}, {-0.5, 0.0990714282, 5.0}}) {
    const Quantizer quantizer = quantizer_of(factor);
    expect_near(quantizer.scale, {scale});
    expect_near(quantizer.zero_point, {zero});
    expect_near(fake_quantize(quantizer, w * factor) / factor,
                {0.3962857, -0.3962857, 0, 0.9907143, -0.1981429, 0.3962857});
  }
}

TEST(Quantizer, RoundsHalfToEven) {
  const Quantizer unit{.scale = at::ones({}), .zero_point = at::zeros({}), .codes = {-8, 7}};
  expect_near(encode(unit, vec({0.5f, 1.5f, 2.5f, -1.5f, 100, -100})), {0, 2, 2, -2, 7, -8});
}

TEST(Quantizer, SymmetricCodesFitTheRangeWithZeroPointZero) {
  for (int bits = 2; bits <= 8; ++bits) {
    const CodeRange codes = symmetric_codes(bits);
    const Quantizer quantizer = quantizer_for_range(min_max_range(vec(kX)), Scheme::Symmetric, codes);
    EXPECT_EQ(quantizer.zero_point.item<float>(), 0);
    EXPECT_LE(quantizer.scale.item<double>() * static_cast<double>(codes.low), -1 + 1e-6);
    EXPECT_GE(quantizer.scale.item<double>() * static_cast<double>(codes.high), 2.6 - 1e-6);
  }
  EXPECT_EQ(symmetric_codes(8), (CodeRange{-127, 127}));
  EXPECT_EQ(symmetric_codes(4), (CodeRange{-8, 7}));
  EXPECT_EQ(symmetric_codes(8, true), (CodeRange{0, 127}));
  EXPECT_EQ(symmetric_codes(4, true), (CodeRange{0, 15}));
}

TEST(Quantizer, ConstantAndOneSidedChannels) {
  const at::Tensor x = vec({0, 0, 0, 2, 3, 4, -5, -6, -7}).reshape({3, 3});
  const Quantizer quantizer =
      quantizer_for_range(min_max_range(x, 0), Scheme::Asymmetric, asymmetric_codes(4), 0);
  const at::Tensor values = fake_quantize(quantizer, x);
  EXPECT_TRUE(at::isfinite(values).all().item<bool>());
  expect_near(values[0], {0, 0, 0});
  EXPECT_EQ(quantizer.zero_point[1].item<float>(), 0);  // 0 stays representable
  EXPECT_EQ(quantizer.zero_point[2].item<float>(), 15);
  EXPECT_LE((values - x).abs().max().item<double>(), 0.5 * quantizer.scale.max().item<double>() + 1e-6);
}

TEST(Quantizer, SearchIsNeverWorseThanMinMaxAndErrorIsBounded) {
  Rng rng(7);
  for (int round = 0; round < 20; ++round) {
    std::vector<float> values(96);
    for (float& value : values) value = static_cast<float>(rng.normal() * std::exp(rng.normal()));
    const at::Tensor x = vec(values).reshape({2, 6, 8});
    for (const Scheme scheme : {Scheme::Asymmetric, Scheme::Symmetric})
      for (const int bits : {2, 3, 4, 8}) {
        const CodeRange codes = scheme == Scheme::Asymmetric ? asymmetric_codes(bits) : symmetric_codes(bits);
        const Quantizer wide = quantizer_for_range(min_max_range(x, 1), scheme, codes, 1);
        const Quantizer best = quantizer_for_range(search_mse_range(x, 1, scheme, codes), scheme, codes, 1);
        EXPECT_TRUE((quantization_error(best, x) <= quantization_error(wide, x)).all().item<bool>());
        const at::Tensor gap = (fake_quantize(wide, x) - x).abs().amax(at::IntArrayRef{0, 2});
        // Rounding the zero-point can push an end of the range out by half a step.
        EXPECT_TRUE((gap <= wide.scale * 1.0001).all().item<bool>());
        expect_near(fake_quantize(best, fake_quantize(best, x)) - fake_quantize(best, x),
                    std::vector<double>(96, 0.0));
      }
  }
}

TEST(Quantizer, EmptyTensorIsRefused) {
  EXPECT_THROW(min_max_range(at::empty({0, 3})), Error);
}

}  // namespace
}  // namespace lithe
