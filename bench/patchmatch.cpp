// Time and error of matching one pair of frames: Lithe's matcher, its scalar reference, and DIS optical flow
// of OpenCV as the other way to a field.
//   patchmatch [--sizes 256,512] [--repeats N] [--reference yes|no]
// One thread, processor time, medians. The pair: a moving background, a turning disc before it, and a style
// that flickers. Errors are of one measure for all: the mean of the error that matching minimises, with
// patches of 5 and guide weight 10, in squared grey levels, over pixels at least 16 from the edge. (Nearer,
// what lies outside counts as black, which only some of the methods mind.)
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <opencv2/video/tracking.hpp>
#include <string>
#include <vector>

#include "bench/processor_time.h"
#include "bench/statistics.h"
#include "lithe/base/error.h"
#include "lithe/kernels/patch_error.h"
#include "lithe/video/match.h"
#include "lithe/video/match_reference.h"
#include "lithe/video/patch_planes.h"
#include "tests/video/textures.h"

namespace {

using namespace lithe;

constexpr int kEdge = 16;

struct Scene {
  Frame source_guide, target_guide, source_style;
};

/// A layer's picture after a rotation about its centre and a shift.
cv::Mat moved(const cv::Mat& layer, double angle, double right, double down) {
  const float half = static_cast<float>(layer.cols) / 2;
  cv::Mat motion = cv::getRotationMatrix2D({half, half}, angle * 180 / CV_PI, 1), out;
  motion.at<double>(0, 2) += right;
  motion.at<double>(1, 2) += down;
  cv::warpAffine(layer, out, motion, layer.size(), cv::INTER_CUBIC, cv::BORDER_REFLECT);
  return out;
}

Scene make_scene(int side, std::uint64_t seed) {
  const cv::Mat background = texture(seed, side), disc = texture(seed + 1, side);
  cv::Mat mask(side, side, CV_32FC3, cv::Scalar::all(0));
  cv::circle(mask, {side / 2, side / 2}, side / 5, cv::Scalar::all(1), cv::FILLED, cv::LINE_AA);
  const auto frame = [&](double time) {
    const cv::Mat front = moved(disc, 0.05 * time, 3.4 * time, 4.2 * time),
                  where = moved(mask, 0.05 * time, 3.4 * time, 4.2 * time),
                  back = moved(background, 0, -1.2 * time, 1.8 * time);
    return cv::Mat(front.mul(where) + back.mul(cv::Scalar::all(1) - where));
  };
  const cv::Mat first = frame(0), second = frame(2);
  cv::Mat flicker(8, 8, CV_32FC3), wide;
  Rng rng(seed + 2);
  for (int i = 0; i < 64; ++i)
    for (int c = 0; c < 3; ++c)
      flicker.at<cv::Vec3f>(i / 8, i % 8)[c] = static_cast<float>(15 * kFrameScale * rng.normal());
  cv::resize(flicker, wide, first.size(), 0, 0, cv::INTER_CUBIC);
  return {to_frame(first), to_frame(second), to_frame(styled(first) + wide)};
}

double mean_error(const Scene& scene, const Field& field) {
  const Frame running = remap(field, scene.source_style, 5);
  PatchPlane source, target;
  source.set(scene.source_guide, &scene.source_style, 2);
  target.set(scene.target_guide, &running, 2);
  const std::vector<Place> places = to_places(field),
                           here = to_places(identity_field(field.height, field.width));
  std::vector<std::int64_t> guide(places.size()), style(places.size());
  PatchWorkspace workspace;
  patch_sums({source.image(), target.image(), 5}, places.data(), here.data(),
             static_cast<std::int64_t>(places.size()), guide.data(), style.data(), workspace);
  std::vector<double> errors;
  for (int y = kEdge; y < field.height - kEdge; ++y)
    for (int x = kEdge; x < field.width - kEdge; ++x) {
      const auto at = static_cast<std::size_t>(y * field.width + x);
      errors.push_back(10 * static_cast<double>(guide[at]) + static_cast<double>(style[at]));
    }
  return bench::moments(errors).mean / (kFrameScale * kFrameScale);
}

Field flow_field(const Scene& scene) {
  cv::Mat source, target, flow;
  brightness(scene.source_guide).convertTo(source, CV_8U, 1.0 / kFrameScale);
  brightness(scene.target_guide).convertTo(target, CV_8U, 1.0 / kFrameScale);
  cv::DISOpticalFlow::create(cv::DISOpticalFlow::PRESET_MEDIUM)->calc(target, source, flow);
  Field field = identity_field(flow.rows, flow.cols);
  for (int y = 0; y < flow.rows; ++y)
    for (int x = 0; x < flow.cols; ++x) {
      const auto at = static_cast<std::size_t>(y * flow.cols + x);
      const cv::Vec2f v = flow.at<cv::Vec2f>(y, x);
      field.rows[at] = static_cast<std::int16_t>(std::clamp<long>(y + std::lround(v[1]), 0, flow.rows - 1));
      field.columns[at] =
          static_cast<std::int16_t>(std::clamp<long>(x + std::lround(v[0]), 0, flow.cols - 1));
    }
  return field;
}

struct Line {
  double milliseconds = 0;
  Field field;
};

Line timed(int repeats, const std::function<Field()>& work) {
  Line line;
  std::vector<double> seconds;
  for (int i = 0; i < repeats; ++i) {
    const double start = bench::processor_seconds();
    line.field = work();
    seconds.push_back(bench::processor_seconds() - start);
  }
  line.milliseconds = 1e3 * bench::median(seconds);
  return line;
}

void print(const std::string& name, const Scene& scene, const Line& line) {
  const double pixels = static_cast<double>(scene.target_guide.height) * scene.target_guide.width;
  fmt::print("{:<36}{:>12.2f}{:>16.1f}{:>14.0f}\n", name, line.milliseconds, line.milliseconds / pixels * 1e6,
             mean_error(scene, line.field));
  std::fflush(stdout);
}

void table(int side, int repeats, bool reference) {
  const Scene scene = make_scene(side, 5);
  const MatchOptions options;
  fmt::print("\n{}x{}\n{:<36}{:>12}{:>16}{:>14}\n", side, side, "", "ms a pair", "ms a megapixel",
             "mean error");
  const auto with = [&](const MatchOptions& o, const Field* start = nullptr) {
    const Pyramid source = make_pyramid(scene.source_guide, o), target = make_pyramid(scene.target_guide, o),
                  style = make_pyramid(scene.source_style, o);
    return timed(repeats, [&] { return match({source, target, style}, o, 1, start).field; });
  };
  const Line flow = timed(repeats, [&] { return flow_field(scene); });
  print("identity", scene, {0, identity_field(side, side)});
  print("published parameters", scene, with(options));
  MatchOptions other = options;
  other.exact_upsample = true;
  print("with exact transfer of levels", scene, with(other));
  other = options;
  other.start = MatchOptions::Start::Random;
  print("from a random start", scene, with(other));
  print("DIS flow", scene, flow);
  for (int levels = 1; levels <= 2; ++levels)
    for (int iterations = 1; iterations <= 3; ++iterations) {
      other = options;
      other.warm_levels = levels;
      other.warm_iterations = iterations;
      print(fmt::format("from DIS flow, {} level{}, {} iteration{}", levels, levels > 1 ? "s" : "",
                        iterations, iterations > 1 ? "s" : ""),
            scene, with(other, &flow.field));
    }
  print("three pyramids", scene, timed(repeats, [&] {
          make_pyramid(scene.source_guide, options);
          make_pyramid(scene.target_guide, options);
          make_pyramid(scene.source_style, options);
          return identity_field(side, side);
        }));
  if (!reference) return;
  const Pyramid source = make_pyramid(scene.source_guide, options),
                target = make_pyramid(scene.target_guide, options),
                style = make_pyramid(scene.source_style, options);
  print("scalar reference", scene, timed(1, [&] {
          return match_reference({source, target, style}, options, 1).field;
        }));
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Time and error of matching a pair of frames");
  std::vector<int> sizes{256, 512};
  int repeats = 7;
  bool reference = true;
  app.add_option("--sizes", sizes, "sides of the frames")->delimiter(',')->check(CLI::Range(64, 4096));
  app.add_option("--repeats", repeats, "runs of which the median is taken")->check(CLI::Range(1, 1000));
  app.add_option("--reference", reference, "whether the scalar reference runs too, once");
  CLI11_PARSE(app, argc, argv);
  try {
    cv::setNumThreads(1);
    for (const int side : sizes) table(side, repeats, reference);
  } catch (const std::exception& e) {
    fmt::print(stderr, "patchmatch: {}\n", e.what());
    return 1;
  }
  return 0;
}
