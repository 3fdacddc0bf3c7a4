#include "lithe/graph/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/json.h"
#include "lithe/base/math.h"

namespace lithe {
namespace {

using nlohmann::json;

constexpr std::uint64_t kMaxHeader = 100'000'000;
constexpr std::size_t kMaxRank = 64;

constexpr std::array<std::pair<const char*, DType>, 15> kTypes{{{"F64", DType::Float64},
                                                                {"F32", DType::Float32},
                                                                {"F16", DType::Float16},
                                                                {"BF16", DType::BFloat16},
                                                                {"I64", DType::Int64},
                                                                {"I32", DType::Int32},
                                                                {"I16", DType::Int16},
                                                                {"I8", DType::Int8},
                                                                {"U64", DType::UInt64},
                                                                {"U32", DType::UInt32},
                                                                {"U16", DType::UInt16},
                                                                {"U8", DType::UInt8},
                                                                {"BOOL", DType::Bool},
                                                                {"F8_E4M3", DType::Float8E4M3FN},
                                                                {"F8_E5M2", DType::Float8E5M2}}};

DType type_named(const std::string& name) {
  for (const auto& [text, type] : kTypes)
    if (name == text) return type;
  return DType::Undefined;
}

const char* name_of(DType type) {
  for (const auto& [text, candidate] : kTypes)
    if (candidate == type) return text;
  return nullptr;
}

struct Entry {
  std::string name;
  DType dtype = DType::Undefined;
  std::vector<std::int64_t> shape;
  std::uint64_t begin = 0, end = 0;
};

Entry parse_entry(const std::string& name, const json& value, std::uint64_t available,
                  const std::string& origin) {
  const auto refuse = [&](const std::string& reason) {
    fail("{}: tensor '{}': {}; the file is damaged or not safetensors", origin, name, reason);
  };
  if (!value.is_object()) refuse("its entry is no object");
  const auto member = [&](const char* key) -> const json& {
    const auto found = value.find(key);
    if (found == value.end()) refuse(fmt::format("'{}' is missing", key));
    return *found;
  };
  Entry entry{.name = name};
  if (!member("dtype").is_string()) refuse("'dtype' is no text");
  const auto type = member("dtype").get<std::string>();
  entry.dtype = type_named(type);
  if (entry.dtype == DType::Undefined) fail("{}: tensor '{}': unknown type '{}'", origin, name, type);
  const json &shape = member("shape"), &offsets = member("data_offsets");
  if (!shape.is_array() || shape.size() > kMaxRank) refuse("'shape' is no list of sizes");
  for (const json& size : shape) {
    if (!size.is_number_unsigned() || size.get<std::uint64_t>() > INT64_MAX)
      refuse("'shape' is no list of sizes");
    entry.shape.push_back(size.get<std::int64_t>());
  }
  if (!offsets.is_array() || offsets.size() != 2 || !offsets[0].is_number_unsigned() ||
      !offsets[1].is_number_unsigned())
    refuse("'data_offsets' are no two numbers");
  entry.begin = offsets[0].get<std::uint64_t>();
  entry.end = offsets[1].get<std::uint64_t>();
  if (entry.begin > entry.end || entry.end > available)
    refuse(
        fmt::format("its bytes {} to {} lie outside the {} of the file", entry.begin, entry.end, available));
  const auto count = element_count(entry.shape);
  const auto bytes = count ? checked_multiply(*count, dtype_bits(entry.dtype) / 8) : std::nullopt;
  if (!bytes || static_cast<std::uint64_t>(*bytes) != entry.end - entry.begin)
    refuse(
        fmt::format("{} bytes do not hold {} {}", entry.end - entry.begin, type, format_shape(entry.shape)));
  return entry;
}

/// The elements in place, or a copy if they are not aligned.
TensorData make_tensor(const Entry& entry, std::span<const std::byte> data,
                       const std::shared_ptr<const void>& owner) {
  const auto bytes = data.subspan(entry.begin, entry.end - entry.begin);
  const auto size = static_cast<std::uintptr_t>(dtype_bits(entry.dtype) / 8);
  if (bytes.empty() || reinterpret_cast<std::uintptr_t>(bytes.data()) % size == 0)
    return TensorData(entry.dtype, entry.shape, bytes, owner);
  auto copy = std::make_shared<const std::vector<std::byte>>(bytes.begin(), bytes.end());
  return TensorData(entry.dtype, entry.shape, *copy, copy);
}

/// Every floating-point constant, also of Constant nodes, where it can be replaced.
template <typename Function>
void for_each_weight(Graph& graph, Function&& function) {
  for (auto& [name, data] : graph.constants)
    if (is_float(data.dtype())) function(name, data);
  for (Node& node : graph.nodes) {
    if (!node.is("Constant")) continue;
    const auto found = node.attributes.find("value");
    if (found == node.attributes.end()) continue;
    if (auto* data = std::get_if<TensorData>(&found->second); data && is_float(data->dtype()))
      function(node.output(0), *data);
  }
}

}  // namespace

SafeTensors parse_safetensors(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                              const std::string& origin) {
  if (bytes.size() < 8) fail("{}: {} bytes are too few for a safetensors file", origin, bytes.size());
  std::uint64_t length = 0;
  for (std::size_t i = 0; i < 8; ++i) length |= static_cast<std::uint64_t>(bytes[i]) << (8 * i);
  if (length > bytes.size() - 8 || length > kMaxHeader)
    fail("{}: a header of {} bytes does not fit the file of {}; it is cut short or not safetensors", origin,
         length, bytes.size());
  const char* text = reinterpret_cast<const char*>(bytes.data()) + 8;
  const json header = try_parse_json({text, static_cast<std::size_t>(length)}).value_or(json());
  if (!header.is_object())
    fail("{}: the header is no JSON object; the file is damaged or not safetensors", origin);
  const auto data = bytes.subspan(8 + length);

  SafeTensors file;
  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name != "__metadata__") {
      entries.push_back(parse_entry(name, value, data.size(), origin));
      continue;
    }
    if (!value.is_object()) fail("{}: '__metadata__' is no object of texts", origin);
    for (const auto& [key, item] : value.items()) {
      if (!item.is_string()) fail("{}: the metadata '{}' are no text", origin, key);
      file.metadata[key] = item.get<std::string>();
    }
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  std::uint64_t reached = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != reached)
      fail("{}: tensor '{}' {}; the file is damaged", origin, entry.name,
           entry.begin < reached ? "overlaps another one" : "leaves a gap in front of it");
    reached = entry.end;
  }
  if (reached != data.size())
    fail("{}: {} bytes follow the last tensor; the file is damaged", origin, data.size() - reached);
  for (const Entry& entry : entries) file.tensors[entry.name] = make_tensor(entry, data, owner);
  return file;
}

SafeTensors read_safetensors(const std::filesystem::path& path) {
  auto file = std::make_shared<const MappedFile>(path);
  const auto bytes = file->bytes();
  return parse_safetensors(bytes, std::move(file), path.string());
}

std::string serialize_safetensors(const SafeTensors& file) {
  json header = json::object();
  if (!file.metadata.empty()) header["__metadata__"] = file.metadata;
  // Widest types first, so that every tensor is aligned.
  std::vector<std::pair<std::string, const TensorData*>> order;
  for (const auto& [name, tensor] : file.tensors) {
    if (!name_of(tensor.dtype()))
      fail("tensor '{}' of type {} cannot be stored as safetensors", name, dtype_name(tensor.dtype()));
    if (name == "__metadata__") fail("a tensor cannot be called '__metadata__' in safetensors");
    order.emplace_back(name, &tensor);
  }
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) {
    return dtype_bits(a.second->dtype()) > dtype_bits(b.second->dtype());
  });
  std::uint64_t offset = 0;
  for (const auto& [name, tensor] : order) {
    const std::uint64_t end = offset + tensor->bytes().size();
    header[name] = {
        {"dtype", name_of(tensor->dtype())}, {"shape", tensor->shape()}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump(-1, ' ', false, json::error_handler_t::replace);
  text.append((8 - text.size() % 8) % 8, ' ');
  std::string out;
  out.reserve(8 + text.size() + offset);
  for (std::size_t i = 0; i < 8; ++i) out.push_back(static_cast<char>(text.size() >> (8 * i) & 0xff));
  out += text;
  for (const auto& [name, tensor] : order)
    out.append(reinterpret_cast<const char*>(tensor->bytes().data()), tensor->bytes().size());
  return out;
}

void write_safetensors(const std::filesystem::path& path, const SafeTensors& file) {
  write_file(path, serialize_safetensors(file));
}

NamedTensors named_weights(const Graph& graph) {
  NamedTensors out;
  for (const auto& [name, data] : graph.constants)
    if (is_float(data.dtype())) out[name] = data;
  for (const Node& node : graph.nodes)
    if (const auto* data = node.is("Constant") ? node.find<TensorData>("value") : nullptr)
      if (is_float(data->dtype())) out[node.output(0)] = *data;
  return out;
}

TensorData convert_floats(const TensorData& data, DType dtype) {
  if (data.dtype() == dtype) return data;
  if (!is_float(data.dtype()) || (dtype != DType::Float32 && dtype != DType::Float64))
    fail("a tensor of {} cannot be converted to {}", dtype_name(data.dtype()), dtype_name(dtype));
  if (dtype == DType::Float32) return TensorData::from<float>(data.shape(), data.to_floats());
  return TensorData::from<double>(data.shape(), data.to_doubles());
}

LoadedWeights load_weights(Graph& graph, const NamedTensors& tensors, const std::string& origin) {
  LoadedWeights result;
  std::vector<std::pair<TensorData*, TensorData>> changes;
  std::map<std::string, bool, std::less<>> used;
  for_each_weight(graph, [&](const std::string& name, TensorData& data) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) {
      if (data.count() > 1) result.missing.push_back(name);
      return;
    }
    const TensorData& tensor = found->second;
    if (tensor.shape() != data.shape())
      fail("{}: tensor '{}' has the shape {}, the model's constant {}", origin, name,
           format_shape(tensor.shape()), format_shape(data.shape()));
    if (!is_float(tensor.dtype()) ||
        (tensor.dtype() != data.dtype() && data.dtype() != DType::Float32 && data.dtype() != DType::Float64))
      fail("{}: tensor '{}' is of type {}, the model's constant {}", origin, name, dtype_name(tensor.dtype()),
           dtype_name(data.dtype()));
    changes.emplace_back(&data, convert_floats(tensor, data.dtype()));
    used[name] = true;
  });
  for (const auto& [name, tensor] : tensors)
    if (!used.contains(name)) result.unknown.push_back(name);
  if (changes.empty())
    fail("{}: no tensor has the name of a constant of the model{}", origin,
         result.missing.empty() || tensors.empty()
             ? ""
             : fmt::format(" (the file has '{}', the model '{}')", tensors.begin()->first,
                           result.missing.front()));
  for (auto& [constant, data] : changes) *constant = std::move(data);
  result.loaded = static_cast<std::int64_t>(changes.size());
  return result;
}

}  // namespace lithe
