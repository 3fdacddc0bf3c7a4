// Text files that may be compressed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace lithe {

/// The contents of a file, unpacked if it is gzip. Throws Error(Input) naming the file if it cannot be read,
/// is damaged, or holds more than max_bytes.
std::string read_maybe_gzip(const std::filesystem::path& path, std::uint64_t max_bytes);

}  // namespace lithe
