// Whatever the bytes are, reading them as .npy or .npz gives arrays of the promised sizes or an Error.
#include <cstdlib>
#include <span>

#include "lithe/base/error.h"
#include "lithe/data/numpy_file.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const lithe::NumpyHeader header = lithe::parse_npy_header(bytes, "fuzz");
    if (header.data_offset + header.data_bytes != size) std::abort();
  } catch (const lithe::Error&) {
  }
  if (size < 4 || data[0] != 'P') return 0;
  try {
    for (const auto& [name, array] : lithe::read_npz_arrays(lithe::fuzz::MemoryFile(data, size).path()))
      if (array.data.size() != array.header.data_bytes) std::abort();
  } catch (const lithe::Error&) {
  }
  return 0;
}
