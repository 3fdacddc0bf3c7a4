#include "lithe/video/match.h"

#include <gmock/gmock.h>

#include <cmath>
#include <map>
#include <numeric>

#include "kernels/vector_targets.h"
#include "lithe/base/error.h"
#include "lithe/video/match_reference.h"
#include "video/textures.h"

namespace lithe {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

const cv::Mat& texture_of(std::uint64_t seed) {
  static std::map<std::uint64_t, cv::Mat> made;  // making one takes longer than matching
  cv::Mat& one = made[seed];
  if (one.empty()) one = texture(seed);
  return one;
}

/// A guide and its style; and the same moved, so that target(p) = source(p + (down, right)).
struct Moved {
  Moved(std::uint64_t seed, int side, int down, int right, const MatchOptions& options = {}) {
    const cv::Mat& whole = texture_of(seed);
    const cv::Mat style = styled(whole(cv::Rect(60, 60, 256, 256)));
    const Frame target = crop(whole, 100 + down, 100 + right, side, side);
    source_guide = make_pyramid(crop(whole, 100, 100, side, side), options);
    source_style = make_pyramid(crop(style, 40, 40, side, side), options);
    target_guide = make_pyramid(target, options);
    truth = crop(style, 40 + down, 40 + right, side, side);
  }
  MatchPair pair() const { return {source_guide, target_guide, source_style}; }
  Pyramid source_guide, target_guide, source_style;
  Frame truth;
};

struct Quality {
  double exact = 0, psnr = 0;
};

/// Of the pixels at least `border` from the edge whose match lies so far inside too.
Quality quality(const Matched& matched, const Frame& truth, int down, int right, int border = 8) {
  int exact = 0, count = 0;
  double squares = 0;
  const int side = truth.height;
  for (int y = border; y < side - border; ++y)
    for (int x = border; x < side - border; ++x) {
      if (y + down < border || y + down >= side - border || x + right < border || x + right >= side - border)
        continue;
      const auto at = static_cast<std::size_t>(y * side + x);
      exact += matched.field.rows[at] == y + down && matched.field.columns[at] == x + right;
      ++count;
      for (int c = 0; c < 3; ++c)
        squares += std::pow((matched.picture.at(y, x)[c] - truth.at(y, x)[c]) / double{kFrameScale}, 2);
    }
  return {100.0 * exact / count, 10 * std::log10(255.0 * 255 * 3 * count / std::max(squares, 1e-9))};
}

// Specification, section 10.3.
TEST(Match, RecoversTranslations) {
  for (const std::uint64_t seed : {1, 2})
    for (const auto start : {MatchOptions::Start::Identity, MatchOptions::Start::Random})
      for (const bool exact : {false, true}) {
        const MatchOptions options{.start = start, .exact_upsample = exact};
        for (const auto& [down, right] :
             std::vector<std::pair<int, int>>{{0, 0}, {16, 0}, {0, -24}, {30, 30}, {3, -2}, {7, 11}}) {
          SCOPED_TRACE(testing::Message()
                       << "texture " << seed << ", by " << down << ", " << right << (exact ? ", exact" : "")
                       << ", start " << static_cast<int>(start));
          const Moved moved(seed, 128, down, right);
          const Quality got = quality(match(moved.pair(), options, 9), moved.truth, down, right);
          EXPECT_GE(got.exact, 99.5);
          EXPECT_GE(got.psnr, 48);
        }
      }
}

TEST(Match, ReferenceRecoversATranslation) {
  const Moved moved(1, 64, 3, -2);
  const ReferenceMatch got = match_reference(moved.pair(), {}, 9);
  Matched rounded{Frame(64, 64), got.field, {}};
  cv::Mat picture;
  got.picture.convertTo(picture, CV_32F, kFrameScale);
  rounded.picture = to_frame(picture);
  EXPECT_GE(quality(rounded, moved.truth, 3, -2).exact, 99);
}

// All short cuts of the fast path together change nothing.
TEST(Match, EqualsTheReferenceThatRoundsAlike) {
  for (const MatchOptions& options :
       {MatchOptions{.seed = 4}, MatchOptions{.guide_weight = 3.25, .start = MatchOptions::Start::Random},
        MatchOptions{
            .patch = 3, .iterations = 3, .random_steps = 2, .random_radius = 9, .exact_upsample = true}}) {
    const Moved moved(3, 67, 5, 4, options);  // odd sizes: fields are stretched
    const Matched fast = match(moved.pair(), options, 17);
    const ReferenceMatch slow = match_reference(moved.pair(), options, 17, nullptr, true);
    EXPECT_EQ(fast.field, slow.field);
    for (std::size_t i = 0; i < fast.errors.size(); ++i)
      ASSERT_FLOAT_EQ(fast.errors[i], static_cast<float>(slow.errors[i])) << i;
    cv::Mat picture;
    slow.picture.convertTo(picture, CV_32F, kFrameScale);
    EXPECT_LE(cv::norm(to_float(fast.picture), picture, cv::NORM_INF), 0.5001);
  }
}

// Rounding the running style matters little.
TEST(Match, AgreesWithTheReference) {
  const Moved moved(3, 67, 5, 4);
  const Matched fast = match(moved.pair(), {}, 17);
  const ReferenceMatch slow = match_reference(moved.pair(), {}, 17);
  int same = 0;
  for (std::size_t i = 0; i < fast.errors.size(); ++i)
    same += fast.field.rows[i] == slow.field.rows[i] && fast.field.columns[i] == slow.field.columns[i];
  EXPECT_GE(same, 67 * 67 * 98 / 100);
  EXPECT_NEAR(std::accumulate(fast.errors.begin(), fast.errors.end(), 0.0),
              std::accumulate(slow.errors.begin(), slow.errors.end(), 0.0),
              std::accumulate(slow.errors.begin(), slow.errors.end(), 0.0) * 0.01);
}

TEST(Match, IsTheSameForEveryInstructionSet) {
  const Moved moved(4, 80, 6, -5);
  const Matched wanted = match(moved.pair(), {}, 3);
  on_every_target([&] {
    const Matched got = match(moved.pair(), {}, 3);
    EXPECT_EQ(got.field, wanted.field);
    EXPECT_EQ(got.picture, wanted.picture);
    EXPECT_EQ(got.errors, wanted.errors);
  });
}

TEST(Match, DependsOnKeyAndSeed) {
  const Moved moved(5, 64, 1, 2);
  const Field first = match(moved.pair(), {.seed = 1}, 1).field;
  EXPECT_EQ(match(moved.pair(), {.seed = 1}, 1).field, first);
  EXPECT_NE(match(moved.pair(), {.seed = 1}, 2).field, first);
  EXPECT_NE(match(moved.pair(), {.seed = 2}, 1).field, first);
}

TEST(Match, OfAFrameToItselfChangesNothing) {
  for (const int side : {1, 2, 5, 12, 25, 26, 33, 70}) {
    SCOPED_TRACE(side);
    const Moved moved(6, side, 0, 0);
    const Matched got = match(moved.pair(), {}, 1);
    EXPECT_EQ(got.field, identity_field(side, side));
    EXPECT_EQ(got.picture, moved.truth);
    EXPECT_EQ(got.errors, std::vector<float>(static_cast<std::size_t>(side * side)));
  }
}

TEST(Match, WorksForAllShapesAndPatches) {
  const cv::Mat whole = texture(7);
  for (const auto& [height, width] : std::vector<std::pair<int, int>>{{1, 90}, {90, 1}, {31, 77}, {64, 35}})
    for (const int patch : {1, 3, 15, 37}) {
      SCOPED_TRACE(testing::Message() << width << "x" << height << ", patch " << patch);
      const MatchOptions options{.patch = patch};
      const Pyramid source = make_pyramid(crop(whole, 40, 40, height, width), options),
                    target = make_pyramid(crop(whole, 41, 41, height, width), options);
      const Matched got = match({source, target, source}, options, 1);
      EXPECT_EQ(got.picture, remap(got.field, source.finest(),
                                   std::min({patch, height - (height + 1) % 2, width - (width + 1) % 2})));
      EXPECT_TRUE(std::all_of(got.errors.begin(), got.errors.end(), [](float e) { return e >= 0; }));
    }
}

double mean(const std::vector<float>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

TEST(Match, WarmStartKeepsAGoodField) {
  const MatchOptions options;
  const Moved moved(8, 128, 30, 30);  // too far for the finest levels alone
  const Matched cold = match(moved.pair(), options, 1);
  const Field identity = identity_field(128, 128);
  const Matched warm = match(moved.pair(), options, 2, &cold.field),
                lost = match(moved.pair(), options, 2, &identity);
  EXPECT_GE(quality(warm, moved.truth, 30, 30).exact, 99.5);
  EXPECT_LE(mean(warm.errors), mean(cold.errors) * 1.1);
  EXPECT_LE(quality(lost, moved.truth, 30, 30).exact, 50);
}

TEST(Match, RefusesWhatDoesNotFit) {
  const Moved moved(9, 64, 0, 0), smaller(9, 63, 0, 0);
  const auto refusal = [&](const MatchPair& pair, const MatchOptions& options, const Field* start,
                           const char* text) {
    EXPECT_THAT([&] { match(pair, options, 1, start); }, ThrowsMessage<Error>(HasSubstr(text)));
  };
  refusal({moved.source_guide, smaller.target_guide, moved.source_style}, {}, nullptr, "of one size");
  refusal({moved.source_guide, moved.target_guide, smaller.source_style}, {}, nullptr, "of one size");
  refusal({moved.source_guide, moved.target_guide, Pyramid()}, {}, nullptr, "of one size");
  refusal(moved.pair(), {.patch = 25}, nullptr, "other options");
  refusal(moved.pair(), {.patch = 4}, nullptr, "no centre");
  Field start = identity_field(63, 64);
  refusal(moved.pair(), {}, &start, "64x63 does not fit frames of 64x64");
  start = identity_field(64, 64);
  start.columns[70] = 64;
  refusal(moved.pair(), {}, &start, "row 1, column 64");
  EXPECT_THAT([&] { remap(start, moved.truth, 5); },
              ThrowsMessage<Error>(HasSubstr("leads out of a source")));
  EXPECT_THAT([&] { remap(identity_field(64, 64), moved.truth, 4); },
              ThrowsMessage<Error>(HasSubstr("cannot vote")));
}

}  // namespace
}  // namespace lithe
