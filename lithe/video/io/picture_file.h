// Frames as picture files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "lithe/base/picture_size.h"
#include "lithe/video/frame.h"

namespace lithe {

struct PictureFile {
  Frame frame;
  int bits = 8;        // of a channel, in the file: 8 or 16
  bool alpha = false;  // whether the file has it
  bool opaque = true;  // everywhere
};

/// PNG, JPEG, BMP, TIFF, WebP and PNM of 8 or 16 bits, grey or in colour. 8-bit values come as four times
/// themselves, 16-bit ones rounded to the nearest. Throws Error(Input) naming the file if it does not decode.
PictureFile read_picture(const std::filesystem::path& path);

/// Throws Error(Input) naming the file unless it starts as a picture of a size that read_picture takes.
PromisedSize picture_size(const std::filesystem::path& path);

/// An encoded picture; `ending` as ".png", ".jpg", ".tif" or ".bmp"; `bits` 8, or 16 for PNG and TIFF. Values
/// are rounded to the nearest; those of 16 bits can be read back exactly. `quality` 0..100 is that of JPEG.
std::vector<unsigned char> encode_picture(const Frame& frame, const std::string& ending, int bits,
                                          int quality = 95);

}  // namespace lithe
