// The text at the beginning of a PLY file, which says what follows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lithe {

enum class PlyFormat { Ascii, LittleEndian, BigEndian };
enum class PlyType { Int8, Uint8, Int16, Uint16, Int32, Uint32, Float, Double };

std::size_t byte_size(PlyType type);
bool is_floating(PlyType type);

struct PlyProperty {
  std::string name;
  PlyType type = PlyType::Float;  // of the value, or of each value of a list
  bool list = false;
  PlyType count_type = PlyType::Uint8;  // of a list
};

struct PlyElement {
  std::string name;
  std::int64_t count = 0;
  std::vector<PlyProperty> properties;

  /// -1 where there is none.
  int find(std::string_view property) const;
  bool has_lists() const;
  /// The least bytes that one takes in a file of the format: exact for binary ones without lists.
  std::int64_t least_bytes(PlyFormat format) const;
};

struct PlyHeader {
  PlyFormat format = PlyFormat::Ascii;
  std::vector<PlyElement> elements;
  std::size_t data_offset = 0;
  std::int64_t lines = 0;  // of the header
};

/// Throws Error(Input) naming `origin` and the line. The numbers of elements are not negative, nothing else
/// is promised of them.
PlyHeader parse_ply_header(std::string_view bytes, const std::string& origin);

}  // namespace lithe
