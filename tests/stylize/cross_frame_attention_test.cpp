// Attention that sees several frames, against the same attention on tokens put in a row by hand.
#include "lithe/stylize/cross_frame_attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lithe/engine/executor.h"
#include "lithe/engine/random_inputs.h"
#include "lithe/graph/adopt_constants.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/models/tiny_attention.h"
#include "lithe/models/tiny_stable_diffusion.h"
#include "message_of.h"

namespace lithe {
namespace {

using testing::HasSubstr;

constexpr AttentionForm kForms[] = {AttentionForm::Heads, AttentionForm::Merged, AttentionForm::Einsum,
                                    AttentionForm::Fused};

/// x + attention(x), or attention to another input.
Graph one_attention(AttentionForm form, bool self, std::int64_t batch = -1, std::int64_t tokens = -1) {
  AttentionBuilder builder("net", 5);
  const std::string x = builder.input("x", {batch, tokens, 8});
  const std::string source = self ? x : builder.input("text", {batch, 5, 8});
  const std::string mixed =
      builder.attention("attn1", x, source, {.width = 8, .source_width = 8, .form = form});
  builder.output("y", builder.node("Add", "sum", {mixed, x}), {batch, tokens, 8});
  Graph graph = builder.finish();
  name_free_sizes(graph);
  return graph;
}

double difference(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() ? (a - b).abs().max().item<double>() : 1e9;
}

class CrossFrameAttention : public testing::TestWithParam<AttentionForm> {};

TEST_P(CrossFrameAttention, SeesTheTokensOfAllFramesOfASet) {
  const at::NoGradGuard no_grad;
  const Graph plain = one_attention(GetParam(), true);
  Executor alone(plain), together(with_cross_frame_attention(plain, 3));
  at::manual_seed(1);
  const at::Tensor x = at::randn({6, 7, 8});  // two sets of three
  const at::Tensor row = alone(x.reshape({2, 21, 8})).reshape({6, 7, 8});
  EXPECT_LT(difference(together(x), row), 1e-5);
  EXPECT_GT(difference(together(x), alone(x)), 1e-2);
}

TEST_P(CrossFrameAttention, FixedSizesAreWidened) {
  const at::NoGradGuard no_grad;
  Graph fixed = one_attention(GetParam(), true, 6, 7);
  fold_shape_constants(fixed);
  for (const Node& node : fixed.nodes) EXPECT_FALSE(node.is("Shape")) << node.name;
  Executor alone(one_attention(GetParam(), true)), together(with_cross_frame_attention(fixed, 3));
  at::manual_seed(2);
  const at::Tensor x = at::randn({6, 7, 8});
  EXPECT_LT(difference(together(x), alone(x.reshape({2, 21, 8})).reshape({6, 7, 8})), 1e-5);
  EXPECT_THAT(test::message_of([&] { with_cross_frame_attention(fixed, 4); }), HasSubstr("no multiple"));
}

TEST_P(CrossFrameAttention, EqualFramesChangeNothingInAUnet) {
  const at::NoGradGuard no_grad;
  const Graph plain = build_tiny_unet({.attention = GetParam()});
  Executor alone(plain), together(with_cross_frame_attention(plain, 2));
  at::manual_seed(3);
  const at::Tensor one = at::randn({1, 4, 8, 8}), other = at::randn({1, 4, 8, 8}),
                   text = at::randn({1, 77, 24});
  const auto run = [&](Executor& executor, const at::Tensor& x) {
    return executor
        .run({{"sample", x},
              {"timestep", at::scalar_tensor(500.0, at::kFloat)},
              {"encoder_hidden_states", text.expand({x.size(0), -1, -1}).contiguous()}})
        .at("out_sample");
  };
  const at::Tensor same = at::cat({one, one, other, other}), mixed = at::cat({one, other, other, one});
  EXPECT_LT(difference(run(together, same), run(alone, same)), 1e-4);
  const at::Tensor crossed = run(together, mixed);
  EXPECT_GT(difference(crossed, run(alone, mixed)), 1e-3);
  EXPECT_LT(difference(crossed[0], crossed[3]), 1e-4) << "the order of the frames of a set does not matter";
}

TEST_P(CrossFrameAttention, FindsBothKinds) {
  Graph graph = build_tiny_unet({.attention = GetParam()});
  adopt_constants(graph);
  infer_shapes(graph);
  const auto found = find_network_attention(graph);
  ASSERT_EQ(found.size(), 4u);
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].trouble, "") << found[i].name;
    EXPECT_EQ(found[i].self, i % 2 == 0) << found[i].name;
  }
  EXPECT_THAT(found[0].name, HasSubstr("attn1"));
}

INSTANTIATE_TEST_SUITE_P(Forms, CrossFrameAttention, testing::ValuesIn(kForms));

TEST(CrossFrameAttentionMasks, ZerosShrinkAndOthersAreRefused) {
  const at::NoGradGuard no_grad;
  const auto masked = [](float corner) {
    AttentionBuilder builder("net", 5);
    const std::string x = builder.input("x", {6, 7, 8});
    std::vector<float> values(49);
    values[6] = corner;
    const std::string mask = builder.constant("mask", TensorData::from<float>({7, 7}, values));
    builder.output("y", builder.attention("attn1", x, x, {.width = 8, .source_width = 8, .mask = mask}),
                   {6, 7, 8});
    Graph graph = builder.finish();
    fold_shape_constants(graph);
    return graph;
  };
  Executor alone(masked(0)), together(with_cross_frame_attention(masked(0), 3));
  const at::Tensor x = at::rand({2, 1, 7, 8}).expand({2, 3, 7, 8}).reshape({6, 7, 8});
  EXPECT_LT(difference(together(x), alone(x)), 1e-5);
  EXPECT_THAT(test::message_of([&] { with_cross_frame_attention(masked(-1), 3); }),
              HasSubstr("single pairs"));
}

TEST(CrossFrameAttentionRefuses, WhatItDoesNotRecognise) {
  const auto message = [](const Graph& graph, std::int64_t frames = 2) {
    return test::message_of([&] { with_cross_frame_attention(graph, frames); });
  };
  EXPECT_THAT(message(one_attention(AttentionForm::Heads, true), 1), HasSubstr("2 or more"));
  EXPECT_THAT(
      message(one_attention(AttentionForm::Heads, false)),
      HasSubstr("1 of 1 attentions of the network 'net' were recognised, none of them self-attention"));
  EXPECT_THAT(message(build_tiny_vae_decoder()), HasSubstr("0 of 0 attentions"));

  AttentionBuilder builder("net", 5);
  const std::string x = builder.input("x", {-1, 6, 8});
  const std::string good = builder.attention("attn1", x, x, {.width = 8, .source_width = 8});
  const std::string scores =
      builder.node("MatMul", "scores", {good, builder.transpose("turned", good, {0, 2, 1})});
  const std::string weights = builder.node("Softmax", "softmax", {scores}, {{"axis", std::int64_t{-1}}});
  builder.output("y", builder.node("MatMul", "mixed", {weights, x}), {-1, 6, 8});
  EXPECT_THAT(message(builder.finish()), HasSubstr("1 of 2 attentions"));
}

}  // namespace
}  // namespace lithe
