#include "lithe/sparsify/choose.h"

#include <gtest/gtest.h>

#include "lithe/base/error.h"
#include "sparsify/helpers.h"

namespace lithe {
namespace {

using namespace testing_helpers;

TEST(Budgets, Parse) {
  EXPECT_EQ(parse_budget("size=0.3").share, 0.3);
  EXPECT_EQ(parse_budget("macs=1").of, Budget::Of::Macs);
  for (const char* text : {"", "0.3", "size=", "size=0", "macs=1.5", "size=a", "time=0.5"})
    EXPECT_THROW(parse_budget(text), Error) << text;
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
  choose_patterns(chosen, harm, {Budget::Of::Weights, 0.7});
  EXPECT_EQ(chosen[0].pattern->group, 16);
  EXPECT_FALSE(chosen[1].pattern);
  EXPECT_EQ(chosen[1].dense_reason, "the budget leaves it dense");
  EXPECT_EQ(chosen[2].dense_reason, "last layer");
  chosen = layers;
  choose_patterns(chosen, harm, {Budget::Of::Weights, 0.53});
  EXPECT_EQ(chosen[1].pattern->kept, 2);
  chosen = layers;
  EXPECT_THROW(choose_patterns(chosen, harm, {Budget::Of::Weights, 0.3}), Error);  // a third is always dense
  EXPECT_THROW(choose_patterns(chosen, harm, {Budget::Of::Macs, 0.9}), Error);     // not known
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
