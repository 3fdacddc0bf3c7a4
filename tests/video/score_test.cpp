#include "lithe/video/video_score.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <opencv2/core.hpp>
#include <string>
#include <vector>

#include "lithe/base/file.h"
#include "lithe/video/flow.h"
#include "lithe/video/scenes.h"
#include "message_of.h"

namespace lithe {
using test::message_of;
namespace {

Frame constant(int value, int height = 24, int width = 32) {
  Frame frame(height, width);
  std::fill(frame.pixels.begin(), frame.pixels.end(), static_cast<std::int16_t>(value));
  return frame;
}

Flow still(int height = 24, int width = 32) {
  return {cv::Mat(height, width, CV_32FC2, cv::Scalar::all(0)),
          cv::Mat(height, width, CV_8U, cv::Scalar(255))};
}

TEST(VideoScore, ConstantFramesByHand) {
  const Flow flow = still();
  VideoScorer scorer;
  const std::vector<int> values{400, 502, 451, 451};
  const Frame reference = constant(400);
  for (const int value : values) {
    const Frame frame = constant(value);
    scorer.add({.frame = frame, .reference = &reference, .flow = &flow});
  }
  const VideoScore score = scorer.finish();
  // Differences 102, -51, 0 of 1020: 0.1, 0.05, 0; and 25.5, 12.75, 0 grey levels, nothing of it fine.
  EXPECT_NEAR(*score.warp_error, (0.01 + 0.0025) / 3, 1e-9);
  EXPECT_NEAR(*score.flicker, (25.5 + 12.75) / 3, 1e-4);
  // Errors against the reference 0, 0.01, 0.0025, 0.0025.
  EXPECT_NEAR(*score.psnr, -10 * std::log10(0.015 / 4), 1e-9);
  EXPECT_EQ(score.psnrs[0], 100);
  EXPECT_NEAR(score.psnrs[1], 20, 1e-9);
  // Without variance SSIM is (2 a b + c) / (a^2 + b^2 + c).
  const double a = 400. / 1020, b = 502. / 1020, c = 1e-4;
  EXPECT_NEAR(score.ssims[1], (2 * a * b + c) / (a * a + b * b + c), 1e-9);
  EXPECT_EQ(score.sharpness, 0);
  EXPECT_FALSE(score.detail);  // the reference has none
  EXPECT_EQ(score.warp_errors.size(), 3U);
}

TEST(VideoScore, OnlyWhatBothFramesShowCounts) {
  Flow flow = still();
  flow.valid(cv::Rect(0, 0, 16, 24)) = cv::Scalar(0);
  const Frame before = constant(100);
  Frame after = before;
  for (int y = 0; y < 24; ++y)
    for (int x = 0; x < 32; ++x)
      std::fill_n(after.at(y, x), 3, static_cast<std::int16_t>(x < 16 ? 1000 : 151));
  VideoScorer scorer;
  scorer.add({.frame = before});
  scorer.add({.frame = after, .flow = &flow});
  EXPECT_NEAR(*scorer.finish().warp_error, 0.05 * 0.05, 1e-9);
  flow.valid = cv::Scalar(0);  // as at a cut: the pair does not count
  scorer.add({.frame = before, .flow = &flow});
  const VideoScore score = scorer.finish();
  EXPECT_NEAR(*score.warp_error, 0.05 * 0.05, 1e-9);
  EXPECT_TRUE(std::isnan(score.warp_errors[1]));
}

TEST(VideoScore, FollowsTheFlow) {
  Frame before(24, 32), after(24, 32);
  for (int y = 0; y < 24; ++y)
    for (int x = 0; x < 32; ++x) {
      std::fill_n(before.at(y, x), 3, static_cast<std::int16_t>(20 * x + 5 * y));
      std::fill_n(after.at(y, x), 3, static_cast<std::int16_t>(20 * (x - 2) + 5 * y + 100));
    }
  Flow flow = still();
  flow.displacement = cv::Scalar(2.5, -1);
  flow.valid = cv::Scalar(0);
  flow.valid(cv::Rect(1, 2, 25, 20)) = cv::Scalar(255);
  VideoScorer scorer;
  scorer.add({.frame = before});
  scorer.add({.frame = after, .flow = &flow});
  // The flow is half a pixel too long and a row too short: 20 * 0.5 - 5 quarter levels beside the 100.
  EXPECT_NEAR(*scorer.finish().warp_error, std::pow(105. / 1020, 2), 1e-7);
}

TEST(VideoScore, DetailByHand) {
  Frame dot = constant(400), half = dot;
  std::fill_n(dot.at(10, 10), 3, static_cast<std::int16_t>(480));
  std::fill_n(half.at(10, 10), 3, static_cast<std::int16_t>(440));
  // |Laplacian| is 4 d in the middle and d at four neighbours, d = 20 grey levels.
  EXPECT_NEAR(sharpness(dot), 8 * 20. / (24 * 32), 1e-6);
  VideoScorer scorer;
  scorer.add({.frame = half, .input = &dot});
  const VideoScore score = scorer.finish();
  EXPECT_NEAR(*score.detail, 0.5, 1e-6);
  EXPECT_EQ(score.detail_of, DetailOf::Input);
  EXPECT_FALSE(score.psnr);
  EXPECT_FALSE(score.warp_error);
}

TEST(VideoScore, EstimatedFlowSeesATrueMotionAsCalm) {
  const Scene scene({.kind = SceneKind::Pan, .frames = 4, .seed = 2});
  VideoScorer guided, alone, still_scorer({.flow_difference = true});
  const Flow none = still(128, 128);
  for (int t = 0; t < 4; ++t) {
    const Frame guide = scene.guide(t), truth = scene.truth(t);
    guided.add({.frame = truth, .guide = &guide});
    alone.add({.frame = truth});
    still_scorer.add({.frame = truth, .reference = &truth, .flow = &none});
  }
  const double unmoved = *still_scorer.finish().warp_error;
  EXPECT_LT(*guided.finish().warp_error, 0.1 * unmoved);
  EXPECT_LT(*alone.finish().warp_error, 0.1 * unmoved);
  EXPECT_EQ(*still_scorer.finish().flow_difference, 0);
}

TEST(VideoScore, BadInputIsRefused) {
  const Frame frame = constant(1), other = constant(1, 24, 33), tiny = constant(1, 8, 32);
  const auto adding = [&](const ScoredFrame& first, const ScoredFrame& second) {
    return message_of([&] {
      VideoScorer scorer;
      scorer.add(first);
      scorer.add(second);
    });
  };
  EXPECT_NE(adding({.frame = frame}, {.frame = other}).find("32x24"), std::string::npos);
  EXPECT_NE(adding({.frame = frame}, {.frame = frame, .reference = &frame}).find("frame 1"),
            std::string::npos);
  EXPECT_NE(adding({.frame = tiny}, {.frame = tiny}).find("16"), std::string::npos);
  EXPECT_NE(message_of([] { VideoScorer().finish(); }).find("no frame"), std::string::npos);
  EXPECT_NE(message_of([] { VideoScorer({.least_valid = 2}); }).find("0 to 1"), std::string::npos);
  EXPECT_NE(message_of([&] { dis_flow(tiny, tiny); }).find("16"), std::string::npos);
}

TEST(Flow, DenseInverseSearchFindsAPan) {
  const Scene scene({.kind = SceneKind::Two, .seed = 1});
  const Flow truth = scene.flow(3, 4), found = checked_flow(scene.guide(3), scene.guide(4));
  double sum = 0, count = 0;
  for (int y = 8; y < 120; ++y)
    for (int x = 8; x < 120; ++x)
      if (truth.valid.at<std::uint8_t>(y, x) && found.valid.at<std::uint8_t>(y, x)) {
        sum += cv::norm(truth.displacement.at<cv::Vec2f>(y, x) - found.displacement.at<cv::Vec2f>(y, x));
        ++count;
      }
  EXPECT_GT(count, 0.8 * 112 * 112);
  EXPECT_LT(sum / count, 0.4);
}

TEST(Flow, IsTheSameForAnyNumberOfThreads) {
  const Scene scene({.kind = SceneKind::Camera, .seed = 1});
  const int threads = cv::getNumThreads();
  cv::setNumThreads(1);
  const Flow one = dis_flow(scene.guide(0), scene.guide(1));
  cv::setNumThreads(5);
  const Flow five = dis_flow(scene.guide(0), scene.guide(1));
  cv::setNumThreads(threads);
  EXPECT_EQ(cv::norm(one.displacement, five.displacement), 0);
}

TEST(Flow, WhatDoesNotComeBackIsNotValid) {
  Flow forward = still(), backward = still();
  forward.displacement(cv::Rect(4, 4, 3, 3)) = cv::Scalar(2, 0);
  const cv::Mat valid = agreeing(forward, backward);
  EXPECT_EQ(cv::countNonZero(valid == 0), 9);
  backward.displacement = cv::Scalar(-2, 0);
  EXPECT_EQ(agreeing(forward, backward).at<std::uint8_t>(5, 5), 255);
}

void write_bytes(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string header(std::int32_t width, std::int32_t height) {
  std::string bytes = "PIEH";
  bytes.append(reinterpret_cast<const char*>(&width), 4).append(reinterpret_cast<const char*>(&height), 4);
  return bytes;
}

TEST(FlowFile, ComesBackAsWritten) {
  const TemporaryFolder folder;
  Flow flow = still(3, 5);
  flow.displacement.at<cv::Vec2f>(2, 4) = {1.25F, -7};
  flow.valid.at<std::uint8_t>(1, 1) = 0;
  for (const char* name : {"f10.flo", "f2.flo", ".hidden.flo", "f1.txt"})
    write_flow(flow, folder.path() / name);
  const auto files = flow_files(folder.path());
  ASSERT_EQ(files.size(), 2U);
  EXPECT_EQ(files[0].filename(), "f2.flo");
  const Flow read = read_flow(files[1]);
  EXPECT_EQ(cv::norm(read.displacement, flow.displacement), 0);
  EXPECT_EQ(cv::norm(read.valid, flow.valid), 0);
}

TEST(FlowFile, HostileFilesAreRefused) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "hostile.flo";
  const auto message = [&](const std::string& bytes) {
    write_bytes(path, bytes);
    return message_of([&] { read_flow(path); });
  };
  EXPECT_NE(message("").find("PIEH"), std::string::npos);
  EXPECT_NE(message("PIEH1234").find("PIEH"), std::string::npos);
  EXPECT_NE(message("HEIP" + header(1, 1).substr(4) + std::string(8, '\0')).find("PIEH"), std::string::npos);
  EXPECT_NE(message(header(0, 4)).find("0x4"), std::string::npos);
  EXPECT_NE(message(header(-2, 4)).find("-2x4"), std::string::npos);
  EXPECT_NE(message(header(std::numeric_limits<std::int32_t>::max(), 1)).find("16384"), std::string::npos);
  EXPECT_NE(message(header(16384, 16384)).find("2147483660"), std::string::npos);
  EXPECT_NE(message(header(2, 1) + std::string(15, '\0')).find("28"), std::string::npos);
  EXPECT_NE(message(header(2, 1) + std::string(17, '\0')).find("28"), std::string::npos);
  EXPECT_NE(message_of([&] { flow_files(folder.path() / "none"); }).find("none"), std::string::npos);
}

TEST(FlowFile, UnknownFlowIsNotValid) {
  const TemporaryFolder folder;
  const std::vector<float> values{1e10F, 0, std::nanf(""), 1, 3, 4, 0, -INFINITY};
  std::string bytes = header(4, 1);
  bytes.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float));
  write_bytes(folder.path() / "a.flo", bytes);
  const Flow flow = read_flow(folder.path() / "a.flo");
  EXPECT_EQ(cv::countNonZero(flow.valid), 1);
  EXPECT_EQ(flow.displacement.at<cv::Vec2f>(0, 2), cv::Vec2f(3, 4));
  EXPECT_EQ(flow.displacement.at<cv::Vec2f>(0, 0), cv::Vec2f(0, 0));
}

}  // namespace
}  // namespace lithe
