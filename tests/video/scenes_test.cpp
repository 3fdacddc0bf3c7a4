#include "lithe/video/scenes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <opencv2/core.hpp>
#include <string>
#include <utility>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/video/flicker.h"
#include "lithe/video/planes.h"
#include "lithe/video/video_score.h"
#include "message_of.h"

namespace lithe {
using test::message_of;
namespace {

Scene scene_of(SceneKind kind, std::uint64_t seed = 3) {
  return Scene({.kind = kind, .height = 96, .width = 112, .seed = seed});
}

double share(const cv::Mat& mask) {
  return cv::countNonZero(mask) / static_cast<double>(mask.total());
}

/// Mean square difference, 0..1, of what the flow brings from frame i and frame j, where it is valid.
double moved_error(const Flow& flow, const Frame& at_j, const Frame& at_i) {
  const cv::Mat difference = warp(to_float(at_i), flow.displacement, Interpolation::Cubic) - to_float(at_j);
  const cv::Scalar mean = cv::mean(difference.mul(difference), flow.valid);
  return (mean[0] + mean[1] + mean[2]) / 3 / kFrameMaximum / kFrameMaximum;
}

TEST(Scenes, FlowBringsTruthOntoTruth) {
  for (const SceneKind kind : kSceneKinds) {
    const Scene scene = scene_of(kind);
    for (const auto& [j, i] : {std::pair{3, 4}, {9, 5}}) {
      const Flow flow = scene.flow(j, i);
      EXPECT_GT(share(flow.valid), 0.5) << to_string(kind);
      EXPECT_LT(moved_error(flow, scene.truth(j), scene.truth(i)), 1e-4) << to_string(kind) << j;
      EXPECT_LT(moved_error(flow, scene.guide(j), scene.guide(i)), 1e-4) << to_string(kind) << j;
      if (kind == SceneKind::Static) continue;
      const Flow none{cv::Mat(flow.valid.size(), CV_32FC2, cv::Scalar::all(0)), flow.valid};
      EXPECT_GT(moved_error(none, scene.truth(j), scene.truth(i)),
                3 * moved_error(flow, scene.truth(j), scene.truth(i)))
          << to_string(kind);
    }
  }
}

TEST(Scenes, FlowThereAndBackAgrees) {
  for (const SceneKind kind : kSceneKinds) {
    const Scene scene = scene_of(kind);
    const Flow there = scene.flow(6, 9), back = scene.flow(9, 6);
    const cv::Mat returned = there.displacement + warp(back.displacement, there.displacement);
    for (int y = 1; y < returned.rows - 1; ++y)
      for (int x = 1; x < returned.cols - 1; ++x)
        if (there.valid.at<std::uint8_t>(y, x)) {
          ASSERT_LT(cv::norm(returned.at<cv::Vec2f>(y, x)), 0.1) << to_string(kind);
        }
  }
}

TEST(Scenes, MotionsAreThoseOfTheSpecification) {  // 7.1
  const auto at = [](const Flow& flow, int y, int x) { return flow.displacement.at<cv::Vec2f>(y, x); };
  const Flow pan = scene_of(SceneKind::Pan).flow(2, 5);
  EXPECT_NEAR(at(pan, 40, 30)[0], 3 * 1.3, 1e-4);
  EXPECT_NEAR(at(pan, 40, 30)[1], 3 * -0.7, 1e-4);
  // The middle of the frame stays; beside it scale goes from 1.15 to 1.142, the angle by 0.012.
  const Flow turned = Scene({.kind = SceneKind::ZoomRot, .height = 101, .width = 101}).flow(0, 1);
  EXPECT_NEAR(at(turned, 50, 50)[0], 0, 1e-4);
  EXPECT_NEAR(at(turned, 50, 70)[0], 20 * (1.15 / 1.142 * std::cos(0.012) - 1), 1e-4);
  EXPECT_NEAR(at(turned, 50, 70)[1], -20 * 1.15 / 1.142 * std::sin(0.012), 1e-4);
  const Scene two({.kind = SceneKind::Two});
  const Flow background = two.flow(0, 1);
  EXPECT_NEAR(at(background, 120, 120)[0], -0.6, 1e-4);
  EXPECT_NEAR(at(background, 120, 120)[1], 0.9, 1e-4);
  const int x = static_cast<int>(63.5 - 0.19 * 128), y = static_cast<int>(63.5 - 0.2 * 128);
  EXPECT_NEAR(at(background, y, x)[0], 1.7, 0.05);
  EXPECT_NEAR(at(background, y, x)[1], 2.1, 0.05);
}

TEST(Scenes, WhatIsHiddenIsNotValid) {
  const Scene two({.kind = SceneKind::Two});
  const Flow flow = two.flow(0, 6);
  // Just ahead of the disc, 26 pixels from its middle, the background is soon covered.
  const double x = 63.5 - 0.19 * 128, y = 63.5 - 0.2 * 128;
  const int ahead_x = static_cast<int>(x + 30 * 0.63), ahead_y = static_cast<int>(y + 30 * 0.78);
  EXPECT_EQ(flow.valid.at<std::uint8_t>(ahead_y, ahead_x), 0);
  EXPECT_EQ(flow.valid.at<std::uint8_t>(static_cast<int>(y), static_cast<int>(x)), 255);
  EXPECT_EQ(flow.valid.at<std::uint8_t>(100, 100), 255);
  EXPECT_EQ(share(scene_of(SceneKind::Cut).flow(11, 12).valid), 0);
  EXPECT_EQ(share(scene_of(SceneKind::Static).flow(0, 23).valid), 1);
}

TEST(Scenes, FramesDependOnTheSeedAlone) {
  const Scene first = scene_of(SceneKind::Camera, 8);
  const Frame late = first.truth(17);
  EXPECT_EQ(scene_of(SceneKind::Camera, 8).truth(17), late);
  EXPECT_NE(scene_of(SceneKind::Camera, 9).truth(17), late);
  EXPECT_NE(first.truth(16), late);
}

TEST(Scenes, BadOptionsAreRefused) {
  EXPECT_NE(message_of([] { Scene({.height = 15}); }).find("16 to 4096"), std::string::npos);
  EXPECT_NE(message_of([] { Scene({.frames = 101}); }).find("1 to 100"), std::string::npos);
  EXPECT_NE(message_of([] { scene_kind("spin"); }).find("zoomrot"), std::string::npos);
  EXPECT_NE(message_of([] { flicker_kind("spin"); }).find("blotch"), std::string::npos);
  for (const SceneKind kind : kSceneKinds) EXPECT_EQ(scene_kind(to_string(kind)), kind);
  for (const FlickerKind kind : kFlickerKinds) EXPECT_EQ(flicker_kind(to_string(kind)), kind);
}

/// A frame without detail, so that what flicker does to it can be measured.
Frame constant(int value) {
  Frame frame(64, 64);
  std::fill(frame.pixels.begin(), frame.pixels.end(), static_cast<std::int16_t>(value * kFrameScale));
  return frame;
}

struct Spread {
  double of_means = 0, within = 0;  // standard deviations, in grey levels
};

Spread spread(FlickerKind kind, int level) {
  double means = 0, within = 0;
  constexpr int kFrames = 200;
  for (int t = 0; t < kFrames; ++t) {
    cv::Scalar mean, deviation;
    cv::meanStdDev(to_float(flickering(constant(level), kind, 4, t)), mean, deviation);
    for (int c = 0; c < 3; ++c) {
      means += std::pow(mean[c] / kFrameScale - level, 2);
      within += std::pow(deviation[c] / kFrameScale, 2);
    }
  }
  return {std::sqrt(means / kFrames / 3), std::sqrt(within / kFrames / 3)};
}

TEST(Flicker, HasTheDeviationsOfTheSpecification) {  // 7.2
  const Spread gain = spread(FlickerKind::Gain, 100);
  EXPECT_NEAR(gain.of_means, std::sqrt(10 * 10 + 4 * 4 + 8 * 8), 1.5);
  EXPECT_LT(gain.within, 0.01);
  const Spread blotch = spread(FlickerKind::Blotch, 128);
  EXPECT_NEAR(std::hypot(blotch.within, blotch.of_means), 15 * 0.83, 2);  // cubic between nodes: less
  EXPECT_NEAR(spread(FlickerKind::Jitter, 128).within, 8, 0.2);           // nothing to displace
  const Spread detail = spread(FlickerKind::Detail, 128);
  EXPECT_NEAR(detail.within, 20, 0.3);
  EXPECT_NEAR(detail.of_means, 0.04 * 128, 0.8);
}

TEST(Flicker, IsAFunctionOfSeedAndNumber) {
  const Frame frame = scene_of(SceneKind::Pan).truth(0);
  for (const FlickerKind kind : kFlickerKinds) {
    EXPECT_EQ(flickering(frame, kind, 1, 5), flickering(frame, kind, 1, 5));
    EXPECT_NE(flickering(frame, kind, 1, 5), flickering(frame, kind, 1, 6));
    if (kind != FlickerKind::Styles) {
      EXPECT_NE(flickering(frame, kind, 1, 5), flickering(frame, kind, 2, 5));
    }
  }
  EXPECT_EQ(flickering(frame, FlickerKind::Styles, 1, 4), frame);
}

TEST(Flicker, FiguresAreNearThoseOfTheSpecification) {  // 7.3: two, as it came and averaged over +-7 frames
  struct Row {
    FlickerKind kind;
    double psnr, warp_error, mean_psnr, mean_warp_error, mean_detail;
  };
  const Scene scene({.kind = SceneKind::Two, .seed = 3});
  for (const Row& row : {Row{FlickerKind::Gain, 26.9, 80.5e-4, 22.5, 2.8e-4, 0.34},
                         Row{FlickerKind::Blotch, 26.1, 49.0e-4, 23.0, 2.9e-4, 0.35},
                         Row{FlickerKind::Detail, 22.3, 115e-4, 22.7, 5.0e-4, 0.44}}) {
    std::vector<cv::Mat> frames;
    VideoScorer input, averaged;
    for (int t = 0; t < 24; ++t) frames.push_back(to_float(flickering(scene.truth(t), row.kind, 5, t)));
    for (int t = 0; t < 24; ++t) {
      const int first = std::max(0, t - 7), last = std::min(23, t + 7);
      cv::Mat sum = frames[0] * 0;
      for (int i = first; i <= last; ++i) sum += frames[static_cast<std::size_t>(i)];
      const Frame as_it_came = to_frame(frames[static_cast<std::size_t>(t)]),
                  mean = to_frame(sum / (last - first + 1)), truth = scene.truth(t);
      const Flow flow = scene.flow(std::max(0, t - 1), t);
      input.add({.frame = as_it_came, .reference = &truth, .flow = &flow});
      averaged.add({.frame = mean, .reference = &truth, .flow = &flow});
    }
    const VideoScore a = input.finish(), b = averaged.finish();
    EXPECT_NEAR(*a.psnr, row.psnr, 1.5) << to_string(row.kind);
    EXPECT_NEAR(*a.warp_error / row.warp_error, 1, 0.35) << to_string(row.kind);
    EXPECT_NEAR(*b.psnr, row.mean_psnr, 2.5) << to_string(row.kind);
    EXPECT_LT(*b.warp_error, 1.5 * row.mean_warp_error) << to_string(row.kind);
    EXPECT_GT(*b.warp_error, 0.3 * row.mean_warp_error) << to_string(row.kind);
    EXPECT_NEAR(*b.detail, row.mean_detail, 0.15) << to_string(row.kind);
  }
}

}  // namespace
}  // namespace lithe
