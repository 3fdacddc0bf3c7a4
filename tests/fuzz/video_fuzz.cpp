// Of any file videos can be read: frames of one size come, in rising order of time, or an error.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "lithe/base/error.h"
#include "lithe/video/io/reader.h"
#include "memory_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const lithe::fuzz::MemoryFile file(data, size);
  try {
    const auto video =
        lithe::VideoReader::open(file.path(), {.most = 20, .accept_damage = size % 2 == 0, .threads = 1});
    const lithe::VideoInfo& info = video->info();
    if (std::int64_t{info.height} * info.width > 1 << 20) return 0;
    double last = -1e300;
    for (lithe::Frame frame; video->read(frame); last = video->time().seconds()) {
      if (frame.height != info.height || frame.width != info.width) std::abort();
      if (video->time().seconds() < last) std::abort();
      for (const std::int16_t value : frame.pixels)
        if (value < 0 || value > lithe::kFrameMaximum) std::abort();
    }
  } catch (const lithe::Error&) {
  }
  return 0;
}
