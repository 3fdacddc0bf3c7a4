// Superpoints: small pieces of surface that belong together.
//
// Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image Segmentation", IJCV 2004, on meshes as ScanNet
// does it (Dai et al., "ScanNet: Richly-annotated 3D Reconstructions of Indoor Scenes", CVPR 2017), and on
// clouds through a graph of near neighbours.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "lithe/points/point_cloud.h"

namespace lithe {

struct SuperpointOptions {
  float threshold = 0.01f;  // k of the paper: larger makes larger pieces
  std::int64_t least = 20;  // points; smaller pieces join a neighbour
  float colour = 0;         // adds this times |difference of RGB in 0..1| to the weight of an edge
  bool dead_zone = false;   // nearly flat (N.d <= 1e-6) is not convex, where rounding would decide
  int threads = 1;          // the result is the same for every number

  // Of clouds without faces:
  int neighbours = 8;               // edges from each point
  int normal_neighbours = 16;       // points that a normal is fitted to, with itself
  std::optional<Float3> viewpoint;  // where they were seen from; see orient_normals
};

struct Superpoints {
  std::vector<std::int32_t> ids;  // one a point, 0..count-1 in the order of the forest's roots
  std::int32_t count = 0;
};

/// An undirected edge of a graph whose nodes are to be joined.
struct GraphEdge {
  std::int32_t a = 0, b = 0;
  float weight = 0;
};

/// The superpoints of a mesh: vertex normals are running means of the unit normals of faces, each face gives
/// three edges, and the weight of an edge (a, b) is 1 - Na.Nb, squared where b lies on the convex side of a.
/// Equal weights are taken in the order of the faces. Faces without area are left out; vertices in no face
/// are superpoints of their own. float32, the same labels as ScanNet's program up to their names wherever no
/// two weights are equal where small pieces join. Takes about 60 bytes a face and 40 a point. Throws
/// Error(Input) if there are no faces, a face names no point, or an option is out of range.
Superpoints mesh_superpoints(const PointCloud& cloud, const SuperpointOptions& options = {});

/// The same with std::stable_sort, plain loops and whole edges: what the fast one is held against.
Superpoints mesh_superpoints_reference(const PointCloud& cloud, const SuperpointOptions& options = {});

/// The superpoints of a cloud: edges go to the nearest neighbours, normals are the cloud's own, of length 1,
/// or fitted (see normals.h), weights as those of meshes. Takes about 400 bytes a point with the default
/// numbers of neighbours. Throws Error(Input) if a point is not finite or an option is out of range.
Superpoints cloud_superpoints(const PointCloud& cloud, const SuperpointOptions& options = {});

/// mesh_superpoints where there are faces, else cloud_superpoints.
Superpoints find_superpoints(const PointCloud& cloud, const SuperpointOptions& options = {});

/// The segmentation alone: for each of `nodes` nodes the root of its tree. Edges are taken by rising weight,
/// equal ones in their order; two trees join while the weight is at most the threshold of both (at first
/// `threshold`, after a join the weight + threshold / size); then, in the same order, trees of fewer than
/// `least` nodes join. Union by rank. Throws Error(Input) if an edge names no node or its weight is not
/// finite.
std::vector<std::int32_t> segment_graph(std::int64_t nodes, std::span<const GraphEdge> edges, float threshold,
                                        std::int64_t least);

/// Roots as ids without gaps, in rising order of the roots.
Superpoints number_roots(std::span<const std::int32_t> roots);

}  // namespace lithe
