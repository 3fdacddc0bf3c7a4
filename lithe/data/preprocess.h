// How pixels become the numbers that a model expects.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

enum class ColourOrder {
  Auto,  // as the source has it: gray for sheets and IDX, RGB for everything else
  Rgb,
  Bgr,
  Gray,
};
enum class ImageLayout { Nchw, Nhwc };
enum class Interpolation { Nearest, Bilinear, Bicubic, Area };

/// A size in pixels.
struct PixelSize {
  std::int64_t height = 0, width = 0;
  bool operator==(const PixelSize&) const = default;
};

/// Applied in this order: colour, resize, centre crop, then (x * scale - mean) / std by channel, then layout.
struct Preprocess {
  double scale = 1.0 / 255;                    // brings 0..255 to the units of mean and std
  std::vector<double> mean, std;               // one for all channels or one a channel; empty: 0 and 1
  std::optional<std::int64_t> resize_shorter;  // shorter side, the other in proportion
  std::optional<PixelSize> resize;             // or exactly this size
  std::optional<PixelSize> crop;               // centre crop; the picture must be at least as large
  Interpolation interpolation = Interpolation::Bilinear;
  ColourOrder colour = ColourOrder::Auto;
  ImageLayout layout = ImageLayout::Nchw;
  std::int64_t label_offset = 0;  // added to every label: 1 for models whose class 0 is "background"
  bool operator==(const Preprocess&) const = default;

  double mean_of(std::int64_t channel) const;
  double std_of(std::int64_t channel) const;
};

/// What the command line says of preprocessing, as text; empty: not said.
struct PreprocessFlags {
  std::string mean, std;      // "0.485,0.456,0.406" or one number
  std::string scale;          // a number or a quotient: "1/255"
  std::string resize;         // "256" (shorter side), "224x224" (height x width), "none"
  std::string crop;           // "224", "224x192", "none"
  std::string layout;         // "nchw", "nhwc"
  std::string colour;         // "rgb", "bgr", "gray", "auto"
  std::string interpolation;  // "nearest", "bilinear", "bicubic", "area"
};

/// The flags laid over `base`. Throws Error(Input) that names the flag and what it accepts.
Preprocess apply_flags(Preprocess base, const PreprocessFlags& flags);

/// Keys as in docs/data.md; unknown keys and values out of range are Error(Input) that names `origin` and the
/// key.
Preprocess preprocess_from_json(const nlohmann::json& json, const std::string& origin);
nlohmann::json to_json(const Preprocess& preprocess);

/// The file that tells how a model wants its images: `model.preprocess.json`, else `model.json` if that has a
/// "preprocess" object, both beside `model.onnx`; nothing if neither exists.
std::optional<std::filesystem::path> find_preprocess(const std::filesystem::path& model);

/// Reads such a file: an object with the keys, or an object whose "preprocess" member has them.
Preprocess read_preprocess(const std::filesystem::path& path);

/// How the model wants its images: the file beside it, else what `keep_preprocess` wrote into it, else the
/// defaults; with the flags laid over.
Preprocess preprocess_for(const std::filesystem::path& path, const Graph& model,
                          const PreprocessFlags& flags = {});

/// Whether anything says what numbers the model expects: a file beside it, its metadata, or --mean, --std or
/// --scale. Where nothing does, pictures go in as 0..1.
bool preprocess_is_known(const std::filesystem::path& path, const Graph& model, const PreprocessFlags& flags);

/// Writes the preprocessing into the model's metadata, under the key "lithe.preprocess", so that a file made
/// from another needs no JSON beside it.
void keep_preprocess(Graph& model, const Preprocess& preprocess);

}  // namespace lithe
