#include "lithe/video/flicker.h"

#include <cmath>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>

#include "lithe/base/error.h"
#include "lithe/base/random.h"
#include "lithe/video/flow.h"
#include "lithe/video/planes.h"

namespace lithe {
namespace {

constexpr std::array<std::string_view, kFlickerKinds.size()> kNames{"gain", "blotch", "jitter", "detail",
                                                                    "styles"};
constexpr int kNodes = 8;

/// Independent N(0, deviation), CV_32F with so many channels.
cv::Mat noise(Rng& rng, cv::Size size, int channels, double deviation) {
  cv::Mat out(size, CV_32FC(channels));
  for (int y = 0; y < size.height; ++y) {
    auto* row = out.ptr<float>(y);
    for (int i = 0; i < size.width * channels; ++i) row[i] = static_cast<float>(deviation * rng.normal());
  }
  return out;
}

cv::Mat clouds(Rng& rng, cv::Size size, int channels, double deviation) {
  cv::Mat wide;
  cv::resize(noise(rng, {kNodes, kNodes}, channels, deviation), wide, size, 0, 0, cv::INTER_CUBIC);
  return wide;
}

/// Noise between two scales, of deviation 1 over the picture.
cv::Mat band_noise(Rng& rng, cv::Size size) {
  const cv::Mat white = noise(rng, size, 3, 1);
  cv::Mat fine, coarse;
  cv::GaussianBlur(white, fine, {}, 1.5);
  cv::GaussianBlur(white, coarse, {}, 5);
  const cv::Mat band = fine - coarse;
  return band * std::sqrt(static_cast<double>(band.total() * 3) / band.dot(band));
}

cv::Mat brightened(Rng& rng, const cv::Mat& picture) {
  const double gain = 1 + 0.10 * rng.normal();
  cv::Scalar gains;
  for (int c = 0; c < 3; ++c) gains[c] = gain * (1 + 0.04 * rng.normal());
  cv::Mat out;
  cv::multiply(picture, gains, out);
  return out + cv::Scalar::all(8 * kFrameScale * rng.normal());
}

/// The other style: colours mixed, lighter or darker, and detail stronger.
cv::Mat other_style(const cv::Mat& picture) {
  cv::Mat mixed, coarse;
  cv::transform(picture, mixed, cv::Matx33f(0.8F, 0.2F, 0, 0, 0.75F, 0.25F, 0.2F, 0, 0.8F));
  cv::GaussianBlur(picture, coarse, {}, 2);
  return mixed + 0.6 * (picture - coarse) + cv::Scalar(10 * kFrameScale, -6 * kFrameScale, 4 * kFrameScale);
}

}  // namespace

std::string_view to_string(FlickerKind kind) {
  return kNames[static_cast<std::size_t>(kind)];
}

FlickerKind flicker_kind(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i)
    if (kNames[i] == name) return kFlickerKinds[i];
  fail("flicker \"{}\": give gain, blotch, jitter, detail or styles", name);
}

Frame flickering(const Frame& frame, FlickerKind kind, std::uint64_t seed, std::int64_t t) {
  Rng rng(seed, static_cast<std::uint64_t>(t));
  const cv::Mat picture = to_float(frame);
  switch (kind) {
    case FlickerKind::Gain:
      return to_frame(brightened(rng, picture));
    case FlickerKind::Blotch:
      return to_frame(picture + clouds(rng, picture.size(), 3, 15 * kFrameScale));
    case FlickerKind::Jitter: {
      const cv::Mat moved = warp(picture, clouds(rng, picture.size(), 2, 1.5), Interpolation::Cubic);
      return to_frame(moved + noise(rng, picture.size(), 3, 8 * kFrameScale));
    }
    case FlickerKind::Detail: {
      const double gain = 1 + 0.04 * rng.normal();
      return to_frame(gain * picture + 20 * kFrameScale * band_noise(rng, picture.size()));
    }
    case FlickerKind::Styles:
      break;
  }
  return t % 2 == 0 ? frame : to_frame(other_style(picture));
}

}  // namespace lithe
