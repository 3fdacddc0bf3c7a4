#include "lithe/points/superpoints.h"

#include <cmath>
#include <limits>

#include "lithe/base/error.h"
#include "lithe/points/check_superpoints.h"
#include "lithe/points/segment_keys.h"

namespace lithe {

void check_options(const PointCloud& cloud, const SuperpointOptions& options) {
  if (!(options.threshold >= 0) || !std::isfinite(options.threshold))
    fail("the threshold of superpoints is {}; it must not be negative", options.threshold);
  if (options.least < 1) fail("superpoints of at least {} points; it must be 1 or more", options.least);
  if (!(options.colour >= 0) || !std::isfinite(options.colour))
    fail("the weight of colours in superpoints is {}; it must not be negative", options.colour);
  if (options.threads < 1) fail("superpoints on {} threads; it must be 1 or more", options.threads);
  if (!cloud.colours.empty() && cloud.colours.size() != cloud.positions.size())
    fail("a cloud has {} points and {} colours", cloud.positions.size(), cloud.colours.size());
  if (!cloud.normals.empty() && cloud.normals.size() != cloud.positions.size())
    fail("a cloud has {} points and {} normals", cloud.positions.size(), cloud.normals.size());
  if (cloud.size() > std::numeric_limits<std::int32_t>::max())
    fail("a cloud of {} points is too large; take every second point", cloud.size());
}

void check_faces(const PointCloud& cloud) {
  if (cloud.faces.empty()) fail("superpoints of a mesh need faces; there are none");
  if (cloud.faces.size() > std::numeric_limits<std::uint32_t>::max() / 3 - 1)
    fail("a mesh of {} faces is too large; thin it out", cloud.faces.size());
  for (std::size_t i = 0; i < cloud.faces.size(); ++i)
    for (const std::int32_t corner : cloud.faces[i])
      if (corner < 0 || corner >= cloud.size())
        fail("face {} of a mesh names point {} of {}", i, corner, cloud.size());
}

std::vector<std::int32_t> segment_graph(std::int64_t nodes, std::span<const GraphEdge> edges, float threshold,
                                        std::int64_t least) {
  std::vector<std::uint64_t> keys;
  keys.reserve(edges.size());
  for (std::size_t i = 0; i < edges.size(); ++i) {
    const GraphEdge& edge = edges[i];
    if (edge.a < 0 || edge.b < 0 || edge.a >= nodes || edge.b >= nodes)
      fail("edge {} of a graph joins nodes {} and {} of {}", i, edge.a, edge.b, nodes);
    if (!std::isfinite(edge.weight)) fail("edge {} of a graph has the weight {}", i, edge.weight);
    keys.push_back(edge_key(edge.weight, static_cast<std::uint32_t>(i)));
  }
  sort_edge_keys(keys);
  return segment_keys(nodes, keys, threshold, least,
                      [&](std::uint32_t i) { return std::pair(edges[i].a, edges[i].b); });
}

Superpoints number_roots(std::span<const std::int32_t> roots) {
  Superpoints out{.ids = std::vector<std::int32_t>(roots.size())};
  std::vector<std::int32_t> number(roots.size());
  for (std::size_t i = 0; i < roots.size(); ++i)
    if (roots[i] == static_cast<std::int32_t>(i)) number[i] = out.count++;
  for (std::size_t i = 0; i < roots.size(); ++i) out.ids[i] = number[static_cast<std::size_t>(roots[i])];
  return out;
}

Superpoints find_superpoints(const PointCloud& cloud, const SuperpointOptions& options) {
  return cloud.faces.empty() ? cloud_superpoints(cloud, options) : mesh_superpoints(cloud, options);
}

}  // namespace lithe
