#include "lithe/base/png_chunks.h"

#include <zlib.h>

#include <cstddef>
#include <cstdint>

namespace lithe {
namespace {

constexpr std::string_view kSignature("\x89PNG\r\n\x1a\n", 8);
constexpr std::size_t kFrame = 12;  // length, type and checksum of a chunk

std::uint32_t big_endian(std::string_view four) {
  std::uint32_t value = 0;
  for (const char byte : four) value = value << 8 | static_cast<unsigned char>(byte);
  return value;
}

}  // namespace

std::optional<std::string> needed_png_chunks(std::string_view bytes) {
  if (!bytes.starts_with(kSignature)) return std::nullopt;
  std::string kept(kSignature);
  for (std::string_view rest = bytes.substr(kSignature.size()); rest.size() >= kFrame;) {
    const std::size_t length = big_endian(rest.substr(0, 4));
    if (length > rest.size() - kFrame) return std::nullopt;
    const std::string_view chunk = rest.substr(0, length + kFrame), type = chunk.substr(4, 4);
    const std::string_view covered = chunk.substr(4, length + 4);
    const bool critical = (type[0] & 0x20) == 0;
    if (critical || type == "tRNS" || type == "eXIf") {
      const auto sum = ::crc32(::crc32(0, nullptr, 0), reinterpret_cast<const Bytef*>(covered.data()),
                               static_cast<uInt>(covered.size()));
      if (sum != big_endian(chunk.substr(length + 8))) return std::nullopt;
      kept += chunk;
    }
    if (type == "IEND") return kept;
    rest.remove_prefix(chunk.size());
  }
  return std::nullopt;
}

}  // namespace lithe
