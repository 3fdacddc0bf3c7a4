#include "lithe/base/picture_size.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstddef>
#include <cstdlib>
#include <string>

namespace lithe {
namespace {

using Size = std::optional<PromisedSize>;

constexpr std::string_view kPngSignature("\x89PNG\r\n\x1a\n", 8);

/// Unsigned numbers anywhere in the bytes; past the end reads as 0, which `valid` tells.
class Bytes {
 public:
  explicit Bytes(std::string_view text) : text_(text) {}
  std::uint64_t big(std::size_t at, std::size_t count) { return number(at, count, false); }
  std::uint64_t little(std::size_t at, std::size_t count) { return number(at, count, true); }
  bool valid() const { return valid_; }
  Size size(std::uint64_t height, std::uint64_t width) const {
    return valid_ ? Size(PromisedSize{height, width}) : std::nullopt;
  }

 private:
  std::uint64_t number(std::size_t at, std::size_t count, bool little) {
    if (at > text_.size() || count > text_.size() - at) {
      valid_ = false;
      return 0;
    }
    std::uint64_t value = 0;
    for (std::size_t i = 0; i < count; ++i)
      value = value << 8 | static_cast<unsigned char>(text_[at + (little ? count - 1 - i : i)]);
    return value;
  }
  std::string_view text_;
  bool valid_ = true;
};

Size png(std::string_view text) {
  Bytes bytes(text);
  const std::uint64_t width = bytes.big(16, 4), height = bytes.big(20, 4);
  return bytes.size(height, width);
}

/// The largest frame header before the first scan.
Size jpeg(std::string_view text) {
  Bytes bytes(text);
  Size found;
  for (std::size_t at = 2; at + 4 <= text.size();) {
    const auto marker = static_cast<unsigned char>(text[at + 1]);
    if (static_cast<unsigned char>(text[at]) != 0xFF || marker == 0xFF) {
      ++at;  // filling, or what libjpeg skips
      continue;
    }
    if (marker == 0 || marker == 1 || (marker >= 0xD0 && marker <= 0xD8)) {
      at += 2;  // without content
      continue;
    }
    if (marker == 0xD9 || marker == 0xDA) break;
    if (marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC) {
      const std::uint64_t height = bytes.big(at + 5, 2), width = bytes.big(at + 7, 2);
      if (!bytes.valid()) break;
      if (!found || height * width > found->height * found->width) found = PromisedSize{height, width};
    }
    at += 2 + std::max<std::uint64_t>(bytes.big(at + 2, 2), 2);
  }
  return found;
}

Size bmp(std::string_view text) {
  Bytes bytes(text);
  if (bytes.little(14, 4) == 12) {
    const std::uint64_t width = bytes.little(18, 2), height = bytes.little(20, 2);
    return bytes.size(height, width);
  }
  const auto side = [&](std::size_t at) {  // negative: from the top
    return static_cast<std::uint64_t>(
        std::llabs(static_cast<std::int32_t>(static_cast<std::uint32_t>(bytes.little(at, 4)))));
  };
  const std::uint64_t width = side(18), height = side(22);
  return bytes.size(height, width);
}

Size pnm(std::string_view text) {
  std::size_t at = 2;
  const auto number = [&]() -> std::optional<std::uint64_t> {
    while (at < text.size() && (text[at] == '#' || text[at] == ' ' || (text[at] >= '\t' && text[at] <= '\r')))
      at = text[at] == '#' ? std::min(text.find('\n', at), text.size()) : at + 1;
    std::uint64_t value = 0;
    const auto [end, code] = std::from_chars(text.data() + at, text.data() + text.size(), value);
    if (code != std::errc() || value > (std::uint64_t{1} << 31)) return std::nullopt;
    at = static_cast<std::size_t>(end - text.data());
    return value;
  };
  const auto width = number();
  const auto height = width ? number() : std::nullopt;
  return height ? Size(PromisedSize{*height, *width}) : std::nullopt;
}

Size webp(std::string_view text) {
  Bytes bytes(text);
  const std::string_view chunk = text.substr(12, 4);
  if (chunk == "VP8X") return bytes.size(bytes.little(27, 3) + 1, bytes.little(24, 3) + 1);
  if (chunk == "VP8 ") return bytes.size(bytes.little(28, 2) & 0x3FFF, bytes.little(26, 2) & 0x3FFF);
  if (chunk != "VP8L") return std::nullopt;
  const std::uint64_t bits = bytes.little(21, 4);
  return bytes.size((bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1);
}

/// Of the first directory.
Size tiff(std::string_view text) {
  Bytes bytes(text);
  const bool little = text[0] == 'I';
  const auto number = [&](std::uint64_t at, std::size_t count) {
    return little ? bytes.little(at, count) : bytes.big(at, count);
  };
  const std::uint64_t directory = number(4, 4), entries = number(directory, 2);
  std::optional<std::uint64_t> width, height;
  for (std::uint64_t i = 0; i < entries && bytes.valid(); ++i) {
    const std::uint64_t entry = directory + 2 + 12 * i, tag = number(entry, 2);
    if (tag != 256 && tag != 257) continue;
    const std::uint64_t value = number(entry + 8, number(entry + 2, 2) == 3 ? 2 : 4);
    auto& side = tag == 256 ? width : height;
    side = std::max(side.value_or(0), value);
  }
  return width && height ? bytes.size(*height, *width) : std::nullopt;
}

/// Of the code stream, whatever the boxes around it say.
Size jpeg2000(std::string_view text) {
  const std::size_t start = text.find(std::string_view("\xff\x4f\xff\x51", 4));
  if (start == std::string_view::npos) return std::nullopt;
  Bytes bytes(text);
  const std::uint64_t width = bytes.big(start + 8, 4), height = bytes.big(start + 12, 4);
  return bytes.size(height, width);
}

}  // namespace

std::optional<PromisedSize> promised_size(std::string_view text) {
  if (text.starts_with(kPngSignature)) return png(text);
  if (text.starts_with("\xff\xd8")) return jpeg(text);
  if (text.starts_with("BM")) return bmp(text);
  if (text.size() > 2 && text[0] == 'P' && text[1] >= '1' && text[1] <= '6') return pnm(text);
  if (text.starts_with("RIFF") && text.size() > 16 && text.substr(8, 4) == "WEBP") return webp(text);
  if (text.starts_with(std::string_view("II*\0", 4)) || text.starts_with(std::string_view("MM\0*", 4)))
    return tiff(text);
  if (text.starts_with(std::string_view("\0\0\0\x0cjP  ", 8)) || text.starts_with("\xff\x4f\xff\x51"))
    return jpeg2000(text);
  return std::nullopt;
}

bool cut_short(std::string_view text) {
  const bool jpeg = text.starts_with("\xff\xd8"), png = text.starts_with(kPngSignature);
  return (jpeg && text.rfind("\xff\xd9") == std::string_view::npos) ||
         (png && text.rfind("IEND") == std::string_view::npos);
}

bool is_image_name(const std::filesystem::path& path) {
  static constexpr std::array<std::string_view, 12> kExtensions{
      ".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".pbm", ".jp2"};
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::find(kExtensions.begin(), kExtensions.end(), extension) != kExtensions.end();
}

}  // namespace lithe
