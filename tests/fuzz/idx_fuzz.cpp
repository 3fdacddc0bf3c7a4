// Whatever the bytes are, reading them as IDX images or labels gives as many bytes as the shape says, or an
// Error.
#include <cstdlib>

#include "lithe/base/error.h"
#include "lithe/base/math.h"
#include "lithe/data/idx_file.h"
#include "tests/fuzz/memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const lithe::fuzz::MemoryFile file(data, size);
  for (const std::size_t rank : {1, 3}) try {
      const lithe::IdxFile idx = lithe::read_idx(file.path(), rank);
      if (lithe::element_count(idx.shape) != static_cast<std::int64_t>(idx.data.size())) std::abort();
    } catch (const lithe::Error&) {
    }
  return 0;
}
