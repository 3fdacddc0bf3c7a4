#include "stylize/toy.h"

#include <cmath>
#include <opencv2/imgproc.hpp>

#include "lithe/diffusion/noise_schedule.h"
#include "lithe/diffusion/solver_steps.h"
#include "lithe/stylize/pixels.h"
#include "video/textures.h"

namespace lithe::test {
namespace {

/// A similarity transform per frame from pixels to a texture.
struct Layer {
  double angle = 0, angle_step = 0;
  cv::Point2d centre, centre_step;  // of the layer in the picture
  cv::Point2d anchor;               // the same point in the texture

  cv::Point2d to_texture(cv::Point2d pixel, int t) const {
    const double turn = angle + angle_step * t;
    const cv::Point2d d = pixel - centre - centre_step * t;
    return anchor + cv::Point2d(std::cos(turn) * d.x - std::sin(turn) * d.y,
                                std::sin(turn) * d.x + std::cos(turn) * d.y);
  }
  cv::Point2d to_picture(cv::Point2d place, int t) const {
    const double turn = angle + angle_step * t;
    const cv::Point2d d = place - anchor;
    return centre + centre_step * t +
           cv::Point2d(std::cos(turn) * d.x + std::sin(turn) * d.y,
                       -std::sin(turn) * d.x + std::cos(turn) * d.y);
  }
};

const Layer kBackground{.centre = {64, 64}, .centre_step = {0.9, -0.6}, .anchor = {256, 256}};
const Layer kDisc{.angle_step = 0.03, .centre = {45, 50}, .centre_step = {2.1, 1.7}, .anchor = {150, 380}};
constexpr double kRadius = 26;

bool in_disc(cv::Point2d pixel, int t) {
  return cv::norm(pixel - kDisc.centre - kDisc.centre_step * t) <= kRadius;
}

cv::Mat layer_ids(int t) {
  cv::Mat ids(ToyScene::kSide, ToyScene::kSide, CV_8U);
  for (int y = 0; y < ids.rows; ++y)
    for (int x = 0; x < ids.cols; ++x) ids.at<std::uint8_t>(y, x) = in_disc(cv::Point2d(x, y), t);
  return ids;
}

ToyScene::Flow flow_between(int from, int to, const std::vector<cv::Mat>& ids) {
  const int side = ToyScene::kSide;
  ToyScene::Flow flow{cv::Mat(side, side, CV_32FC2), cv::Mat(side, side, CV_8U, cv::Scalar(0))};
  for (int y = 0; y < side; ++y)
    for (int x = 0; x < side; ++x) {
      const auto id = ids[static_cast<std::size_t>(to)].at<std::uint8_t>(y, x);
      const Layer& layer = id ? kDisc : kBackground;
      const cv::Point2d place = layer.to_picture(layer.to_texture(cv::Point2d(x, y), to), from);
      flow.places.at<cv::Vec2f>(y, x) = {static_cast<float>(place.x), static_cast<float>(place.y)};
      // Seen where the picture holds the place, and the pixels around it are of the same layer.
      const int column = cvFloor(place.x), row = cvFloor(place.y);
      bool seen = column >= 1 && row >= 1 && column + 2 < side && row + 2 < side;
      for (int v = -1; seen && v <= 2; ++v)
        for (int u = -1; seen && u <= 2; ++u)
          seen = ids[static_cast<std::size_t>(from)].at<std::uint8_t>(row + v, column + u) == id;
      flow.seen.at<std::uint8_t>(y, x) = seen;
    }
  return flow;
}

cv::Mat floats(const Frame& frame) {
  cv::Mat out;
  cv::Mat(frame.height, frame.width, CV_16SC3, const_cast<std::int16_t*>(frame.pixels.data()))
      .convertTo(out, CV_32F);
  return out;
}

cv::Mat warped(const cv::Mat& picture, const ToyScene::Flow& flow) {
  cv::Mat out;
  cv::remap(picture, out, flow.places, cv::noArray(), cv::INTER_CUBIC, cv::BORDER_REPLICATE);
  return out;
}

}  // namespace

ToyScene::ToyScene(int count) {
  const cv::Mat ground = texture(1), object = texture(2);
  std::vector<cv::Mat> ids;
  for (int t = 0; t < count; ++t) {
    ids.push_back(layer_ids(t));
    cv::Mat places(kSide, kSide, CV_32FC2), other(kSide, kSide, CV_32FC2), back, front;
    for (int y = 0; y < kSide; ++y)
      for (int x = 0; x < kSide; ++x) {
        const cv::Point2d a = kBackground.to_texture(cv::Point2d(x, y), t),
                          b = kDisc.to_texture(cv::Point2d(x, y), t);
        places.at<cv::Vec2f>(y, x) = {static_cast<float>(a.x), static_cast<float>(a.y)};
        other.at<cv::Vec2f>(y, x) = {static_cast<float>(b.x), static_cast<float>(b.y)};
      }
    cv::remap(ground, back, places, cv::noArray(), cv::INTER_CUBIC);
    cv::remap(object, front, other, cv::noArray(), cv::INTER_CUBIC);
    front.copyTo(back, ids.back());
    frames.push_back(to_frame(cv::min(cv::max(back, 0), kFrameMaximum)));
  }
  for (int from = 0; from < count; ++from)
    for (int to = 0; to < count; ++to) flows_.push_back(flow_between(from, to, ids));
}

std::vector<Frame> ToyScene::mean_along_motion(const std::vector<Frame>& styled, int reach) const {
  std::vector<cv::Mat> pictures;
  for (const Frame& frame : styled) pictures.push_back(floats(frame));
  const int count = static_cast<int>(styled.size());
  std::vector<Frame> out;
  for (int to = 0; to < count; ++to) {
    cv::Mat sum(kSide, kSide, CV_32FC3, cv::Scalar::all(0)), weights(kSide, kSide, CV_32F, cv::Scalar(0));
    for (int from = std::max(0, to - reach); from <= std::min(count - 1, to + reach); ++from) {
      if (from == to) {
        sum += pictures[static_cast<std::size_t>(to)];
        weights += 1;
        continue;
      }
      const Flow& one = flow(from, to);
      cv::add(sum, warped(pictures[static_cast<std::size_t>(from)], one), sum, one.seen);
      cv::add(weights, cv::Scalar(1), weights, one.seen);
    }
    cv::Mat wide;
    cv::merge(std::vector<cv::Mat>(3, weights), wide);
    out.push_back(to_frame(cv::min(cv::max(sum / wide, 0), kFrameMaximum)));
  }
  return out;
}

double ToyScene::warp_error(const std::vector<Frame>& styled) const {
  double sum = 0, pixels = 0;
  for (int t = 0; t + 1 < static_cast<int>(styled.size()); ++t) {
    const Flow& one = flow(t + 1, t);
    const cv::Mat difference = (warped(floats(styled[static_cast<std::size_t>(t) + 1]), one) -
                                floats(styled[static_cast<std::size_t>(t)])) /
                               kFrameMaximum;
    cv::Mat kept(difference.size(), CV_32FC3, cv::Scalar::all(0));
    difference.copyTo(kept, one.seen);
    sum += kept.dot(kept);
    pixels += cv::countNonZero(one.seen);
  }
  return sum / (3 * pixels);
}

ToyAutoencoder::ToyAutoencoder() {
  constexpr int kFrequencies[6][2] = {{0, 0}, {0, 1}, {1, 0}, {1, 1}, {0, 2}, {2, 0}};
  basis_ = at::empty({6, 1, kBlock, kBlock}, at::kDouble);
  for (std::int64_t k = 0; k < 6; ++k)
    for (std::int64_t y = 0; y < kBlock; ++y)
      for (std::int64_t x = 0; x < kBlock; ++x) {
        const auto wave = [](int frequency, std::int64_t place) {
          const double scale = std::sqrt((frequency == 0 ? 1.0 : 2.0) / kBlock);
          return scale * std::cos(M_PI * (static_cast<double>(place) + 0.5) * frequency / kBlock);
        };
        basis_[k][0][y][x] = wave(kFrequencies[k][0], y) * wave(kFrequencies[k][1], x);
      }
}

at::Tensor ToyAutoencoder::encode_pixels(const at::Tensor& pixels) const {
  const at::Tensor planes =
      ((pixels.to(at::kDouble) - 128) / 64).reshape({-1, 1, pixels.size(2), pixels.size(3)});
  const at::Tensor latents = at::conv2d(planes, basis_, {}, kBlock) / 8;
  return latents.reshape({pixels.size(0), kChannels, pixels.size(2) / kBlock, pixels.size(3) / kBlock});
}

at::Tensor ToyAutoencoder::encode(const std::vector<Frame>& frames) {
  return encode_pixels(pixels_of(frames, 0, 255));
}

std::vector<Frame> ToyAutoencoder::decode(const at::Tensor& latents) {
  const at::Tensor planes = latents.to(at::kDouble).reshape({-1, 6, latents.size(2), latents.size(3)});
  const at::Tensor pixels = at::conv_transpose2d(planes * 8, basis_, {}, kBlock) * 64 + 128;
  return frames_of(
      (pixels / 127.5 - 1).reshape({latents.size(0), 3, kBlock * latents.size(2), kBlock * latents.size(3)}));
}

ToyDenoiser::ToyDenoiser(const std::vector<Frame>& guides, const ToyAutoencoder& autoencoder) {
  struct Style {
    double matrix[9], offset[3];
  };
  const Style styles[] = {{{0.7, 0, 0, 0, 0.7, 0, 0, 0, 0.7}, {70, 20, 10}},
                          {{0, 0, 0.7, 0.7, 0, 0, 0, 0.7, 0}, {10, 30, 75}},
                          {{-0.7, 0, 0, 0, -0.7, 0, 0, 0, -0.7}, {210, 220, 200}},
                          {{0.2, 0.3, 0.1, 0.15, 0.3, 0.1, 0.1, 0.2, 0.1}, {100, 40, 30}}};
  const at::Tensor pixels = pixels_of(guides, 0, 255).to(at::kDouble);
  for (const Style& style : styles) {
    const at::Tensor matrix = at::tensor(at::ArrayRef<double>(style.matrix, 9), at::kDouble).reshape({3, 3});
    const at::Tensor offset =
        at::tensor(at::ArrayRef<double>(style.offset, 3), at::kDouble).reshape({1, 3, 1, 1});
    modes_.push_back(autoencoder.encode_pixels(at::einsum("dc,nchw->ndhw", {matrix, pixels}) + offset));
  }
}

at::Tensor ToyDenoiser::predict(const at::Tensor& all, FrameRange range, double timestep) {
  static const NoiseSchedule noise = NoiseSchedule::scaled_linear();
  const double alpha_bar = noise.alpha_bar(static_cast<std::int64_t>(timestep)),
               signal = std::sqrt(alpha_bar);
  const double variance = alpha_bar * kDeviation * kDeviation + 1 - alpha_bar;
  const at::Tensor x = all.narrow(0, range.first, range.count);
  std::vector<at::Tensor> logits, means;
  for (const at::Tensor& every : modes_) {
    const at::Tensor rest = x - signal * every.narrow(0, range.first, range.count);
    // Neighbours have a say in which recolouring it is, as they have in a network.
    const at::Tensor own = rest.pow(2).sum(1, true) / (-2 * variance);
    logits.push_back(3 * at::avg_pool2d(own, 5, 1, 2, false, false));
    means.push_back(every.narrow(0, range.first, range.count) +
                    signal * kDeviation * kDeviation / variance * rest);
  }
  const at::Tensor weights = at::softmax(at::stack(logits), 0);
  return epsilon_of(x, (weights * at::stack(means)).sum(0), alpha_bar);
}

at::Tensor ToyDenoiser::distances(const at::Tensor& latents) const {
  std::vector<at::Tensor> out;
  for (const at::Tensor& mode : modes_) out.push_back((latents - mode).pow(2).mean(1));
  return at::stack(out);
}

double ToyDenoiser::off_mode(const at::Tensor& latents) const {
  return std::sqrt(distances(latents).amin(0).mean().item<double>());
}

at::Tensor ToyDenoiser::labels(const at::Tensor& latents) const {
  return distances(latents).argmin(0);
}

double label_agreement(const ToyScene& scene, const at::Tensor& labels) {
  constexpr int kBlock = ToyAutoencoder::kBlock;
  double same = 0, all = 0;
  const auto label = labels.accessor<std::int64_t, 3>();
  for (int t = 0; t + 1 < static_cast<int>(labels.size(0)); ++t)
    for (int y = 0; y < ToyScene::kSide; ++y)
      for (int x = 0; x < ToyScene::kSide; ++x) {
        const ToyScene::Flow& flow = scene.flow(t + 1, t);
        if (!flow.seen.at<std::uint8_t>(y, x)) continue;
        const cv::Vec2f place = flow.places.at<cv::Vec2f>(y, x);
        same += label[t][y / kBlock][x / kBlock] ==
                label[t + 1][static_cast<int>(place[1]) / kBlock][static_cast<int>(place[0]) / kBlock];
        ++all;
      }
  return same / all;
}

}  // namespace lithe::test
