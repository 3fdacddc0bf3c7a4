// Whatever the bytes are, reading them as .flo gives a flow as large as they are, finite, or an Error.
#include <cmath>
#include <cstdlib>
#include <opencv2/core.hpp>

#include "lithe/base/error.h"
#include "lithe/video/flow.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const lithe::Flow flow = lithe::read_flow(lithe::fuzz::MemoryFile(data, size).path());
    if (12 + 8 * flow.displacement.total() != size || flow.valid.size() != flow.displacement.size())
      std::abort();
    if (!cv::checkRange(flow.displacement)) std::abort();
  } catch (const lithe::Error&) {
  }
  return 0;
}
