#include "lithe/stylize/gzip.h"

#include <zlib.h>

#include <memory>

#include "lithe/base/error.h"

namespace lithe {

std::string read_maybe_gzip(const std::filesystem::path& path, std::uint64_t max_bytes) {
  if (!std::filesystem::is_regular_file(path)) fail("{}: there is no such file", path.string());
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (!file) fail("{}: cannot be opened", path.string());
  constexpr unsigned kPiece = 1 << 16;
  std::string text;
  for (;;) {
    const std::size_t before = text.size();
    text.resize(before + kPiece);
    const int count = gzread(file.get(), text.data() + before, kPiece);
    if (count < 0) fail("{}: not a whole gzip file", path.string());
    text.resize(before + static_cast<std::size_t>(count));
    if (text.size() > max_bytes) fail("{}: holds more than {} bytes", path.string(), max_bytes);
    if (count == 0) break;
  }
  int status = Z_OK;
  gzerror(file.get(), &status);
  if (status != Z_OK && status != Z_STREAM_END) fail("{}: not a whole gzip file", path.string());
  return text;
}

}  // namespace lithe
