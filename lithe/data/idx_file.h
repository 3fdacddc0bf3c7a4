// The IDX files of the MNIST family, without tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <vector>

namespace lithe {

struct IdxFile {
  std::vector<std::int64_t> shape;
  std::vector<unsigned char> data;
};

/// Reads unsigned bytes of `rank` dimensions, compressed by gzip or not; all but the first are 1 to 65535.
/// Throws Error(Input) that names the file if it is malformed, or shorter or longer than its shape says.
IdxFile read_idx(const std::filesystem::path& path, std::size_t rank);

}  // namespace lithe
