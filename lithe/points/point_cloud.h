// Points in space, as scanners and meshes give them.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace lithe {

using Float3 = std::array<float, 3>;

/// A coloured cloud, or a mesh where there are faces. +z is up, lengths are metres.
struct PointCloud {
  std::vector<Float3> positions;
  std::vector<std::array<std::uint8_t, 3>> colours;  // RGB, one a point; empty: unknown
  std::vector<Float3> normals;                       // one a point; empty: unknown
  std::vector<std::array<std::int32_t, 3>> faces;    // indices of points; empty: no mesh

  std::int64_t size() const { return static_cast<std::int64_t>(positions.size()); }
};

/// Axis-aligned.
struct Box3 {
  Float3 centre{}, size{};
};

/// The smallest box around the points, or around those of the indices; of no size at the origin if there are
/// none. Points that are not numbers are left out.
Box3 bounds(const PointCloud& cloud);
Box3 bounds(const PointCloud& cloud, std::span<const std::int32_t> indices);

}  // namespace lithe
