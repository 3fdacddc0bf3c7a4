#include "cli/deflicker_report.h"

#include <algorithm>

#include "lithe/data/picture_grid.h"

namespace lithe::cli {
namespace {

constexpr std::int64_t kShown = 6;     // frames in the strip
constexpr std::int64_t kWidest = 320;  // pixels of each

at::Tensor to_tensor(const Frame& frame) {
  const at::Tensor pixels = at::from_blob(const_cast<std::int16_t*>(frame.pixels.data()),
                                          {frame.height, frame.width, 3}, at::kShort);
  const at::Tensor bytes = pixels.to(at::kFloat).div(kFrameScale).round().clamp(0, 255).to(at::kByte);
  const std::int64_t step = (frame.width + kWidest - 1) / kWidest;
  return bytes.slice(0, 0, c10::nullopt, step)
      .slice(1, 0, c10::nullopt, step)
      .permute({2, 0, 1})
      .contiguous();
}

json score_json(const VideoScore& score) {
  json result{{"sharpness", score.sharpness}};
  if (score.warp_error) result["warp_error"] = *score.warp_error;
  if (score.flicker) result["flicker"] = *score.flicker;
  if (score.detail) result["detail"] = *score.detail;
  return result;
}

Series curve(const std::string& name, const std::vector<double>& values, std::int64_t first) {
  Series series{.name = name};
  for (std::size_t i = 0; i < values.size(); ++i) {
    series.x.push_back(static_cast<double>(first) + static_cast<double>(i));
    series.y.push_back(values[i]);
  }
  return series;
}

}  // namespace

void DeflickerWatch::add(std::int64_t number, const Frame& guide, const Frame& before, const Frame& after) {
  if (first_ < 0) first_ = number;
  constexpr int kLeastSide = 16;  // of the measures
  if (std::min(before.height, before.width) >= kLeastSide) {
    before_.add({.frame = before, .guide = &guide});
    after_.add({.frame = after, .guide = &guide, .input = &before});
    measured_ = true;
  }
  // Every frame at first, then every second and so on, so that few are kept of however many.
  if ((number - first_) % every_ != 0) return;
  shown_.push_back({to_tensor(before), to_tensor(after)});
  if (static_cast<std::int64_t>(shown_.size()) < 2 * kShown) return;
  every_ *= 2;
  std::vector<Pair> half;
  for (std::size_t i = 0; i < shown_.size(); i += 2) half.push_back(shown_[i]);
  shown_ = std::move(half);
}

void DeflickerWatch::describe(json& result) const {
  if (!measured_) return;
  result["before"] = score_json(before_.finish());
  result["after"] = score_json(after_.finish());
}

Report DeflickerWatch::report(const std::string& name, const DeflickerOutcome& outcome) const {
  Report report{.title = "Deflickering", .subtitle = name, .facts = {}, .items = {}};
  report.facts = {{"frames", std::to_string(outcome.frames)},
                  {"pairs matched", std::to_string(outcome.pairs)},
                  {"scenes", std::to_string(outcome.scenes.size())}};
  if (!shown_.empty()) {
    std::vector<at::Tensor> pictures;
    const std::size_t count = std::min<std::size_t>(shown_.size(), kShown);
    const auto at = [&](std::size_t i) { return shown_[i * shown_.size() / count]; };
    for (std::size_t i = 0; i < count; ++i) pictures.push_back(at(i).before);
    for (std::size_t i = 0; i < count; ++i) pictures.push_back(at(i).after);
    report.add(Picture{.title = "Before and after",
                       .png = grid_png(at::stack(pictures), static_cast<std::int64_t>(count)),
                       .note = "Above as they were, below as they are; reduced."});
  }
  if (!measured_) return report;
  const VideoScore before = before_.finish(), after = after_.finish();
  const auto figure = [](const std::optional<double>& value, double scale) {
    return value ? fmt::format("{:.3g}", *value * scale) : std::string("-");
  };
  report.add(Table{.title = "Measures",
                   .columns = {{"", false}, {"warp error, 1e-4"}, {"flicker, grey levels"}, {"sharpness"}},
                   .rows = {{"before", figure(before.warp_error, 1e4), figure(before.flicker, 1),
                             figure(before.sharpness, 1)},
                            {"after", figure(after.warp_error, 1e4), figure(after.flicker, 1),
                             figure(after.sharpness, 1)}},
                   .note =
                       "Motion is estimated on the guide. The warp error alone is won by blur; read it with "
                       "the sharpness, mean |Laplacian| in grey levels."});
  report.add(LinePlot{
      .title = "Flicker over time",
      .x_label = "frame",
      .y_label = "grey levels",
      .series = {curve("before", before.flicker_curve, first_), curve("after", after.flicker_curve, first_)},
      .note = ""});
  report.add(LinePlot{
      .title = "Warp error over time",
      .x_label = "frame",
      .y_label = "squared difference, pixels 0 to 1",
      .series = {curve("before", before.warp_errors, first_), curve("after", after.warp_errors, first_)},
      .note = ""});
  return report;
}

}  // namespace lithe::cli
