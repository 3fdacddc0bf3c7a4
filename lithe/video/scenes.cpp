#include "lithe/video/scenes.h"

#include <cmath>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>
#include <string>

#include "lithe/base/error.h"
#include "lithe/base/random.h"
#include "lithe/video/planes.h"
#include "lithe/video/scene_motion.h"

namespace lithe {
namespace {

constexpr int kTextureSide = 512;
constexpr int kShutterSamples = 8;
constexpr std::array<std::string_view, kSceneKinds.size()> kNames{
    "pan", "zoomrot", "two", "waves", "blur", "thin", "cut", "static", "camera"};

cv::Mat clipped(const cv::Mat& picture) {
  cv::Mat out = cv::min(picture, kFrameMaximum);
  return cv::max(out, 0);
}

/// The number of the front layer that covers at least half of each pixel.
cv::Mat layer_numbers(const SceneLayers& scene, const SceneOptions& options, cv::Point2d middle, int t) {
  cv::Mat numbers(options.height, options.width, CV_8U, cv::Scalar(0));
  for (int y = 0; y < options.height; ++y)
    for (int x = 0; x < options.width; ++x)
      for (std::size_t n = 0; n < scene.layers.size(); ++n) {
        const Layer& layer = scene.layers[n];
        if (layer.shown_at(t, options.frames) &&
            (!layer.shape || layer.shape->covers(cv::Point2d(x, y) - middle, t) >= 0.5))
          numbers.at<std::uint8_t>(y, x) = static_cast<std::uint8_t>(n);
      }
  return numbers;
}

/// 255 where the 3x3 numbers around are equal.
cv::Mat uniform(const cv::Mat& numbers) {
  const cv::Mat window = cv::Mat::ones(3, 3, CV_8U);
  cv::Mat highest, lowest;
  cv::dilate(numbers, highest, window);
  cv::erode(numbers, lowest, window);
  return highest == lowest;
}

}  // namespace

std::string_view to_string(SceneKind kind) {
  return kNames[static_cast<std::size_t>(kind)];
}

SceneKind scene_kind(std::string_view name) {
  for (std::size_t i = 0; i < kNames.size(); ++i)
    if (kNames[i] == name) return kSceneKinds[i];
  fail("scene \"{}\": give pan, zoomrot, two, waves, blur, thin, cut, static or camera", name);
}

cv::Mat noise_texture(std::uint64_t seed, int side) {
  const std::array<int, 5> nodes{4, 8, 16, 64, side};
  constexpr std::array<double, 5> kAmplitudes{90, 60, 40, 25, 12};
  cv::Mat sum(side, side, CV_32FC3, cv::Scalar::all(128));
  for (std::size_t i = 0; i < nodes.size(); ++i) {
    Rng rng(seed, i);
    cv::Mat grid(nodes[i], nodes[i], CV_32FC3), wide;
    for (int y = 0; y < grid.rows; ++y)
      for (int x = 0; x < grid.cols; ++x)
        for (int c = 0; c < 3; ++c) grid.at<cv::Vec3f>(y, x)[c] = static_cast<float>(rng.normal());
    cv::resize(grid, wide, sum.size(), 0, 0, cv::INTER_CUBIC);
    sum += wide * (0.6 * kAmplitudes[i]);
  }
  cv::GaussianBlur(sum, sum, {}, 0.9);
  return clipped(sum * kFrameScale);
}

cv::Mat drawn_style(const cv::Mat& picture) {
  cv::Mat blurred, edges, permuted;
  cv::GaussianBlur(picture, blurred, {}, 1);
  cv::Laplacian(picture, edges, CV_32F);
  const cv::Matx33f colours(0, 0, 0.9F, 1.1F, 0, 0, 0, 0.8F, 0);
  cv::transform(blurred, permuted, colours);
  return clipped(permuted - 1.5 * cv::abs(edges));
}

Frame drawn_style(const Frame& frame) {
  return to_frame(drawn_style(to_float(frame)));
}

struct Scene::Parts {
  SceneLayers layers;
  std::vector<cv::Mat> guides, truths;  // textures
  cv::Point2d middle;                   // of a frame
};

Scene::Scene(const SceneOptions& options) : options_(options), parts_(std::make_unique<Parts>()) {
  if (options.height < 16 || options.height > 4096 || options.width < 16 || options.width > 4096)
    fail("scene: frames of {}x{} pixels; sides are 16 to 4096", options.width, options.height);
  if (options.frames < 1 || options.frames > 100) fail("scene: {} frames; give 1 to 100", options.frames);
  parts_->layers = scene_layers(options.kind, options.height, options.width);
  parts_->middle = {(options.width - 1) / 2.0, (options.height - 1) / 2.0};
  for (std::size_t i = 0; i < parts_->layers.textures; ++i) {
    parts_->guides.push_back(noise_texture(options.seed * 2 + i, kTextureSide));
    parts_->truths.push_back(drawn_style(parts_->guides.back()));
  }
}
Scene::~Scene() = default;
Scene::Scene(Scene&&) noexcept = default;

Frame Scene::guide(int t) const {
  return render(t, false);
}
Frame Scene::truth(int t) const {
  return render(t, true);
}

Frame Scene::render(int t, bool styled) const {
  const cv::Point2d origin(kTextureSide / 2.0, kTextureSide / 2.0);
  const int samples = parts_->layers.shutter > 0 ? kShutterSamples : 1;
  cv::Mat sum(options_.height, options_.width, CV_32FC3, cv::Scalar::all(0));
  for (int s = 0; s < samples; ++s) {
    const double time = t + parts_->layers.shutter * ((s + 0.5) / samples - 0.5);
    cv::Mat picture(sum.size(), CV_32FC3, cv::Scalar::all(0)), positions(sum.size(), CV_32FC2);
    for (const Layer& layer : parts_->layers.layers) {
      if (!layer.shown_at(t, options_.frames)) continue;
      for (int y = 0; y < sum.rows; ++y)
        for (int x = 0; x < sum.cols; ++x) {
          const cv::Point2d u = layer.motion->to_texture(cv::Point2d(x, y) - parts_->middle, time) + origin;
          positions.at<cv::Vec2f>(y, x) = {static_cast<float>(u.x), static_cast<float>(u.y)};
        }
      const cv::Mat seen =
          sample_mirrored((styled ? parts_->truths : parts_->guides)[layer.texture], positions);
      for (int y = 0; y < sum.rows; ++y)
        for (int x = 0; x < sum.cols; ++x) {
          const auto share = static_cast<float>(
              layer.shape ? layer.shape->covers(cv::Point2d(x, y) - parts_->middle, time) : 1);
          auto& pixel = picture.at<cv::Vec3f>(y, x);
          pixel += share * (seen.at<cv::Vec3f>(y, x) - pixel);
        }
    }
    sum += picture;
  }
  return to_frame(sum / samples);
}

Flow Scene::flow(int j, int i) const {
  const cv::Mat from = layer_numbers(parts_->layers, options_, parts_->middle, j),
                to = layer_numbers(parts_->layers, options_, parts_->middle, i);
  const cv::Mat from_uniform = uniform(from), to_uniform = uniform(to);
  Flow flow{cv::Mat(from.size(), CV_32FC2), cv::Mat(from.size(), CV_8U, cv::Scalar(0))};
  for (int y = 0; y < from.rows; ++y)
    for (int x = 0; x < from.cols; ++x) {
      const auto number = from.at<std::uint8_t>(y, x);
      const Motion& motion = *parts_->layers.layers[number].motion;
      const cv::Point2d p(x, y);
      const cv::Point2d q = motion.to_frame(motion.to_texture(p - parts_->middle, j), i) + parts_->middle;
      flow.displacement.at<cv::Vec2f>(y, x) = {static_cast<float>(q.x - p.x), static_cast<float>(q.y - p.y)};
      if (!(q.x >= 0 && q.y >= 0 && q.x <= from.cols - 1 && q.y <= from.rows - 1)) continue;
      const int row = static_cast<int>(std::lround(q.y)), column = static_cast<int>(std::lround(q.x));
      if (from_uniform.at<std::uint8_t>(y, x) && to_uniform.at<std::uint8_t>(row, column) &&
          to.at<std::uint8_t>(row, column) == number)
        flow.valid.at<std::uint8_t>(y, x) = 255;
    }
  return flow;
}

}  // namespace lithe
