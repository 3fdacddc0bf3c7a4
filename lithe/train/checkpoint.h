// What training must remember to go on.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "lithe/engine/executor.h"
#include "lithe/graph/safetensors.h"

namespace lithe {

struct Checkpoint {
  NamedTensors constants;  // of the model, those that training changed
  std::map<std::string, at::Tensor> optimiser, average, hooks;
  nlohmann::json progress;  // epoch, step, history, recipe
};

/// Writes folder/last.safetensors whole or not at all; what stood there becomes previous.safetensors, unless
/// it is damaged. Creates the folder. The file holds the constants under their own names, so that it can also
/// be read as plain weights.
void save_checkpoint(const std::filesystem::path& folder, const Checkpoint& checkpoint);

/// The newest checkpoint that is whole (checksums are kept): one that was about to become the last, the last
/// or the previous one, with a note about those that are damaged; nothing if there is none. Throws
/// Error(Input) if there are files and none can be read.
std::optional<Checkpoint> load_checkpoint(const std::filesystem::path& folder,
                                          const std::function<void(const std::string&)>& note);

/// The constants of the executor whose values differ from those that `graph` holds by having been replaced.
NamedTensors changed_constants(const Graph& graph, const Executor& executor);

/// Replaces constants of the graph (Constant nodes included) by name; throws Error(Input) if one is not there
/// or has another shape.
void apply_constants(Graph& graph, const NamedTensors& constants);

/// A file of constants with a checksum and one JSON object beside them, and back. `read` throws Error(Input)
/// if the file is damaged.
void write_checked(const std::filesystem::path& path, NamedTensors tensors, const nlohmann::json& about);
std::pair<NamedTensors, nlohmann::json> read_checked(const std::filesystem::path& path);

}  // namespace lithe
