#include "lithe/video/file_identity.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <span>

#include "lithe/base/file.h"
#include "lithe/base/hash.h"

namespace lithe {

std::string file_identity(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  if (fs::is_directory(path)) {
    std::set<std::string> entries;
    for (const fs::directory_entry& entry : fs::directory_iterator(path))
      if (entry.is_regular_file())
        entries.insert(fmt::format("{} {}\n", entry.path().filename().string(), entry.file_size()));
    std::string all;
    for (const std::string& entry : entries) all += entry;
    return fmt::format("{} files {:016x}", entries.size(), fnv1a(std::as_bytes(std::span(all))));
  }
  const MappedFile file(path);
  const std::span<const std::byte> bytes = file.bytes();
  const std::size_t part = std::min<std::size_t>(bytes.size(), 1 << 20);
  return fmt::format("{} bytes {:016x} {:016x}", bytes.size(), fnv1a(bytes.first(part)),
                     fnv1a(bytes.last(part)));
}

}  // namespace lithe
