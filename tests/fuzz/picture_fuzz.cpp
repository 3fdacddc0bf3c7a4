// Of any file the size of a picture can be asked; what is kept of a PNG file is one, with nothing left to
// take away.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "lithe/base/picture_size.h"
#include "lithe/base/png_chunks.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  lithe::promised_size(bytes);
  if (const auto kept = lithe::needed_png_chunks(bytes))
    if (kept->size() > size || lithe::needed_png_chunks(*kept) != kept) std::abort();
  return 0;
}
