// Whatever the bytes are, reading gives tensors or an Error; what was read can be written.
#include <cstddef>
#include <cstdint>
#include <span>

#include "lithe/base/error.h"
#include "lithe/graph/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    lithe::serialize_safetensors(
        lithe::parse_safetensors(std::as_bytes(std::span(data, size)), nullptr, "fuzz"));
  } catch (const lithe::Error&) {
  }
  return 0;
}
