// NumPy's .npy and .npz files as tensors.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <map>
#include <span>
#include <string>

namespace lithe {

using TensorMap = std::map<std::string, at::Tensor, std::less<>>;

/// Reads one array: bool, integers, float16, float32, float64, little or big endian, C or Fortran order.
/// Unsigned 16-, 32- and 64-bit integers are widened (to int32 and int64; values past int64 are refused).
/// Throws Error(Input) that names the file if it is malformed, truncated or larger than its bytes.
at::Tensor read_npy(const std::filesystem::path& path);
at::Tensor parse_npy(std::span<const std::byte> bytes, const std::string& origin);

/// Reads all arrays of a .npz file (stored or deflated), by name without ".npy".
TensorMap read_npz(const std::filesystem::path& path);

/// Written whole or not at all. Any device; bfloat16 is written as float32.
void write_npy(const at::Tensor& tensor, const std::filesystem::path& path);
/// As numpy.savez does (stored); with `compress` as numpy.savez_compressed. The same tensors give the same
/// bytes.
void write_npz(const TensorMap& tensors, const std::filesystem::path& path, bool compress = false);

}  // namespace lithe
