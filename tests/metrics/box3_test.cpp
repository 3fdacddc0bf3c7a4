// Overlaps of boxes and masks against computed numbers.
#include "lithe/metrics/box3.h"

#include <gtest/gtest.h>

#include <array>

#include "message_of.h"

namespace lithe {
namespace {

using Box = std::array<double, 6>;

at::Tensor box(const Box& values) {
  return at::tensor(at::ArrayRef<double>(values.data(), 6), at::kDouble);
}

TEST(Box3, GoldenCasesG1) {
  struct Case {
    Box a, b;
    double intersection, united, iou, hull, giou;
  };
  const Box two{0, 0, 0, 2, 2, 2};
  const std::vector<Case> cases{
      {two, two, 8, 8, 1, 8, 1},
      {two, {1, 0, 0, 2, 2, 2}, 4, 12, 0.333333333, 12, 0.333333333},
      {two, {3, 0, 0, 2, 2, 2}, 0, 16, 0, 20, -0.2},
      {two, {2, 0, 0, 2, 2, 2}, 0, 16, 0, 16, 0},
      {two, {.25, .25, .25, 1, 1, 1}, 1, 8, 0.125, 8, 0.125},
      {{.3, -.2, .5, 1, .8, .6}, {.5, .1, .4, .7, .9, 1}, 0.2145, 0.8955, 0.239530988, 1.2075, -0.018854105},
      {{0, 0, 0, 1, 1, 1}, {.6, 0, 0, 1, 1, 1}, 0.4, 1.6, 0.25, 1.6, 0.25}};
  for (const Case& one : cases)
    for (const bool swapped : {false, true}) {
      const BoxOverlap overlap =
          swapped ? box_overlap(box(one.b), box(one.a)) : box_overlap(box(one.a), box(one.b));
      EXPECT_NEAR(overlap.intersection.item<double>(), one.intersection, 1e-6);
      EXPECT_NEAR(overlap.united.item<double>(), one.united, 1e-6);
      EXPECT_NEAR(overlap.iou().item<double>(), one.iou, 1e-6);
      EXPECT_NEAR(overlap.hull.item<double>(), one.hull, 1e-6);
      EXPECT_NEAR(overlap.giou().item<double>(), one.giou, 1e-6);
    }
}

TEST(Box3, AQuarterCountsAsAQuarterInAnyPrecision) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    const at::Tensor iou =
        box_overlap(box({0, 0, 0, 1, 1, 1}).to(type), box({.6, 0, 0, 1, 1, 1}).to(type)).iou();
    EXPECT_GE(iou.item<double>(), 0.25 - kOverlapTolerance);
  }
}

TEST(Box3, NegativeSizesHaveNoVolumeAndShapesBroadcast) {
  const at::Tensor many = at::stack({box({0, 0, 0, 2, 2, 2}), box({0, 0, 0, -3, 2, 2})});
  const BoxOverlap overlap = box_overlap(many.unsqueeze(1), many.unsqueeze(0));
  EXPECT_EQ(overlap.hull.sizes(), at::IntArrayRef({2, 2}));
  EXPECT_NEAR(overlap.iou()[0][1].item<double>(), 0, 1e-6);
  EXPECT_NEAR(overlap.iou()[1][1].item<double>(), 1, 1e-9);
  EXPECT_NE(test::message_of([] { box_overlap(at::zeros({5}), at::zeros({6})); }).find("centre and size"),
            std::string::npos);
}

TEST(Box3, MasksOfPoints) {
  const auto bits = [](std::vector<std::int64_t> values) { return at::tensor(values, at::kLong) > 0; };
  EXPECT_NEAR(
      mask_iou(bits({1, 1, 1, 0, 0, 1, 1, 1, 1, 0}), bits({1, 1, 0, 1, 0, 0, 0, 0, 1, 1})).item<double>(),
      3.0 / 9, 1e-9);  // G7
  EXPECT_EQ(mask_iou(bits({0, 0}), bits({0, 0})).item<double>(), 0);
}

}  // namespace
}  // namespace lithe
