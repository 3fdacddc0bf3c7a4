#include "lithe/data/preprocess.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/json.h"

namespace lithe {
namespace fs = std::filesystem;
using nlohmann::json;

namespace {

constexpr std::int64_t kMaxSide = 1 << 15;
constexpr std::size_t kMaxChannels = 4;
constexpr const char* kMetadataKey = "lithe.preprocess";

template <typename Enum>
using Names = std::vector<std::pair<std::string_view, Enum>>;

const Names<ColourOrder> kColours{{"auto", ColourOrder::Auto},
                                  {"rgb", ColourOrder::Rgb},
                                  {"bgr", ColourOrder::Bgr},
                                  {"gray", ColourOrder::Gray}};
const Names<ImageLayout> kLayouts{{"nchw", ImageLayout::Nchw}, {"nhwc", ImageLayout::Nhwc}};
const Names<Interpolation> kInterpolations{{"nearest", Interpolation::Nearest},
                                           {"bilinear", Interpolation::Bilinear},
                                           {"bicubic", Interpolation::Bicubic},
                                           {"area", Interpolation::Area}};

template <typename Enum>
Enum parse_name(std::string text, const Names<Enum>& names, const std::string& origin) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  std::string accepted;
  for (const auto& [name, value] : names) {
    if (name == text) return value;
    accepted += (accepted.empty() ? "" : ", ") + std::string(name);
  }
  fail("{}: '{}' is none of {}", origin, text, accepted);
}

template <typename Enum>
std::string name_of(Enum value, const Names<Enum>& names) {
  for (const auto& [name, candidate] : names)
    if (candidate == value) return std::string(name);
  fail("value {} out of range", static_cast<int>(value));
}

double parse_number(std::string_view text, const std::string& origin) {
  double value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size() || !std::isfinite(value))
    fail("{}: '{}' is not a number", origin, text);
  return value;
}

std::int64_t checked_side(double value, const std::string& origin) {
  if (!(value >= 1 && value <= kMaxSide) || value != std::floor(value))
    fail("{}: {} is not a size in pixels (1 to {})", origin, value, kMaxSide);
  return static_cast<std::int64_t>(value);
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  for (std::size_t start = 0; start <= text.size();) {
    const std::size_t end = std::min(text.find(separator, start), text.size());
    parts.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

/// "256" or "224x192" (height x width).
std::vector<std::int64_t> parse_sides(std::string_view text, const std::string& origin) {
  std::vector<std::int64_t> sides;
  for (const std::string_view part : split(text, 'x'))
    sides.push_back(checked_side(parse_number(part, origin), origin));
  if (sides.size() > 2) fail("{}: '{}' is not a size such as 224 or 224x192", origin, text);
  return sides;
}

void check_channels(const std::vector<double>& values, bool divisor, const std::string& origin) {
  if (values.empty() || values.size() > kMaxChannels)
    fail("{}: {} numbers given; give one for all channels or one a channel", origin, values.size());
  for (const double value : values)
    if (!std::isfinite(value) || (divisor && value <= 0))
      fail("{}: {} is not {}", origin, value, divisor ? "a positive number" : "a finite number");
}

std::vector<double> parse_channels(std::string_view text, bool divisor, const std::string& origin) {
  std::vector<double> values;
  for (const std::string_view part : split(text, ',')) values.push_back(parse_number(part, origin));
  check_channels(values, divisor, origin);
  return values;
}

double checked_scale(double scale, const std::string& origin) {
  if (!(scale > 0) || !std::isfinite(scale)) fail("{}: {} is not a positive number", origin, scale);
  return scale;
}

double parse_scale(std::string_view text, const std::string& origin) {
  const auto parts = split(text, '/');
  if (parts.size() > 2) fail("{}: '{}' is not a number or a quotient such as 1/255", origin, text);
  const double divisor = parts.size() == 2 ? parse_number(parts[1], origin) : 1.0;
  return checked_scale(parse_number(parts[0], origin) / divisor, origin);
}

void set_resize(Preprocess& out, const std::vector<std::int64_t>& sides) {
  out.resize_shorter.reset();
  out.resize.reset();
  if (sides.size() == 1) out.resize_shorter = sides[0];
  if (sides.size() == 2) out.resize = PixelSize{sides[0], sides[1]};
}

void set_crop(Preprocess& out, const std::vector<std::int64_t>& sides) {
  out.crop.reset();
  if (!sides.empty()) out.crop = PixelSize{sides.front(), sides.back()};
}

// --- JSON ------------------------------------------------------------------------------------------------

double number_of(const json& value, const std::string& origin) {
  if (value.is_string()) return parse_scale(value.get<std::string>(), origin);
  if (!value.is_number()) fail("{}: expected a number, got {}", origin, value.dump());
  return value.get<double>();
}

std::vector<double> channels_of(const json& value, bool divisor, const std::string& origin) {
  std::vector<double> values;
  if (value.is_array()) {
    if (value.size() > kMaxChannels) fail("{}: {} numbers are too many", origin, value.size());
    for (const json& item : value) {
      if (!item.is_number()) fail("{}: expected numbers, got {}", origin, item.dump());
      values.push_back(item.get<double>());
    }
  } else {
    values.push_back(number_of(value, origin));
  }
  check_channels(values, divisor, origin);
  return values;
}

std::vector<std::int64_t> sides_of(const json& value, const std::string& origin) {
  if (value.is_null()) return {};
  if (value.is_array()) {
    if (value.size() != 2) fail("{}: expected one size or [height, width]", origin);
    return {checked_side(number_of(value[0], origin), origin),
            checked_side(number_of(value[1], origin), origin)};
  }
  return {checked_side(number_of(value, origin), origin)};
}

std::string text_of(const json& value, const std::string& origin) {
  if (!value.is_string()) fail("{}: expected a word, got {}", origin, value.dump());
  return value.get<std::string>();
}

}  // namespace

double Preprocess::mean_of(std::int64_t channel) const {
  if (mean.empty()) return 0.0;
  return mean.size() == 1 ? mean[0] : mean.at(static_cast<std::size_t>(channel));
}

double Preprocess::std_of(std::int64_t channel) const {
  if (std.empty()) return 1.0;
  return std.size() == 1 ? std[0] : std.at(static_cast<std::size_t>(channel));
}

Preprocess apply_flags(Preprocess base, const PreprocessFlags& flags) {
  if (!flags.mean.empty()) base.mean = parse_channels(flags.mean, false, "--mean");
  if (!flags.std.empty()) base.std = parse_channels(flags.std, true, "--std");
  if (!flags.scale.empty()) base.scale = parse_scale(flags.scale, "--scale");
  if (flags.resize == "none")
    set_resize(base, {});
  else if (!flags.resize.empty())
    set_resize(base, parse_sides(flags.resize, "--resize"));
  if (flags.crop == "none")
    set_crop(base, {});
  else if (!flags.crop.empty())
    set_crop(base, parse_sides(flags.crop, "--crop"));
  if (!flags.layout.empty()) base.layout = parse_name(flags.layout, kLayouts, "--layout");
  if (!flags.colour.empty()) base.colour = parse_name(flags.colour, kColours, "--colour");
  if (!flags.interpolation.empty())
    base.interpolation = parse_name(flags.interpolation, kInterpolations, "--interpolation");
  return base;
}

Preprocess preprocess_from_json(const json& object, const std::string& origin) {
  if (!object.is_object()) fail("{}: expected an object with keys such as \"mean\" and \"std\"", origin);
  Preprocess out;
  for (const auto& [key, value] : object.items()) {
    const std::string where = origin + ": \"" + key + "\"";
    if (key == "scale") {
      out.scale = checked_scale(number_of(value, where), where);
    } else if (key == "mean") {
      out.mean = channels_of(value, false, where);
    } else if (key == "std") {
      out.std = channels_of(value, true, where);
    } else if (key == "resize") {
      set_resize(out, sides_of(value, where));
    } else if (key == "crop") {
      set_crop(out, sides_of(value, where));
    } else if (key == "interpolation") {
      out.interpolation = parse_name(text_of(value, where), kInterpolations, where);
    } else if (key == "colour") {
      out.colour = parse_name(text_of(value, where), kColours, where);
    } else if (key == "layout") {
      out.layout = parse_name(text_of(value, where), kLayouts, where);
    } else if (key == "label_offset") {
      if (!value.is_number_integer() || value.get<double>() < -1e6 || value.get<double>() > 1e6)
        fail("{}: expected a small whole number, got {}", where, value.dump());
      out.label_offset = value.get<std::int64_t>();
    } else {
      fail(
          "{}: unknown key \"{}\"; known are scale, mean, std, resize, crop, interpolation, colour, layout, "
          "label_offset",
          origin, key);
    }
  }
  return out;
}

json to_json(const Preprocess& preprocess) {
  json out{{"scale", preprocess.scale},
           {"interpolation", name_of(preprocess.interpolation, kInterpolations)},
           {"colour", name_of(preprocess.colour, kColours)},
           {"layout", name_of(preprocess.layout, kLayouts)}};
  if (!preprocess.mean.empty()) out["mean"] = preprocess.mean;
  if (!preprocess.std.empty()) out["std"] = preprocess.std;
  if (preprocess.resize_shorter) out["resize"] = *preprocess.resize_shorter;
  if (preprocess.resize) out["resize"] = {preprocess.resize->height, preprocess.resize->width};
  if (preprocess.crop) out["crop"] = {preprocess.crop->height, preprocess.crop->width};
  if (preprocess.label_offset != 0) out["label_offset"] = preprocess.label_offset;
  return out;
}

std::optional<fs::path> find_preprocess(const fs::path& model) {
  std::error_code ignored;
  fs::path own = model, shared = model;
  own.replace_extension(".preprocess.json");
  if (fs::is_regular_file(own, ignored)) return own;
  shared.replace_extension(".json");
  // A file of that name may be anything, for example the report of another tool.
  if (fs::is_regular_file(shared, ignored) && fs::file_size(shared, ignored) < (16u << 20)) {
    const auto found = try_parse_json(read_text_file(shared));
    if (found && found->is_object() && found->contains("preprocess")) return shared;
  }
  return std::nullopt;
}

Preprocess read_preprocess(const fs::path& path) {
  const json file = parse_json(read_text_file(path, 16u << 20), path.string());
  if (file.is_object() && file.contains("preprocess"))
    return preprocess_from_json(file["preprocess"], path.string());
  return preprocess_from_json(file, path.string());
}

Preprocess preprocess_for(const fs::path& path, const Graph& model, const PreprocessFlags& flags) {
  if (const auto file = find_preprocess(path)) return apply_flags(read_preprocess(*file), flags);
  const auto kept = model.header.metadata.find(kMetadataKey);
  if (kept == model.header.metadata.end()) return apply_flags({}, flags);
  const std::string origin = path.string() + ": metadata \"" + kMetadataKey + "\"";
  return apply_flags(preprocess_from_json(parse_json(kept->second, origin), origin), flags);
}

bool preprocess_is_known(const fs::path& path, const Graph& model, const PreprocessFlags& flags) {
  return !flags.mean.empty() || !flags.std.empty() || !flags.scale.empty() || find_preprocess(path) ||
         model.header.metadata.contains(kMetadataKey);
}

void keep_preprocess(Graph& model, const Preprocess& preprocess) {
  model.header.metadata[kMetadataKey] = to_json(preprocess).dump();
}

}  // namespace lithe
