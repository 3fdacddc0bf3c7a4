// The segmentation of Felzenszwalb and Huttenlocher on edges that are sorted already.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "lithe/points/edge_keys.h"

namespace lithe {

/// Sets of nodes that join. Each node knows its set, so that asking, which is done for every edge, is a
/// single load without branches; the smaller of two sets that join is told. The roots are those of union by
/// rank.
class SegmentSets {
 public:
  SegmentSets(std::int64_t nodes, float threshold)
      : set_(static_cast<std::size_t>(nodes)), next_(set_.size()), sets_(set_.size()) {
    std::iota(set_.begin(), set_.end(), 0);
    std::iota(next_.begin(), next_.end(), 0);
    for (std::size_t i = 0; i < sets_.size(); ++i) sets_[i] = {threshold, 1, 0, static_cast<std::int32_t>(i)};
  }
  struct Set {
    float threshold;
    std::int32_t size, rank, root;
  };
  std::int32_t of(std::int32_t node) const { return set_[static_cast<std::size_t>(node)]; }
  Set& operator[](std::int32_t set) { return sets_[static_cast<std::size_t>(set)]; }

  /// Joins two sets, where a tie of ranks makes the root of b the root of both; returns their set.
  Set& join(std::int32_t a, std::int32_t b) {
    const Set &first = (*this)[a], &second = (*this)[b];
    Set joined{0, first.size + second.size, std::max(first.rank, second.rank),
               first.rank > second.rank ? first.root : second.root};
    if (first.rank == second.rank) ++joined.rank;
    if (first.size > second.size) std::swap(a, b);
    for (std::int32_t node = a;;) {
      set_[static_cast<std::size_t>(node)] = b;
      node = next_[static_cast<std::size_t>(node)];
      if (node == a) break;
    }
    std::swap(next_[static_cast<std::size_t>(a)],
              next_[static_cast<std::size_t>(b)]);  // two rings become one
    return (*this)[b] = joined;
  }
  std::vector<std::int32_t> roots() const {
    std::vector<std::int32_t> out(set_.size());
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = sets_[static_cast<std::size_t>(set_[i])].root;
    return out;
  }

 private:
  std::vector<std::int32_t> set_, next_;  // of nodes; sets bear the number of a member
  std::vector<Set> sets_;
};

/// The roots of segment_graph (superpoints.h) for edges whose sorted keys are given; ends(edge) is the pair
/// of nodes of an edge. Overwrites the keys.
template <typename Ends>
std::vector<std::int32_t> segment_keys(std::int64_t nodes, std::vector<std::uint64_t>& keys, float threshold,
                                       std::int64_t least, const Ends& ends) {
  constexpr std::size_t kBlock = 64;  // edges whose ends, far apart in memory, are fetched together
  SegmentSets sets(nodes, threshold);
  std::array<std::pair<std::int32_t, std::int32_t>, kBlock> edges;
  // Edges that join nothing at first may join small sets; they take the place of keys that are done with.
  std::size_t left = 0;
  const auto count = static_cast<std::size_t>(std::find(keys.begin(), keys.end(), kNoEdge) - keys.begin());
  for (std::size_t first = 0; first < count; first += kBlock) {
    const std::size_t size = std::min(kBlock, count - first);
    for (std::size_t i = 0; i < size; ++i) edges[i] = ends(key_edge(keys[first + i]));
    for (std::size_t i = 0; i < size; ++i) {
      const std::int32_t a = sets.of(edges[i].first), b = sets.of(edges[i].second);
      if (a == b) continue;
      const float weight = key_weight(keys[first + i]);
      if (weight <= sets[a].threshold && weight <= sets[b].threshold) {
        SegmentSets::Set& joined = sets.join(a, b);
        joined.threshold = weight + threshold / static_cast<float>(joined.size);
      } else {
        keys[left++] = std::uint64_t{static_cast<std::uint32_t>(a)} << 32 | static_cast<std::uint32_t>(b);
      }
    }
  }
  for (std::size_t i = 0; i < left; ++i) {
    const std::int32_t a = sets.of(static_cast<std::int32_t>(keys[i] >> 32)),
                       b = sets.of(static_cast<std::int32_t>(keys[i] & 0xFFFFFFFF));
    if (a != b && (sets[a].size < least || sets[b].size < least)) sets.join(a, b);
  }
  return sets.roots();
}

}  // namespace lithe
