#include "lithe/tokens/account.h"

#include <gtest/gtest.h>

#include <cmath>
#include <optional>

#include "lithe/graph/cost.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/tokens/choose.h"
#include "message_of.h"
#include "tokens/published_schedules.h"
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

TEST(PublishedMacs, Schedules) {
  const auto all = published_schedules();
  EXPECT_EQ(all.size(), 28u);
  for (const PublishedSchedule& one : all) {
    EXPECT_EQ(published_macs(one.vit, one.schedule), one.macs);
    const auto blocks = one.schedule.blocks();
    EXPECT_EQ(one.schedule.merge.size(), blocks);
  }
}

// DeiT-S at 2.9 G by parts, attention and MLP of each block, stem and head.
TEST(PublishedMacs, PartsOfASchedule) {
  const Counts attention{146000640, 146000640, 143330304, 127598592, 110702592, 98433792,
                         92031744,  82612992,  71904000,  57851904,  40894464,  35438592},
      mlp{232390656, 228851712, 207618048, 184025088, 166330368, 156893184,
          142737408, 126222336, 103809024, 75497472,  66060288,  3538944};
  const TokenSchedule schedule{{197, 196, 190, 168, 150, 139, 129, 117, 99, 78, 58, 3},
                               {197, 194, 176, 156, 141, 133, 121, 107, 88, 64, 56, 3}};
  // A block more costs its own parts: those of a network cut behind it, of which the stem and the head are
  // the same.
  std::int64_t before = published_macs({.width = 384}, {{}, {}});
  EXPECT_EQ(before, 58097664 + 384000);
  for (std::size_t l = 0; l < 12; ++l) {
    const TokenSchedule cut{{schedule.prune.begin(), schedule.prune.begin() + static_cast<int>(l) + 1},
                            {schedule.merge.begin(), schedule.merge.begin() + static_cast<int>(l) + 1}};
    const std::int64_t macs = published_macs({.width = 384}, cut);
    EXPECT_EQ(macs - before, attention[l] + mlp[l]) << l;
    before = macs;
  }
  EXPECT_EQ(before, 2905256448);
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
    check(tome_steps(cost, tome_limits(model, class_rows), 3.0));
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
    for (const auto& steps :
         {tome_steps(cost, tome_limits(model, false), budget), evit_steps(cost, limits, budget)}) {
      EXPECT_LE(cost.total(steps), budget);
      EXPECT_GT(static_cast<double>(cost.total(steps)), 0.95 * static_cast<double>(budget));
    }
  }
  const TokenRange range = reachable(cost, limits, TokenKind::Prune);
  EXPECT_NE(test::message_of([&] { check_reachable(range.least / 2, range); }).find("cannot be reached"),
            std::string::npos);
}

// ToMe merges in every block, as many as it can, up to half of what is not special.
TEST(Choose, TomeMergesInEveryBlock) {
  for (const bool mean : {false, true}) {
    const Graph graph = prepare_tokens(build_vit({.image_size = 32,
                                                  .patch = 4,
                                                  .dim = 32,
                                                  .depth = 6,
                                                  .heads = 4,
                                                  .classes = 10,
                                                  .class_token = !mean}));
    const TokenModel model = find_attention(graph);
    const TokenCost cost = token_cost(graph, model);
    const TokenLimits limits = tome_limits(model, false);
    const auto steps =
        tome_steps(cost, limits, static_cast<std::int64_t>(0.7 * static_cast<double>(cost.dense)));
    std::int64_t least = 1000, most = 0;
    for (const TokenStep& step : steps) {
      EXPECT_EQ(step.kind, TokenStep::Kind::Tome);
      least = std::min(least, step.removed);
      most = std::max(most, step.removed);
    }
    EXPECT_LE(most - least, 1);
    EXPECT_GE(least, 3);
  }
  const TokenCost seven{.behind = {{}, {}}, .tokens = 7, .specials = 1};
  const auto capped = tome_steps(seven, {.first = 0, .end = 2, .least = 2}, 9.0);
  EXPECT_EQ(capped[0].removed, 3);  // (7 - 1) / 2
  EXPECT_EQ(capped[1].removed, 1);  // (4 - 1) / 2
}

TEST(Choose, RangesOfEveryMethod) {
  const Graph graph = prepare_tokens(
      build_vit({.image_size = 32, .patch = 4, .dim = 32, .depth = 6, .heads = 4, .classes = 10}));
  const TokenModel model = find_attention(graph);
  const TokenCost cost = token_cost(graph, model);
  const TokenLimits limits = token_limits(model, false), tome = tome_limits(model, false);
  const auto dense = static_cast<double>(cost.dense);
  const auto budget = [&](double share) { return static_cast<std::int64_t>(std::ceil(share * dense)); };
  const TokenRange far = tome_range(cost, tome), evit = evit_range(cost, limits);
  EXPECT_LE(cost.total(tome_steps(cost, tome, budget(far.least + 1e-6))), budget(far.least + 1e-6));
  EXPECT_GT(cost.total(tome_steps(cost, tome, budget(far.least - 0.01))), budget(far.least - 0.01));
  EXPECT_LE(cost.total(evit_steps(cost, limits, budget(evit.least + 1e-6))), budget(evit.least + 1e-6));
  EXPECT_GT(cost.total(evit_steps(cost, limits, budget(evit.least - 0.01))), budget(evit.least - 0.01));
}

// A loss of known form, convex in the tokens of each block, and a gap of a fifth of the cost.
TEST(Repair, SharesOutALargeGap) {
  const Graph graph = prepare_tokens(
      build_vit({.image_size = 32, .patch = 4, .dim = 32, .depth = 6, .heads = 4, .classes = 10}));
  const TokenModel model = find_attention(graph);
  const TokenCost cost = token_cost(graph, model);
  const TokenLimits limits = token_limits(model, false);
  const std::vector<double> worth{1, 2, 1.5, 1, 0.7, 0.2};
  const ScheduleLoss loss = [&](const TokenSchedule& schedule) {
    double sum = 0;
    for (std::size_t l = 0; l < 6; ++l) sum += worth[l] * 65 / static_cast<double>(schedule.merge[l]);
    return sum;
  };
  const TokenSchedule start = split_counts({65, 58, 50, 45, 40, 20}, 65, TokenKind::Both);
  for (const double factor : {0.8, 1.15}) {
    const auto budget = static_cast<std::int64_t>(factor * static_cast<double>(cost.total(start)));
    TokenSchedule best = start;  // one token at a time where its own loss is least, or most
    const bool taking = factor < 1;
    for (;;) {
      std::optional<TokenSchedule> next;
      double least = 0;
      for (std::size_t l = 1; l < 6; ++l) {
        TokenSchedule one = best;
        one.merge[l] += taking ? -1 : 1;
        one.prune[l] = std::max(one.prune[l], one.merge[l]);
        if (one.merge[l] < limits.least || one.merge[l] > one.merge[l - 1]) continue;
        one = effective(one, 65);
        const auto moved = static_cast<double>(cost.total(one) - cost.total(best));
        if (moved == 0 || (!taking && cost.total(one) > budget)) continue;
        const double price = (loss(one) - loss(best)) / std::abs(moved);
        if (!next || price < least) {
          next = one;
          least = price;
        }
      }
      if (!next) break;
      best = *next;
      if (taking && cost.total(best) <= budget) break;
    }
    const TokenSchedule fitted = fit_schedule(start, cost, limits, budget, loss);
    EXPECT_LE(cost.total(fitted), budget);
    EXPECT_GT(static_cast<double>(cost.total(fitted)), 0.985 * static_cast<double>(budget));
    EXPECT_LT(loss(fitted), 1.03 * loss(best)) << loss(start);
  }
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
