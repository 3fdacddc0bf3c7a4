#include "lithe/video/video_score.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "lithe/base/error.h"
#include "lithe/video/planes.h"

namespace lithe {
namespace {

constexpr double kNotCounted = std::numeric_limits<double>::quiet_NaN();
constexpr double kFineSigma = 2;
constexpr int kLeastSide = 16;

void require_size(const char* what, std::int64_t number, int height, int width, const Frame& frame) {
  if (height != frame.height || width != frame.width)
    fail("score: the {} of frame {} has {}x{} pixels, the frame {}x{}; give them of one size", what, number,
         width, height, frame.width, frame.height);
}

std::optional<double> mean_counted(const std::vector<double>& values) {
  double sum = 0;
  std::int64_t count = 0;
  for (const double value : values) {
    if (std::isnan(value)) continue;
    sum += value;
    ++count;
  }
  return count ? std::optional(sum / static_cast<double>(count)) : std::nullopt;
}

cv::Mat channel_mean(const cv::Mat& picture) {
  cv::Mat mean;
  cv::transform(picture, mean, cv::Matx13f(1.F / 3, 1.F / 3, 1.F / 3));
  return mean;
}

double warp_error(const cv::Mat& difference, const cv::Mat& valid) {
  const cv::Scalar mean = cv::mean(difference.mul(difference), valid);
  return (mean[0] + mean[1] + mean[2]) / 3 / kFrameMaximum / kFrameMaximum;
}

double flicker_of(const cv::Mat& difference, const cv::Mat& valid) {
  cv::Mat change = channel_mean(difference), coarse;
  change.setTo(0, valid == 0);
  cv::GaussianBlur(change, coarse, {}, kFineSigma);
  const cv::Mat fine = cv::abs(change - coarse);
  return (std::abs(cv::mean(change, valid)[0]) + cv::mean(fine, valid)[0]) / kFrameScale;
}

double mean_difference(const Flow& a, const Flow& b) {
  const cv::Scalar mean = cv::mean(cv::abs(a.displacement - b.displacement));
  return mean[0] + mean[1];
}

}  // namespace

struct VideoScorer::State {
  ScoreOptions options;
  VideoScore score;
  Frame last, last_guide, last_reference;
  bool has_reference = false, has_input = false, has_guide = false;
  double square_errors = 0, compared_sharpness = 0;

  void require_consistent(const ScoredFrame& shown) {
    const std::int64_t number = score.frames;
    const Frame& frame = shown.frame;
    if (std::min(frame.height, frame.width) < kLeastSide)
      fail("score: frame {} has {}x{} pixels; sides must have {} at least", number, frame.width, frame.height,
           kLeastSide);
    if (number > 0) require_size("one before", number, last.height, last.width, frame);
    const auto check = [&](const char* what, const Frame* picture, bool& has) {
      if (number == 0) has = picture != nullptr;
      if (has != (picture != nullptr))
        fail("score: frame {} comes {} a {}, unlike those before; give it with every frame or none", number,
             picture ? "with" : "without", what);
      if (picture) require_size(what, number, picture->height, picture->width, frame);
    };
    check("guide", shown.guide, has_guide);
    check("reference", shown.reference, has_reference);
    check("input", shown.input, has_input);
    if (shown.flow) {
      require_size("flow", number, shown.flow->displacement.rows, shown.flow->displacement.cols, frame);
      require_size("mask", number, shown.flow->valid.rows, shown.flow->valid.cols, frame);
    }
  }

  void add_pair(const ScoredFrame& shown) {
    const Flow flow = shown.flow    ? *shown.flow
                      : shown.guide ? checked_flow(last_guide, *shown.guide, options.preset)
                                    : checked_flow(last, shown.frame, options.preset);
    const int seen = cv::countNonZero(flow.valid);
    if (seen == 0 || seen < options.least_valid * static_cast<double>(flow.valid.total())) {
      score.warp_errors.push_back(kNotCounted);
      score.flicker_curve.push_back(kNotCounted);
    } else {
      const cv::Mat difference = warp(to_float(shown.frame), flow.displacement) - to_float(last);
      score.warp_errors.push_back(warp_error(difference, flow.valid));
      score.flicker_curve.push_back(flicker_of(difference, flow.valid));
    }
    if (options.flow_difference && shown.reference)
      score.flow_differences.push_back(
          mean_difference(dis_flow(last, shown.frame, options.preset),
                          dis_flow(last_reference, *shown.reference, options.preset)));
  }

  void add_single(const ScoredFrame& shown) {
    score.sharpness_curve.push_back(sharpness(shown.frame));
    if (shown.reference) {
      const double error = mean_square_error(shown.frame, *shown.reference);
      square_errors += error;
      score.psnrs.push_back(psnr_of(error));
      score.ssims.push_back(ssim(shown.frame, *shown.reference));
    }
    if (const Frame* compared = shown.reference ? shown.reference : shown.input)
      compared_sharpness += sharpness(*compared);
  }
};

VideoScorer::VideoScorer(const ScoreOptions& options) : state_(std::make_unique<State>()) {
  if (!(options.least_valid >= 0 && options.least_valid <= 1))
    fail("score: least_valid {} is no share; give 0 to 1", options.least_valid);
  state_->options = options;
}
VideoScorer::~VideoScorer() = default;
VideoScorer::VideoScorer(VideoScorer&&) noexcept = default;
VideoScorer& VideoScorer::operator=(VideoScorer&&) noexcept = default;

void VideoScorer::add(const ScoredFrame& shown) {
  State& state = *state_;
  state.require_consistent(shown);
  if (state.score.frames > 0) state.add_pair(shown);
  state.add_single(shown);
  state.last = shown.frame;
  if (shown.guide) state.last_guide = *shown.guide;
  if (shown.reference) state.last_reference = *shown.reference;
  ++state.score.frames;
}

VideoScore VideoScorer::finish() const {
  const State& state = *state_;
  VideoScore score = state.score;
  if (score.frames == 0) fail("score: there is no frame");
  const auto frames = static_cast<double>(score.frames);
  score.warp_error = mean_counted(score.warp_errors);
  score.flicker = mean_counted(score.flicker_curve);
  score.sharpness = *mean_counted(score.sharpness_curve);
  score.ssim = mean_counted(score.ssims);
  score.flow_difference = mean_counted(score.flow_differences);
  if (state.has_reference) score.psnr = psnr_of(state.square_errors / frames);
  score.detail_of = state.has_reference ? DetailOf::Reference
                    : state.has_input   ? DetailOf::Input
                                        : DetailOf::Nothing;
  if (state.compared_sharpness > 0) score.detail = score.sharpness * frames / state.compared_sharpness;
  return score;
}

}  // namespace lithe
