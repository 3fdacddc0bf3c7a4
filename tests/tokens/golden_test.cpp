// A whole network against numbers of the published code.
#include <gtest/gtest.h>

#include "lithe/engine/executor.h"
#include "lithe/ops/token_reduce.h"
#include "lithe/tokens/account.h"
#include "lithe/tokens/compress.h"
#include "tokens/toy_vit.h"

namespace lithe {
namespace {

struct Row {
  TokenSchedule schedule;
  std::vector<float> logits;  // of both images
  std::int64_t macs;
  TokenSizes sizes = TokenSizes::Faithful;
};

class PublishedNetwork : public ::testing::TestWithParam<Row> {};

TEST_P(PublishedNetwork, LogitsAndCost) {
  const at::NoGradGuard no_grad;
  const auto& [schedule, logits, macs, sizes] = GetParam();
  for (const std::int64_t batch : {std::int64_t{-1}, std::int64_t{2}}) {
    const Graph graph = prepare_tokens(toy_vit(batch));
    const TokenModel model = find_attention(graph);
    ASSERT_EQ(model.blocks.size(), 3u);
    EXPECT_EQ(model.tokens, 17);
    EXPECT_EQ(model.specials, 1);
    const Compressed compressed =
        compress_tokens(graph, model, reduce_steps(schedule, model.tokens), {.sizes = sizes});
    Executor executor(compressed.graph);
    const at::Tensor got = executor(toy_images());
    const at::Tensor wanted = at::tensor(at::ArrayRef<float>(logits), at::kFloat).reshape({2, 3});
    EXPECT_LT((got - wanted).abs().max().item<double>(), 2e-6) << got;
  }
  EXPECT_EQ(published_macs({.width = 8, .tokens = 17, .patch = 2, .classes = 3}, schedule), macs);
}

INSTANTIATE_TEST_SUITE_P(
    Schedules, PublishedNetwork,
    ::testing::Values(Row{{{17, 17, 17}, {17, 17, 17}},
                          {1.327609f, -.657231f, 1.790220f, .003603f, .008898f, .618820f},
                          54696},
                      Row{{{17, 12, 6}, {17, 9, 4}},
                          {1.271198f, -.663139f, 1.809901f, .085475f, .029555f, .633162f},
                          38568},
                      Row{{{17, 12, 6}, {17, 12, 6}},
                          {1.314595f, -.669501f, 1.788916f, .119294f, .006531f, .646377f},
                          42904},
                      Row{{{17, 17, 17}, {17, 9, 4}},
                          {1.262699f, -.665493f, 1.805691f, -.163882f, .106886f, .465390f},
                          38568},
                      Row{{{17, 14, 10}, {15, 11, 7}},
                          {1.184438f, -.480798f, 1.833050f, -.135411f, .086137f, .520488f},
                          39720},
                      Row{{{17, 12, 8}, {17, 10, 6}},
                          {1.271445f, -.663977f, 1.809317f, .091432f, .022910f, .631434f},
                          40664},
                      Row{{{17, 12, 8}, {17, 10, 6}},
                          {1.281146f, -.668576f, 1.804954f, .093268f, .012132f, .612256f},
                          40664,
                          TokenSizes::Consistent}));

TEST(PublishedNetwork, WhereTokensWent) {
  const at::NoGradGuard no_grad;
  const Graph graph = prepare_tokens(toy_vit());
  const TokenModel model = find_attention(graph);
  Compressed compressed =
      compress_tokens(graph, model, reduce_steps({{17, 12, 6}, {17, 9, 4}}, 17), {.trace = true});
  for (const std::string& name : compressed.assignments)
    if (!name.empty()) compressed.graph.outputs.push_back({.name = name, .dtype = DType::Int64});
  Executor executor(compressed.graph);
  const Feeds out = executor.run({{"input", toy_images()}});
  // Through both steps: final groups of the first image {0} {4,13} {1} {2,7,9,16}, of the second {0} {3}
  // {5,10,12,14} {4}.
  const at::Tensor &first = out.at(compressed.assignments[1]), &second = out.at(compressed.assignments[2]);
  const auto groups = [&](std::int64_t image) {
    std::vector<std::vector<std::int64_t>> result(4);
    for (std::int64_t i = 0; i < 17; ++i) {
      const auto middle = first[image][i].item<std::int64_t>();
      const auto last = middle < 0 ? -1 : second[image][middle].item<std::int64_t>();
      if (last >= 0) result[static_cast<std::size_t>(last)].push_back(i);
    }
    return result;
  };
  EXPECT_EQ(groups(0), (std::vector<std::vector<std::int64_t>>{{0}, {4, 13}, {1}, {2, 7, 9, 16}}));
  EXPECT_EQ(groups(1), (std::vector<std::vector<std::int64_t>>{{0}, {3}, {5, 10, 12, 14}, {4}}));
}

// Orders and targets of merging of the first image, block by block.
TEST(PublishedNetwork, OrdersAndTargets) {
  const at::NoGradGuard no_grad;
  const Graph graph = prepare_tokens(toy_vit());
  const TokenModel model = find_attention(graph);
  Compressed compressed =
      compress_tokens(graph, model, reduce_steps({{17, 12, 6}, {17, 9, 4}}, 17), {.trace = true});
  std::vector<std::string> wanted{compressed.assignments[1], compressed.assignments[2]};
  Executor executor(compressed.graph);
  const Feeds out = executor.run({{"input", toy_images()}}, wanted);
  // The authors sort in the first block too, where nothing is removed: places of the second one are of that
  // order.
  const std::vector<std::int64_t> first{0, 14, 15, 12, 8, 7, 6, 5, 10, 3, 11, 2, 9, 16, 13, 4, 1},
      second{0, 15, 9, 13, 14, 10, 11, 1, 16, 6, 12, 5}, third{0, 1, 8, 3, 4, 6};
  std::vector<std::int64_t> behind_second(17, -1), behind_third(9, -1);
  for (std::size_t i = 0; i < second.size(); ++i)
    behind_second[static_cast<std::size_t>(first[static_cast<std::size_t>(second[i])])] =
        i < 9 ? static_cast<std::int64_t>(i) : std::vector<std::int64_t>{5, 6, 6}[i - 9];
  for (std::size_t i = 0; i < third.size(); ++i)
    behind_third[static_cast<std::size_t>(third[i])] =
        i < 4 ? static_cast<std::int64_t>(i) : std::vector<std::int64_t>{1, 3}[i - 4];
  EXPECT_TRUE(at::equal(out.at(wanted[0])[0], at::tensor(behind_second, at::kLong))) << out.at(wanted[0])[0];
  EXPECT_TRUE(at::equal(out.at(wanted[1])[0], at::tensor(behind_third, at::kLong))) << out.at(wanted[1])[0];
}

// Importance, the whole order and the cosines of merging, block by block, from the values of the graph.
TEST(PublishedNetwork, ScoresOrdersAndCosines) {
  const at::NoGradGuard no_grad;
  const Graph graph = prepare_tokens(toy_vit());
  const TokenModel model = find_attention(graph);
  const Compressed compressed = compress_tokens(graph, model, reduce_steps({{17, 12, 6}, {17, 9, 4}}, 17));
  struct Block {
    std::vector<std::int64_t> order;
    std::vector<float> scores;  // of the first patches in it
    std::int64_t pruned, merged;
    std::vector<std::int64_t> targets;
    std::vector<float> cosines;
  };
  const std::vector<std::int64_t> first{0, 14, 15, 12, 8, 7, 6, 5, 10, 3, 11, 2, 9, 16, 13, 4, 1};
  std::vector<std::int64_t> second{0, 15, 9, 13, 14, 10, 11, 1, 16, 6, 12, 5, 8, 2, 3, 4, 7};
  // The authors sort in the first block too, where nothing is removed.
  for (std::int64_t& place : second) place = first[static_cast<std::size_t>(place)];
  const std::vector<Block> blocks{
      {first, {.414078f, .218729f, .073711f}, 17, 17, {}, {}},
      {second, {.340785f, .232112f, .196392f, .081633f}, 12, 9, {5, 6, 6}, {.555060f, .437045f, .792571f}},
      {{0, 1, 8, 3, 4, 6, 7, 2, 5}, {.395546f, .154809f, .110106f}, 6, 4, {1, 3}, {.603648f, .077515f}}};
  Executor executor(compressed.graph);
  for (std::size_t l = 0; l < blocks.size(); ++l) {
    const auto& [order, scores, pruned, merged, targets, cosines] = blocks[l];
    const AttentionBlock& names = model.blocks[l];
    const Feeds values =
        executor.run({{"input", toy_images().slice(0, 0, 1)}}, {names.probabilities, names.residual});
    const at::Tensor importance = mean_importance(values.at(names.probabilities), 1);
    const auto count = static_cast<std::int64_t>(order.size());
    const at::Tensor sorted = sorted_tokens(importance, 1, count);
    EXPECT_TRUE(at::equal(sorted[0], at::tensor(order, at::kLong))) << l << sorted;
    const auto shown = static_cast<std::int64_t>(scores.size());
    EXPECT_TRUE(at::allclose(importance[0].index_select(0, sorted[0]).slice(0, 1, 1 + shown),
                             at::tensor(scores), 1e-5, 1e-6));
    if (merged == pruned) continue;
    const at::Tensor tokens = gather_tokens(values.at(names.residual), sorted.slice(1, 0, pruned));
    const auto [target, cosine] = nearest_tokens(tokens.slice(1, merged), tokens.slice(1, 0, merged), 1);
    EXPECT_TRUE(at::equal(target[0], at::tensor(targets, at::kLong))) << l << target;
    EXPECT_TRUE(at::allclose(cosine[0], at::tensor(cosines), 1e-5, 1e-6)) << l << cosine;
  }
}

TEST(PublishedNetwork, FinalSizes) {
  const at::NoGradGuard no_grad;
  const Graph graph = prepare_tokens(toy_vit());
  const TokenModel model = find_attention(graph);
  const auto sizes = [&](const TokenSchedule& schedule) {
    Compressed compressed = compress_tokens(graph, model, reduce_steps(schedule, 17));
    std::string value;
    for (const Node& node : compressed.graph.nodes)
      if (node.domain == "lithe") value = node.output(1);
    Executor executor(compressed.graph);
    return executor.run({{"input", toy_images()}}, {value}).at(value);
  };
  EXPECT_TRUE(at::allclose(
      sizes({{17, 12, 6}, {17, 9, 4}}),
      at::tensor({1.f, 1.603648f, 1.f, 1.172828f, 1.f, 1.f, 3.179826f, 1.f}).reshape({2, 4}), 1e-5, 1e-6));
  EXPECT_TRUE(at::allclose(sizes({{17, 17, 17}, {17, 9, 4}})[0],
                           at::tensor({1.f, 1.020536f, .999262f, 3.168569f}), 1e-5, 1e-6));
}

}  // namespace
}  // namespace lithe
