#include "lithe/points/superpoint_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "lithe/base/file.h"

namespace lithe {
namespace {

/// Full saturation at an angle of 0..6 around the circle of hues.
double hue_part(double hue, double channel) {
  const double away = std::abs(std::fmod(hue - channel + 9, 6) - 3);  // 0 where the channel is brightest
  return std::min(1.0, std::max(0.0, 2 - away));
}

}  // namespace

std::vector<std::array<std::uint8_t, 3>> superpoint_colours(const Superpoints& superpoints) {
  constexpr double kGolden = 0.6180339887498949;  // neighbouring ids get hues far apart
  std::vector<std::array<std::uint8_t, 3>> palette(static_cast<std::size_t>(superpoints.count));
  for (std::size_t id = 0; id < palette.size(); ++id) {
    const double hue = 6 * std::fmod(static_cast<double>(id) * kGolden, 1.0),
                 bright = 0.55 + 0.15 * static_cast<double>(id * 7 % 4);
    for (std::size_t c = 0; c < 3; ++c)
      palette[id][c] = static_cast<std::uint8_t>(
          std::lround(255 * bright * (0.25 + 0.75 * hue_part(hue, 2 * static_cast<double>(c)))));
  }
  std::vector<std::array<std::uint8_t, 3>> colours;
  colours.reserve(superpoints.ids.size());
  for (const std::int32_t id : superpoints.ids) colours.push_back(palette[static_cast<std::size_t>(id)]);
  return colours;
}

void write_segments(const std::filesystem::path& path, const std::string& scene,
                    const SuperpointOptions& options, const Superpoints& superpoints) {
  AtomicFile file(path);
  // Numbers as text, as ScanNet's own files have them.
  file.write(fmt::format(
      R"({{"params":{{"kThresh":"{}","segMinVerts":"{}"}},"sceneId":{},"segIndices":[)", options.threshold,
      options.least, nlohmann::json(scene).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)));
  std::string text;
  for (std::size_t i = 0; i < superpoints.ids.size(); ++i) {
    if (i > 0) text += ',';
    text += std::to_string(superpoints.ids[i]);
    if (text.size() > (std::size_t{1} << 20)) {
      file.write(text);
      text.clear();
    }
  }
  file.write(text + "]}\n");
  file.commit();
}

std::filesystem::path segments_path(const std::filesystem::path& mesh, float threshold) {
  std::filesystem::path path = mesh;
  path.replace_extension();
  path += fmt::format(".{:.6f}.segs.json", threshold);
  return path;
}

}  // namespace lithe
