#include "lithe/points/ply_header.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <utility>

#include "lithe/base/error.h"

namespace lithe {
namespace {

constexpr std::size_t kLongestHeader = std::size_t{1} << 20;

using Words = std::vector<std::string_view>;

Words words_of(std::string_view line) {
  Words words;
  for (std::size_t at = 0;;) {
    at = line.find_first_not_of(" \t", at);
    if (at == std::string_view::npos) return words;
    const std::size_t end = std::min(line.find_first_of(" \t", at), line.size());
    words.push_back(line.substr(at, end - at));
    at = end;
  }
}

std::optional<PlyType> type_of(std::string_view word) {
  static constexpr std::array<std::pair<std::string_view, PlyType>, 16> kTypes{
      {{"char", PlyType::Int8},
       {"int8", PlyType::Int8},
       {"uchar", PlyType::Uint8},
       {"uint8", PlyType::Uint8},
       {"short", PlyType::Int16},
       {"int16", PlyType::Int16},
       {"ushort", PlyType::Uint16},
       {"uint16", PlyType::Uint16},
       {"int", PlyType::Int32},
       {"int32", PlyType::Int32},
       {"uint", PlyType::Uint32},
       {"uint32", PlyType::Uint32},
       {"float", PlyType::Float},
       {"float32", PlyType::Float},
       {"double", PlyType::Double},
       {"float64", PlyType::Double}}};
  for (const auto& [name, type] : kTypes)
    if (name == word) return type;
  return std::nullopt;
}

class HeaderReader {
 public:
  HeaderReader(std::string_view bytes, const std::string& origin) : bytes_(bytes), origin_(origin) {}

  PlyHeader read() {
    if (next_line() != "ply") fail("{}: not a PLY file: it does not begin with a line 'ply'", origin_);
    bool format = false;
    for (;;) {
      const std::string_view line = next_line();
      const Words words = words_of(line);
      if (words.empty() || words[0] == "comment" || words[0] == "obj_info") continue;
      if (words[0] == "end_header") break;
      if (words[0] == "format") {
        set_format(words);
        format = true;
      } else if (words[0] == "element") {
        add_element(words);
      } else if (words[0] == "property") {
        add_property(words);
      } else {
        bad("'{}' is none of format, comment, element, property and end_header", words[0]);
      }
    }
    if (!format) bad("no line says the format");
    out_.data_offset = at_;
    out_.lines = line_;
    return std::move(out_);
  }

 private:
  template <typename... Args>
  [[noreturn]] void bad(fmt::format_string<Args...> format, Args&&... args) {
    fail("{}: line {} of the PLY header: {}", origin_, line_,
         fmt::format(format, std::forward<Args>(args)...));
  }
  std::string_view next_line() {
    ++line_;
    const std::string_view rest = bytes_.substr(at_, kLongestHeader);
    const std::size_t end = rest.find('\n');
    if (end == std::string_view::npos || at_ + end > kLongestHeader) {
      if (line_ == 1) return {};
      bad("the header does not end within {} bytes", std::min(kLongestHeader, bytes_.size()));
    }
    at_ += end + 1;
    std::string_view line = rest.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    return line;
  }
  void set_format(const Words& words) {
    static constexpr std::array<std::pair<std::string_view, PlyFormat>, 3> kFormats{
        {{"ascii", PlyFormat::Ascii},
         {"binary_little_endian", PlyFormat::LittleEndian},
         {"binary_big_endian", PlyFormat::BigEndian}}};
    if (words.size() < 2) bad("the format is missing");
    const auto known = std::find_if(kFormats.begin(), kFormats.end(),
                                    [&](const auto& format) { return format.first == words[1]; });
    if (known == kFormats.end())
      bad("format '{}' is none of ascii, binary_little_endian and binary_big_endian", words[1]);
    out_.format = known->second;
  }
  void add_element(const Words& words) {
    if (words.size() != 3) bad("expected 'element NAME COUNT'");
    PlyElement element;
    element.name = std::string(words[1]);
    const std::string_view count = words[2];
    const auto [end, code] = std::from_chars(count.data(), count.data() + count.size(), element.count);
    if (code != std::errc() || end != count.data() + count.size() || element.count < 0)
      bad("'{}' is no number of elements", count);
    out_.elements.push_back(std::move(element));
  }
  PlyType type(std::string_view word) {
    if (const auto known = type_of(word)) return *known;
    bad("'{}' is no type of PLY", word);
  }
  void add_property(const Words& words) {
    if (out_.elements.empty()) bad("a property before the first element");
    PlyProperty property;
    if (words.size() == 5 && words[1] == "list") {
      property = {std::string(words[4]), type(words[3]), true, type(words[2])};
      if (is_floating(property.count_type)) bad("the length of list {} is of type {}", words[4], words[2]);
    } else if (words.size() == 3) {
      property = {std::string(words[2]), type(words[1])};
    } else {
      bad("expected 'property TYPE NAME' or 'property list TYPE TYPE NAME'");
    }
    PlyElement& element = out_.elements.back();
    if (element.find(property.name) >= 0)
      bad("element {} has property {} twice", element.name, property.name);
    element.properties.push_back(std::move(property));
  }

  std::string_view bytes_;
  const std::string& origin_;
  PlyHeader out_;
  std::size_t at_ = 0;
  std::int64_t line_ = 0;
};

}  // namespace

std::size_t byte_size(PlyType type) {
  switch (type) {
    case PlyType::Int8:
    case PlyType::Uint8:
      return 1;
    case PlyType::Int16:
    case PlyType::Uint16:
      return 2;
    case PlyType::Double:
      return 8;
    default:
      return 4;
  }
}

bool is_floating(PlyType type) {
  return type == PlyType::Float || type == PlyType::Double;
}

int PlyElement::find(std::string_view property) const {
  for (std::size_t i = 0; i < properties.size(); ++i)
    if (properties[i].name == property) return static_cast<int>(i);
  return -1;
}

bool PlyElement::has_lists() const {
  return std::any_of(properties.begin(), properties.end(), [](const PlyProperty& p) { return p.list; });
}

std::int64_t PlyElement::least_bytes(PlyFormat format) const {
  std::int64_t bytes = 0;
  for (const PlyProperty& property : properties)
    bytes += format == PlyFormat::Ascii
                 ? 2  // a digit and what parts it from the next
                 : static_cast<std::int64_t>(byte_size(property.list ? property.count_type : property.type));
  return bytes;
}

PlyHeader parse_ply_header(std::string_view bytes, const std::string& origin) {
  return HeaderReader(bytes, origin).read();
}

}  // namespace lithe
