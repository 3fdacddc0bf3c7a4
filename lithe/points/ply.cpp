#include "lithe/points/ply.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/points/ply_values.h"

namespace lithe {
namespace {

constexpr double kBeyond = 1e18;  // metres; squares of float32 overflow there
constexpr int kNone = -1;

using Double3 = std::array<double, 3>;
using Columns = std::array<int, 3>;

/// The properties of these names, all of them or none.
Columns columns_of(const PlyElement& element, std::initializer_list<std::array<const char*, 3>> names) {
  for (const auto& triple : names) {
    const Columns found{element.find(triple[0]), element.find(triple[1]), element.find(triple[2])};
    const bool usable = std::all_of(found.begin(), found.end(), [&](int i) {
      return i >= 0 && !element.properties[static_cast<std::size_t>(i)].list;
    });
    if (usable) return found;
  }
  return {kNone, kNone, kNone};
}

Double3 turned(const Double3& v, bool y_up) {
  return y_up ? Double3{v[0], -v[2], v[1]} : v;
}

class SceneReader {
 public:
  SceneReader(std::string_view bytes, const std::string& origin, const PlyOptions& options)
      : origin_(origin),
        options_(options),
        header_(parse_ply_header(bytes, origin)),
        values_(bytes, header_, origin) {}

  PlyScene read() {
    check_elements();
    for (const PlyElement& element : header_.elements) {
      check_room(element);
      if (element.name == "vertex")
        read_points(element);
      else if (element.name == "face" && list_of_corners(element) >= 0)
        read_faces(element);
      else
        skip(element);
    }
    drop_points();
    place();
    colour();
    return std::move(scene_);
  }

 private:
  void check_elements() {
    const PlyElement* vertices = nullptr;
    for (const PlyElement& element : header_.elements) {
      if (element.name != "vertex") continue;
      if (vertices) fail("{}: the PLY header has two elements named vertex", origin_);
      vertices = &element;
    }
    if (!vertices || vertices->count == 0)
      fail("{}: holds no points (no element named vertex, or of none)", origin_);
    if (vertices->count > std::numeric_limits<std::int32_t>::max())
      fail("{}: {} points are too many; at most {} can be numbered", origin_, vertices->count,
           std::numeric_limits<std::int32_t>::max());
    points_ = vertices->count;
  }
  void check_room(const PlyElement& element) const {
    const std::int64_t least = element.least_bytes(header_.format);
    const std::int64_t left = values_.bytes_left() + (values_.ascii() ? 1 : 0);  // the last needs no space
    if (least > 0 && element.count > left / least)
      fail("{}: {} of {} need {} bytes at least each, but {} are left; is the file cut off?", origin_,
           element.count, element.name, least, values_.bytes_left());
  }
  static int list_of_corners(const PlyElement& element) {
    for (const char* name : {"vertex_indices", "vertex_index"})
      if (const int i = element.find(name); i >= 0 && element.properties[static_cast<std::size_t>(i)].list)
        return i;
    return kNone;
  }
  void skip(const PlyElement& element) {
    if (element.properties.empty()) return;
    if (!values_.ascii() && !element.has_lists()) {
      values_.at(element, element.count);
      for (const PlyProperty& property : element.properties) values_.skip(property, element.count);
      return;
    }
    for (std::int64_t i = 0; i < element.count; ++i) {
      values_.at(element, i);
      for (const PlyProperty& property : element.properties) skip_one(property);
    }
  }
  void skip_one(const PlyProperty& property) {
    values_.skip(property, property.list ? values_.next_length(property) : 1);
  }

  void read_points(const PlyElement& element) {
    const Columns xyz = columns_of(element, {{"x", "y", "z"}});
    if (xyz[0] == kNone) fail("{}: the points have no properties x, y, z", origin_);
    const Columns rgb = columns_of(
        element,
        {{"red", "green", "blue"}, {"diffuse_red", "diffuse_green", "diffuse_blue"}, {"r", "g", "b"}});
    const Columns normal = columns_of(element, {{"nx", "ny", "nz"}});
    std::vector<std::pair<std::size_t, std::vector<double>*>> wanted;
    for (const std::string& name : options_.wanted)
      if (const int i = element.find(name); i >= 0 && !element.properties[static_cast<std::size_t>(i)].list)
        wanted.emplace_back(static_cast<std::size_t>(i), &scene_.properties[name]);
    const auto count = static_cast<std::size_t>(element.count);
    positions_.reserve(count);
    if (rgb[0] != kNone) {
      colours_.reserve(count);
      colour_type_ = element.properties[static_cast<std::size_t>(rgb[0])].type;
    }
    std::vector<double> row(element.properties.size());
    const auto pick = [&](const Columns& columns) {
      Double3 out;
      for (std::size_t i = 0; i < 3; ++i) out[i] = row[static_cast<std::size_t>(columns[i])];
      return out;
    };
    for (std::int64_t i = 0; i < element.count; ++i) {
      values_.at(element, i);
      for (std::size_t p = 0; p < row.size(); ++p) {
        if (element.properties[p].list)
          skip_one(element.properties[p]);
        else
          row[p] = values_.next(element.properties[p]);
      }
      Double3 point = turned(pick(xyz), options_.y_up);
      for (double& x : point) x *= options_.scale;
      positions_.push_back(point);
      if (rgb[0] != kNone) {
        const Double3 c = pick(rgb);
        colours_.push_back({static_cast<float>(c[0]), static_cast<float>(c[1]), static_cast<float>(c[2])});
      }
      if (normal[0] != kNone) {
        const Double3 n = turned(pick(normal), options_.y_up);
        scene_.cloud.normals.push_back(
            {static_cast<float>(n[0]), static_cast<float>(n[1]), static_cast<float>(n[2])});
      }
      for (const auto& [column, values] : wanted) values->push_back(row[column]);
    }
  }

  void read_faces(const PlyElement& element) {
    const auto corners = static_cast<std::size_t>(list_of_corners(element));
    for (std::int64_t i = 0; i < element.count; ++i) {
      values_.at(element, i);
      for (std::size_t p = 0; p < element.properties.size(); ++p) {
        if (p == corners)
          read_polygon(element.properties[p]);
        else
          skip_one(element.properties[p]);
      }
    }
  }
  void read_polygon(const PlyProperty& property) {
    const std::int64_t corners = values_.next_length(property);
    if (corners < 3) ++scene_.dropped_faces;
    std::int32_t first = 0, last = 0;
    for (std::int64_t c = 0; c < corners; ++c) {
      const double number = values_.next(property);
      if (!(number >= 0) || number >= static_cast<double>(points_) || number != std::floor(number))
        values_.bad(property, "there is no point {}; the points are 0 to {}", number, points_ - 1);
      const auto corner = static_cast<std::int32_t>(number);
      if (c == 0) first = corner;
      if (c >= 2) scene_.cloud.faces.push_back({first, last, corner});
      last = corner;
    }
  }

  /// Points without a place go, and with them the faces that use them.
  void drop_points() {
    std::vector<std::int32_t> number(positions_.size(), kNone);
    std::int32_t kept = 0;
    for (std::size_t i = 0; i < positions_.size(); ++i) {
      const bool usable = std::all_of(positions_[i].begin(), positions_[i].end(),
                                      [](double x) { return std::abs(x) <= kBeyond; });  // NaN is not
      if (usable) number[i] = kept++;
    }
    if (kept == 0)
      fail("{}: none of its {} points has a place: coordinates are no numbers", origin_, points_);
    scene_.dropped_points = points_ - kept;
    if (scene_.dropped_points == 0) return;
    const auto sift = [&](auto& values) {
      if (values.empty()) return;
      for (std::size_t i = 0; i < number.size(); ++i)
        if (number[i] != kNone) values[static_cast<std::size_t>(number[i])] = values[i];
      values.resize(static_cast<std::size_t>(kept));
    };
    sift(positions_);
    sift(colours_);
    sift(scene_.cloud.normals);
    for (auto& [name, values] : scene_.properties) sift(values);
    auto& faces = scene_.cloud.faces;
    for (auto& face : faces)
      for (std::int32_t& corner : face) corner = number[static_cast<std::size_t>(corner)];
    scene_.dropped_faces += static_cast<std::int64_t>(std::erase_if(
        faces, [](const auto& face) { return std::count(face.begin(), face.end(), kNone) > 0; }));
  }

  /// float32 positions, about the middle of the scene where that is far away.
  void place() {
    std::vector<double> line(positions_.size());
    Double3 middle{};
    bool far = false;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      for (std::size_t i = 0; i < line.size(); ++i) line[i] = positions_[i][axis];
      const auto half = line.begin() + static_cast<std::ptrdiff_t>(line.size() / 2);
      std::nth_element(line.begin(), half, line.end());
      middle[axis] = std::round(*half);
      far = far || std::abs(*half) > kFarAway;
    }
    if (far) scene_.offset = middle;
    scene_.cloud.positions.resize(positions_.size());
    for (std::size_t i = 0; i < positions_.size(); ++i)
      for (std::size_t axis = 0; axis < 3; ++axis)
        scene_.cloud.positions[i][axis] = static_cast<float>(positions_[i][axis] - scene_.offset[axis]);
  }

  void colour() {
    if (colours_.empty()) return;
    float factor = 1;
    if (colour_type_ == PlyType::Uint16 || colour_type_ == PlyType::Int16) factor = 1.f / 257;
    if (is_floating(colour_type_)) {
      const bool unit = std::all_of(colours_.begin(), colours_.end(), [](const Float3& c) {
        return std::none_of(c.begin(), c.end(), [](float value) { return value > 1; });
      });
      if (unit) factor = 255;
    }
    scene_.cloud.colours.resize(colours_.size());
    for (std::size_t i = 0; i < colours_.size(); ++i)
      for (std::size_t c = 0; c < 3; ++c) {
        const float value = std::round(colours_[i][c] * factor);
        scene_.cloud.colours[i][c] = value > 0 ? static_cast<std::uint8_t>(std::min(value, 255.f)) : 0;
      }
  }

  const std::string& origin_;
  const PlyOptions& options_;
  PlyHeader header_;
  PlyValues values_;
  PlyScene scene_;
  std::int64_t points_ = 0;
  std::vector<Double3> positions_;
  std::vector<Float3> colours_;
  PlyType colour_type_ = PlyType::Uint8;
};

}  // namespace

PlyScene parse_ply(std::string_view bytes, const std::string& origin, const PlyOptions& options) {
  if (!(options.scale > 0) || !std::isfinite(options.scale))
    fail("the scale of a scene is {}; it must be positive", options.scale);
  return SceneReader(bytes, origin, options).read();
}

PlyScene read_ply(const std::filesystem::path& path, const PlyOptions& options) {
  const MappedFile file(path);
  return parse_ply(file.text(), path.string(), options);
}

std::vector<std::string> PlyScene::notes() const {
  std::vector<std::string> lines;
  if (dropped_points > 0)
    lines.push_back(fmt::format("{} point{} whose coordinates are no numbers {} left out", dropped_points,
                                dropped_points > 1 ? "s" : "", dropped_points > 1 ? "are" : "is"));
  if (dropped_faces > 0)
    lines.push_back(fmt::format("{} face{} of such points or of fewer than three corners {} left out",
                                dropped_faces, dropped_faces > 1 ? "s" : "",
                                dropped_faces > 1 ? "are" : "is"));
  if (offset != Double3{})
    lines.push_back(fmt::format("the scene lies far from the origin; it is computed about ({}, {}, {})",
                                offset[0], offset[1], offset[2]));
  return lines;
}

}  // namespace lithe
