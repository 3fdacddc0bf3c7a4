// The safetensors format: named tensors in one file, read without copying.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"
#include "lithe/graph/tensor_data.h"

namespace lithe {

using NamedTensors = std::map<std::string, TensorData, std::less<>>;

struct SafeTensors {
  NamedTensors tensors;
  std::map<std::string, std::string, std::less<>> metadata;
};

/// Reads a file of 8 bytes header length, a JSON header and the elements. Tensors share the mapped file
/// unless they are not aligned for their type. Throws Error(Input) that names the file if the header is
/// longer than the file or 100 MB, is malformed, holds an unknown type, or if offsets overlap, leave gaps,
/// lie outside the file or do not follow from shape and type.
SafeTensors read_safetensors(const std::filesystem::path& path);
/// The same from memory kept alive by `owner`; `origin` is named in errors.
SafeTensors parse_safetensors(std::span<const std::byte> bytes, std::shared_ptr<const void> owner,
                              const std::string& origin);

/// The bytes of such a file, elements aligned to 8 bytes. Throws Error(Input) naming the tensor if its type
/// has no place in the format (strings, complex numbers, types below 8 bits).
std::string serialize_safetensors(const SafeTensors& file);
/// Writes the file whole or not at all.
void write_safetensors(const std::filesystem::path& path, const SafeTensors& file);

/// The floating-point constants of a graph (Constant nodes included) by name, in their own types.
NamedTensors named_weights(const Graph& graph);

struct LoadedWeights {
  std::int64_t loaded = 0;
  std::vector<std::string> missing;  // weights of the graph (not scalars) that the tensors do not name
  std::vector<std::string> unknown;  // names that are no floating-point constants of the graph
};

/// Replaces constants of the graph by the tensors of the same name, converted to the type of the constant
/// (float16 and bfloat16 become float32 where the graph has that). Throws Error(Input), naming `origin` and
/// the tensor, if a shape or kind of type differs or if no name agrees; the graph is then as before.
LoadedWeights load_weights(Graph& graph, const NamedTensors& tensors, const std::string& origin);

/// A floating-point tensor in another floating-point type (float32 or float64); itself if it has that type.
TensorData convert_floats(const TensorData& data, DType dtype);

}  // namespace lithe
