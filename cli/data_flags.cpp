#include "cli/data_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "lithe/base/error.h"
#include "lithe/data/loader.h"
#include "lithe/data/npz.h"

namespace lithe::cli {

void add_preprocess_flags(CLI::App& app, PreprocessFlags& flags) {
  const std::string group = "Preprocessing (default: the JSON file beside the model)";
  const auto add = [&](const char* name, std::string& value, const char* help) {
    app.add_option(name, value, help)->group(group);
  };
  add("--mean", flags.mean, "subtracted after scaling, one number or one a channel: 0.485,0.456,0.406");
  add("--std", flags.std, "divided by, likewise");
  add("--scale", flags.scale, "factor on 0..255, for example 1/255");
  add("--resize", flags.resize, "shorter side (256), exact size (224x224, height x width) or none");
  add("--crop", flags.crop, "centre crop (224 or 224x192) or none");
  add("--layout", flags.layout, "nchw or nhwc");
  add("--colour", flags.colour, "rgb, bgr, gray or auto");
  add("--interpolation", flags.interpolation, "nearest, bilinear, bicubic or area");
}

std::string unused_labels(const std::string& spec, const Dataset& data) {
  namespace fs = std::filesystem;
  const DataSpec parts = parse_data_spec(spec);
  std::error_code ignored;
  const bool chosen = std::any_of(parts.options.begin(), parts.options.end(),
                                  [](const auto& option) { return option.first == "labels"; });
  if (data.labelled() || chosen || (parts.kind != "" && parts.kind != "folder") ||
      !fs::is_directory(parts.path, ignored))
    return "";
  std::string list;
  bool numbered = false;
  for (const fs::directory_entry& entry : fs::directory_iterator(parts.path, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name == "labels.tsv" || name == "labels.txt")
      list = name;
    else if (!numbered)
      numbered = std::isdigit(static_cast<unsigned char>(name[0])) != 0;
  }
  if (list.empty()) return "";
  if (numbered)
    return fmt::format(
        "{}: {} names no picture and is not used; if the file names begin with the class, write "
        "{},labels=prefix (and label_offset=1 where class 0 is the background)",
        parts.path, list, spec);
  return fmt::format(
      "{}: {} names no picture and is not used; its lines must be NAME<tab>LABEL, or give "
      "another list with {},labels=FILE",
      parts.path, list, spec);
}

std::string assumed_preprocess(const std::string& model, const Graph& graph, const PreprocessFlags& flags,
                               const std::string& spec) {
  namespace fs = std::filesystem;
  const DataSpec parts = parse_data_spec(spec);
  const fs::path extension = fs::path(parts.path).extension();
  const bool arrays =
      parts.kind == "array" || (parts.kind.empty() && (extension == ".npz" || extension == ".npy"));
  if (arrays || preprocess_is_known(model, graph, flags)) return "";
  return fmt::format(
      "nothing says what numbers {} expects: pictures go in as 0 to 1, without mean and std, colours as "
      "stored; "
      "if that is wrong, give --mean and --std (or --scale, --colour), or write {} (see docs/data.md)",
      model, fs::path(model).replace_extension(".preprocess.json").string());
}

Feeds read_feeds(const Graph& graph, const std::string& npz) {
  Feeds feeds = bind_inputs(graph, read_npz(npz));
  for (const ValueInfo& input : graph.inputs) {
    const auto fed = feeds.find(input.name);
    if (fed == feeds.end() || !input.shape) continue;
    const std::vector<std::int64_t> sizes = fed->second.sizes().vec();
    bool fits = sizes.size() == input.shape->size();
    for (std::size_t i = 0; fits && i < sizes.size(); ++i)
      fits = !(*input.shape)[i].known() || (*input.shape)[i].value == sizes[i];
    if (!fits)
      fail("{}: the array '{}' has the shape {}, but the model takes {}; write one of that shape", npz,
           input.name, format_shape(sizes), format_type(input));
  }
  return feeds;
}

}  // namespace lithe::cli
