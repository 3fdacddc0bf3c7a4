#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <utility>

#include "lithe/base/math.h"
#include "lithe/base/parallel.h"
#include "lithe/points/check_superpoints.h"
#include "lithe/points/edge_weight.h"
#include "lithe/points/segment_keys.h"

namespace lithe {
namespace {

constexpr std::int64_t kChunk = 1 << 14;  // faces that a thread takes at a time
constexpr std::size_t kBatch = 64;        // faces whose arithmetic is done side by side

using Row = std::array<float, kBatch>;
using Rows = std::array<Row, 3>;  // of x, y and z: loops over them are made wide by compilers

void set(Rows& rows, std::size_t i, const Float3& v) {
  for (std::size_t axis = 0; axis < 3; ++axis) rows[axis][i] = v[axis];
}

/// The corners of the edges of a face.
constexpr std::array<std::array<std::size_t, 2>, 3> kEnds{{{0, 1}, {0, 2}, {2, 1}}};

/// Unit normals of the faces with these corners; of no number where a face has no area.
void unit_normals(const std::array<Rows, 3>& corners, Rows& __restrict normals, Row& __restrict length) {
  const auto& [p, q, r] = corners;
  for (std::size_t i = 0; i < kBatch; ++i) {
    const float ux = q[0][i] - p[0][i], uy = q[1][i] - p[1][i], uz = q[2][i] - p[2][i],
                vx = r[0][i] - p[0][i], vy = r[1][i] - p[1][i], vz = r[2][i] - p[2][i];
    const float x = uy * vz - uz * vy, y = uz * vx - ux * vz, z = ux * vy - uy * vx;
    length[i] = std::sqrt(x * x + y * y + z * z);
    normals[0][i] = x / length[i];
    normals[1][i] = y / length[i];
    normals[2][i] = z / length[i];
  }
}

/// edge_weight of a batch.
void edge_weights(const Rows& p, const Rows& q, const Rows& m, const Rows& n, float flat,
                  Row& __restrict weights) {
  for (std::size_t i = 0; i < kBatch; ++i) {
    const float dx = q[0][i] - p[0][i], dy = q[1][i] - p[1][i], dz = q[2][i] - p[2][i],
                length = std::sqrt(dx * dx + dy * dy + dz * dz),
                rise = n[0][i] * (dx / length) + n[1][i] * (dy / length) + n[2][i] * (dz / length),
                weight = 1.0f - (m[0][i] * n[0][i] + m[1][i] * n[1][i] + m[2][i] * n[2][i]);
    weights[i] = weight * (rise > flat ? weight : 1.0f);
  }
}

/// Remembers edges met a short while ago. The inner edges of a mesh occur twice, and where both have the same
/// weight, the second changes nothing: what stopped the first stops it too. Dropping those that happen to be
/// remembered halves the work and leaves the result as it is.
class RecentEdges {
 public:
  RecentEdges() : places_(kPlaces, {-1, -1, 0}) {}
  bool repeats(std::int32_t a, std::int32_t b, float weight) {
    if (a > b) std::swap(a, b);
    Place& place =
        places_[(static_cast<std::uint32_t>(a) * 0x9E3779B1u ^ static_cast<std::uint32_t>(b) * 0x85EBCA77u) >>
                (32 - kBits)];
    if (place.a == a && place.b == b && place.weight == weight) return true;
    place = {a, b, weight};
    return false;
  }

 private:
  static constexpr int kBits = 13;
  static constexpr std::size_t kPlaces = std::size_t{1} << kBits;
  struct Place {
    std::int32_t a, b;
    float weight;
  };
  std::vector<Place> places_;
};

class MeshWeights {
 public:
  MeshWeights(const PointCloud& cloud, const SuperpointOptions& options)
      : cloud_(cloud), options_(options), faces_(cloud.faces.size()) {}

  /// Keys of the edges, three a face, less those that repeat others and those of faces without area.
  std::vector<std::uint64_t> keys() {
    point_normals();
    const std::int64_t chunks = ceil_div(static_cast<std::int64_t>(faces_), kChunk);
    std::vector<std::vector<std::uint64_t>> parts(static_cast<std::size_t>(chunks));
    parallel_for(chunks, options_.threads, [&](std::int64_t chunk) {
      parts[static_cast<std::size_t>(chunk)] =
          weigh(static_cast<std::size_t>(chunk * kChunk),
                std::min(static_cast<std::size_t>((chunk + 1) * kChunk), faces_));
    });
    std::size_t total = 0;
    for (const auto& part : parts) total += part.size();
    std::vector<std::uint64_t> keys;
    keys.reserve(total);
    for (const auto& part : parts) keys.insert(keys.end(), part.begin(), part.end());
    return keys;
  }

 private:
  /// Each thread goes through all faces and takes the corners of its own range of points: the order of a
  /// running mean does not depend on the number of threads.
  void point_normals() {
    normal_.assign(cloud_.positions.size(), {});
    has_area_.assign(faces_, 0);
    std::vector<std::int32_t> faces_of(cloud_.positions.size());
    parallel_for(options_.threads, options_.threads, [&](std::int64_t part) {
      const auto begin = static_cast<std::int32_t>(cloud_.size() * part / options_.threads),
                 end = static_cast<std::int32_t>(cloud_.size() * (part + 1) / options_.threads);
      std::array<Rows, 3> corners{};
      Rows normals;
      Row length;
      for (std::size_t first = 0; first < faces_; first += kBatch) {
        const std::size_t size = std::min(kBatch, faces_ - first);
        gather(cloud_.positions, first, size, corners);
        unit_normals(corners, normals, length);
        for (std::size_t i = 0; i < size; ++i) {
          if (!(length[i] > 0) || !std::isfinite(length[i])) continue;
          if (part == 0) has_area_[first + i] = 1;
          for (const std::int32_t corner : cloud_.faces[first + i]) {
            if (corner < begin || corner >= end) continue;
            const auto c = static_cast<std::size_t>(corner);
            const float share = 1.0f / (static_cast<float>(faces_of[c]++) + 1.0f), rest = 1.0f - share;
            for (std::size_t axis = 0; axis < 3; ++axis)
              normal_[c][axis] = share * normals[axis][i] + rest * normal_[c][axis];
          }
        }
      }
    });
  }
  void gather(const std::vector<Float3>& values, std::size_t first, std::size_t size,
              std::array<Rows, 3>& corners) const {
    for (std::size_t i = 0; i < size; ++i)
      for (std::size_t c = 0; c < 3; ++c)
        set(corners[c], i, values[static_cast<std::size_t>(cloud_.faces[first + i][c])]);
  }

  std::vector<std::uint64_t> weigh(std::size_t begin, std::size_t end) const {
    std::array<Rows, 3> corners{}, normals{};
    std::array<Row, 3> weights;
    RecentEdges recent;
    std::vector<std::uint64_t> keys;
    keys.reserve(2 * (end - begin));
    const float flat = options_.dead_zone ? kDeadZone : 0;
    for (std::size_t first = begin; first < end; first += kBatch) {
      const std::size_t size = std::min(kBatch, end - first);
      gather(cloud_.positions, first, size, corners);
      gather(normal_, first, size, normals);
      for (std::size_t e = 0; e < 3; ++e) {
        const auto [a, b] = kEnds[e];
        edge_weights(corners[a], corners[b], normals[a], normals[b], flat, weights[e]);
      }
      for (std::size_t i = 0; i < size; ++i) {
        if (!has_area_[first + i]) continue;
        const auto& face = cloud_.faces[first + i];
        for (std::size_t e = 0; e < 3; ++e) {
          const std::int32_t a = face[kEnds[e][0]], b = face[kEnds[e][1]];
          float weight = weights[e][i];
          if (options_.colour > 0) weight += options_.colour * colour_difference(cloud_, a, b);
          if (!recent.repeats(a, b, weight))
            keys.push_back(edge_key(weight, static_cast<std::uint32_t>(3 * (first + i) + e)));
        }
      }
    }
    return keys;
  }

  const PointCloud& cloud_;
  const SuperpointOptions& options_;
  std::size_t faces_;
  std::vector<Float3> normal_;
  std::vector<char> has_area_;  // by face
};

}  // namespace

Superpoints mesh_superpoints(const PointCloud& cloud, const SuperpointOptions& options) {
  check_options(cloud, options);
  check_faces(cloud);
  std::vector<std::uint64_t> keys = MeshWeights(cloud, options).keys();
  sort_edge_keys(keys);
  const auto& faces = cloud.faces;
  return number_roots(
      segment_keys(cloud.size(), keys, options.threshold, options.least, [&](std::uint32_t edge) {
        const auto& face = faces[edge / 3];
        return std::pair(face[kEnds[edge % 3][0]], face[kEnds[edge % 3][1]]);
      }));
}

}  // namespace lithe
