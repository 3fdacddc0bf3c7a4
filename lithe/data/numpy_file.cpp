#include "lithe/data/numpy_file.h"

#include <zip.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/math.h"

namespace lithe {
namespace {

constexpr std::uint64_t kMaxArrayBytes = std::uint64_t{1} << 36;
constexpr std::size_t kMaxRank = 64;

/// Reads the Python dictionary literal of a .npy header: three keys, in any order.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& origin) : text_(text), origin_(origin) {}

  NumpyHeader parse() {
    NumpyHeader out;
    bool descr = false, order = false, shape = false;
    expect('{');
    while (!accept('}')) {
      const std::string key = quoted();
      expect(':');
      if (key == "descr") {
        parse_descr(out);
        descr = true;
      } else if (key == "fortran_order") {
        out.fortran = boolean();
        order = true;
      } else if (key == "shape") {
        out.shape = tuple();
        shape = true;
      } else {
        bad("unknown key '" + key + "'");
      }
      if (!accept(',')) {
        expect('}');
        break;
      }
    }
    if (!descr || !order || !shape) bad("descr, fortran_order or shape is missing");
    return out;
  }

 private:
  [[noreturn]] void bad(const std::string& reason) {
    fail("{}: malformed NumPy header: {}", origin_, reason);
  }
  void skip_space() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\n')) ++at_;
  }
  bool accept(char wanted) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != wanted) return false;
    ++at_;
    return true;
  }
  void expect(char wanted) {
    if (!accept(wanted)) bad(std::string("expected '") + wanted + "'");
  }
  std::string quoted() {
    skip_space();
    if (at_ >= text_.size() || (text_[at_] != '\'' && text_[at_] != '"')) bad("expected a string");
    const char quote = text_[at_++];
    const std::size_t end = text_.find(quote, at_);
    if (end == std::string_view::npos) bad("a string does not end");
    std::string out(text_.substr(at_, end - at_));
    at_ = end + 1;
    return out;
  }
  bool boolean() {
    skip_space();
    for (const bool value : {true, false}) {
      const std::string_view word = value ? "True" : "False";
      if (text_.substr(at_).starts_with(word)) {
        at_ += word.size();
        return value;
      }
    }
    bad("fortran_order is neither True nor False");
  }
  std::vector<std::int64_t> tuple() {
    std::vector<std::int64_t> dims;
    expect('(');
    while (!accept(')')) {
      skip_space();
      std::int64_t dim = 0;
      const auto [end, code] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), dim);
      if (code != std::errc() || dim < 0) bad("a dimension is no number");
      at_ = static_cast<std::size_t>(end - text_.data());
      dims.push_back(dim);
      if (dims.size() > kMaxRank) bad("too many dimensions");
      if (!accept(',')) {
        expect(')');
        break;
      }
    }
    return dims;
  }
  void parse_descr(NumpyHeader& out) {
    skip_space();
    if (at_ < text_.size() && text_[at_] == '[') bad("structured arrays are not supported");
    const std::string descr = quoted();
    std::string_view rest = descr;
    if (!rest.empty() && std::string_view("<>|=").find(rest[0]) != std::string_view::npos) {
      out.big_endian = rest[0] == '>';
      rest.remove_prefix(1);
    }
    if (!rest.empty()) {
      out.kind = rest[0];
      std::from_chars(rest.data() + 1, rest.data() + rest.size(), out.bytes);
    }
    const auto is = [&](char kind, std::initializer_list<std::int64_t> sizes) {
      return out.kind == kind && std::find(sizes.begin(), sizes.end(), out.bytes) != sizes.end();
    };
    if (!is('f', {2, 4, 8}) && !is('i', {1, 2, 4, 8}) && !is('u', {1, 2, 4, 8}) && !is('b', {1}))
      fail("{}: NumPy element type '{}' is not supported; use bool, integers or float16/32/64", origin_,
           descr);
  }

  std::string_view text_;
  const std::string& origin_;
  std::size_t at_ = 0;
};

/// Reads the header from the first bytes of a file; nothing if they are too few to hold it.
std::optional<NumpyHeader> parse_header(std::span<const std::byte> bytes, const std::string& origin) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (text.size() < 10 || !text.starts_with("\x93NUMPY")) fail("{}: not a NumPy array (.npy)", origin);
  const auto byte = [&](std::size_t i) {
    return static_cast<std::uint64_t>(static_cast<unsigned char>(text[i]));
  };
  const std::uint64_t version = byte(6);
  if (version < 1 || version > 3) fail("{}: NumPy format version {} is not known", origin, version);
  const std::size_t start = version == 1 ? 10 : 12;
  if (text.size() < start) return std::nullopt;
  std::uint64_t length = byte(8) | byte(9) << 8;
  if (version > 1) length |= byte(10) << 16 | byte(11) << 24;
  if (length > (1u << 20)) fail("{}: malformed NumPy header: {} bytes long", origin, length);
  if (text.size() < start + length) return std::nullopt;
  NumpyHeader out = HeaderParser(text.substr(start, length), origin).parse();
  out.data_offset = start + length;
  const auto count = element_count(out.shape);
  const auto size = count ? checked_multiply(*count, out.bytes) : std::nullopt;
  if (!size || static_cast<std::uint64_t>(*size) > kMaxArrayBytes)
    fail("{}: an array of that shape is too large", origin);
  out.data_bytes = static_cast<std::uint64_t>(*size);
  return out;
}

struct ZipClose {
  void operator()(zip_t* archive) const { zip_discard(archive); }
  void operator()(zip_file_t* file) const { zip_fclose(file); }
};

std::string describe_zip_error(int code) {
  zip_error_t error;
  zip_error_init_with_code(&error, code);
  std::string text = zip_error_strerror(&error);
  zip_error_fini(&error);
  return text;
}

NumpyArray read_entry(zip_t* archive, zip_uint64_t index, const std::string& origin) {
  zip_stat_t info;
  if (zip_stat_index(archive, index, 0, &info) != 0 || !(info.valid & ZIP_STAT_SIZE))
    fail("{}: cannot read the entry: {}", origin, zip_strerror(archive));
  const std::unique_ptr<zip_file_t, ZipClose> file(zip_fopen_index(archive, index, 0));
  if (!file) fail("{}: cannot read the entry: {}", origin, zip_strerror(archive));
  const auto read = [&](std::byte* to, std::uint64_t wanted) {
    std::uint64_t have = 0;
    while (have < wanted) {
      const zip_int64_t got =
          zip_fread(file.get(), to + have, std::min<std::uint64_t>(wanted - have, 1u << 30));
      if (got <= 0) fail("{}: the entry is cut short or damaged", origin);
      have += static_cast<std::uint64_t>(got);
    }
  };
  // The header is read first, so that nothing large is allocated for a file that cannot hold it.
  std::vector<std::byte> head(static_cast<std::size_t>(std::min<std::uint64_t>(info.size, 12)));
  read(head.data(), head.size());
  std::optional<NumpyHeader> header = parse_header(head, origin);
  if (!header) {
    if (head.size() < 12) fail("{}: the entry is cut short", origin);
    const auto byte = [&](std::size_t i) { return static_cast<std::size_t>(head[i]); };
    const bool first = byte(6) == 1;
    const std::size_t length = byte(8) | byte(9) << 8 | (first ? 0 : byte(10) << 16 | byte(11) << 24);
    const std::size_t wanted = (first ? 10 : 12) + length;
    if (wanted > info.size) fail("{}: the entry is cut short", origin);
    const std::size_t have = head.size();
    head.resize(std::max(wanted, have));
    read(head.data() + have, head.size() - have);
    header = parse_header(head, origin);
  }
  const std::uint64_t bytes = header->data_bytes;
  const std::size_t already = head.size() - header->data_offset;
  if (bytes != info.size - header->data_offset)
    fail("{}: the shape asks for {} bytes but the entry holds {}", origin, bytes,
         info.size - header->data_offset);
  // Deflate shrinks at most about 1032-fold: what claims more is damaged.
  if ((info.valid & ZIP_STAT_COMP_SIZE) && info.size / 1040 > info.comp_size + 1)
    fail("{}: the entry claims {} bytes out of {}", origin, info.size, info.comp_size);
  std::vector<std::byte> data(bytes);
  std::copy(head.begin() + static_cast<std::ptrdiff_t>(header->data_offset), head.end(), data.begin());
  read(data.data() + already, bytes - already);
  std::byte none;
  if (zip_fread(file.get(), &none, 1) != 0) fail("{}: the entry is damaged (checksum)", origin);
  return {std::move(*header), std::move(data)};
}

}  // namespace

NumpyHeader parse_npy_header(std::span<const std::byte> bytes, const std::string& origin) {
  auto header = parse_header(bytes, origin);
  if (!header) fail("{}: the file is cut short", origin);
  const std::uint64_t rest = bytes.size() - header->data_offset;
  if (rest != header->data_bytes)
    fail("{}: the shape asks for {} bytes but the file holds {}", origin, header->data_bytes, rest);
  return std::move(*header);
}

std::map<std::string, NumpyArray, std::less<>> read_npz_arrays(const std::filesystem::path& path) {
  { const MappedFile check(path); }  // the same messages as for every other file
  int code = 0;
  const std::unique_ptr<zip_t, ZipClose> archive(zip_open(path.c_str(), ZIP_RDONLY | ZIP_CHECKCONS, &code));
  if (!archive) fail("{}: not a readable .npz file: {}", path.string(), describe_zip_error(code));
  std::map<std::string, NumpyArray, std::less<>> out;
  const zip_int64_t entries = zip_get_num_entries(archive.get(), 0);
  for (zip_int64_t i = 0; i < entries; ++i) {
    const char* raw = zip_get_name(archive.get(), static_cast<zip_uint64_t>(i), 0);
    std::string name = raw ? raw : "";
    if (!name.ends_with(".npy")) fail("{}: the entry '{}' is not a .npy array", path.string(), name);
    name.resize(name.size() - 4);
    out[name] =
        read_entry(archive.get(), static_cast<zip_uint64_t>(i), path.string() + ": array '" + name + "'");
  }
  if (out.empty()) fail("{}: holds no arrays", path.string());
  return out;
}

}  // namespace lithe
