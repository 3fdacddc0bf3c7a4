// The byte level of NumPy's .npy and .npz files, without tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace lithe {

struct NumpyHeader {
  char kind = 0;           // 'f', 'i', 'u', 'b'
  std::int64_t bytes = 0;  // of an element
  bool big_endian = false, fortran = false;
  std::vector<std::int64_t> shape;
  std::size_t data_offset = 0;   // where the elements start
  std::uint64_t data_bytes = 0;  // of all elements
};

struct NumpyArray {
  NumpyHeader header;
  std::vector<std::byte> data;  // header.data_bytes
};

/// The header of a whole .npy file, whose elements fill the rest of the bytes exactly. Throws Error(Input)
/// that names `origin` if it is malformed, of an element type that is not supported, or cut short.
NumpyHeader parse_npy_header(std::span<const std::byte> bytes, const std::string& origin);

/// All arrays of a .npz file by name without ".npy". No more is allocated than an entry of its compressed
/// size can hold. Throws Error(Input) as above.
std::map<std::string, NumpyArray, std::less<>> read_npz_arrays(const std::filesystem::path& path);

}  // namespace lithe
