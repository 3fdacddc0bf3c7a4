#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "lithe/points/check_superpoints.h"
#include "lithe/points/edge_weight.h"

namespace lithe {
namespace {

/// Trees without shortcuts but one: a node that was asked for points to its root.
struct PlainForest {
  explicit PlainForest(std::size_t nodes) : parent(nodes), size(nodes, 1), rank(nodes, 0) {
    std::iota(parent.begin(), parent.end(), 0);
  }
  std::size_t find(std::size_t node) {
    std::size_t root = node;
    while (parent[root] != root) root = parent[root];
    parent[node] = root;
    return root;
  }
  std::size_t join(std::size_t a, std::size_t b) {
    if (rank[a] > rank[b]) std::swap(a, b);
    parent[a] = b;
    size[b] += size[a];
    if (rank[a] == rank[b]) ++rank[b];
    return b;
  }
  std::vector<std::size_t> parent;
  std::vector<std::int64_t> size;
  std::vector<int> rank;
};

}  // namespace

Superpoints mesh_superpoints_reference(const PointCloud& cloud, const SuperpointOptions& options) {
  check_options(cloud, options);
  check_faces(cloud);
  const auto point = [&](std::int32_t i) -> const Float3& {
    return cloud.positions[static_cast<std::size_t>(i)];
  };
  std::vector<Float3> normals(cloud.positions.size());
  std::vector<int> faces_of(cloud.positions.size());
  std::vector<GraphEdge> edges;
  for (const auto& [i, j, k] : cloud.faces) {
    const Float3 &p = point(i), &q = point(j), &r = point(k);
    const Float3 u{q[0] - p[0], q[1] - p[1], q[2] - p[2]}, v{r[0] - p[0], r[1] - p[1], r[2] - p[2]};
    Float3 n{u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0]};
    const float length = std::sqrt(n[0] * n[0] + n[1] * n[1] + n[2] * n[2]);
    if (!(length > 0) || !std::isfinite(length)) continue;
    for (float& x : n) x /= length;
    for (const std::int32_t corner : {i, j, k}) {
      const auto c = static_cast<std::size_t>(corner);
      const float share = 1.0f / (static_cast<float>(faces_of[c]++) + 1.0f), rest = 1.0f - share;
      for (std::size_t axis = 0; axis < 3; ++axis)
        normals[c][axis] = share * n[axis] + rest * normals[c][axis];
    }
    edges.push_back({i, j});
    edges.push_back({i, k});
    edges.push_back({k, j});
  }
  for (GraphEdge& edge : edges) {
    edge.weight = edge_weight(point(edge.a), point(edge.b), normals[static_cast<std::size_t>(edge.a)],
                              normals[static_cast<std::size_t>(edge.b)], options.dead_zone ? kDeadZone : 0);
    if (options.colour > 0) edge.weight += options.colour * colour_difference(cloud, edge.a, edge.b);
  }
  std::stable_sort(edges.begin(), edges.end(),
                   [](const GraphEdge& a, const GraphEdge& b) { return a.weight < b.weight; });
  PlainForest forest(cloud.positions.size());
  std::vector<float> threshold(cloud.positions.size(), options.threshold);
  for (const GraphEdge& edge : edges) {
    const std::size_t a = forest.find(static_cast<std::size_t>(edge.a)),
                      b = forest.find(static_cast<std::size_t>(edge.b));
    if (a == b || edge.weight > threshold[a] || edge.weight > threshold[b]) continue;
    const std::size_t root = forest.join(a, b);
    threshold[root] = edge.weight + options.threshold / static_cast<float>(forest.size[root]);
  }
  for (const GraphEdge& edge : edges) {
    const std::size_t a = forest.find(static_cast<std::size_t>(edge.a)),
                      b = forest.find(static_cast<std::size_t>(edge.b));
    if (a != b && (forest.size[a] < options.least || forest.size[b] < options.least)) forest.join(a, b);
  }
  std::vector<std::int32_t> roots;
  for (std::size_t i = 0; i < cloud.positions.size(); ++i)
    roots.push_back(static_cast<std::int32_t>(forest.find(i)));
  return number_roots(roots);
}

}  // namespace lithe
