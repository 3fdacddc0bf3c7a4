#include "lithe/video/scan.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>
#include <opencv2/video/tracking.hpp>
#include <optional>

#include "lithe/base/error.h"
#include "lithe/video/planes.h"

namespace lithe {
namespace {

constexpr int kLongestSide = 256;  // of the small copies
// A scene begins where motion explains nothing of the picture's variance; or less than this share of it,
// while the histogram of brightness has moved by more than this share of its pixels.
constexpr double kExplained = 0.5, kMoved = 0.25;

cv::Mat small_copy(const Frame& frame) {
  const double scale = std::min(1.0, static_cast<double>(kLongestSide) / std::max(frame.height, frame.width));
  const cv::Size size(std::max(1, static_cast<int>(std::lround(frame.width * scale))),
                      std::max(1, static_cast<int>(std::lround(frame.height * scale))));
  cv::Mat small;
  cv::resize(as_mat(frame), small, size, 0, 0, cv::INTER_AREA);
  small.convertTo(small, CV_32F);
  return small;
}

cv::Mat gray_of(const cv::Mat& colour) {
  cv::Mat gray;
  cv::transform(colour, gray, cv::Matx13f(1.F / 3, 1.F / 3, 1.F / 3));
  return gray;
}

/// Where the pixels of `to` come from in `from` (gray, CV_32F), as positions for cv::remap.
cv::Mat positions_between(const cv::Mat& to, const cv::Mat& from) {
  cv::Mat positions(to.size(), CV_32FC2);
  cv::Mat flow = cv::Mat::zeros(to.size(), CV_32FC2);
  if (std::min(to.rows, to.cols) >= 16) {  // smaller ones have no pyramid
    cv::Mat first, second;
    to.convertTo(first, CV_8U, 1.0 / kFrameScale);
    from.convertTo(second, CV_8U, 1.0 / kFrameScale);
    cv::DISOpticalFlow::create(cv::DISOpticalFlow::PRESET_FAST)->calc(first, second, flow);
  }
  for (int row = 0; row < to.rows; ++row)
    for (int column = 0; column < to.cols; ++column)
      positions.at<cv::Vec2f>(row, column) =
          flow.at<cv::Vec2f>(row, column) + cv::Vec2f(static_cast<float>(column), static_cast<float>(row));
  return positions;
}

cv::Mat warped(const cv::Mat& picture, const cv::Mat& positions) {
  cv::Mat result;
  cv::remap(picture, result, positions, cv::noArray(), cv::INTER_LINEAR, cv::BORDER_REPLICATE);
  return result;
}

double histogram_distance(const cv::Mat& a, const cv::Mat& b) {
  constexpr int kBins = 32;
  std::array<double, kBins> difference{};
  const auto count = [&](const cv::Mat& gray, double sign) {
    for (int row = 0; row < gray.rows; ++row)
      for (int column = 0; column < gray.cols; ++column) {
        const float value = gray.at<float>(row, column) * kBins / (kFrameMaximum + 1);
        difference[static_cast<std::size_t>(std::clamp(static_cast<int>(value), 0, kBins - 1))] += sign;
      }
  };
  count(a, 0.5 / static_cast<double>(a.total()));
  count(b, -0.5 / static_cast<double>(b.total()));
  double distance = 0;
  for (const double one : difference) distance += std::abs(one);
  return distance;
}

double variance_of(const cv::Mat& gray) {
  cv::Scalar mean, deviation;
  cv::meanStdDev(gray, mean, deviation);
  return deviation[0] * deviation[0];
}

/// Moments of matched pixels. A ratio of deviations treats both frames alike; a regression would call the
/// noise of the first one a fall in contrast, frame after frame.
ColourMap map_between(const cv::Mat& before, const cv::Mat& now, const cv::Mat& matched) {
  ColourMap map;
  cv::Scalar mean_before, mean_now, deviation_before, deviation_now;
  cv::meanStdDev(before, mean_before, deviation_before, matched);
  cv::meanStdDev(now, mean_now, deviation_now, matched);
  constexpr double kFaint = 4 * kFrameScale;  // of contrast, below which only the offset is told
  for (int c = 0; c < 3; ++c) {
    const double gain = deviation_before[c] > kFaint && deviation_now[c] > kFaint
                            ? std::clamp(deviation_now[c] / deviation_before[c], 0.5, 2.0)
                            : 1;
    map.gain[static_cast<std::size_t>(c)] = static_cast<float>(gain);
    map.offset[static_cast<std::size_t>(c)] = static_cast<float>(mean_now[c] - gain * mean_before[c]);
  }
  return map;
}

/// Of what the map leaves over in sixteen parts of the picture, each a measurement of its own.
double error_variance(const cv::Mat& before, const cv::Mat& now, const cv::Mat& matched,
                      const ColourMap& map) {
  constexpr int kParts = 4;
  double sum = 0;
  int parts = 0;
  for (int i = 0; i < kParts * kParts; ++i) {
    const cv::Range rows(i / kParts * now.rows / kParts, (i / kParts + 1) * now.rows / kParts);
    const cv::Range columns(i % kParts * now.cols / kParts, (i % kParts + 1) * now.cols / kParts);
    if (rows.empty() || columns.empty() || cv::countNonZero(matched(rows, columns)) == 0) continue;
    const cv::Scalar was = cv::mean(before(rows, columns), matched(rows, columns));
    const cv::Scalar is = cv::mean(now(rows, columns), matched(rows, columns));
    for (int c = 0; c < 3; ++c) {
      const auto channel = static_cast<std::size_t>(c);
      const double left = is[c] - map.gain[channel] * was[c] - map.offset[channel];
      sum += left * left / 3;
    }
    ++parts;
  }
  return parts > 2 ? sum / (parts - 2) / parts : std::numeric_limits<double>::infinity();
}

double median_of(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Running medians over nine values, which follow lasting changes and not single frames.
std::vector<double> lasting_level(const std::vector<double>& values) {
  const auto count = static_cast<std::ptrdiff_t>(values.size());
  std::vector<double> level(values.size());
  for (std::ptrdiff_t i = 0; i < count; ++i)
    level[static_cast<std::size_t>(i)] = median_of(
        {values.begin() + std::max<std::ptrdiff_t>(0, i - 4), values.begin() + std::min(count, i + 5)});
  return level;
}

}  // namespace

void SizeCheck::next(const Frame& style, const Frame& guide) {
  if (!style.same_size(guide))
    fail("frame {} is {}x{} in the video and {}x{} in the guide", number_, style.width, style.height,
         guide.width, guide.height);
  if (number_ == 0) {
    height_ = style.height;
    width_ = style.width;
  }
  if (style.height != height_ || style.width != width_)
    fail("frame {} is {}x{}, the ones before {}x{}", number_, style.width, style.height, width_, height_);
  ++number_;
}

Frame apply(const ColourMap& map, const Frame& frame) {
  if (map == ColourMap{}) return frame;
  Frame result(frame.height, frame.width);
  for (std::size_t i = 0; i < frame.pixels.size(); ++i) {
    const float value = map.gain[i % 3] * frame.pixels[i] + map.offset[i % 3];
    result.pixels[i] =
        static_cast<std::int16_t>(std::lround(std::clamp(value, 0.F, static_cast<float>(kFrameMaximum))));
  }
  return result;
}

std::vector<ColourMap> even_out(const std::vector<ColourStep>& steps, std::int64_t window) {
  const auto count = static_cast<std::int64_t>(steps.size());
  std::vector<ColourMap> result(steps.size());
  for (std::size_t c = 0; c < 3; ++c) {
    // Maps from the first frame to each, and what they make of a middling value.
    std::vector<double> gain(steps.size(), 1), offset(steps.size(), 0), level;
    for (std::size_t t = 1; t < steps.size(); ++t) {
      gain[t] = steps[t].map.gain[c] * gain[t - 1];
      offset[t] = steps[t].map.gain[c] * offset[t - 1] + steps[t].map.offset[c];
    }
    for (std::size_t t = 0; t < steps.size(); ++t) level.push_back(gain[t] * kFrameMaximum / 2 + offset[t]);
    const std::vector<double> lasting = lasting_level(level);
    std::vector<double> flicker;
    for (std::size_t t = 0; t < level.size(); ++t) flicker.push_back(std::abs(level[t] - lasting[t]));
    const double spread = 3 * 1.4826 * median_of(flicker) + 2 * kFrameScale;
    for (std::int64_t t = 0; t < count; ++t) {
      double total = 0, mean_gain = 0, mean_offset = 0;
      const auto here = static_cast<std::size_t>(t);
      for (std::int64_t i = std::max<std::int64_t>(0, t - window); i <= std::min(count - 1, t + window);
           ++i) {
        const auto there = static_cast<std::size_t>(i);
        const double away = (lasting[there] - lasting[here]) / spread;
        const double weight = std::exp(-away * away);
        total += weight;
        mean_gain += weight * gain[there];
        mean_offset += weight * offset[there];
      }
      const double scale = mean_gain / total / gain[here];
      result[here].gain[c] = static_cast<float>(scale);
      result[here].offset[c] = static_cast<float>(mean_offset / total - scale * offset[here]);
    }
  }
  return result;
}

std::int64_t best_window(const std::vector<ColourStep>& steps, std::int64_t most) {
  double measured = 0, error = 0;
  for (std::size_t t = 1; t < steps.size(); ++t) {
    for (std::size_t c = 0; c < 3; ++c) {
      const double level = (steps[t].map.gain[c] - 1) * kFrameMaximum / 2 + steps[t].map.offset[c];
      measured += level * level / 3;
    }
    error += steps[t].variance;
  }
  const double flicker = (measured - error) / 2;  // a step sees that of two frames
  if (!(flicker > 0)) return 0;
  if (error <= 0) return most;
  return static_cast<std::int64_t>(
      std::min<double>(static_cast<double>(most), std::sqrt(6 * flicker / error) / 2));
}

struct VideoScanner::Last {
  cv::Mat guide, style;  // gray; colour
};

VideoScanner::VideoScanner(ScanOptions options) : options_(options) {}
VideoScanner::~VideoScanner() = default;

void VideoScanner::add(const Frame& guide, const Frame& style) {
  sizes_.next(style, guide);
  const cv::Mat gray = gray_of(small_copy(guide));
  cv::Mat colour = small_copy(style);
  bool begins = !last_;
  ColourStep colour_step;
  if (last_) {
    const cv::Mat positions = positions_between(gray, last_->guide);
    const cv::Mat difference = gray - warped(last_->guide, positions);
    const cv::Mat squares = difference.mul(difference);
    const double left = cv::mean(squares)[0], variance = std::max(variance_of(gray), 1.0);
    const bool unlike = left > variance || (left > (1 - kExplained) * variance &&
                                            histogram_distance(gray, last_->guide) > kMoved);
    begins = options_.find_scenes && unlike;
    if (!begins && options_.even_colours) {
      const cv::Mat before = warped(last_->style, positions);
      const cv::Mat matched = squares < 4 * left + kFrameScale * kFrameScale;
      colour_step.map = map_between(before, colour, matched);
      colour_step.variance = error_variance(before, colour, matched, colour_step.map);
    }
  } else {
    last_ = std::make_unique<Last>();
  }
  begins_scene_.push_back(begins);
  steps_.push_back(colour_step);
  last_->guide = gray;
  last_->style = colour;
}

VideoScan VideoScanner::finish() const {
  VideoScan scan{.frames = static_cast<std::int64_t>(begins_scene_.size())};
  for (std::int64_t t = 0; t < scan.frames; ++t)
    if (begins_scene_[static_cast<std::size_t>(t)]) scan.scenes.push_back(t);
  if (!options_.even_colours) return scan;
  for (std::size_t i = 0; i < scan.scenes.size(); ++i) {
    const std::int64_t end = i + 1 < scan.scenes.size() ? scan.scenes[i + 1] : scan.frames;
    const std::vector<ColourStep> steps(steps_.begin() + scan.scenes[i], steps_.begin() + end);
    const std::int64_t window = best_window(steps, options_.colour_window);
    const auto maps =
        window > options_.blend_window ? even_out(steps, window) : std::vector<ColourMap>(steps.size());
    scan.colours.insert(scan.colours.end(), maps.begin(), maps.end());
  }
  return scan;
}

}  // namespace lithe
