#include "lithe/tokens/account.h"

#include <gtest/gtest.h>

#include "lithe/graph/cost.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/tokens/choose.h"
#include "message_of.h"
#include "tokens/toy_vit.h"

namespace lithe {
namespace {

using Counts = std::vector<std::int64_t>;

TEST(PublishedMacs, DenseModels) {
  const auto dense = [](std::int64_t width, std::size_t depth, std::int64_t tokens, std::int64_t patch) {
    return published_macs({.width = width, .tokens = tokens, .patch = patch}, dense_schedule(depth, tokens));
  };
  EXPECT_EQ(dense(192, 12, 197, 16), 1253830656);
  EXPECT_EQ(dense(384, 12, 197, 16), 4599177216);
  EXPECT_EQ(dense(768, 12, 197, 16), 17564418048);
  EXPECT_EQ(dense(1024, 24, 197, 16), 61555499008);
  EXPECT_EQ(dense(1280, 32, 257, 14), 167295861760);
}

struct Published {
  PublishedVit vit;
  TokenSchedule schedule;
  std::int64_t macs;
};

TEST(PublishedMacs, Schedules) {
  const PublishedVit tiny{.width = 192}, small{.width = 384}, base{.width = 768}, large{.width = 1024};
  const std::vector<Published> all{
      {tiny,
       {{197, 196, 180, 157, 130, 107, 86, 73, 63, 51, 40, 3},
        {197, 187, 167, 139, 114, 90, 76, 66, 57, 45, 37, 3}},
       654861312},
      {tiny,
       {{197, 197, 196, 194, 188, 184, 178, 164, 156, 137, 129, 21},
        {197, 197, 196, 190, 186, 154, 148, 156, 145, 135, 125, 21}},
       1003643136},
      {small,
       {{197, 192, 168, 143, 121, 105, 92, 74, 62, 45, 33, 3},
        {197, 180, 156, 127, 109, 98, 80, 66, 52, 37, 31, 3}},
       2327225856},
      {small,
       {{197, 196, 190, 168, 150, 139, 129, 117, 99, 78, 58, 3},
        {197, 194, 176, 156, 141, 133, 121, 107, 88, 64, 56, 3}},
       2905256448},
      {base,
       {{197, 197, 197, 188, 170, 154, 139, 123, 107, 72, 43, 3},
        {197, 197, 192, 178, 158, 145, 127, 111, 94, 50, 35, 3}},
       11517239808},
      {base,
       {{197, 192, 166, 143, 119, 103, 86, 72, 54, 43, 37, 23},
        {197, 176, 150, 127, 107, 92, 76, 58, 47, 41, 23, 23}},
       8711029248},
      {large,
       {{197, 197, 197, 195, 194, 193, 191, 187, 182, 180, 173, 149,
         142, 134, 125, 121, 111, 106, 91,  87,  77,  39,  38,  32},
        {197, 197, 196, 194, 193, 192, 187, 183, 181, 173, 154, 146,
         137, 127, 123, 114, 105, 98,  87,  75,  43,  45,  32,  32}},
       42290380800},
  };
  for (const Published& one : all) EXPECT_EQ(published_macs(one.vit, one.schedule), one.macs);
}

// The published counts of EViT at its default depths and of ToMe with r pairs a block, on DeiT-S and DeiT-B,
// in G.
TEST(PublishedMacs, Baselines) {
  const auto cost = [](std::int64_t width) {
    const auto c = static_cast<double>(width);
    TokenCost cost{.tokens = 197, .specials = 1, .width = width, .head_width = 64};
    cost.fixed = 197 * c * 768 + c * 1000 + 4 * 197 * c * c + 2.0 * 197 * 197 * c;
    for (int l = 0; l < 12; ++l) cost.behind.push_back({0, (l < 11 ? 12 : 8) * c * c, l < 11 ? 2 * c : 0});
    return cost;
  };
  const TokenLimits all{.first = 0, .end = 12, .least = 2};
  const auto after = [](const std::vector<TokenStep>& steps) {
    Counts counts;
    std::int64_t n = 197;
    for (const TokenStep& step : steps) counts.push_back(n = tokens_after(step, n));
    return counts;
  };
  const auto tome = [&](std::int64_t width, double r) {
    return cost(width).network(after(tome_steps(cost(width), all, r))) / 1e9;
  };
  EXPECT_NEAR(tome(384, 8), 3.417, 6e-4);
  EXPECT_NEAR(tome(384, 13), 2.703, 6e-4);
  EXPECT_NEAR(tome(384, 16), 2.291, 6e-4);
  EXPECT_NEAR(tome(768, 16), 8.772, 6e-4);
  const auto evit = [&](double share) {
    return cost(384).network(after(evit_steps_of_share(cost(384), all, share))) / 1e9;
  };
  EXPECT_NEAR(evit(0.9), 4.022, 6e-4);
  EXPECT_NEAR(evit(0.7), 3.030, 6e-4);
  EXPECT_NEAR(evit(0.5), 2.309, 6e-4);
}

std::int64_t measured(Graph graph) {
  infer_shapes(graph, concrete_input_shapes(graph, {}, 1));
  return measure_cost(graph).macs;
}

TEST(TokenCost, IsWhatTheGraphCosts) {
  for (const bool class_rows : {false, true}) {
    const Graph graph = prepare_tokens(toy_vit());
    const TokenModel model = find_attention(graph);
    const TokenCost cost = token_cost(graph, model, class_rows);
    EXPECT_EQ(cost.dense, measured(graph));
    const auto check = [&](const std::vector<TokenStep>& steps) {
      const Compressed compressed = compress_tokens(graph, model, steps, {.class_rows = class_rows});
      std::vector<TokenStep> real = steps;
      if (class_rows) real.back() = {};
      EXPECT_EQ(cost.total(real), measured(compressed.graph));
    };
    check(reduce_steps({{17, 12, 6}, {17, 9, 4}}, 17));
    check(reduce_steps({{17, 17, 17}, {17, 17, 17}}, 17));
    check(reduce_steps({{15, 12, 9}, {15, 12, 9}}, 17));
    const TokenLimits limits = token_limits(model, class_rows);
    check(tome_steps(cost, limits, 3.0));
    check(evit_steps_of_share(cost, limits, 0.6));
  }
}

TEST(Choose, MeetsTheBudgetFromBelowWithinAToken) {
  const Graph graph = prepare_tokens(
      build_vit({.image_size = 32, .patch = 4, .dim = 32, .depth = 6, .heads = 4, .classes = 10}));
  const TokenModel model = find_attention(graph);
  const TokenCost cost = token_cost(graph, model);
  const TokenLimits limits = token_limits(model, false);
  for (const double share : {0.35, 0.5, 0.8}) {
    const auto budget = static_cast<std::int64_t>(share * static_cast<double>(cost.dense));
    for (const TokenKind kind : {TokenKind::Both, TokenKind::Prune, TokenKind::Merge}) {
      for (const TokenFall fall : {TokenFall::Count, TokenFall::Fraction}) {
        const TokenSchedule schedule = fixed_schedule(cost, limits, budget, kind, fall);
        EXPECT_FALSE(check_schedule(schedule, 6, 65, 1));
        EXPECT_LE(cost.total(schedule), budget);
        EXPECT_GT(static_cast<double>(cost.total(schedule)), 0.99 * static_cast<double>(budget));
      }
      const TokenSchedule random = random_schedule(cost, limits, budget, kind, 5);
      EXPECT_LE(cost.total(random), budget);
      EXPECT_GT(static_cast<double>(cost.total(random)), 0.99 * static_cast<double>(budget));
      EXPECT_NE(random, random_schedule(cost, limits, budget, kind, 6));
    }
    if (share < 0.45) continue;  // as far down neither ToMe nor EViT come
    for (const auto& steps : {tome_steps(cost, limits, budget), evit_steps(cost, limits, budget)}) {
      EXPECT_LE(cost.total(steps), budget);
      EXPECT_GT(static_cast<double>(cost.total(steps)), 0.95 * static_cast<double>(budget));
    }
  }
  const TokenRange range = reachable(cost, limits, TokenKind::Prune);
  EXPECT_NE(test::message_of([&] { check_reachable(range.least / 2, range); }).find("cannot be reached"),
            std::string::npos);
}

TEST(Repair, TakesWhereItHarmsLeast) {
  const Graph graph = prepare_tokens(
      build_vit({.image_size = 32, .patch = 4, .dim = 32, .depth = 4, .heads = 4, .classes = 10}));
  const TokenModel model = find_attention(graph);
  const TokenCost cost = token_cost(graph, model);
  const TokenLimits limits = token_limits(model, false);
  const TokenSchedule start = split_counts({65, 60, 50, 40}, 65, TokenKind::Prune);
  const std::int64_t budget = cost.total(start) - 1;
  const TokenSchedule repaired = repair_schedule(start, cost, limits, budget, {9, 9, 1, 9});
  EXPECT_EQ(repaired.merge[1], 60);
  EXPECT_EQ(repaired.merge[2], 49);
  EXPECT_LE(cost.total(repaired), budget);
}

}  // namespace
}  // namespace lithe
