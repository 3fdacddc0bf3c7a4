#include "lithe/sparsify/choose.h"

#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "lithe/base/error.h"
#include "message_of.h"
#include "sparsify/helpers.h"

namespace lithe {
namespace {

using namespace testing_helpers;

TEST(Budgets, Parse) {
  EXPECT_EQ(parse_sparsity_budget("size=0.3").share, 0.3);
  EXPECT_EQ(parse_sparsity_budget("macs=1").of, SparsityBudget::Of::Macs);
  for (const char* text : {"", "0.3", "size=", "size=0", "macs=1.5", "size=a", "time=0.5"})
    EXPECT_THROW(parse_sparsity_budget(text), Error) << text;
}

TEST(ChoosePatterns, SparesTheSensitive) {
  std::vector<SparseLayer> layers(3);
  for (std::size_t i = 0; i < 3; ++i) {
    layers[i].name = std::to_string(i);
    layers[i].shape = {100, 16};
    layers[i].pattern = SparsityPattern{};
  }
  layers[2].pattern = std::nullopt;
  layers[2].dense_reason = "last layer";
  const std::vector<Sensitivity> harm{{0, {2, 4}, 0.01}, {0, {1, 4}, 0.02}, {0, {1, 16}, 0.05},
                                      {1, {2, 4}, 0.5},  {1, {1, 4}, 2.0},  {1, {1, 16}, 9.0}};
  auto chosen = layers;
  choose_patterns(chosen, harm, {SparsityBudget::Of::Weights, 0.7});
  EXPECT_EQ(chosen[0].pattern->group, 16);
  EXPECT_FALSE(chosen[1].pattern);
  EXPECT_EQ(chosen[1].dense_reason, "the budget leaves it dense");
  EXPECT_EQ(chosen[2].dense_reason, "last layer");
  chosen = layers;
  choose_patterns(chosen, harm, {SparsityBudget::Of::Weights, 0.53});
  EXPECT_EQ(chosen[1].pattern->kept, 2);
  chosen = layers;
  const auto message = [&](SparsityBudget::Of of, double share) {
    return test::message_of([&] { choose_patterns(chosen, harm, {of, share}); });
  };
  // A third is always dense, and the rest 1:16 at least.
  EXPECT_THAT(message(SparsityBudget::Of::Weights, 0.3),
              testing::HasSubstr("a budget of 0.300 cannot be met: the sparsest patterns leave 0.375"));
  EXPECT_THAT(message(SparsityBudget::Of::Macs, 0.9),
              testing::HasSubstr("the multiply-adds of layer '0' are not known"));
}

TEST(ChoosePatterns, KeepsWhatTheUserNamed) {
  auto layers = find_sparse_layers(small_net(),
                                   {.prune_last = true, .pattern_for = {parse_pattern_rule("body.2=2:4")}});
  const auto harmless = [&](std::int64_t m) {
    std::vector<Sensitivity> found;
    for (std::size_t i = 0; i < layers.size(); ++i)
      if (layers[i].pattern && !layers[i].ruled) found.push_back({i, {1, m}, 0});
    return found;
  };
  const auto all = harmless(8);
  ASSERT_EQ(all.size(), 3u);  // body.1, point, fc
  choose_patterns(layers, all, {SparsityBudget::Of::Weights, 0.5});
  EXPECT_EQ(layer_named(layers, "body.2").density(), 0.5);
  EXPECT_EQ(layer_named(layers, "body.1").density(), 0.125);
}

TEST(ChoosePatterns, WhatIsNotFiniteComesLast) {
  std::vector<SparseLayer> layers(2);
  for (SparseLayer& layer : layers) layer.shape = {10, 16}, layer.pattern = SparsityPattern{};
  for (const double harm : {std::numeric_limits<double>::quiet_NaN(), HUGE_VAL}) {
    auto chosen = layers;
    const std::vector<Sensitivity> found{
        {0, {2, 4}, harm}, {0, {1, 4}, harm}, {1, {2, 4}, 0.5}, {1, {1, 4}, 3.0}};
    choose_patterns(chosen, found, {SparsityBudget::Of::Weights, 0.63});
    EXPECT_FALSE(chosen[0].pattern);
    EXPECT_EQ(chosen[1].density(), 0.25);
    choose_patterns(chosen = layers, found, {SparsityBudget::Of::Weights, 0.5});  // no other way
    EXPECT_TRUE(chosen[0].pattern);
  }
}

TEST(CheckBudget, RefusesBeforeMeasuring) {
  const auto message = [](const LayerPolicy& policy, const SparsityBudget& budget) {
    return test::message_of([&] {
      check_budget(find_sparse_layers(small_net(), policy), {.candidates = {{2, 4}, {1, 8}}}, budget);
    });
  };
  EXPECT_EQ(message({}, {SparsityBudget::Of::Weights, 0.5}), "");
  EXPECT_THAT(message({}, {SparsityBudget::Of::Weights, 0.05}),
              testing::HasSubstr("a budget of 0.050 cannot be met: the sparsest patterns leave 0.1"));
  // A layer that the user keeps at 2:4 counts as that.
  EXPECT_THAT(
      message({.pattern_for = {parse_pattern_rule("body.2=2:4")}}, {SparsityBudget::Of::Weights, 0.2}),
      testing::HasSubstr("the sparsest patterns leave 0.4"));
}

TEST(MeasureSensitivity, GrowsWithSparsity) {
  Graph graph = small_net();
  shake_norms(graph, 2);
  const DatasetPtr data = small_data(128, 3);
  TrainOptions training = short_training(2);
  Progress progress;
  graph = train(graph, data, training, progress).best;
  const auto layers = find_sparse_layers(graph, {});
  const auto found = measure_sensitivity(
      graph, layers, data, {.candidates = {{2, 4}, {1, 8}}, .samples = 128, .batch = 32, .threads = 1},
      progress);
  ASSERT_EQ(found.size(), 6u);
  double gentle = 0, harsh = 0;
  for (const Sensitivity& one : found) (one.pattern.group == 4 ? gentle : harsh) += one.harm;
  EXPECT_GT(harsh, gentle);
  EXPECT_GT(harsh, 0);
}

}  // namespace
}  // namespace lithe
