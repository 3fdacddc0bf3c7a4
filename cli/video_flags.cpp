#include "cli/video_flags.h"

#include <cmath>
#include <cstdint>
#include <cstdio>

#include "cli/validators.h"
#include "lithe/base/error.h"

namespace lithe::cli {

void add_video_flags(CLI::App& verb, VideoFlags& flags) {
  verb.add_option("--codec", flags.write.codec,
                  "encoder, such as libx264, libx265, libvpx-vp9, ffv1; for folders png, jpg, tif or bmp");
  verb.add_option("--quality", flags.write.quality, "CRF of the encoder, lower is better; JPEG: 0 to 100")
      ->check(in_range(0, 100));
  verb.add_option("--pixel-format", flags.write.pixel_format, "such as yuv420p10le (default: as the input)");
  verb.add_option("--preset", flags.write.preset, "of the encoder, such as slow");
  verb.add_option("--fps", flags.rate, "frames a second of folders, such as 25 or 30000/1001 (default: 30)");
  verb.add_option("--start", flags.read.start, "the first frame to read")
      ->check(at_least(0))
      ->capture_default_str();
  verb.add_flag("--drop-alpha", flags.read.drop_alpha, "leave transparency out instead of refusing it");
  verb.add_flag("--accept-damage", flags.read.accept_damage, "go on where a file is damaged or cut short");
}

ReadOptions read_options(const VideoFlags& flags) {
  ReadOptions options = flags.read;
  if (flags.rate.empty()) return options;
  long long above = 0, below = 1;
  double number = 0;
  char rest = 0;
  if (std::sscanf(flags.rate.c_str(), "%lld/%lld%c", &above, &below, &rest) == 2 && above > 0 && below > 0) {
    options.folder_rate = {above, below};
  } else if (std::sscanf(flags.rate.c_str(), "%lf%c", &number, &rest) == 1 && number > 0 && number < 1e6) {
    options.folder_rate = {std::llround(number * 1000), 1000};
  } else {
    fail("--fps {}: give a number such as 25, 29.97 or 30000/1001", flags.rate);
  }
  return options;
}

}  // namespace lithe::cli
