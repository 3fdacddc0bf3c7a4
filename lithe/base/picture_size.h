// What a picture file promises, read before a decoder allocates memory for it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>

namespace lithe {

struct PromisedSize {
  std::uint64_t height = 0, width = 0;
  bool operator==(const PromisedSize&) const = default;
};

/// The size that a PNG, JPEG, BMP, PNM, WebP, TIFF or JPEG 2000 file promises; nothing if the bytes are none
/// of these, or too few. Nothing is promised about the rest of the file.
std::optional<PromisedSize> promised_size(std::string_view bytes);

/// Whether the end of a JPEG or PNG file is missing: libjpeg fills up such pictures and only warns, libpng
/// complains on standard error.
bool cut_short(std::string_view bytes);

/// Whether the file's extension is that of a picture that OpenCV reads.
bool is_image_name(const std::filesystem::path& path);

}  // namespace lithe
