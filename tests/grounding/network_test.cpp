// The network: its size, its parts, and one pass at full size.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "lithe/base/math.h"
#include "lithe/engine/executor.h"
#include "lithe/models/grounding.h"
#include "lithe/train/trainable.h"
#include "message_of.h"

namespace lithe {
namespace {

/// Numbers that learn in constants whose names begin with one of `prefixes`.
std::int64_t learnt(const Graph& graph, const std::vector<std::string>& prefixes) {
  std::int64_t count = 0;
  for (const Trainable& one : trainable_constants(graph))
    for (const std::string& prefix : prefixes)
      if (one.name.starts_with(prefix)) {
        count += element_count(graph.constant(one.name)->shape()).value();
        break;
      }
  return count;
}

TEST(GroundingNetwork, ParameterCountsG15) {
  const Graph single = build_grounding();
  EXPECT_EQ(learnt(single, {"sa", "fp"}), 650304);
  EXPECT_EQ(learnt(single, {"text.projector", "text.norm"}), 222048);
  EXPECT_EQ(learnt(single, {"cross."}), 4893504);
  EXPECT_EQ(learnt(single, {"kps."}), 167905);
  EXPECT_EQ(learnt(single, {"query_projector"}), 83232);
  EXPECT_EQ(learnt(single, {"proposal."}), 576838);
  EXPECT_EQ(learnt(single, {"decoder."}), 7409472);
  EXPECT_EQ(learnt(single, {"head", "last."}), 3461028);
  EXPECT_EQ(learnt(single, {"query_projection"}), 184960);
  EXPECT_EQ(learnt(single, {"text_projection"}), 184960);
  EXPECT_EQ(learnt(single, {"mask.seeds"}), 664992);
  EXPECT_EQ(learnt(single, {"mask.queries"}), 664992);
  EXPECT_EQ(learnt(single, {"seed_places"}), 84960);
  EXPECT_EQ(learnt(single, {""}), 19249195);

  GroundingOptions two_stage;
  two_stage.boxes = 132;
  const Graph two = build_grounding(two_stage);
  EXPECT_EQ(learnt(two, {"cross."}), 5894016);
  EXPECT_EQ(learnt(two, {"decoder."}), 9410496);
  EXPECT_EQ(learnt(two, {"box.0", "box.1", "box.norm"}), 17664);
  EXPECT_EQ(learnt(two, {"box.class."}), 123040);
  EXPECT_EQ(learnt(two, {""}), 22763915);

  GroundingOptions dense = two_stage;
  dense.masks = MaskBranch::Points;
  EXPECT_NEAR(static_cast<double>(learnt(build_grounding(dense), {""})), 22.64e6, 5e3);
}

TEST(GroundingNetwork, TheSmallOneIsSmall) {
  const std::int64_t count = learnt(build_grounding(small_grounding(60)), {""});
  EXPECT_GT(count, 600000);
  EXPECT_LT(count, 850000);
}

Feeds small_feeds(std::int64_t batch, std::int64_t points, std::int64_t superpoints) {
  at::manual_seed(5);
  Feeds feeds;
  feeds["points"] = at::cat({at::rand({batch, points, 3}) * 4, at::rand({batch, points, 3}) - 0.5}, 2);
  feeds["tokens"] = at::randint(0, 60, {batch, 7}, at::kLong);
  feeds["trigrams"] = at::randint(0, 512, {batch, 7, 5}, at::kLong);
  feeds["token_mask"] = at::ones({batch, 7});
  feeds["token_mask"][0].slice(0, 5).zero_();
  feeds["superpoint_ids"] = at::randint(0, superpoints, {batch, points}, at::kLong);
  return feeds;
}

TEST(GroundingNetwork, PartsGiveWhatTheWholeGives) {
  const at::NoGradGuard no_grad;
  for (const MaskBranch masks : {MaskBranch::Superpoints, MaskBranch::Points, MaskBranch::None}) {
    GroundingOptions options = small_grounding(60);
    options.masks = masks;
    const Graph graph = build_grounding(options);
    Executor executor(graph);
    Feeds feeds = small_feeds(2, 600, 30);
    if (masks != MaskBranch::Superpoints) feeds.erase("superpoint_ids");
    const Feeds whole = executor.run(feeds);
    EXPECT_EQ(whole.at("last.box").sizes(), at::IntArrayRef({2, 16, 6}));
    EXPECT_EQ(whole.contains("mask_logits"), masks != MaskBranch::None);

    const std::vector<std::string> searches = grounding_index_values(options);
    Feeds with_indices = feeds;
    for (auto& [name, value] : executor.run(feeds, searches)) with_indices[name] = value;
    const Feeds scene = executor.run(with_indices, grounding_scene_values(options));
    Feeds sentence = scene;
    for (const char* name : {"tokens", "trigrams", "token_mask"}) sentence[name] = feeds.at(name);
    std::vector<std::string> wanted;
    for (const ValueInfo& output : graph.outputs) wanted.push_back(output.name);
    for (const auto& [name, value] : executor.run(sentence, wanted))
      EXPECT_TRUE(at::allclose(value, whole.at(name), 1e-4, 1e-5)) << name;
  }
}

TEST(GroundingNetwork, PaddingOfASentenceChangesNothing) {
  const at::NoGradGuard no_grad;
  Executor executor(build_grounding(small_grounding(60)));
  Feeds feeds = small_feeds(1, 400, 20);
  const Feeds padded = executor.run(feeds, {"last.box", "mask_logits"});
  for (const char* name : {"tokens", "trigrams", "token_mask"}) feeds[name] = feeds[name].slice(1, 0, 5);
  for (const auto& [name, value] : executor.run(feeds, {"last.box", "mask_logits"}))
    EXPECT_TRUE(at::allclose(value, padded.at(name), 1e-4, 1e-5)) << name;
}

TEST(GroundingNetwork, EverythingThatLearnsHasAGradient) {
  GroundingOptions options = small_grounding(60);
  const Graph graph = build_grounding(options);
  Executor executor(graph, {.training = true});
  std::vector<at::Tensor> constants;
  std::vector<std::string> names;
  for (const Trainable& one : trainable_constants(graph)) {
    const at::Tensor value = executor.constant(one.name).clone().set_requires_grad(true);
    executor.set_constant(one.name, value);
    constants.push_back(value);
    names.push_back(one.name);
  }
  at::Tensor sum = at::zeros({});
  for (const auto& [name, value] : executor.run(small_feeds(2, 600, 30)))
    sum = sum + value.square().mean() + value.sum() * 1e-3;
  const auto gradients =
      torch::autograd::grad({sum}, constants, {}, c10::nullopt, false, /*allow_unused=*/true);
  for (std::size_t i = 0; i < names.size(); ++i) {
    ASSERT_TRUE(gradients[i].defined()) << names[i];
    EXPECT_TRUE(gradients[i].isfinite().all().item<bool>()) << names[i];
  }
}

TEST(GroundingNetwork, OnePassAtFullSize) {
  const at::NoGradGuard no_grad;
  Executor executor(build_grounding());
  at::manual_seed(6);
  Feeds feeds;
  feeds["points"] = at::cat({at::rand({1, 50000, 3}) * 5, at::rand({1, 50000, 3}) - 0.5}, 2);
  feeds["text_features"] = at::randn({1, 32, 768});
  feeds["token_mask"] = at::ones({1, 32});
  feeds["superpoint_ids"] = at::arange(50000, at::kLong).div(50, "floor").unsqueeze(0);
  const Feeds out = executor.run(feeds);
  EXPECT_EQ(out.at("last.box").sizes(), at::IntArrayRef({1, 256, 6}));
  EXPECT_EQ(out.at("head4.tokens").sizes(), at::IntArrayRef({1, 256, 256}));
  EXPECT_EQ(out.at("mask_logits").sizes(), at::IntArrayRef({1, 256, 1000}));
  EXPECT_EQ(out.at("seed_logits").sizes(), at::IntArrayRef({1, 1024}));
  for (const auto& [name, value] : out) EXPECT_TRUE(value.isfinite().all().item<bool>()) << name;
  EXPECT_TRUE(at::allclose(out.at("last.projection").norm(2, {-1}), at::ones({1, 256}), 1e-4, 1e-4));
}

TEST(GroundingNetwork, OptionsThatDoNotFitAreRefused) {
  GroundingOptions options = small_grounding(60);
  options.heads = 5;
  EXPECT_NE(test::message_of([&] { build_grounding(options); }).find("5 heads"), std::string::npos);
  options = small_grounding(60);
  options.queries = 129;
  EXPECT_NE(test::message_of([&] { build_grounding(options); }).find("129 queries"), std::string::npos);
  options = small_grounding(60);
  options.abstraction[2].points = 500;
  EXPECT_NE(test::message_of([&] { build_grounding(options); }).find("500 points"), std::string::npos);
}

}  // namespace
}  // namespace lithe
