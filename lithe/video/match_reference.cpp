#include "lithe/video/match_reference.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

#include "lithe/video/match_candidates.h"
#include "lithe/video/match_plan.h"
#include "lithe/video/planes.h"

namespace lithe {
namespace {

cv::Mat in_doubles(const Frame& frame) {
  cv::Mat out;
  as_mat(frame).convertTo(out, CV_64F, 1.0 / kFrameScale);
  return out;
}

void round_to_quarters(cv::Mat& picture) {
  for (int y = 0; y < picture.rows; ++y)
    for (int x = 0; x < picture.cols; ++x)
      for (int c = 0; c < 3; ++c) {
        double& value = picture.at<cv::Vec3d>(y, x)[c];
        value = std::floor(value * kFrameScale + 0.5) / kFrameScale;
      }
}

cv::Vec3d or_black(const cv::Mat& picture, int y, int x) {
  const bool inside = y >= 0 && y < picture.rows && x >= 0 && x < picture.cols;
  return inside ? picture.at<cv::Vec3d>(y, x) : cv::Vec3d();
}

struct Level {
  PyramidLevel size;
  cv::Mat source_guide, target_guide, source_style, running;
  double guide_weight;

  std::vector<double> errors(const Field& field, int patch) const {
    std::vector<double> guide = patch_errors_reference(field, source_guide, target_guide, patch);
    const std::vector<double> style = patch_errors_reference(field, source_style, running, patch);
    for (std::size_t i = 0; i < guide.size(); ++i) guide[i] = guide_weight * guide[i] + style[i];
    return guide;
  }
};

/// All pixels at once, from the fields as they were.
void accept(const Level& level, int patch, const std::vector<Place>& candidates, Field& field,
            std::vector<double>& errors) {
  const Field other = to_field(candidates, field.height, field.width);
  const std::vector<double> others = level.errors(other, patch);
  for (std::size_t i = 0; i < errors.size(); ++i)
    if (others[i] < errors[i]) {
      field.rows[i] = other.rows[i];
      field.columns[i] = other.columns[i];
      errors[i] = others[i];
    }
}

}  // namespace

cv::Mat remap_reference(const Field& field, const cv::Mat& source, int patch) {
  const int r = patch / 2;
  cv::Mat out(field.height, field.width, CV_64FC3);
  for (int y = 0; y < field.height; ++y)
    for (int x = 0; x < field.width; ++x) {
      cv::Vec3d sum;
      int votes = 0;
      for (int dy = -r; dy <= r; ++dy)
        for (int dx = -r; dx <= r; ++dx) {
          if (y + dy < 0 || y + dy >= field.height || x + dx < 0 || x + dx >= field.width) continue;
          const auto at = static_cast<std::size_t>((y + dy) * field.width + x + dx);
          const int row = field.rows[at] - dy, column = field.columns[at] - dx;
          if (row < 0 || row >= source.rows || column < 0 || column >= source.cols) continue;
          sum += source.at<cv::Vec3d>(row, column);
          ++votes;
        }
      out.at<cv::Vec3d>(y, x) = sum / votes;
    }
  return out;
}

std::vector<double> patch_errors_reference(const Field& field, const cv::Mat& source, const cv::Mat& target,
                                           int patch) {
  const int r = patch / 2;
  std::vector<double> errors;
  errors.reserve(field.rows.size());
  for (int y = 0; y < field.height; ++y)
    for (int x = 0; x < field.width; ++x) {
      const auto at = static_cast<std::size_t>(y * field.width + x);
      double sum = 0;
      for (int dy = -r; dy <= r; ++dy)
        for (int dx = -r; dx <= r; ++dx) {
          const cv::Vec3d difference = or_black(source, field.rows[at] + dy, field.columns[at] + dx) -
                                       or_black(target, y + dy, x + dx);
          sum += difference.dot(difference);
        }
      errors.push_back(sum);
    }
  return errors;
}

ReferenceMatch match_reference(const MatchPair& pair, const MatchOptions& options, std::uint64_t key,
                               const Field* start, bool rounded) {
  const MatchPlan plan = plan_match(pair, options, start);
  const MatchDraws draws(options.seed, key);
  ReferenceMatch result;
  Level level;
  for (int l = plan.first; l < static_cast<int>(plan.levels.size()); ++l) {
    const int number = plan.from_finest(l);
    level = {plan.levels[static_cast<std::size_t>(l)],
             in_doubles(pair.source_guide.level(l)),
             in_doubles(pair.target_guide.level(l)),
             in_doubles(pair.source_style.level(l)),
             {},
             static_cast<double>(plan.guide_weight) / 256};
    result.field = first_field(plan, options, draws, l, start, result.field);
    for (std::size_t k = 0; k < plan.patches.size(); ++k) {
      const int patch = plan.patches[k], iteration = static_cast<int>(k);
      level.running = remap_reference(result.field, level.source_style, patch);
      if (rounded) round_to_quarters(level.running);
      result.errors = level.errors(result.field, patch);
      std::vector<Place> candidates(result.errors.size());
      const auto offer = [&](const auto& fill_row) {
        const std::vector<Place> places = to_places(result.field);
        for (int y = 0; y < level.size.height; ++y)
          fill_row(places.data(), y, candidates.data() + static_cast<std::ptrdiff_t>(y) * level.size.width);
        accept(level, patch, candidates, result.field, result.errors);
      };
      std::array<int, 4> order{0, 1, 2, 3};
      if (options.random_order) order = draws.order(number, iteration);
      for (const int direction : order)
        offer([&](const Place* places, int y, Place* out) {
          neighbour_candidates(places, level.size, y, direction, out);
        });
      for (int s = 0; s < options.random_steps; ++s)
        offer([&](const Place* places, int y, Place* out) {
          random_candidates(places, level.size, y, options.random_radius, draws.step(number, iteration, s),
                            out);
        });
    }
  }
  result.picture = remap_reference(result.field, level.source_style, plan.patches.back());
  return result;
}

}  // namespace lithe
