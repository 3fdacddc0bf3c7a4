// Elementwise work on several threads whose sums do not depend on the number of threads.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <cstdint>

namespace lithe {

constexpr std::int64_t kChunk = 16384;      // elements added up by themselves
constexpr std::int64_t kChunksAThread = 4;  // about 50 microseconds, or starting a thread costs more

constexpr std::int64_t chunks_of(std::int64_t count) {
  return (count + kChunk - 1) / kChunk;
}

/// Runs work(chunk, begin, end) over the chunks of `count` elements, on several threads if that is worth it.
template <typename Work>
void for_each_chunk(std::int64_t count, const Work& work) {
  at::parallel_for(0, chunks_of(count), kChunksAThread, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t c = begin; c < end; ++c) work(c, c * kChunk, std::min(count, (c + 1) * kChunk));
  });
}

/// Same places in memory; the strides of axes of length 1 do not matter. Shapes are taken to be the same.
inline bool same_layout(const at::Tensor& a, const at::Tensor& b) {
  for (std::int64_t d = 0; d < a.dim(); ++d)
    if (a.size(d) > 1 && a.stride(d) != b.stride(d)) return false;
  return true;
}

}  // namespace lithe
