// A room that was scanned or made, with the objects in it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lithe/points/point_cloud.h"

namespace lithe {

struct SceneObject {
  std::int64_t id = 0;               // of its own within the scene; need not be its place
  std::string label;                 // free text in lower case: "coffee table"
  Box3 box;                          // around its points
  std::vector<std::int32_t> points;  // indices into the cloud, rising
};

struct Scene {
  std::string id;
  PointCloud cloud;
  std::vector<SceneObject> objects;
  std::vector<std::int32_t> superpoints;  // the superpoint of each point, from 0 without gaps; empty: unknown
};

/// The object of this id, or null.
const SceneObject* find_object(const Scene& scene, std::int64_t id);

}  // namespace lithe
