#include "lithe/data/npz.h"

#include <zip.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <string_view>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/math.h"
#include "lithe/data/numpy_file.h"

namespace lithe {
namespace {

static_assert(std::endian::native == std::endian::little);

template <typename From, typename To>
at::Tensor widen(std::span<const std::byte> bytes, std::int64_t count, at::ScalarType type,
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
at::Tensor make_tensor(const NumpyHeader& header, std::span<const std::byte> data,
                       const std::string& origin) {
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
    if (header.bytes == 2) flat = widen<std::uint16_t, std::int32_t>(data, count, at::kInt, origin);
    if (header.bytes == 4) flat = widen<std::uint32_t, std::int64_t>(data, count, at::kLong, origin);
    if (header.bytes == 8) flat = widen<std::uint64_t, std::int64_t>(data, count, at::kLong, origin);
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
};

}  // namespace

at::Tensor parse_npy(std::span<const std::byte> bytes, const std::string& origin) {
  const NumpyHeader header = parse_npy_header(bytes, origin);
  return make_tensor(header, bytes.subspan(header.data_offset), origin);
}

at::Tensor read_npy(const std::filesystem::path& path) {
  const MappedFile file(path);
  return parse_npy(file.bytes(), path.string());
}

TensorMap read_npz(const std::filesystem::path& path) {
  TensorMap out;
  for (auto&& [name, array] : read_npz_arrays(path)) {
    out[name] = make_tensor(array.header, array.data, path.string() + ": array '" + name + "'");
    array.data = {};  // not held twice
  }
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
  static_cast<void>(archive.release());  // closed
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
