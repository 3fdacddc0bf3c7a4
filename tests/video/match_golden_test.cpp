// Numbers of the specification, on the scalar reference and on the fast path.
#include <gmock/gmock.h>

#include <cmath>
#include <functional>
#include <numeric>
#include <opencv2/core.hpp>

#include "lithe/kernels/patch_error.h"
#include "lithe/video/match.h"
#include "lithe/video/match_candidates.h"
#include "lithe/video/match_reference.h"
#include "lithe/video/patch_planes.h"
#include "lithe/video/planes.h"

namespace lithe {
namespace {

using ::testing::ElementsAre;

Frame make_frame(int height, int width, const std::function<int(int, int, int)>& value) {
  Frame frame(height, width);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c) frame.at(y, x)[c] = static_cast<std::int16_t>(value(y, x, c) * kFrameScale);
  return frame;
}

Field make_field(int height, int width, const std::function<std::pair<int, int>(int, int)>& match) {
  Field field = identity_field(height, width);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      const auto [row, column] = match(y, x);
      const auto at = static_cast<std::size_t>(y * width + x);
      field.rows[at] = static_cast<std::int16_t>(row);
      field.columns[at] = static_cast<std::int16_t>(column);
    }
  return field;
}

cv::Mat in_grey(const Frame& frame) {
  cv::Mat out;
  as_mat(frame).convertTo(out, CV_64F, 1.0 / kFrameScale);
  return out;
}

double total(const cv::Mat& picture) {
  const cv::Scalar sum = cv::sum(picture);
  return sum[0] + sum[1] + sum[2];
}

/// Sections 10.1 of the specification.
struct SmallPictures : testing::Test {
  Frame a =
      make_frame(9, 11, [](int y, int x, int c) { return (31 * y + 17 * x + 7 * c + 3 * x * y) % 256; });
  Frame b = make_frame(9, 11, [](int y, int x, int c) {
    return (31 * y + 17 * x + 7 * c + 3 * x * y + 5 * y + 11 * x + 13 * c) % 256;
  });
  Field field = make_field(
      9, 11, [](int y, int x) { return std::make_pair((2 * y + x + 1) % 9, (y + 3 * x + 2) % 11); });
  Field other =
      make_field(9, 11, [](int y, int x) { return std::make_pair((y + 2 * x) % 9, (4 * y + x + 5) % 11); });

  static void expect_errors(const std::vector<double>& errors, double first, double middle, double last,
                            double sum) {
    EXPECT_EQ(errors[0], first);
    EXPECT_EQ(errors[4 * 11 + 5], middle);
    EXPECT_EQ(errors[8 * 11 + 10], last);
    EXPECT_EQ(std::accumulate(errors.begin(), errors.end(), 0.0), sum);
  }
  /// Of whole numbers; the pictures as guides.
  static std::vector<double> fast_errors(const Field& sources, const Frame& source, const Field& targets,
                                         const Frame& target, int patch) {
    PatchPlane from, to;
    from.set(source, &source, patch / 2 + 3);  // more border than is needed changes nothing
    to.set(target, &target, patch / 2 + 3);
    const std::vector<Place> places = to_places(sources), others = to_places(targets);
    std::vector<std::int64_t> guide(places.size()), style(places.size());
    PatchWorkspace workspace;
    patch_sums({from.image(), to.image(), patch}, places.data(), others.data(),
               static_cast<std::int64_t>(places.size()), guide.data(), style.data(), workspace);
    EXPECT_EQ(guide, style);
    std::vector<double> errors;
    for (const std::int64_t sum : guide)
      errors.push_back(static_cast<double>(sum) / (kFrameScale * kFrameScale));
    return errors;
  }
};

TEST_F(SmallPictures, ArePictured) {
  EXPECT_EQ(total(in_grey(a)), 37428);
  EXPECT_EQ(total(in_grey(b)), 36684);
  EXPECT_EQ(b.at(4, 5)[2], 128 * kFrameScale);
}

TEST_F(SmallPictures, PatchErrors) {
  for (const bool fast : {false, true}) {
    SCOPED_TRACE(fast ? "fast" : "reference");
    const auto errors = [&](int patch) {
      return fast ? fast_errors(field, a, identity_field(9, 11), b, patch)
                  : patch_errors_reference(field, in_grey(a), in_grey(b), patch);
    };
    expect_errors(errors(3), 90027, 491020, 638409, 35830260);
    expect_errors(errors(5), 241129, 1284416, 1730297, 102850070);
  }
  expect_errors(fast_errors(field, a, other, b, 3), 169045, 501524, 115893, 33121776);  // pairwise
}

TEST_F(SmallPictures, Remap) {
  const auto expect_picture = [](const cv::Mat& picture, const cv::Vec3d& first, const cv::Vec3d& middle,
                                 const cv::Vec3d& last, double sum, double tolerance) {
    EXPECT_LE(cv::norm(picture.at<cv::Vec3d>(0, 0) - first, cv::NORM_INF), tolerance);
    EXPECT_LE(cv::norm(picture.at<cv::Vec3d>(4, 5) - middle, cv::NORM_INF), tolerance);
    EXPECT_LE(cv::norm(picture.at<cv::Vec3d>(8, 10) - last, cv::NORM_INF), tolerance);
    EXPECT_NEAR(total(picture), sum, tolerance * 9 * 11);  // roundings mostly cancel
  };
  const auto expect_both = [&](const auto& picture, double tolerance) {
    expect_picture(picture(3), {144.75, 151.75, 158.75}, {139.2222, 146.2222, 153.2222},
                   {166.75, 173.75, 180.75}, 37465.4058, tolerance);
    expect_picture(picture(5), {143.66667, 122.22222, 129.22223}, {126.05, 120.25, 127.25}, {116, 123, 130},
                   37734.9914, tolerance);
  };
  expect_both([&](int patch) { return remap_reference(field, in_grey(a), patch); }, 1e-4);
  expect_both([&](int patch) { return in_grey(remap(field, a, patch)); }, 0.5 / kFrameScale + 1e-4);
}

TEST_F(SmallPictures, IdentityHasNoErrorAndChangesNothing) {
  const Field same = identity_field(9, 11);
  for (const int patch : {1, 3, 5, 13}) {
    expect_errors(fast_errors(same, a, same, a, patch), 0, 0, 0, 0);
    EXPECT_EQ(remap(same, a, patch), a);
  }
}

// Section 10.1.
TEST(Propagation, TakesNeighboursOffsets) {
  const PyramidLevel size{4, 5};
  const std::vector<Place> places = to_places(
      make_field(4, 5, [](int y, int x) { return std::make_pair((2 * y + x) % 4, (y + 2 * x) % 5); }));
  const int sums[4][2] = {{42, 40}, {28, 55}, {15, 40}, {28, 26}};
  const std::vector<std::vector<Place>> at_places{
      {place_at(2, 2), place_at(2, 2), place_at(0, 4), place_at(0, 0)},   // of (2, 3)
      {place_at(1, 0), place_at(1, 4), place_at(1, 1), place_at(2, 0)},   // of (3, 4)
      {place_at(1, 0), place_at(0, 1), place_at(1, 1), place_at(1, 1)}};  // of (0, 0)
  for (int direction = 0; direction < 4; ++direction) {
    SCOPED_TRACE(direction);
    std::vector<Place> candidates(20);
    for (int y = 0; y < 4; ++y)
      neighbour_candidates(places.data(), size, y, direction, candidates.data() + 5 * y);
    int rows = 0, columns = 0;
    for (const Place place : candidates) {
      rows += place_row(place);
      columns += place_column(place);
    }
    EXPECT_EQ(rows, sums[direction][0]);
    EXPECT_EQ(columns, sums[direction][1]);
    const auto of = static_cast<std::size_t>(direction);
    EXPECT_EQ(candidates[2 * 5 + 3], at_places[0][of]);
    EXPECT_EQ(candidates[3 * 5 + 4], at_places[1][of]);
    EXPECT_EQ(candidates[0], at_places[2][of]);
  }
}

/// Section 10.4: a texture by formula.
int formula(int y, int x, int c) {
  std::int64_t h =
      (std::int64_t{73856093} * y ^ std::int64_t{19349663} * x ^ std::int64_t{83492791} * c) & 0x7fffffff;
  h = (1103515245 * h + 12345) & 0x7fffffff;
  const double value = 128 + 60 * std::sin(0.21 * y + c) + 50 * std::cos(0.17 * x + 0.05 * y + 2 * c) +
                       static_cast<double>((h >> 16) % 64) - 32;
  return static_cast<int>(std::clamp(std::floor(value), 0.0, 255.0));
}

struct WithoutChance : testing::Test {
  MatchOptions options{.random_steps = 0, .random_order = false, .warm_levels = 1, .warm_iterations = 5};
  Frame guide = make_frame(32, 32, formula);
  Frame style = make_frame(32, 32, [](int y, int x, int c) { return 255 - formula(y, x, 2 - c); });
  Field start = make_field(32, 32, [](int y, int x) {
    return std::make_pair((31 * y + 17 * x + x * y % 13) % 32, (7 * y + 29 * x + x * x % 11) % 32);
  });
  Pyramid guides = make_pyramid(guide, options), styles = make_pyramid(style, options);

  Pyramid moved(int down, int right) const {
    return make_pyramid(
        make_frame(32, 32, [=](int y, int x, int c) { return formula(y + down, x + right, c); }), options);
  }
  static void expect_field(const Field& field, int rows, int columns, std::pair<int, int> middle) {
    EXPECT_EQ(std::accumulate(field.rows.begin(), field.rows.end(), 0), rows);
    EXPECT_EQ(std::accumulate(field.columns.begin(), field.columns.end(), 0), columns);
    EXPECT_EQ(field.rows[10 * 32 + 12], middle.first);
    EXPECT_EQ(field.columns[10 * 32 + 12], middle.second);
  }
};

TEST_F(WithoutChance, Pictures) {
  EXPECT_EQ(total(in_grey(guide)), 396814);
  EXPECT_EQ(total(in_grey(style)), 386546);
  EXPECT_EQ(in_grey(guide).at<cv::Vec3d>(3, 4), cv::Vec3d(205, 117, 194));
  EXPECT_EQ(in_grey(style).at<cv::Vec3d>(3, 4), cv::Vec3d(61, 138, 50));
}

struct Expected {
  int down, right, rows, columns;
  double error, sum;
  std::pair<int, int> middle;
  cv::Vec3d colour;  // at (10, 12)
};
const std::vector<Expected> kExpected{
    {2, -1, 17342, 15157, 8.398497e8, 393556.788, {13, 10}, {125, 206, 114}},
    {0, 0, 15362, 15998, 6.855806e8, 380574.028, {9, 11}, {108, 120, 80}},
    {4, 3, 17626, 18172, 1.0047887e9, 395197.145, {14, 14}, {179.52, 168.96, 136.48}}};

TEST_F(WithoutChance, ReferenceFindsTheSpecifiedField) {
  for (const Expected& e : kExpected) {
    SCOPED_TRACE(e.down);
    const ReferenceMatch matched =
        match_reference({guides, moved(e.down, e.right), styles}, options, 0, &start);
    expect_field(matched.field, e.rows, e.columns, e.middle);
    EXPECT_NEAR(std::accumulate(matched.errors.begin(), matched.errors.end(), 0.0), e.error, e.error * 1e-6);
    EXPECT_NEAR(total(matched.picture), e.sum, 0.01);
    EXPECT_LE(cv::norm(matched.picture.at<cv::Vec3d>(10, 12) - e.colour, cv::NORM_INF), 1e-3);
  }
}

// Rounding the running style to quarter grey levels changes the last of these fields, which chance alone
// would untangle; what it does is known from the reference with that rounding.
TEST_F(WithoutChance, FastFindsTheSpecifiedField) {
  for (const Expected& e : kExpected) {
    SCOPED_TRACE(e.down);
    const Pyramid target = moved(e.down, e.right);
    const Matched matched = match({guides, target, styles}, options, 0, &start);
    const ReferenceMatch reference = match_reference({guides, target, styles}, options, 0, &start, true);
    EXPECT_EQ(matched.field, reference.field);
    EXPECT_NEAR(std::accumulate(matched.errors.begin(), matched.errors.end(), 0.0), e.error, e.error * 0.01);
    EXPECT_NEAR(total(in_grey(matched.picture)), e.sum, e.sum * 0.01);
    if (e.down == 4) continue;
    expect_field(matched.field, e.rows, e.columns, e.middle);
    EXPECT_NEAR(std::accumulate(matched.errors.begin(), matched.errors.end(), 0.0), e.error, e.error * 1e-4);
    EXPECT_NEAR(total(in_grey(matched.picture)), e.sum, e.sum * 1e-4);
    EXPECT_LE(cv::norm(in_grey(matched.picture).at<cv::Vec3d>(10, 12) - e.colour, cv::NORM_INF),
              0.5 / kFrameScale + 1e-3);
  }
}

TEST_F(WithoutChance, IdentityCannotBeLeftByPropagation) {
  const Pyramid target = moved(2, -1);
  EXPECT_EQ(match({guides, target, styles}, options, 0).field, identity_field(32, 32));
  EXPECT_EQ(match_reference({guides, target, styles}, options, 0).field, identity_field(32, 32));
}

}  // namespace
}  // namespace lithe
