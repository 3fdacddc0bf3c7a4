// The values of a PLY file one after the other.
#pragma once

#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include "lithe/base/error.h"
#include "lithe/points/ply_header.h"

namespace lithe {

/// Reads values whose types the header tells. Whoever reads says beforehand, by `at`, for errors, what it is.
class PlyValues {
 public:
  PlyValues(std::string_view bytes, const PlyHeader& header, const std::string& origin)
      : rest_(bytes.substr(header.data_offset)), format_(header.format), origin_(origin) {}

  void at(const PlyElement& element, std::int64_t index) {
    element_ = &element;
    index_ = index;
  }
  std::int64_t bytes_left() const { return static_cast<std::int64_t>(rest_.size()); }
  bool ascii() const { return format_ == PlyFormat::Ascii; }

  double next(const PlyProperty& property, PlyType type) {
    if (ascii()) return word(property);
    switch (type) {
      case PlyType::Int8:
        return raw<std::int8_t>(property);
      case PlyType::Uint8:
        return raw<std::uint8_t>(property);
      case PlyType::Int16:
        return raw<std::int16_t>(property);
      case PlyType::Uint16:
        return raw<std::uint16_t>(property);
      case PlyType::Int32:
        return raw<std::int32_t>(property);
      case PlyType::Uint32:
        return raw<std::uint32_t>(property);
      case PlyType::Float:
        return raw<float>(property);
      default:
        return raw<double>(property);
    }
  }
  double next(const PlyProperty& property) { return next(property, property.type); }

  /// The length of a list, which the rest of the file has room for.
  std::int64_t next_length(const PlyProperty& property) {
    const double length = next(property, property.count_type);
    const double least = ascii() ? 1 : static_cast<double>(byte_size(property.type));
    if (!(length >= 0) || length != std::floor(length)) bad(property, "a list has {} values", length);
    if (length * least > static_cast<double>(rest_.size())) short_of(property);
    return static_cast<std::int64_t>(length);
  }
  /// Passes over values of one type.
  void skip(const PlyProperty& property, std::int64_t count) {
    if (ascii()) {
      for (; count > 0; --count) word(property);
    } else {
      const auto bytes = static_cast<std::size_t>(count) * byte_size(property.type);
      if (bytes > rest_.size()) short_of(property);
      rest_.remove_prefix(bytes);
    }
  }
  template <typename... Args>
  [[noreturn]] void bad(const PlyProperty& property, fmt::format_string<Args...> format, Args&&... args) {
    fail("{}: {} {}, property {}: {}", origin_, element_->name, index_, property.name,
         fmt::format(format, std::forward<Args>(args)...));
  }

 private:
  [[noreturn]] void short_of(const PlyProperty& property) {
    bad(property, "the file ends before it; it should hold {} of {}", element_->count, element_->name);
  }
  template <typename T>
  double raw(const PlyProperty& property) {
    if (rest_.size() < sizeof(T)) short_of(property);
    unsigned char bytes[sizeof(T)];
    std::memcpy(bytes, rest_.data(), sizeof(T));
    rest_.remove_prefix(sizeof(T));
    if ((format_ == PlyFormat::LittleEndian) != (std::endian::native == std::endian::little))
      for (std::size_t i = 0; i < sizeof(T) / 2; ++i) std::swap(bytes[i], bytes[sizeof(T) - 1 - i]);
    T value;
    std::memcpy(&value, bytes, sizeof(T));
    return static_cast<double>(value);
  }
  double word(const PlyProperty& property) {
    const std::size_t start = rest_.find_first_not_of(" \t\r\n");
    if (start == std::string_view::npos) short_of(property);
    rest_.remove_prefix(start);
    const std::string_view text = rest_.substr(0, std::min(rest_.find_first_of(" \t\r\n"), rest_.size()));
    const std::string_view digits = text.starts_with('+') ? text.substr(1) : text;
    double value = 0;
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (code == std::errc::result_out_of_range)  // too small, or too large to be of use
      value = digits.find_first_of("eE") < digits.rfind('-') ? 0 : std::numeric_limits<double>::quiet_NaN();
    else if (code != std::errc() || end != digits.data() + digits.size())
      bad(property, "'{}' is no number", text.substr(0, 40));
    rest_.remove_prefix(text.size());
    return value;
  }

  std::string_view rest_;
  PlyFormat format_;
  const std::string& origin_;
  const PlyElement* element_ = nullptr;
  std::int64_t index_ = 0;
};

}  // namespace lithe
