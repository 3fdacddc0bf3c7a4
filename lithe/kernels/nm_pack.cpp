#include "lithe/kernels/nm_pack.h"

#include <algorithm>

#include "lithe/base/error.h"

namespace lithe {
namespace {

void check(std::int64_t rows, std::int64_t columns, std::int64_t n, std::int64_t m) {
  if (n < 1 || n > m || m > 1024 || rows < 0 || columns < 0 || columns % m != 0)
    fail("{} x {} numbers cannot be packed {}:{}; the columns must be a multiple of {}", rows, columns, n, m,
         m);
}

}  // namespace

int index_bits(std::int64_t m) {
  int bits = 1;
  while ((std::int64_t{1} << bits) < m) ++bits;
  return bits;
}

PackedRows nm_pack(const float* dense, std::int64_t rows, std::int64_t columns, std::int64_t n,
                   std::int64_t m) {
  check(rows, columns, n, m);
  PackedRows packed;
  const std::int64_t groups = rows * (columns / m);
  const int bits = index_bits(m);
  packed.values.reserve(static_cast<std::size_t>(groups * n));
  packed.indices.assign(static_cast<std::size_t>((groups * n * bits + 7) / 8), 0);
  std::vector<bool> taken(static_cast<std::size_t>(m));
  std::size_t bit = 0;
  for (std::int64_t g = 0; g < groups; ++g) {
    const float* group = dense + g * m;
    std::int64_t used = 0;
    for (std::int64_t k = 0; k < m; ++k) {
      taken[static_cast<std::size_t>(k)] = group[k] != 0;
      used += group[k] != 0 ? 1 : 0;
    }
    if (used > n)
      fail("row {}, columns {} to {}: {} numbers are not zero, {}:{} allows {}", g / (columns / m),
           g % (columns / m) * m, g % (columns / m) * m + m - 1, used, n, m, n);
    for (std::size_t k = 0; used < n; ++k)
      if (!taken[k]) taken[k] = true, ++used;
    for (std::int64_t k = 0; k < m; ++k) {
      if (!taken[static_cast<std::size_t>(k)]) continue;
      packed.values.push_back(group[k]);
      for (int b = 0; b < bits; ++b, ++bit)
        packed.indices[bit / 8] |= static_cast<std::uint8_t>((k >> b & 1) << (bit % 8));
    }
  }
  return packed;
}

std::vector<float> nm_unpack(const PackedRows& packed, std::int64_t rows, std::int64_t columns,
                             std::int64_t n, std::int64_t m) {
  check(rows, columns, n, m);
  const std::int64_t groups = rows * (columns / m);
  const int bits = index_bits(m);
  if (packed.values.size() != static_cast<std::size_t>(groups * n) ||
      packed.indices.size() != static_cast<std::size_t>((groups * n * bits + 7) / 8))
    fail("{} packed values and {} bytes of positions are not {} x {} numbers at {}:{}", packed.values.size(),
         packed.indices.size(), rows, columns, n, m);
  std::vector<float> dense(static_cast<std::size_t>(rows * columns), 0.0f);
  std::size_t bit = 0;
  for (std::int64_t i = 0; i < groups * n; ++i) {
    std::int64_t position = 0;
    for (int b = 0; b < bits; ++b, ++bit)
      position |= static_cast<std::int64_t>(packed.indices[bit / 8] >> (bit % 8) & 1) << b;
    if (position >= m) fail("packed value {}: position {} does not lie in a group of {}", i, position, m);
    dense[static_cast<std::size_t>(i / n * m + position)] = packed.values[static_cast<std::size_t>(i)];
  }
  return dense;
}

}  // namespace lithe
