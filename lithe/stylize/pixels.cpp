#include "lithe/stylize/pixels.h"

#include <algorithm>
#include <cmath>
#include <opencv2/imgproc.hpp>

#include "lithe/base/error.h"
#include "lithe/graph/tensor_data.h"

namespace lithe {
namespace {

std::int16_t to_level(double value) {
  return static_cast<std::int16_t>(std::lround(std::clamp(value, 0.0, static_cast<double>(kFrameMaximum))));
}

cv::Mat view(const Frame& frame) {
  return cv::Mat(frame.height, frame.width, CV_16SC3, const_cast<std::int16_t*>(frame.pixels.data()));
}

}  // namespace

at::Tensor pixels_of(const std::vector<Frame>& frames, double low, double high) {
  if (frames.empty() || frames[0].pixels.empty()) fail("there are no frames to encode");
  const Frame& first = frames[0];
  at::Tensor out =
      at::empty({static_cast<std::int64_t>(frames.size()), first.height, first.width, 3}, at::kFloat);
  for (std::size_t i = 0; i < frames.size(); ++i) {
    if (!frames[i].same_size(first))
      fail("frame {} is {}x{}, the first one {}x{}; frames of one size are needed", i, frames[i].width,
           frames[i].height, first.width, first.height);
    out[static_cast<std::int64_t>(i)] = at::from_blob(const_cast<std::int16_t*>(frames[i].pixels.data()),
                                                      {first.height, first.width, 3}, at::kShort);
  }
  return out.mul_((high - low) / kFrameMaximum).add_(low).permute({0, 3, 1, 2}).contiguous();
}

std::vector<Frame> frames_of(const at::Tensor& pixels) {
  if (pixels.dim() != 4 || pixels.size(1) != 3)
    fail("pictures {} where [frames, 3, height, width] were expected", format_shape(pixels.sizes()));
  if (at::isnan(pixels).any().item<bool>())
    fail("the decoder gives undefined pixels (NaN); take one of float32");
  const at::Tensor levels =
      ((pixels.permute({0, 2, 3, 1}).to(at::kFloat) / 2 + 0.5).clamp(0, 1) * kFrameMaximum)
          .round()
          .to(at::kShort)
          .contiguous();
  std::vector<Frame> frames;
  for (std::int64_t i = 0; i < levels.size(0); ++i) {
    Frame& frame = frames.emplace_back(static_cast<int>(levels.size(1)), static_cast<int>(levels.size(2)));
    const auto* from = levels[i].data_ptr<std::int16_t>();
    std::copy(from, from + frame.pixels.size(), frame.pixels.begin());
  }
  return frames;
}

Frame fit_frame(const Frame& frame, int height, int width) {
  if (height < 1 || width < 1) fail("frames cannot be resized to {}x{}", width, height);
  if (frame.pixels.empty()) fail("an empty frame cannot be resized");
  // The largest part of that ratio.
  const double scale =
      std::min(static_cast<double>(frame.height) / height, static_cast<double>(frame.width) / width);
  const int rows = std::clamp(static_cast<int>(std::lround(height * scale)), 1, frame.height);
  const int columns = std::clamp(static_cast<int>(std::lround(width * scale)), 1, frame.width);
  const cv::Rect part((frame.width - columns) / 2, (frame.height - rows) / 2, columns, rows);
  Frame out(height, width);
  if (rows == height && columns == width) {
    cv::Mat target = view(out);
    view(frame)(part).copyTo(target);
    return out;
  }
  cv::Mat exact, resized;
  view(frame)(part).convertTo(exact, CV_32F);
  cv::resize(exact, resized, {width, height}, 0, 0, scale > 1 ? cv::INTER_AREA : cv::INTER_LANCZOS4);
  const auto* from = resized.ptr<float>();
  std::transform(from, from + out.pixels.size(), out.pixels.begin(), to_level);
  return out;
}

int floor_to_multiple(int size, int unit) {
  return std::max(size / unit, 1) * unit;
}

void adjust_contrast(Frame& frame, double ratio) {
  if (!(ratio >= 0 && std::isfinite(ratio))) fail("a contrast of {}: it must be 0 or more", ratio);
  if (frame.pixels.empty() || ratio == 1) return;
  double sum = 0;
  for (std::size_t i = 0; i < frame.pixels.size(); i += 3)
    sum += 19595.0 * frame.pixels[i] + 38470.0 * frame.pixels[i + 1] + 7471.0 * frame.pixels[i + 2];
  const double count = static_cast<double>(frame.pixels.size()) / 3;
  const double grey = std::floor(sum / 65536 / kFrameScale / count + 0.5) * kFrameScale;
  for (std::int16_t& value : frame.pixels) value = to_level(grey + ratio * (value - grey));
}

void adjust_sharpness(Frame& frame, double ratio) {
  if (!(ratio >= 0 && std::isfinite(ratio))) fail("a sharpness of {}: it must be 0 or more", ratio);
  if (ratio == 1) return;
  const Frame old = frame;
  for (int row = 1; row + 1 < frame.height; ++row)
    for (int column = 1; column + 1 < frame.width; ++column)
      for (int c = 0; c < 3; ++c) {
        const double own = old.at(row, column)[c];
        double sum = 4 * own;
        for (int y = -1; y <= 1; ++y)
          for (int x = -1; x <= 1; ++x) sum += old.at(row + y, column + x)[c];
        frame.at(row, column)[c] = to_level(sum / 13 + ratio * (own - sum / 13));
      }
}

}  // namespace lithe
