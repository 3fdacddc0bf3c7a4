#include "lithe/data/npz.h"

#include <zip.h>

#include <algorithm>
#include <bit>
#include <cctype>
#include <charconv>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/math.h"

namespace lithe {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::uint64_t kMaxArrayBytes = std::uint64_t{1} << 36;
constexpr std::size_t kMaxRank = 64;

struct NpyHeader {
  char kind = 0;           // 'f', 'i', 'u', 'b'
  std::int64_t bytes = 0;  // of an element
  bool big_endian = false, fortran = false;
  std::vector<std::int64_t> shape;
  std::size_t data_offset = 0;
};

/// Reads the Python dictionary literal of a .npy header: three keys, in any order.
class HeaderParser {
 public:
  HeaderParser(std::string_view text, const std::string& origin) : text_(text), origin_(origin) {}

  NpyHeader parse() {
    NpyHeader out;
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
    const std::string out(text_.substr(at_, end - at_));
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
  void parse_descr(NpyHeader& out) {
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
std::optional<NpyHeader> parse_header(std::span<const std::byte> bytes, const std::string& origin) {
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
  NpyHeader out = HeaderParser(text.substr(start, length), origin).parse();
  out.data_offset = start + length;
  return out;
}

std::uint64_t data_bytes(const NpyHeader& header, const std::string& origin) {
  const auto count = element_count(header.shape);
  const auto bytes = count ? checked_multiply(*count, header.bytes) : std::nullopt;
  if (!bytes || static_cast<std::uint64_t>(*bytes) > kMaxArrayBytes)
    fail("{}: an array of that shape is too large", origin);
  return static_cast<std::uint64_t>(*bytes);
}

template <typename From, typename To>
at::Tensor widen(const std::vector<std::byte>& bytes, std::int64_t count, at::ScalarType type,
                 const std::string& origin) {
  at::Tensor out = at::empty({count}, type);
  To* values = out.data_ptr<To>();
  for (std::int64_t i = 0; i < count; ++i) {
    From value;
    std::memcpy(&value, bytes.data() + static_cast<std::size_t>(i) * sizeof(From), sizeof(From));
    if (sizeof(From) == 8 && static_cast<std::uint64_t>(value) >> 63)
      fail("{}: the value {} does not fit into int64", origin, value);
    values[i] = static_cast<To>(value);
  }
  return out;
}

/// `data` holds exactly the array's elements.
at::Tensor make_tensor(const NpyHeader& header, std::span<const std::byte> data, const std::string& origin) {
  const std::int64_t count = *element_count(header.shape);
  std::vector<std::byte> swapped;
  if (header.big_endian && header.bytes > 1) {
    swapped.assign(data.begin(), data.end());
    const auto width = static_cast<std::size_t>(header.bytes);
    for (std::size_t i = 0; i + width <= swapped.size(); i += width)
      std::reverse(swapped.begin() + static_cast<std::ptrdiff_t>(i),
                   swapped.begin() + static_cast<std::ptrdiff_t>(i + width));
    data = swapped;
  }
  at::Tensor flat;
  if (header.kind == 'u' && header.bytes > 1) {
    const std::vector<std::byte> bytes(data.begin(), data.end());
    if (header.bytes == 2) flat = widen<std::uint16_t, std::int32_t>(bytes, count, at::kInt, origin);
    if (header.bytes == 4) flat = widen<std::uint32_t, std::int64_t>(bytes, count, at::kLong, origin);
    if (header.bytes == 8) flat = widen<std::uint64_t, std::int64_t>(bytes, count, at::kLong, origin);
  } else {
    at::ScalarType type = at::kFloat;
    if (header.kind == 'f')
      type = header.bytes == 2 ? at::kHalf : header.bytes == 4 ? at::kFloat : at::kDouble;
    if (header.kind == 'u') type = at::kByte;
    if (header.kind == 'b') type = at::kBool;
    if (header.kind == 'i')
      type = header.bytes == 1   ? at::kChar
             : header.bytes == 2 ? at::kShort
             : header.bytes == 4 ? at::kInt
                                 : at::kLong;
    flat = at::empty({count}, type);
    if (header.kind == 'b') {
      // Bytes other than 0 and 1 would be undefined values of a bool.
      auto* out = static_cast<unsigned char*>(flat.data_ptr());
      for (std::int64_t i = 0; i < count; ++i) out[i] = data[static_cast<std::size_t>(i)] != std::byte{0};
    } else if (!data.empty()) {
      std::memcpy(flat.data_ptr(), data.data(), data.size());
    }
  }
  if (!header.fortran || header.shape.size() < 2) return flat.reshape(header.shape);
  const std::vector<std::int64_t> reversed(header.shape.rbegin(), header.shape.rend());
  std::vector<std::int64_t> axes(header.shape.size());
  for (std::size_t i = 0; i < axes.size(); ++i) axes[i] = static_cast<std::int64_t>(axes.size() - 1 - i);
  return flat.reshape(reversed).permute(axes).contiguous();
}

std::string npy_header(const at::Tensor& tensor) {
  std::string descr;
  switch (tensor.scalar_type()) {
    case at::kFloat:
      descr = "<f4";
      break;
    case at::kDouble:
      descr = "<f8";
      break;
    case at::kHalf:
      descr = "<f2";
      break;
    case at::kByte:
      descr = "|u1";
      break;
    case at::kChar:
      descr = "|i1";
      break;
    case at::kShort:
      descr = "<i2";
      break;
    case at::kInt:
      descr = "<i4";
      break;
    case at::kLong:
      descr = "<i8";
      break;
    case at::kBool:
      descr = "|b1";
      break;
    default:
      fail("tensors of type {} cannot be written as NumPy arrays", c10::toString(tensor.scalar_type()));
  }
  std::string shape;
  for (const std::int64_t dim : tensor.sizes()) shape += (shape.empty() ? "" : ", ") + std::to_string(dim);
  if (tensor.dim() == 1) shape += ",";
  std::string text = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': (" + shape + "), }";
  // The data start at a multiple of 64 bytes, and the header ends with a line break.
  text.append((64 - (10 + text.size() + 1) % 64) % 64, ' ');
  text += '\n';
  if (text.size() > 0xFFFF) fail("an array of {} dimensions cannot be written", tensor.dim());
  std::string out("\x93NUMPY\x01\x00", 8);
  out += static_cast<char>(text.size() & 0xFF);
  out += static_cast<char>(text.size() >> 8);
  return out + text;
}

at::Tensor writable(const at::Tensor& tensor) {
  at::Tensor out = tensor.detach();
  if (out.scalar_type() == at::kBFloat16) out = out.to(at::kFloat);
  return out.to(at::kCPU).contiguous();
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

at::Tensor read_entry(zip_t* archive, zip_uint64_t index, const std::string& origin) {
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
  std::optional<NpyHeader> header = parse_header(head, origin);
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
  const std::uint64_t bytes = data_bytes(*header, origin);
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
  return make_tensor(*header, data, origin);
}

}  // namespace

at::Tensor parse_npy(std::span<const std::byte> bytes, const std::string& origin) {
  const auto header = parse_header(bytes, origin);
  if (!header) fail("{}: the file is cut short", origin);
  const std::uint64_t wanted = data_bytes(*header, origin);
  const auto data = bytes.subspan(header->data_offset);
  if (data.size() != wanted)
    fail("{}: the shape asks for {} bytes but the file holds {}", origin, wanted, data.size());
  return make_tensor(*header, data, origin);
}

at::Tensor read_npy(const std::filesystem::path& path) {
  const MappedFile file(path);
  return parse_npy(file.bytes(), path.string());
}

TensorMap read_npz(const std::filesystem::path& path) {
  { const MappedFile check(path); }  // the same messages as for every other file
  int code = 0;
  const std::unique_ptr<zip_t, ZipClose> archive(zip_open(path.c_str(), ZIP_RDONLY | ZIP_CHECKCONS, &code));
  if (!archive) fail("{}: not a readable .npz file: {}", path.string(), describe_zip_error(code));
  TensorMap out;
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

void write_npy(const at::Tensor& tensor, const std::filesystem::path& path) {
  const at::Tensor data = writable(tensor);
  AtomicFile file(path);
  file.write(npy_header(data));
  file.write(data.data_ptr(), data.nbytes());
  file.commit();
}

void write_npz(const TensorMap& tensors, const std::filesystem::path& path, bool compress) {
  zip_error_t error;
  zip_error_init(&error);
  // libzip writes into memory, so that the file is made by AtomicFile alone.
  zip_source_t* target = zip_source_buffer_create(nullptr, 0, 0, &error);
  if (!target) fail_system("{}: {}", path.string(), zip_error_strerror(&error));
  zip_source_keep(target);
  const std::unique_ptr<zip_source_t, decltype(&zip_source_free)> keep(target, zip_source_free);
  std::unique_ptr<zip_t, ZipClose> archive(zip_open_from_source(target, ZIP_TRUNCATE, &error));
  if (!archive) {
    zip_source_free(target);
    fail_system("{}: {}", path.string(), zip_error_strerror(&error));
  }
  std::vector<std::string> contents;  // alive until the archive is closed
  contents.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor data = writable(tensor);
    std::string& bytes = contents.emplace_back(npy_header(data));
    bytes.append(static_cast<const char*>(data.data_ptr()), data.nbytes());
    zip_source_t* source = zip_source_buffer(archive.get(), bytes.data(), bytes.size(), 0);
    if (!source) fail_system("{}: {}", path.string(), zip_strerror(archive.get()));
    const zip_int64_t index = zip_file_add(archive.get(), (name + ".npy").c_str(), source, ZIP_FL_ENC_UTF_8);
    if (index < 0) {
      zip_source_free(source);
      fail_system("{}: {}", path.string(), zip_strerror(archive.get()));
    }
    zip_set_file_compression(archive.get(), static_cast<zip_uint64_t>(index),
                             compress ? ZIP_CM_DEFLATE : ZIP_CM_STORE, 0);
    constexpr std::uint16_t kFirstOfJanuary1980 = 0x21;
    zip_file_set_dostime(archive.get(), static_cast<zip_uint64_t>(index), 0, kFirstOfJanuary1980, 0);
  }
  if (zip_close(archive.get()) != 0) fail_system("{}: {}", path.string(), zip_strerror(archive.get()));
  archive.release();
  zip_stat_t info;
  if (zip_source_open(target) != 0 || zip_source_stat(target, &info) != 0)
    fail_system("{}: {}", path.string(), zip_error_strerror(zip_source_error(target)));
  AtomicFile file(path);
  std::vector<char> buffer(1 << 20);
  for (std::uint64_t left = info.size; left > 0;) {
    const zip_int64_t got =
        zip_source_read(target, buffer.data(), std::min<std::uint64_t>(left, buffer.size()));
    if (got <= 0) fail_system("{}: {}", path.string(), zip_error_strerror(zip_source_error(target)));
    file.write(buffer.data(), static_cast<std::size_t>(got));
    left -= static_cast<std::uint64_t>(got);
  }
  zip_source_close(target);
  file.commit();
}

}  // namespace lithe
