#include "lithe/data/idx_file.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <memory>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/math.h"

namespace lithe {
namespace {

constexpr std::uint64_t kMaxIdxBytes = std::uint64_t{1} << 33;

}  // namespace

IdxFile read_idx(const std::filesystem::path& path, std::size_t rank) {
  const std::uint64_t file_bytes =
      MappedFile(path).bytes().size();  // the same messages as for every other file
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(gzopen(path.c_str(), "rb"), gzclose);
  if (!file) fail("{}: cannot open", path.string());
  const auto read = [&](unsigned char* to, std::uint64_t wanted) {
    while (wanted > 0) {
      const int got =
          gzread(file.get(), to, static_cast<unsigned>(std::min<std::uint64_t>(wanted, 1u << 30)));
      if (got <= 0) fail("{}: the IDX file is cut short or damaged", path.string());
      to += got;
      wanted -= static_cast<std::uint64_t>(got);
    }
  };
  std::array<unsigned char, 4> head{};
  read(head.data(), 4);
  if (head[0] != 0 || head[1] != 0 || head[2] != 8 || head[3] != rank)
    fail("{}: not an IDX file of unsigned bytes in {} dimension(s)", path.string(), rank);
  IdxFile out;
  for (std::size_t i = 0; i < rank; ++i) {
    read(head.data(), 4);
    out.shape.push_back(static_cast<std::int64_t>(head[0]) << 24 | head[1] << 16 | head[2] << 8 | head[3]);
    if (i > 0 && (out.shape[i] < 1 || out.shape[i] > 65535))
      fail("{}: a side of {} pixels", path.string(), out.shape[i]);
  }
  const auto bytes = element_count(out.shape);
  const std::uint64_t possible = gzdirect(file.get()) ? file_bytes : file_bytes * 1040;
  if (!bytes || static_cast<std::uint64_t>(*bytes) > std::min(possible, kMaxIdxBytes))
    fail("{}: the shape asks for more bytes than the file can hold; it is cut short or damaged",
         path.string());
  out.data.resize(static_cast<std::size_t>(*bytes));
  read(out.data.data(), out.data.size());
  // Reading past the end also has zlib compare its checksum.
  const int more = gzread(file.get(), head.data(), 1);
  int state = Z_OK;
  gzerror(file.get(), &state);
  if (more < 0 || state != Z_OK) fail("{}: the IDX file is cut short or damaged", path.string());
  if (more > 0) fail("{}: holds more than its shape asks for; it is damaged or no IDX file", path.string());
  return out;
}

}  // namespace lithe
