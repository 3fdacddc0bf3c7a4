#include "lithe/video/field.h"

#include <gmock/gmock.h>

#include <cmath>

#include "lithe/base/error.h"
#include "lithe/video/planes.h"
#include "lithe/video/pyramid.h"

namespace lithe {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

std::vector<std::pair<int, int>> sizes(int height, int width, const MatchOptions& options = {}) {
  std::vector<std::pair<int, int>> result;
  for (const PyramidLevel& level : pyramid_levels(height, width, options))
    result.emplace_back(level.height, level.width);
  return result;
}

using Pairs = std::vector<std::pair<int, int>>;

// Specification, section 10.2.
TEST(PyramidLevels, HalveFromTheFullSize) {
  EXPECT_EQ(sizes(512, 512), (Pairs{{32, 32}, {64, 64}, {128, 128}, {256, 256}, {512, 512}}));
  EXPECT_EQ(sizes(512, 768).front(), std::make_pair(32, 48));
  EXPECT_EQ(sizes(512, 960).front(), std::make_pair(32, 60));
  EXPECT_EQ(sizes(1080, 1920),
            (Pairs{{33, 60}, {67, 120}, {135, 240}, {270, 480}, {540, 960}, {1080, 1920}}));
  EXPECT_EQ(sizes(256, 256).size(), 4u);
  EXPECT_EQ(sizes(256, 256).front(), std::make_pair(32, 32));
  EXPECT_EQ(sizes(128, 128).size(), 3u);
  EXPECT_EQ(sizes(64, 64).size(), 2u);
  EXPECT_EQ(sizes(26, 26).size(), 1u);
  EXPECT_EQ(sizes(512, 512, {.patch = 15}).size(), 4u);
  EXPECT_EQ(sizes(512, 512, {.patch = 15}).front().first, 64);
  EXPECT_EQ(sizes(512, 512, {.patch = 25}).front().first, 128);
  EXPECT_EQ(sizes(720, 1280, {.patch = 7}).front(), std::make_pair(45, 80));
}

TEST(PyramidLevels, SmallFramesHaveOneAndSmallerPatches) {
  EXPECT_EQ(sizes(25, 25).size(), 1u);
  EXPECT_EQ(sizes(1, 300).size(), 1u);
  EXPECT_THAT(patch_sizes({25, 300}, {}), ElementsAre(13, 11, 9, 7, 5));
  EXPECT_THAT(patch_sizes({10, 300}, {}), ElementsAre(9, 9, 9, 7, 5));
  EXPECT_THAT(patch_sizes({1, 300}, {}), ElementsAre(1, 1, 1, 1, 1));
}

// Specification, section 10.1: averages over areas, in quarter grey levels here.
TEST(Pyramid, AveragesAreas) {
  const auto shrunk = [](int height, int width) {
    Frame frame(height, width);
    for (int i = 0; i < height * width; ++i)
      for (int c = 0; c < 3; ++c)
        frame.pixels[static_cast<std::size_t>(3 * i + c)] =
            static_cast<std::int16_t>(i * i % 97 * kFrameScale);
    const Pyramid pyramid = make_pyramid(frame, {.patch = 1, .iterations = 1});
    EXPECT_EQ(pyramid.finest(), frame);
    std::vector<double> values;
    const Frame& half = pyramid.level(pyramid.levels() - 2);
    for (std::size_t i = 0; i < half.pixels.size(); i += 3)
      values.push_back(static_cast<double>(half.pixels[i]) / kFrameScale);
    return values;
  };
  const auto expect_near = [](const std::vector<double>& got, const std::vector<double>& wanted) {
    ASSERT_EQ(got.size(), wanted.size());
    for (std::size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], wanted[i], 0.1251) << i;
  };
  expect_near(shrunk(7, 5), {18.0571, 39.2571, 42.7714, 57.8571, 58.5714, 50.9143});
  expect_near(shrunk(8, 6), {21.5, 39.5, 17, 55.5, 24.5, 74.25, 62.25, 55, 55.75, 17.5, 82.5, 58.5});
}

TEST(Pyramid, RefusesWhatCannotBeMatched) {
  const auto refusal = [](const MatchOptions& options, const char* text) {
    EXPECT_THAT([&] { make_pyramid(Frame(4, 4), options); }, ThrowsMessage<Error>(HasSubstr(text)));
  };
  refusal({.patch = 6}, "6 pixels has no centre");
  refusal({.patch = -1}, "must be odd and positive");
  refusal({.patch = 39}, "begin with 47 pixels");
  refusal({.iterations = 0}, "0 iterations");
  refusal({.guide_weight = NAN}, "guide weight nan");
  refusal({.guide_weight = -1}, "guide weight -1");
  refusal({.random_steps = -1}, "-1 random steps");
  refusal({.random_radius = 20000}, "20000 pixels");
  refusal({.warm_levels = 0}, "0 warm levels");
  refusal({.warm_iterations = 0}, "0 warm iterations");
  refusal({.tracking = -1}, "-1 frames");
  EXPECT_THAT([] { make_pyramid(Frame(0, 4), {}); }, ThrowsMessage<Error>(HasSubstr("without pixels")));
  EXPECT_THAT([] { make_pyramid(Frame(1, 16385), {}); },
              ThrowsMessage<Error>(HasSubstr("16385x1 are too large")));
  EXPECT_EQ(make_pyramid(Frame(1, 16384), {}).levels(), 1);
}

Field row_field(std::vector<std::int16_t> columns) {
  const auto width = static_cast<int>(columns.size());
  return {1, width, std::vector<std::int16_t>(columns.size()), std::move(columns)};
}

TEST(Field, UpsamplesTwice) {
  const Field coarse{2, 2, {1, 0, 0, 1}, {1, 0, 1, 1}};
  const Field plain = upsample(coarse, 4, 4, false), exact = upsample(coarse, 4, 4, true);
  EXPECT_THAT(plain.rows, ElementsAre(2, 2, 0, 0, 2, 2, 0, 0, 0, 0, 2, 2, 0, 0, 2, 2));
  EXPECT_THAT(plain.columns, ElementsAre(2, 2, 0, 0, 2, 2, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2));
  EXPECT_THAT(exact.rows, ElementsAre(2, 2, 0, 0, 3, 3, 1, 1, 0, 0, 2, 2, 1, 1, 3, 3));
  EXPECT_THAT(exact.columns, ElementsAre(2, 3, 0, 1, 2, 3, 0, 1, 2, 3, 2, 3, 2, 3, 2, 3));
  EXPECT_EQ(upsample(identity_field(5, 7), 10, 14, true), identity_field(10, 14));
}

// The numbers of the specification's section 10.1 (0 2 4 6 to 0, 1.4, 3, 4.6, 6), halved.
TEST(Field, UpsamplesToOddSizesLinearlyAndTruncates) {
  EXPECT_THAT(upsample(row_field({0, 1}), 2, 5, true).columns, ElementsAre(0, 0, 1, 2, 3, 0, 0, 1, 2, 3));
  EXPECT_THAT(upsample(row_field({0, 1}), 2, 5, false).columns, ElementsAre(0, 0, 1, 2, 2, 0, 0, 1, 2, 2));
}

TEST(Field, ComposesInOrder) {
  const Field first = row_field({3, 2, 1, 0}), second = row_field({1, 1, 2, 0});
  EXPECT_THAT(compose(first, second).columns, ElementsAre(2, 2, 1, 3));
  EXPECT_EQ(compose(first, identity_field(1, 4)), first);
  EXPECT_THAT([] { compose(row_field({0}), row_field({1})); },
              ThrowsMessage<Error>(HasSubstr("column 1 leads out")));
}

TEST(Field, DownsamplesToIdentity) {
  EXPECT_EQ(downsample(identity_field(12, 20), 6, 10), identity_field(6, 10));
  EXPECT_EQ(downsample(identity_field(1081, 1921), 67, 120), identity_field(67, 120));
  const Field field{4, 4, std::vector<std::int16_t>(16, 3), std::vector<std::int16_t>(16, 2)};
  EXPECT_THAT(downsample(field, 2, 2).rows, ElementsAre(1, 1, 1, 1));
  EXPECT_EQ(downsample(field, 4, 4), field);
}

TEST(Field, PlacesAreRowsAndColumns) {
  const Field field{1, 3, {16383, 0, 5}, {0, 16383, 7}};
  EXPECT_EQ(to_field(to_places(field), 1, 3), field);
}

}  // namespace
}  // namespace lithe
