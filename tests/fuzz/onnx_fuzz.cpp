// Whatever the bytes are, reading gives a graph or an Error; a graph that was read can be written.
#include <cstddef>
#include <cstdint>
#include <span>

#include "lithe/base/error.h"
#include "lithe/graph/onnx.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    lithe::serialize_onnx(lithe::parse_onnx(std::as_bytes(std::span(data, size)), "fuzz"));
  } catch (const lithe::Error&) {
  }
  return 0;
}
