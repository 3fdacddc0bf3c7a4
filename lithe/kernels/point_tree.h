// Points sorted into small boxes, so that searches pass over most of them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace lithe {

/// A k-d tree over float32 points [n][3], n < 2^31, whose leaves hold at most kLeaf points. Points whose
/// squared length is not finite are left out (`left_out` counts them).
///
/// The squared distance to a box is computed with the operations, in the order, of the distance to a point.
/// Rounding is monotonic, so it is never above the computed distance to a point inside: searches that use it
/// find exactly what looking at all points would.
class PointTree {
 public:
  static constexpr std::int64_t kLeaf = 64;
  static constexpr std::int64_t kPad = 16;  // leaves begin at multiples of it

  /// With `chosen`, only of points where it is true.
  PointTree(const float* points, std::int64_t n, const std::vector<bool>* chosen = nullptr);

  struct Box {
    std::array<float, 3> low, high;
    float squared_distance(const float* p) const;
  };
  struct Node {
    Box box;
    std::int32_t left = -1, right = -1;  // nodes; -1: a leaf
    std::int32_t leaf = -1;
  };
  struct Leaf {
    std::int32_t begin = 0, count = 0;  // places in x, y, z, index
  };

  std::vector<Node> nodes;  // the root first; none without points
  std::vector<Leaf> leaves;
  std::vector<float> x, y, z;       // by leaf, padded with NaN
  std::vector<std::int32_t> index;  // rising within a leaf; of padding -1
  std::int64_t points = 0, left_out = 0;

 private:
  std::int32_t build(const float* p, std::int32_t* first, std::int32_t* last);
};

}  // namespace lithe
