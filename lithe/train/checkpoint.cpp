#include "lithe/train/checkpoint.h"

#include <fmt/format.h>

#include <cstring>
#include <span>

#include "lithe/base/error.h"
#include "lithe/base/json.h"
#include "lithe/ops/registry.h"

namespace lithe {
namespace fs = std::filesystem;

namespace {

using nlohmann::json;

constexpr const char* kAbout = "lithe.training";
constexpr const char* kChecksum = "lithe.checksum";
// Beside the constants of the model, which keep their own names.
constexpr const char* kOptimiser = "@optimiser/";
constexpr const char* kAverage = "@average/";
constexpr const char* kHooks = "@hooks/";

class Checksum {  // FNV-1a over words
 public:
  void add(std::span<const std::byte> bytes) {
    std::size_t i = 0;
    for (; i + 8 <= bytes.size(); i += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes.data() + i, 8);
      value_ = (value_ ^ word) * kPrime;
    }
    for (; i < bytes.size(); ++i) value_ = (value_ ^ static_cast<std::uint64_t>(bytes[i])) * kPrime;
  }
  void add(const std::string& text) { add(std::as_bytes(std::span(text))); }
  std::string text() const { return fmt::format("{:016x}", value_); }

 private:
  static constexpr std::uint64_t kPrime = 1099511628211u;
  std::uint64_t value_ = 14695981039346656037u;
};

std::string checksum_of(const NamedTensors& tensors, const std::string& about) {
  Checksum sum;
  sum.add(about);
  for (const auto& [name, data] : tensors) {
    sum.add(name);
    sum.add(data.bytes());
  }
  return sum.text();
}

void put(NamedTensors& tensors, const std::string& prefix, const std::map<std::string, at::Tensor>& values) {
  for (const auto& [name, tensor] : values) tensors[prefix + name] = to_tensor_data(tensor);
}

}  // namespace

void write_checked(const fs::path& path, NamedTensors tensors, const json& about) {
  SafeTensors file;
  file.metadata[kAbout] = about.dump();
  file.metadata[kChecksum] = checksum_of(tensors, file.metadata[kAbout]);
  file.tensors = std::move(tensors);
  write_safetensors(path, file);
}

std::pair<NamedTensors, json> read_checked(const fs::path& path) {
  SafeTensors file = read_safetensors(path);
  const auto about = file.metadata.find(kAbout), sum = file.metadata.find(kChecksum);
  if (about == file.metadata.end() || sum == file.metadata.end())
    fail("{}: not a checkpoint of Lithe", path.string());
  if (sum->second != checksum_of(file.tensors, about->second))
    fail("{}: the checksum does not agree; the file is damaged", path.string());
  json parsed = try_parse_json(about->second).value_or(json());
  if (!parsed.is_object()) fail("{}: what it says of the run is no JSON object", path.string());
  return {std::move(file.tensors), std::move(parsed)};
}

namespace {

bool readable(const fs::path& path) {
  try {
    read_checked(path);
    return true;
  } catch (const Error&) {
    return false;
  }
}

}  // namespace

void save_checkpoint(const fs::path& folder, const Checkpoint& checkpoint) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail("{}: cannot create the folder for checkpoints: {}", folder.string(), error.message());
  NamedTensors tensors = checkpoint.constants;
  put(tensors, kOptimiser, checkpoint.optimiser);
  put(tensors, kAverage, checkpoint.average);
  put(tensors, kHooks, checkpoint.hooks);
  const fs::path next = folder / "next.safetensors", last = folder / "last.safetensors";
  write_checked(next, std::move(tensors), checkpoint.progress);
  // A damaged one must not take the place of one that can be read. Between the renames there is no last one,
  // but a next and a previous one.
  if (fs::exists(last, error) && readable(last)) fs::rename(last, folder / "previous.safetensors", error);
  if (!error) fs::rename(next, last, error);
  if (error) fail_system("{}: cannot rename the checkpoint: {}", folder.string(), error.message());
}

std::optional<Checkpoint> load_checkpoint(const fs::path& folder,
                                          const std::function<void(const std::string&)>& note) {
  std::string complaint;
  std::error_code ignored;
  // The next one is there, and the newest, if its last rename did not come about.
  for (const char* name : {"next.safetensors", "last.safetensors", "previous.safetensors"}) {
    const fs::path path = folder / name;
    if (!fs::exists(path, ignored)) continue;
    try {
      auto [tensors, progress] = read_checked(path);
      Checkpoint out{.progress = std::move(progress)};
      for (const auto& [key, data] : tensors) {
        const auto take = [&key = key, &data = data](const char* prefix,
                                                     std::map<std::string, at::Tensor>& into) {
          if (!key.starts_with(prefix)) return false;
          into[key.substr(std::string_view(prefix).size())] = to_tensor(data).clone();
          return true;
        };
        if (!take(kOptimiser, out.optimiser) && !take(kAverage, out.average) && !take(kHooks, out.hooks))
          out.constants[key] = data;
      }
      if (!complaint.empty()) note(fmt::format("{}; going on from {}", complaint, path.string()));
      return out;
    } catch (const Error& error) {
      complaint += (complaint.empty() ? "" : "; ") + std::string(error.what());
    }
  }
  if (!complaint.empty())
    fail("no checkpoint can be read: {}; leave --resume out to start afresh", complaint);
  return std::nullopt;
}

NamedTensors changed_constants(const Graph& graph, const Executor& executor) {
  Graph now = graph;
  executor.store_constants(now);
  NamedTensors out;
  const auto compare = [&out](const std::string& name, const TensorData& before, const TensorData& after) {
    if (before.bytes().data() != after.bytes().data()) out[name] = after;
  };
  for (const auto& [name, data] : now.constants) compare(name, graph.constants.at(name), data);
  for (std::size_t i = 0; i < now.nodes.size(); ++i) {
    const auto* after = now.nodes[i].find<TensorData>("value");
    const auto* before = graph.nodes[i].find<TensorData>("value");
    if (now.nodes[i].is("Constant") && before && after) compare(now.nodes[i].output(0), *before, *after);
  }
  return out;
}

void apply_constants(Graph& graph, const NamedTensors& constants) {
  const auto replace = [](const std::string& name, TensorData& at, const TensorData& by) {
    if (at.shape() != by.shape() || at.dtype() != by.dtype())
      fail("the constant '{}' of the checkpoint has the shape {}, that of the model {}", name,
           format_shape(by.shape()), format_shape(at.shape()));
    at = by;
  };
  for (const auto& [name, data] : constants) {
    if (const auto found = graph.constants.find(name); found != graph.constants.end()) {
      replace(name, found->second, data);
      continue;
    }
    TensorData* at = nullptr;
    for (Node& node : graph.nodes)
      if (node.is("Constant") && node.output(0) == name && node.find<TensorData>("value"))
        at = &std::get<TensorData>(node.attributes.find("value")->second);
    if (!at) fail("the checkpoint holds '{}', which is no constant of the model", name);
    replace(name, *at, data);
  }
}

}  // namespace lithe
