#include "lithe/quantize/bit_budget.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "lithe/base/error.h"
#include "lithe/base/random.h"
#include "message_of.h"

namespace lithe {
namespace {

using test::message_of;
using testing::ElementsAre;
using testing::HasSubstr;
using Kind = BitBudget::Kind;

double number_of(Kind kind, const TradeOff& point) {
  return kind == Kind::MeanBits ? point.mean_bits : static_cast<double>(point.bytes);
}

/// The least loss of all assignments within the budget; infinite if there is none.
double least_loss(const std::vector<LayerChoices>& layers, const BitBudget& budget) {
  double best = std::numeric_limits<double>::infinity(), weights = 0;
  for (const LayerChoices& layer : layers) weights += static_cast<double>(layer.weights);
  const std::function<void(std::size_t, double, double, double)> visit = [&](std::size_t at, double bytes,
                                                                             double bits, double loss) {
    if (at == layers.size()) {
      const double size = budget.kind == Kind::MeanBits ? bits / weights : bytes;
      if (size <= budget.value * (1 + 1e-12)) best = std::min(best, loss);
      return;
    }
    for (const BitChoice& choice : layers[at].choices)
      visit(at + 1, bytes + static_cast<double>(choice.bytes),
            bits + static_cast<double>(choice.weight_bits * layers[at].weights), loss + choice.loss);
  };
  visit(0, 0, 0, 0);
  return best;
}

/// Layers like those of a network: sizes spread over decades, losses that mostly fall by a factor a bit.
std::vector<LayerChoices> network(Rng& rng, std::size_t count, double noise, bool round_sizes) {
  std::vector<LayerChoices> layers(count);
  for (std::size_t l = 0; l < count; ++l) {
    LayerChoices& layer = layers[l];
    layer.name = "layer" + std::to_string(l);
    layer.weights = static_cast<std::int64_t>(std::exp2(6 + 14 * rng.uniform()));
    if (round_sizes) layer.weights = (layer.weights / 64 + 1) * 64;
    const double scale = std::exp(3 * rng.normal());
    for (int bits = 2; bits <= 8; ++bits)
      layer.choices.push_back({bits, (layer.weights * bits + 7) / 8 + 40,
                               scale * std::pow(4.0, 2 - bits) * std::exp(noise * rng.normal())});
  }
  return layers;
}

TEST(ChooseBits, EqualsBruteForce) {
  Rng rng(11);
  int feasible = 0;
  for (int trial = 0; trial < 400; ++trial) {
    std::vector<LayerChoices> layers(1 + rng.below(6));
    for (LayerChoices& layer : layers) {
      layer.name = "l";
      layer.weights = 1 + static_cast<std::int64_t>(rng.below(30));
      const std::uint64_t choices = 1 + rng.below(5);
      for (std::uint64_t c = 0; c < choices; ++c) {
        const int bits = 2 + static_cast<int>(rng.below(7));
        // Every other instance has whole losses and sizes, with many ties.
        const bool whole = trial % 2 == 0;
        layer.choices.push_back({bits, static_cast<std::int64_t>(rng.below(whole ? 8 : 100)),
                                 whole ? static_cast<double>(rng.below(6)) : std::exp(2 * rng.normal())});
      }
    }
    const Kind kind = trial % 4 < 2 ? Kind::Bytes : Kind::MeanBits;
    const BitBudget budget{kind, kind == Kind::MeanBits
                                     ? 2 + 6 * rng.uniform()
                                     : static_cast<double>(1 + rng.below(40 * layers.size()))};
    const double best = least_loss(layers, budget);
    if (std::isinf(best)) {
      EXPECT_THAT(message_of([&] { choose_bits(layers, budget); }), HasSubstr("cannot be met"));
      continue;
    }
    ++feasible;
    const BitAssignment result = choose_bits(layers, budget);
    EXPECT_NEAR(result.achieved.loss, best, 1e-11 * (1 + best)) << trial;
    EXPECT_LE(number_of(kind, result.achieved), budget.value * (1 + 1e-12)) << trial;
  }
  EXPECT_GT(feasible, 200);
}

TEST(ChooseBits, BeatsTheConvexHullWhereItCan) {
  // The hull offers (10, 10) and (20, 0) for each layer; 15 a layer is reached by one of each, not by both.
  const std::vector<BitChoice> choices{{2, 10, 10}, {3, 14, 7}, {8, 20, 0}};
  const std::vector<LayerChoices> layers{{"a", 1, choices}, {"b", 1, choices}};
  const auto at = [&](double bytes) { return choose_bits(layers, {Kind::Bytes, bytes}).achieved; };
  EXPECT_EQ(at(20).loss, 20);
  EXPECT_EQ(at(24).loss, 17);
  EXPECT_EQ(at(28).loss, 14);
  EXPECT_EQ(at(30).loss, 10);
  EXPECT_EQ(at(34).loss, 7);
  EXPECT_EQ(at(40).loss, 0);
  EXPECT_EQ(at(1000).bytes, 40);
}

TEST(ChooseBits, LargeNetworksTakeFewStatesAndAreNoWorseThanTheirBound) {
  Rng rng(5);
  for (const double noise : {0.0, 0.3, 1.0})
    for (const bool round_sizes : {false, true})
      for (const double mean : {2.5, 4.0, 4.5, 6.0}) {
        const std::vector<LayerChoices> layers = network(rng, 200, noise, round_sizes);
        for (const Kind kind : {Kind::MeanBits, Kind::Share}) {
          std::int64_t weights = 0;
          for (const LayerChoices& layer : layers) weights += layer.weights;
          const BudgetOptions options{.fixed_bytes = 1000, .float_bytes = 4 * weights};
          const BitBudget budget{kind, kind == Kind::MeanBits ? mean : mean / 30};
          const BitAssignment result = choose_bits(layers, budget, options);
          EXPECT_LT(result.states, 1'000'000);  // of 7^200 assignments
          const double limit =
              kind == Kind::MeanBits ? mean : budget.value * static_cast<double>(4 * weights);
          EXPECT_LE(number_of(kind, result.achieved), limit * (1 + 1e-12));
          // Between its neighbours on the hull, and not below the line that joins them.
          for (std::size_t i = 0; i + 1 < result.curve.size(); ++i) {
            const TradeOff &a = result.curve[i], &b = result.curve[i + 1];
            const double low = number_of(kind, a), high = number_of(kind, b);
            ASSERT_LT(low, high);
            ASSERT_GT(a.loss, b.loss);
            if (limit < low || limit >= high) continue;
            EXPECT_LE(result.achieved.loss, a.loss * (1 + 1e-12));
            const double bound = a.loss + (b.loss - a.loss) * (limit - low) / (high - low);
            EXPECT_GE(result.achieved.loss, bound * (1 - 1e-9));
          }
        }
      }
}

TEST(ChooseBits, HardInstancesAreSolvedToo) {
  // Losses in proportion to size: every assignment that fills the budget is optimal, and none lies off the
  // hull, so that bounds help little.
  Rng rng(8);
  std::vector<LayerChoices> layers(50);
  for (LayerChoices& layer : layers) {
    layer.weights = 1;
    for (int bits = 2; bits <= 8; ++bits) {
      const auto bytes = static_cast<std::int64_t>(100 + rng.below(20000));
      layer.choices.push_back({bits, bytes, 1e6 - static_cast<double>(bytes)});
    }
  }
  const BitAssignment result = choose_bits(layers, {Kind::Bytes, 500'000});
  EXPECT_EQ(result.achieved.bytes, 500'000);
  EXPECT_EQ(result.achieved.loss, 50e6 - 5e5);
}

TEST(ChooseBits, SmallerSizesOfEqualLossAndTheSameResultEachTime) {
  const std::vector<LayerChoices> layers{{"a", 1, {{2, 5, 1}, {3, 9, 1}, {8, 9, 1}}},
                                         {"b", 1, {{2, 5, 1}, {4, 8, 0}}},
                                         {"c", 1, {{2, 5, 1}, {4, 8, 0}}}};
  const BitAssignment result = choose_bits(layers, {Kind::Bytes, 18});
  EXPECT_EQ(result.achieved.bytes, 18);
  EXPECT_EQ(result.achieved.loss, 2);
  EXPECT_EQ(result.choice[0], 0u);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(choose_bits(layers, {Kind::Bytes, 18}).choice, result.choice);
  EXPECT_THAT(choose_bits(layers, {Kind::Bytes, 100}).choice, ElementsAre(0, 1, 1));
}

TEST(ChooseBits, CurveIsTheConvexHull) {
  const std::vector<LayerChoices> layers{{"a", 10, {{2, 2, 9}, {4, 4, 3}, {8, 8, 1}}},
                                         {"b", 10, {{2, 2, 4}, {4, 4, 3.9}, {8, 8, 0}}}};
  // Savings per byte: a 3, then 0.5; b 2/3 for 2 to 8, its 4 bits lie off the hull.
  const BitAssignment result = choose_bits(layers, {Kind::Bytes, 8}, {.fixed_bytes = 1});
  ASSERT_EQ(result.curve.size(), 4u);
  const std::vector<std::pair<std::int64_t, double>> expected{{5, 13}, {7, 7}, {13, 3}, {17, 1}};
  for (std::size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(result.curve[i].bytes, expected[i].first);
    EXPECT_NEAR(result.curve[i].loss, expected[i].second, 1e-12);
  }
  EXPECT_DOUBLE_EQ(result.curve[1].mean_bits, 3);
}

TEST(ChooseBits, InfeasibleBudgetsNameTheLeast) {
  const std::vector<LayerChoices> layers{{"a", 30, {{2, 10, 9}, {8, 40, 1}}}, {"b", 10, {{4, 7, 4}}}};
  EXPECT_THAT(message_of([&] {
                choose_bits(layers, {Kind::Bytes, 20}, {.fixed_bytes = 100});
              }),
              HasSubstr("20 bytes cannot be met: at the fewest bits the model takes 117 bytes"));
  EXPECT_THAT(
      message_of([&] {
        choose_bits(layers, {Kind::MeanBits, 2.4});
      }),
      HasSubstr("2.4 bits a weight cannot be met: the fewest bits of all layers are 2.5 in the mean"));
  EXPECT_THAT(message_of([&] {
                choose_bits(layers, {Kind::Share, 0.1}, {.float_bytes = 160});
              }),
              HasSubstr("10% of the float size cannot be met"));
  EXPECT_EQ(choose_bits(layers, {Kind::MeanBits, 2.5}).achieved.loss, 13);
  EXPECT_EQ(choose_bits(layers, {Kind::Bytes, 117}, {.fixed_bytes = 100}).achieved.bytes, 117);
}

TEST(ChooseBits, Errors) {
  EXPECT_THAT(message_of([] { choose_bits({}, {Kind::Bytes, 1}); }), HasSubstr("no layer"));
  EXPECT_THAT(message_of([] {
                choose_bits({{"a", 1, {}}}, {Kind::Bytes, 1});
              }),
              HasSubstr("'a' has no choice"));
  EXPECT_THAT(message_of([] {
                choose_bits({{"a", 1, {{2, 1, std::nan("")}}}}, {Kind::Bytes, 1});
              }),
              HasSubstr("layer 'a' at 2 bits is nan"));
  EXPECT_THAT(message_of([] {
                choose_bits({{"a", 1, {{2, -1, 0}}}}, {Kind::Bytes, 1});
              }),
              HasSubstr("no size of a layer"));
  EXPECT_THAT(message_of([] {
                choose_bits({{"a", 0, {{2, 1, 0}}}}, {Kind::MeanBits, 4});
              }),
              HasSubstr("no mean number of bits"));
}

TEST(ParseBudget, Forms) {
  const auto check = [](std::string_view text, Kind kind, double value) {
    const BitBudget budget = parse_budget(text);
    EXPECT_EQ(budget.kind, kind) << text;
    EXPECT_DOUBLE_EQ(budget.value, value) << text;
  };
  check("size=1.2M", Kind::Bytes, 1'200'000);
  check("size=300K", Kind::Bytes, 300'000);
  check("size=300KB", Kind::Bytes, 300'000);
  check("size=1G", Kind::Bytes, 1e9);
  check("size=12345", Kind::Bytes, 12345);
  check("size=25%", Kind::Share, 0.25);
  check("bits=4.5", Kind::MeanBits, 4.5);
  EXPECT_EQ(format_budget(parse_budget("size=25%")), "25% of the float size");
  EXPECT_EQ(format_budget(parse_budget("size=1.2M")), "1200000 bytes");
  EXPECT_EQ(format_budget(parse_budget("bits=4.5")), "4.5 bits a weight");
}

TEST(ParseBudget, Errors) {
  for (const char* text :
       {"", "size", "size=", "size=M", "size=-3M", "size=0", "size=1.2Q", "size=nan", "size=inf", "size=120%",
        "bits=", "bits=0", "bits=33", "bits=4.5x", "4.5", "weight=3", "size=9e15"})
    EXPECT_THAT(message_of([&] { parse_budget(text); }), HasSubstr("--budget")) << text;
}

}  // namespace
}  // namespace lithe
