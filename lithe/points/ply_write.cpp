#include <algorithm>
#include <bit>
#include <cstring>

#include "lithe/base/file.h"
#include "lithe/points/ply.h"

namespace lithe {
namespace {

constexpr std::size_t kBlock = std::size_t{1} << 20;

/// Gathers bytes so that the file is written in large pieces.
class Output {
 public:
  explicit Output(AtomicFile& file) : file_(file) { bytes_.reserve(kBlock + 64); }

  template <typename T>
  void put(T value) {
    char bytes[sizeof(T)];
    std::memcpy(bytes, &value, sizeof(T));
    if constexpr (std::endian::native == std::endian::big) std::reverse(bytes, bytes + sizeof(T));
    bytes_.append(bytes, sizeof(T));
    if (bytes_.size() >= kBlock) flush();
  }
  void flush() {
    file_.write(bytes_);
    bytes_.clear();
  }

 private:
  AtomicFile& file_;
  std::string bytes_;
};

std::string header_of(const PointCloud& cloud, bool doubles) {
  std::string text = "ply\nformat binary_little_endian 1.0\n";
  text += "element vertex " + std::to_string(cloud.positions.size()) + "\n";
  for (const char* axis : {"x", "y", "z"})
    text += std::string("property ") + (doubles ? "double " : "float ") + axis + "\n";
  if (!cloud.normals.empty()) text += "property float nx\nproperty float ny\nproperty float nz\n";
  if (!cloud.colours.empty()) text += "property uchar red\nproperty uchar green\nproperty uchar blue\n";
  if (!cloud.faces.empty())
    text +=
        "element face " + std::to_string(cloud.faces.size()) + "\nproperty list uchar int vertex_indices\n";
  return text + "end_header\n";
}

}  // namespace

void write_ply(const std::filesystem::path& path, const PointCloud& cloud,
               const std::array<double, 3>& offset) {
  const bool doubles = offset != std::array<double, 3>{};
  AtomicFile file(path);
  file.write(header_of(cloud, doubles));
  Output out(file);
  for (std::size_t i = 0; i < cloud.positions.size(); ++i) {
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const float x = cloud.positions[i][axis];
      if (doubles)
        out.put(static_cast<double>(x) + offset[axis]);
      else
        out.put(x);
    }
    if (!cloud.normals.empty())
      for (const float n : cloud.normals[i]) out.put(n);
    if (!cloud.colours.empty())
      for (const std::uint8_t c : cloud.colours[i]) out.put(c);
  }
  for (const auto& face : cloud.faces) {
    out.put(std::uint8_t{3});
    for (const std::int32_t corner : face) out.put(corner);
  }
  out.flush();
  file.commit();
}

}  // namespace lithe
