// The criterion and the final answer against numbers of the published code.
#include "lithe/grounding/criterion.h"

#include <gtest/gtest.h>

#include <cmath>

#include "lithe/grounding/select.h"
#include "lithe/metrics/box3.h"
#include "message_of.h"

namespace lithe {
namespace {

at::Tensor floats(const std::vector<float>& values) {
  return at::tensor(values, at::kFloat);
}
at::Tensor longs(const std::vector<std::int64_t>& values) {
  return at::tensor(values, at::kLong);
}

at::Tensor made(at::IntArrayRef shape, const std::function<double(std::int64_t)>& value) {
  const at::Tensor out = at::empty(shape, at::kDouble);
  for (std::int64_t i = 0; i < out.numel(); ++i) out.data_ptr<double>()[i] = value(i);
  return out.to(at::kFloat);
}

at::Tensor unit(const at::Tensor& x) {
  return x / x.norm(2, {-1}, true);
}

at::Tensor one_hot(std::int64_t index) {
  at::Tensor row = at::zeros({1, 8});
  if (index >= 0) row[0][index] = 1;
  return row;
}

/// Four queries, eight token classes, six tokens, five superpoints and one target.
struct Golden {
  GroundingPrediction prediction;
  GroundingTargets targets;

  Golden() {
    QueryPrediction layer;
    layer.tokens = made({1, 4, 8}, [](std::int64_t i) { return 2 * std::sin(.37 * static_cast<double>(i)); });
    layer.projection =
        unit(made({1, 4, 4}, [](std::int64_t i) { return std::cos(.9 * static_cast<double>(i) + .2); }));
    layer.boxes = floats({0, 0, .5f, 1, 1,   1,   .1f, 0,   .4f, .8f, 1.2f, .9f,
                          2, 1, .5f, 1, .5f, .5f, 0,   .3f, .6f, .6f, .6f,  .6f})
                      .view({1, 4, 6});
    prediction.layers = {layer};
    prediction.token_projection =
        unit(made({1, 6, 4}, [](std::int64_t i) { return std::sin(.7 * static_cast<double>(i) + .1); }));
    prediction.mask_logits =
        made({1, 4, 5}, [](std::int64_t i) { return 3 * std::cos(.61 * static_cast<double>(i)); });
    targets.sample = longs({0});
    targets.boxes = floats({.05f, .05f, .45f, .9f, 1.1f, .95f}).view({1, 6});
    targets.roles = {one_hot(2), one_hot(1), one_hot(-1), one_hot(3), one_hot(4)};
    targets.token_counts = longs({6});
    targets.hits = floats({2, 1, 1, 0, 1}).view({1, 5});
    targets.points = floats({3, 2, 4, 0, 1}).view({1, 5});
    targets.superpoints = longs({5});
  }
};

// The published cost of masks is 0.0002 a point, of which there are ten here.
const CriterionOptions kNoSeeds{.seeds = 0, .cost_mask = 0.0002 * 10};

TEST(Criterion, GoldenCaseG11Matching) {
  const Golden golden;
  const at::Tensor giou = box_overlap(golden.prediction.layers[0].boxes[0], golden.targets.boxes).giou();
  EXPECT_TRUE(at::allclose(giou, floats({.7340587f, .7267521f, -.7530723f, .2296652f}), 0, 1e-6));
  const QueryMatch match =
      match_queries(golden.prediction.layers[0], golden.prediction.mask_logits, golden.targets, kNoSeeds);
  EXPECT_EQ(match.query.item<std::int64_t>(), 0);
  // The parts of the cost one by one: only the class, only the masks.
  CriterionOptions by_class{.cost_giou = 0, .cost_mask = 0};
  EXPECT_EQ(
      match_queries(golden.prediction.layers[0], {}, golden.targets, by_class).query.item<std::int64_t>(), 3);
  CriterionOptions by_mask{.cost_tokens = 0, .cost_giou = 0};
  EXPECT_EQ(match_queries(golden.prediction.layers[0], golden.prediction.mask_logits, golden.targets, by_mask)
                .query.item<std::int64_t>(),
            1);
}

TEST(Criterion, GoldenCaseG11Losses) {
  const Golden golden;
  const GroundingLoss loss = grounding_loss(golden.prediction, golden.targets, kNoSeeds);
  const std::map<std::string, double> wanted{{"box", 0.2000000},    {"giou", 0.2659413},
                                             {"tokens", 2.0053818}, {"mask", 0.5365385},
                                             {"dice", 0.4868589},   {"alignment", 33.6151962}};
  ASSERT_EQ(loss.terms.size(), wanted.size());
  for (const auto& [name, value] : wanted) EXPECT_NEAR(loss.terms.at(name), value, value * 1e-6) << name;
  EXPECT_NEAR(loss.total.item<double>(),
              5 * .2 + .2659413 + .5 * 2.0053818 + .5 * 33.6151962 + 10 * .5365385 + 2 * .4868589, 1e-4);
}

TEST(Criterion, GoldenCaseG11Selection) {
  const Golden golden;
  const QueryPrediction& layer = golden.prediction.layers[0];
  const at::Tensor position = position_scores(layer.tokens, golden.targets.roles);
  EXPECT_TRUE(
      at::allclose(position[0], floats({.131493458f, .322210318f, .029431661f, .378700113f}), 0, 1e-6));
  const at::Tensor semantic =
      semantic_scores(layer.projection, golden.prediction.token_projection, golden.targets.roles);
  EXPECT_TRUE(
      at::allclose(semantic[0], floats({.910739170f, .838353443f, .999994327f, .017119182f}), 0, 2e-6));
  EXPECT_EQ(position.argmax(1).item<std::int64_t>(), 3);
  EXPECT_EQ(semantic.argmax(1).item<std::int64_t>(), 2);
  const at::Tensor masks =
      point_masks(golden.prediction.mask_logits[0], longs({0, 0, 0, 1, 1, 2, 2, 2, 2, 4}));
  const at::Tensor truth = longs({1, 1, 0, 1, 0, 0, 0, 0, 1, 1}) > 0;
  EXPECT_TRUE(at::allclose(mask_iou(masks, truth), floats({.4f, .2f, .4f, .2f}).to(at::kDouble), 0, 1e-6));
  EXPECT_NE(test::message_of([&] {
              point_masks(golden.prediction.mask_logits[0], longs({5}));
            }).find("5 superpoints"),
            std::string::npos);
}

TEST(Criterion, GoldenCaseG7Masks) {
  const at::Tensor mask = point_masks(floats({2, -1, .1f, 5, -.3f}), longs({0, 0, 0, 1, 1, 2, 2, 2, 2, 4}));
  EXPECT_TRUE(at::equal(mask, longs({1, 1, 1, 0, 0, 1, 1, 1, 1, 0}) > 0));
}

TEST(Criterion, GoldenCaseG9) {
  const auto [focal, dice] =
      mask_losses(floats({2, -1, .5f, 0, -3}).view({1, 5}), floats({1, 0, 1, 0, 1}).view({1, 5}), longs({5}));
  EXPECT_NEAR(focal.item<double>(), 0.171174616, 1e-6);
  EXPECT_NEAR(dice.item<double>(), 0.351011276, 1e-6);
  // Columns beyond a sample's own superpoints do not count.
  const auto [padded_focal, padded_dice] = mask_losses(
      floats({2, -1, .5f, 0, -3, 9, 9}).view({1, 7}), floats({1, 0, 1, 0, 1, 0, 0}).view({1, 7}), longs({5}));
  EXPECT_NEAR(padded_focal.item<double>(), 0.171174616, 1e-6);
  EXPECT_NEAR(padded_dice.item<double>(), 0.351011276, 1e-6);
}

TEST(Criterion, GoldenCaseG10) {
  const at::Tensor positions =
      floats({0, 0, 0, .1f, 0, 0, .5f, .2f, 0, 1, 0, 0, .2f, .1f, .1f, 2, 2, 0}).view({1, 6, 3});
  GroundingTargets targets;
  targets.sample = longs({0});
  targets.boxes = floats({.1f, .1f, .1f, .5f, .4f, .3f}).view({1, 6});
  const at::Tensor labels = longs({0, 0, -1, 0, 0, -1, -1, -1, -1, -1});
  targets.on_seeds = (labels.index_select(0, longs({3, 0, 1, 4, 2, 9})) == 0).unsqueeze(0);
  const at::Tensor logits = floats({1, -.5f, 2, 0, -1, .3f}).view({1, 6});
  const double wanted[] = {0.3694524, 0.2826629, 0.0620377};
  const std::int64_t counts[] = {1, 2, 4};
  for (int i = 0; i < 3; ++i)
    EXPECT_NEAR(seed_loss(logits, positions, targets, counts[i]).item<double>(), wanted[i], 1e-6);
  // More than lie on the target: the surplus is not on it.
  EXPECT_NEAR(seed_loss(logits, positions, targets, 6).item<double>(), wanted[2], 1e-6);
}

/// The golden sample, and one of two targets that has fewer superpoints.
Golden two_samples() {
  Golden golden;
  const auto twice = [](at::Tensor& x) { x = at::cat({x, x.flip({1})}); };
  QueryPrediction& layer = golden.prediction.layers[0];
  for (at::Tensor* x : {&layer.boxes, &layer.tokens, &layer.projection, &golden.prediction.token_projection,
                        &golden.prediction.mask_logits})
    twice(*x);
  GroundingTargets& t = golden.targets;
  t.sample = longs({0, 1, 1});
  t.boxes = at::cat({t.boxes, t.boxes, t.boxes + 1});
  for (at::Tensor* role :
       {&t.roles.main, &t.roles.modify, &t.roles.pronoun, &t.roles.relation, &t.roles.other})
    *role = role->expand({3, 8}).contiguous();
  t.token_counts = longs({6, 5});
  t.hits = at::cat({t.hits, t.hits, floats({0, 1, 0, 0, 0}).view({1, 5})});
  t.points = t.points.expand({2, 5}).contiguous();
  t.superpoints = longs({5, 3});
  golden.prediction.seed_logits = at::zeros({2, 4});
  golden.prediction.seed_positions = at::rand({2, 4, 3});
  t.on_seeds = at::ones({3, 4}, at::kBool);
  return golden;
}

TEST(Criterion, SeveralSamplesAndTargets) {
  Golden golden = two_samples();
  const QueryMatch match =
      match_queries(golden.prediction.layers[0], golden.prediction.mask_logits, golden.targets, {});
  EXPECT_TRUE(at::equal(match.sample, longs({0, 1, 1})));
  EXPECT_TRUE(at::equal(match.target, longs({0, 1, 2})));
  EXPECT_NE(match.query[1].item<std::int64_t>(), match.query[2].item<std::int64_t>());
  for (at::Tensor* x : {&golden.prediction.layers[0].boxes, &golden.prediction.layers[0].tokens,
                        &golden.prediction.layers[0].projection, &golden.prediction.mask_logits,
                        &golden.prediction.token_projection, &golden.prediction.seed_logits})
    *x = x->detach().clone().requires_grad_(true);
  const GroundingLoss loss = grounding_loss(golden.prediction, golden.targets);
  loss.total.backward();
  EXPECT_TRUE(std::isfinite(loss.total.item<double>()));
  EXPECT_EQ(loss.terms.size(), 7u);
  EXPECT_GT(golden.prediction.layers[0].boxes.grad().abs().sum().item<double>(), 0);
  EXPECT_GT(golden.prediction.layers[0].projection.grad().abs().sum().item<double>(), 0);
  // Superpoints that the second sample does not have learn nothing from it.
  EXPECT_EQ(golden.prediction.mask_logits.grad()[1].slice(1, 3).abs().sum().item<double>(), 0);
  EXPECT_GT(golden.prediction.mask_logits.grad()[1].slice(1, 0, 3).abs().sum().item<double>(), 0);
}

TEST(Criterion, TermsCanBeLeftOut) {
  const Golden golden = two_samples();
  const GroundingLoss boxes = grounding_loss(golden.prediction, golden.targets, {.mask = 0, .dice = 0});
  EXPECT_FALSE(boxes.terms.contains("mask"));
  const GroundingLoss masks =
      grounding_loss(golden.prediction, golden.targets, {.box = 0, .giou = 0, .cost_giou = 0});
  EXPECT_FALSE(masks.terms.contains("box"));
  EXPECT_TRUE(masks.terms.contains("mask"));
  const GroundingLoss plain = grounding_loss(golden.prediction, golden.targets, {.main_only = true});
  const GroundingLoss full = grounding_loss(golden.prediction, golden.targets, {});
  EXPECT_NE(plain.terms.at("alignment"), full.terms.at("alignment"));
  EXPECT_EQ(plain.terms.at("seeds"), full.terms.at("seeds"));
}

TEST(Criterion, WhatDoesNotFitIsRefused) {
  Golden golden = two_samples();
  golden.prediction.layers[0].boxes = golden.prediction.layers[0].boxes * NAN;
  EXPECT_NE(test::message_of([&] { grounding_loss(golden.prediction, golden.targets); }).find("not finite"),
            std::string::npos);
  golden = two_samples();
  golden.targets.points = at::zeros({2, 4});
  EXPECT_NE(test::message_of([&] { grounding_loss(golden.prediction, golden.targets); }).find("superpoints"),
            std::string::npos);
  golden = two_samples();
  golden.targets.sample = longs({0, 1, 2});
  EXPECT_NE(test::message_of([&] { grounding_loss(golden.prediction, golden.targets); }).find("samples"),
            std::string::npos);
}

}  // namespace
}  // namespace lithe
