#include <gmock/gmock.h>

#include <cmath>
#include <numeric>

#include "lithe/base/error.h"
#include "lithe/video/match.h"
#include "video/textures.h"

namespace lithe {
namespace {

using ::testing::HasSubstr;
using ::testing::ThrowsMessage;

constexpr int kSide = 64;

/// A moving picture: frame t shows the texture from (100 + 2 t, 100 + t) on, and its style flickers.
struct Video {
  explicit Video(int frames, double flicker = 0, const MatchOptions& options = {}) {
    const cv::Mat whole = texture(11), style = styled(whole);
    Rng rng(3);
    for (int t = 0; t < frames; ++t) {
      guides.push_back(make_pyramid(crop(whole, 100 + 2 * t, 100 + t, kSide, kSide), options));
      truths.push_back(crop(style, 100 + 2 * t, 100 + t, kSide, kSide));
      cv::Mat noise(8, 8, CV_32FC3), wide;
      for (int i = 0; i < 64; ++i)
        for (int c = 0; c < 3; ++c)
          noise.at<cv::Vec3f>(i / 8, i % 8)[c] = static_cast<float>(flicker * kFrameScale * rng.normal());
      cv::resize(noise, wide, {kSide, kSide}, 0, 0, cv::INTER_CUBIC);
      styles.push_back(make_pyramid(to_frame(to_float(truths.back()) + wide), options));
    }
  }
  MatchPair pair(std::size_t source, std::size_t target) const {
    return {guides[source], guides[target], styles[source]};
  }
  /// All frames for one target.
  std::vector<MatchPair> onto(std::size_t target) const {
    std::vector<MatchPair> pairs;
    for (std::size_t s = 0; s < guides.size(); ++s) pairs.push_back(pair(s, target));
    return pairs;
  }
  std::vector<Pyramid> guides, styles;
  std::vector<Frame> truths;
};

double psnr(const Frame& a, const Frame& b) {
  const double squares = cv::norm(to_float(a), to_float(b), cv::NORM_L2SQR) / (kFrameScale * kFrameScale);
  return 10 * std::log10(255.0 * 255 * static_cast<double>(a.pixels.size()) / std::max(squares, 1e-9));
}

void expect_equal(const Matched& got, const Matched& wanted) {
  EXPECT_EQ(got.field, wanted.field);
  EXPECT_EQ(got.picture, wanted.picture);
  EXPECT_EQ(got.errors, wanted.errors);
}

// One path takes short cuts and the other evaluates whole fields.
TEST(MatchTracked, WithoutTrackingIsMatch) {
  for (const MatchOptions& options :
       {MatchOptions{}, MatchOptions{.patch = 3, .guide_weight = 0.7, .start = MatchOptions::Start::Random},
        MatchOptions{.patch = 15, .exact_upsample = true}}) {
    const Video video(3, 20, options);
    const std::vector<Matched> got = match_tracked({video.pair(0, 1), video.pair(2, 0)}, options, 5);
    expect_equal(got[0], match(video.pair(0, 1), options, 5));
    // The order of propagation is that of the first; alone, the second has its own.
    MatchOptions fixed = options;
    fixed.random_order = false;
    expect_equal(match_tracked({video.pair(0, 1), video.pair(2, 0)}, fixed, 5)[1],
                 match(video.pair(2, 0), fixed, 5 + (std::uint64_t{1} << 32)));
  }
}

double mean(const std::vector<float>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

TEST(MatchTracked, TakesOverNeighboursMatches) {
  // Without chance the identity cannot be left, except by what a neighbour started with.
  const MatchOptions options{.random_steps = 0, .start = MatchOptions::Start::Random, .tracking = 1};
  const Video video(2);
  const std::vector<MatchPair> pairs{video.pair(0, 1), video.pair(0, 1), video.pair(0, 1)};
  MatchOptions alone = options;
  alone.tracking = 0;
  const std::vector<Matched> tracked = match_tracked(pairs, options, 1),
                             separate = match_tracked(pairs, alone, 1);
  for (std::size_t k = 0; k < 3; ++k) EXPECT_LT(mean(tracked[k].errors), mean(separate[k].errors)) << k;
}

TEST(MatchAligned, OfOneIsLikeMatch) {
  const Video video(2, 20);
  const Matched got = match_aligned({video.pair(0, 1)}, {}, 1)[0];
  EXPECT_GE(psnr(got.picture, match(video.pair(0, 1), {}, 1).picture), 40);
}

// What members vote for lies closer together than where each is matched alone.
TEST(MatchAligned, DrawsMembersTogether) {
  const MatchOptions options{.guide_weight = 0.5};
  const Video video(5, 25, options);
  const auto spread = [](const std::vector<Matched>& members) {
    cv::Mat sum = to_float(members[0].picture);
    for (std::size_t k = 1; k < members.size(); ++k) sum += to_float(members[k].picture);
    double total = 0;
    for (const Matched& member : members)
      total += cv::norm(to_float(member.picture), sum / static_cast<double>(members.size()), cv::NORM_L2SQR);
    return total;
  };
  std::vector<Matched> apart;
  for (std::size_t s = 0; s < 5; ++s) apart.push_back(match(video.pair(s, 2), options, s << 32));
  EXPECT_LT(spread(match_aligned(video.onto(2), options, 0)), spread(apart));
}

TEST(MatchAligned, WithoutFlickerBringsEachToTheTruth) {
  const Video video(3);
  for (const Matched& member : match_aligned(video.onto(1), {}, 0))
    for (int y = 12; y < kSide - 12; ++y)
      for (int x = 12; x < kSide - 12; ++x)
        ASSERT_LE(std::abs(member.picture.at(y, x)[0] - video.truths[1].at(y, x)[0]), 40 * kFrameScale)
            << y << ", " << x;
}

// Specification, section 10.9: where keys differ, drawing them together keeps the first from its own frame.
TEST(MatchBetween, AgreementMovesAKeyFromItself) {
  for (const int patch : {5, 15}) {
    const MatchOptions options{.patch = patch};
    const Video alike(5, 0, options), flickering(5, 25, options);
    const auto first = [&](const Video& video, double agreement) {
      const auto [left, right] = match_between(video.pair(0, 0), video.pair(4, 0), options, 7, agreement);
      return psnr(left.picture, video.styles[0].finest());
    };
    EXPECT_GE(first(alike, 1), 40);
    EXPECT_LT(first(flickering, 1), 80);
    EXPECT_GE(first(flickering, 0), 100);  // exact
    EXPECT_GE(first(flickering, 0.1), first(flickering, 1));
  }
}

TEST(MatchBetween, WithoutAgreementIsMatchOfEach) {
  MatchOptions options{.random_order = false};
  const Video video(3, 20, options);
  const auto [left, right] = match_between(video.pair(0, 1), video.pair(2, 1), options, 7, 0);
  expect_equal(left, match(video.pair(0, 1), options, 7));
  expect_equal(right, match(video.pair(2, 1), options, 7 + (std::uint64_t{1} << 32)));
}

TEST(MatchBetween, BringsKeysTogether) {
  const MatchOptions options{.guide_weight = 0.5};
  const Video video(5, 25, options);
  const auto apart = [&](double agreement) {
    const auto [left, right] = match_between(video.pair(0, 2), video.pair(4, 2), options, 7, agreement);
    return psnr(left.picture, right.picture);
  };
  EXPECT_GT(apart(1), apart(0));
}

TEST(MatchGroup, RefusesWhatDoesNotFit) {
  const Video video(2);
  EXPECT_THAT([] { match_aligned({}, {}, 1); }, ThrowsMessage<Error>(HasSubstr("no pair")));
  const Pyramid small = make_pyramid(Frame(kSide, kSide - 1), {});
  EXPECT_THAT(
      [&] {
        match_aligned({video.pair(0, 1), {small, small, small}}, {}, 1);
      },
      ThrowsMessage<Error>(HasSubstr("must be of one size")));
  for (const double agreement : {-0.1, 1.1, std::nan("")})
    EXPECT_THAT([&] { match_between(video.pair(0, 1), video.pair(1, 1), {}, 1, agreement); },
                ThrowsMessage<Error>(HasSubstr("does not lie in 0..1")));
}

}  // namespace
}  // namespace lithe
