#include "lithe/video/deflicker.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include <string>

#include "lithe/base/error.h"
#include "lithe/base/random.h"
#include "message_of.h"

namespace lithe {
using test::message_of;
namespace {

Frame constant(int value, int height = 32, int width = 40) {
  Frame frame(height, width);
  std::fill(frame.pixels.begin(), frame.pixels.end(), static_cast<std::int16_t>(value));
  return frame;
}

/// Smooth random texture, moved by `shift` columns.
Frame texture(int shift, int height = 40, int width = 48) {
  Frame frame(height, width);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c) {
        const double u = x + shift;
        frame.at(y, x)[c] = static_cast<std::int16_t>(500 + 200 * std::sin(0.37 * u + 0.21 * y + c) +
                                                      150 * std::cos(0.23 * y - 0.11 * u * (c + 1)));
      }
  return frame;
}

std::vector<Frame> moving(int count) {
  std::vector<Frame> frames;
  for (int t = 0; t < count; ++t) frames.push_back(texture(t));
  return frames;
}

std::vector<Frame> flickering(const std::vector<Frame>& frames, int strength) {
  std::vector<Frame> result = frames;
  Rng rng(7);
  for (Frame& frame : result) {
    const int offset = static_cast<int>(rng.normal() * strength);
    for (std::int16_t& value : frame.pixels)
      value = static_cast<std::int16_t>(std::clamp(value + offset, 0, kFrameMaximum));
  }
  return result;
}

double mean_square(const Frame& a, const Frame& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.pixels.size(); ++i) {
    const double difference = a.pixels[i] - b.pixels[i];
    sum += difference * difference;
  }
  return sum / static_cast<double>(a.pixels.size());
}

std::vector<Frame> constants(const std::vector<double>& values, double scale) {
  std::vector<Frame> frames;
  for (const double value : values) frames.push_back(constant(static_cast<int>(std::lround(value * scale))));
  return frames;
}

// Specification 10.5: values i^2 + 1 of twenty frames, seven to each side. Rounding in the table and at the
// end costs up to one step each.
TEST(Deflicker, AveragesOfTheTableAreThoseOfTheWindow) {
  std::vector<double> values;
  for (int i = 0; i < 20; ++i) values.push_back(i * i + 1);
  const std::vector<double> expected{18.5,       23.666667,  29.5,       36,         43.166667,
                                     51,         59.5,       68.666667,  83.666667,  100.666667,
                                     119.666667, 140.666667, 163.666667, 173.5,      184,
                                     195.166667, 207,        219.5,      232.666667, 246.5};
  for (const BlendMode mode : {BlendMode::Fast, BlendMode::Balanced, BlendMode::Accurate}) {
    DeflickerOptions options = DeflickerOptions::published(mode);
    options.window = 7;
    const std::vector<Frame> style = constants(values, 2.5);
    const std::vector<Frame> result = deflicker_frames(style, style, options);
    ASSERT_EQ(result.size(), 20);
    for (std::size_t i = 0; i < 20; ++i) {
      EXPECT_NEAR(result[i].pixels[0] / 2.5, expected[i], 0.6) << i;
      EXPECT_EQ(result[i], constant(result[i].pixels[0])) << i;
    }
  }
}

// Specification 10.6: the published program leaves out the last source of each window; this one does not.
TEST(Deflicker, BalancedTakesTheWholeWindow) {
  DeflickerOptions options = DeflickerOptions::published(BlendMode::Balanced);
  options.window = 1;
  const std::vector<Frame> style = constants({0, 1, 4, 9, 16}, 40);
  const std::vector<Frame> result = deflicker_frames(style, style, options);
  const std::vector<double> expected{0.5, 1.666667, 4.666667, 9.666667, 12.5};
  for (std::size_t i = 0; i < 5; ++i) EXPECT_NEAR(result[i].pixels[0] / 40.0, expected[i], 0.02);
}

TEST(Deflicker, IdenticalFramesStayAsTheyAre) {
  const std::vector<Frame> frames(8, texture(0));
  for (const BlendMode mode : {BlendMode::Fast, BlendMode::Balanced, BlendMode::Accurate})
    for (DeflickerOptions options : {DeflickerOptions::published(mode), DeflickerOptions{.mode = mode}}) {
      options.window = 3;
      EXPECT_EQ(deflicker_frames(frames, frames, options), frames);
    }
}

TEST(Deflicker, TakesFlickerOutOfMovingPictures) {
  const std::vector<Frame> guide = moving(9), style = flickering(guide, 60);
  for (const BlendMode mode : {BlendMode::Fast, BlendMode::Balanced, BlendMode::Accurate})
    for (DeflickerOptions options : {DeflickerOptions::published(mode), DeflickerOptions{.mode = mode}}) {
      options.window = 8;
      const std::vector<Frame> result = deflicker_frames(style, guide, options);
      double before = 0, after = 0;  // differences of neighbours that have nothing to do with the motion
      for (std::size_t t = 0; t + 1 < guide.size(); ++t) {
        const auto level = [](const Frame& frame) {
          double sum = 0;
          for (const std::int16_t value : frame.pixels) sum += value;
          return sum / static_cast<double>(frame.pixels.size());
        };
        before += std::abs(level(style[t + 1]) - level(style[t]) - level(guide[t + 1]) + level(guide[t]));
        after += std::abs(level(result[t + 1]) - level(result[t]) - level(guide[t + 1]) + level(guide[t]));
      }
      EXPECT_LT(after, 0.2 * before) << static_cast<int>(mode);
    }
}

TEST(Deflicker, DependsNeitherOnThreadsNorOnTheFirstFrame) {
  const std::vector<Frame> guide = moving(14), style = flickering(guide, 40);
  for (const BlendMode mode : {BlendMode::Fast, BlendMode::Balanced}) {
    DeflickerOptions options{.mode = mode, .window = 3};
    const std::vector<Frame> one = deflicker_frames(style, guide, options);
    options.threads = 3;
    EXPECT_EQ(deflicker_frames(style, guide, options), one);
    VideoScanner scanner({});
    for (std::size_t i = 0; i < guide.size(); ++i) scanner.add(guide[i], style[i]);
    for (const std::int64_t first : {1, 6, 13}) {
      std::size_t next_style = 0, next_guide = 0;
      std::int64_t expected = first;
      Progress silent;
      deflicker([&](Frame& frame) { return frame = style.at(next_style++), true; },
                [&](Frame& frame) { return frame = guide.at(next_guide++), true; }, scanner.finish(), options,
                [&](std::int64_t number, const Frame& frame) {
                  EXPECT_EQ(number, expected++);
                  EXPECT_EQ(frame, one[static_cast<std::size_t>(number)]) << first << " " << number;
                },
                silent, first);
      EXPECT_EQ(expected, 14);
    }
  }
}

TEST(Deflicker, AveragesDoNotReachOverCuts) {
  std::vector<Frame> guide, style;
  for (int t = 0; t < 10; ++t) {
    guide.push_back(t < 5 ? texture(t) : constant(900, 40, 48));
    style.push_back(t < 5 ? constant(200, 40, 48) : constant(800, 40, 48));
  }
  DeflickerOptions options{.window = 9};
  const std::vector<Frame> result = deflicker_frames(style, guide, options);
  for (std::size_t t = 0; t < 10; ++t) EXPECT_EQ(result[t], style[t]) << t;
  options.find_scenes = false;
  options.even_colours = false;
  EXPECT_NE(deflicker_frames(style, guide, options)[4], style[4]);
}

TEST(Deflicker, StrengthMixesWithTheFrameItself) {
  const std::vector<Frame> style = constants({100, 300, 500}, 1);
  DeflickerOptions options = DeflickerOptions::published();
  options.window = 2;
  options.strength = 0.5;
  const std::vector<Frame> result = deflicker_frames(style, style, options);
  EXPECT_EQ(result[0], constant(200));
  EXPECT_EQ(result[2], constant(400));
}

TEST(Deflicker, ShortVideosAndSmallPictures) {
  for (const int count : {0, 1, 2})
    for (const int side : {1, 2, 7, 26}) {
      std::vector<Frame> frames;
      for (int t = 0; t < count; ++t) frames.push_back(texture(t, side, side + 1));
      const std::vector<Frame> result = deflicker_frames(frames, frames, {});
      ASSERT_EQ(result.size(), frames.size());
      if (count == 1) EXPECT_EQ(result, frames);
    }
}

TEST(Deflicker, CountsPairs) {
  // Specification 2.6, the columns of capped levels and of balanced.
  const auto pairs = [](BlendMode mode, std::int64_t frames, std::int64_t window) {
    return pair_count({.mode = mode, .window = window}, frames);
  };
  EXPECT_EQ(pairs(BlendMode::Fast, 32, 7), 208);
  EXPECT_EQ(pairs(BlendMode::Fast, 900, 60), 13020);
  EXPECT_EQ(pairs(BlendMode::Balanced, 32, 7), 392);
  EXPECT_EQ(pairs(BlendMode::Balanced, 900, 60), 104340);
  struct Counter : Progress {
    std::int64_t done = 0;
    void show(const State& state, bool) override { done = state.done; }
  } counter;
  const std::vector<Frame> frames(7, constant(100));
  counter.start("", 0);
  deflicker_frames(frames, frames, {.window = 2}, &counter);
  EXPECT_EQ(counter.done, pairs(BlendMode::Fast, 7, 2));
}

TEST(Deflicker, RefusesWhatCannotBe) {
  using testing::HasSubstr;
  const std::vector<Frame> two = moving(2), three = moving(3);
  EXPECT_THAT(message_of([&] { deflicker_frames(two, three, {}); }), HasSubstr("2 frames, the guide 3"));
  std::vector<Frame> other = two;
  other[1] = constant(1);
  EXPECT_THAT(message_of([&] { deflicker_frames(two, other, {}); }), HasSubstr("frame 1 is 48x40"));
  EXPECT_THAT(message_of([&] { deflicker_frames(other, other, {}); }), HasSubstr("frame 1 is 40x32"));
  EXPECT_THAT(message_of([&] { deflicker_frames(two, two, {.window = -1}); }), HasSubstr("window"));
  EXPECT_THAT(message_of([&] { deflicker_frames(two, two, {.strength = 1.5}); }), HasSubstr("strength"));
  DeflickerOptions even;
  even.match.patch = 6;
  EXPECT_THAT(message_of([&] { deflicker_frames(two, two, even); }), HasSubstr("odd"));
}

}  // namespace
}  // namespace lithe
