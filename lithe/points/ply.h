// Clouds and meshes as PLY files (Turk, "The PLY Polygon File Format", 1994).
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "lithe/points/point_cloud.h"

namespace lithe {

/// Scenes whose middle lies so many metres away are brought to the origin: float32 holds less than a
/// millimetre there.
inline constexpr double kFarAway = 8192;

struct PlyOptions {
  double scale = 1;                 // metres a unit of the file
  bool y_up = false;                // the file's y points up: (x, y, z) becomes (x, -z, y)
  std::vector<std::string> wanted;  // further properties of points to return, such as "label"
};

struct PlyScene {
  PointCloud cloud;
  /// What was taken off every point, in metres after scale and rotation; zeros unless the medians of the
  /// coordinates lie beyond kFarAway.
  std::array<double, 3> offset{};
  std::map<std::string, std::vector<double>> properties;  // those wanted that the file has, one value a point
  std::int64_t dropped_points = 0;  // with a coordinate that is no number, or beyond 1e18
  std::int64_t dropped_faces = 0;   // of such points, or of fewer than three corners

  /// One line for each thing that a user should know: what was dropped, what was moved.
  std::vector<std::string> notes() const;
};

/// Reads ASCII and binary files of either byte order. Points are the element "vertex" with x, y, z of any
/// type; colours red, green, blue (also diffuse_red..., or r, g, b) may be bytes, 16 bits, or floating point
/// of 0..1 or 0..255; normals are nx, ny, nz. Faces are the element "face" with a list vertex_indices or
/// vertex_index; polygons become fans of triangles. Everything else is skipped. Memory: about 60 bytes a
/// point and 16 a triangle beside the mapped file. Throws Error(Input) naming the file and the header line,
/// element or property at fault.
PlyScene read_ply(const std::filesystem::path& path, const PlyOptions& options = {});

/// The same from bytes in memory; `origin` names them in errors.
PlyScene parse_ply(std::string_view bytes, const std::string& origin, const PlyOptions& options = {});

/// Writes binary little endian, with colours, normals and faces where there are any. With an offset the
/// coordinates are doubles with it added. Throws Error as AtomicFile does.
void write_ply(const std::filesystem::path& path, const PointCloud& cloud,
               const std::array<double, 3>& offset = {});

}  // namespace lithe
