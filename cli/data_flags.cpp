#include "cli/data_flags.h"

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

}  // namespace lithe::cli
