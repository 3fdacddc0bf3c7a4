// N:M sparse rows stored as values and positions.
#pragma once

#include <cstdint>
#include <vector>

namespace lithe {

/// `n` values a group and the position of each inside it, ascending. Positions take index_bits(m) bits, the
/// first in the lowest bits of the first byte. A group with fewer than n values other than zero is filled up
/// with zeros of its lowest free positions.
struct PackedRows {
  std::vector<float> values;          // rows * groups * n
  std::vector<std::uint8_t> indices;  // packed
};

/// ceil(log2 m), at least 1.
int index_bits(std::int64_t m);

/// Packs `rows` rows of `columns` numbers each (a multiple of m). Throws Error(Input) naming the first group
/// that has more than n numbers other than zero.
PackedRows nm_pack(const float* dense, std::int64_t rows, std::int64_t columns, std::int64_t n,
                   std::int64_t m);

/// The dense rows again. Throws Error(Input) if the sizes do not follow from the pattern or a position does
/// not lie in its group.
std::vector<float> nm_unpack(const PackedRows& packed, std::int64_t rows, std::int64_t columns,
                             std::int64_t n, std::int64_t m);

}  // namespace lithe
