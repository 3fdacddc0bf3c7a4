// Meshes and clouds for tests and benches.
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>

#include "lithe/base/random.h"
#include "lithe/points/point_cloud.h"

namespace lithe {

/// Triangles of a closed grid of `rows` x `columns` points, in the order of golden case G6.
inline void add_grid_faces(PointCloud& cloud, int rows, int columns) {
  const auto at = [&](int i, int j) { return (i % rows) * columns + j % columns; };
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j) {
      const int a = at(i, j), b = at(i + 1, j), c = at(i, j + 1), d = at(i + 1, j + 1);
      cloud.faces.push_back({a, b, c});
      cloud.faces.push_back({b, d, c});
    }
}

/// The torus of golden case G6: 12 x 8 points with bumps.
inline PointCloud golden_torus() {
  PointCloud cloud;
  for (int i = 0; i < 12; ++i)
    for (int j = 0; j < 8; ++j) {
      const double u = 2 * std::numbers::pi * i / 12, v = 2 * std::numbers::pi * (j + 0.25) / 8;
      const double c = std::cos(v), s = std::sin(v), m = std::pow(std::max(std::abs(c), std::abs(s)), 0.8);
      const double r = 0.4 + 0.02 * std::sin(3 * i + 5 * j), x = 1 + r * c / m;
      cloud.positions.push_back({static_cast<float>(x * std::cos(u)), static_cast<float>(x * std::sin(u)),
                                 static_cast<float>(r * s / m)});
    }
  add_grid_faces(cloud, 12, 8);
  return cloud;
}

/// A torus of square section, 3 m across, whose points are `noise` metres off: creases and flat pieces as in
/// a scan of a room.
inline PointCloud noisy_torus(int rows, int columns, std::uint64_t seed, double noise = 0.002) {
  PointCloud cloud;
  Rng rng(seed);
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j) {
      const double u = 2 * std::numbers::pi * i / rows, v = 2 * std::numbers::pi * j / columns;
      const double c = std::cos(v), s = std::sin(v), m = std::max(std::abs(c), std::abs(s));
      const double r = 0.4 + 0.05 * std::round(std::sin(9 * u)), x = 1 + r * c / m;
      cloud.positions.push_back({static_cast<float>(x * std::cos(u) + noise * rng.normal()),
                                 static_cast<float>(x * std::sin(u) + noise * rng.normal()),
                                 static_cast<float>(r * s / m + noise * rng.normal())});
    }
  add_grid_faces(cloud, rows, columns);
  return cloud;
}

}  // namespace lithe
