// Reading and writing ONNX files.
#pragma once

#include <filesystem>
#include <span>
#include <string>

#include "lithe/graph/graph.h"

namespace lithe {

/// Reads a model of IR version 3 to 13. External data must lie in the model's folder or below it.
/// Names, metadata, sub-graphs, model-local functions and fields that Lithe does not interpret are kept.
/// Throws Error(Input) that names the file and what is wrong in it.
Graph read_onnx(const std::filesystem::path& path);

/// The same from memory; `folder` is where external data is looked for ("": it is refused).
Graph parse_onnx(std::span<const std::byte> bytes, const std::string& origin,
                 const std::filesystem::path& folder = {});

/// Reads one serialised TensorProto, the format of the ONNX project's test data (`*.pb`).
TensorData read_onnx_tensor(const std::filesystem::path& path);

struct WriteOnnxOptions {
  /// Constants of at least this many bytes go to `<file>.data`; negative: only when the model would pass 2
  /// GB.
  std::int64_t external_threshold = -1;
};

/// Writes the model whole or not at all; the graph is validated first.
void write_onnx(const Graph& graph, const std::filesystem::path& path, const WriteOnnxOptions& options = {});

/// The serialised ModelProto, without external data. Throws Error(Input) if it would pass 2 GB.
std::string serialize_onnx(const Graph& graph);

}  // namespace lithe
