#include "cli/sizes.h"

#include <fmt/format.h>

#include <optional>

#include "lithe/base/error.h"
#include "lithe/graph/onnx.h"

namespace lithe::cli {
namespace {

constexpr double kMostElements = 4294967296.0;  // that the engine makes of one value

void refuse_giants(const Graph& graph) {
  for (const Node& node : graph.nodes)
    for (const std::string& output : node.outputs) {
      const ValueInfo* info = graph.info(output);
      if (!info || !info->shape) continue;
      double elements = 1;
      for (const Dim& dim : *info->shape) elements *= dim.known() ? static_cast<double>(dim.value) : 1;
      if (elements > kMostElements)
        fail("{}: its result '{}' would be {}, more than 2^32 elements; mend the model", describe(node),
             output, format_type(*info));
    }
}

/// The model at one sample, or as far as its open shapes tell.
Graph sized_as_declared(const Graph& model) {
  Graph open = model;
  std::optional<InputShapes> single;
  try {
    single = concrete_input_shapes(model);
  } catch (const Error&) {  // more than the batch is open
    infer_shapes(open);
    return open;
  }
  try {
    return find_batch(model, *single).graph;
  } catch (const Error&) {
    // The first dimensions of several inputs need not be one and the same.
    if (single->size() < 2) throw;
    infer_shapes(open);
    return open;
  }
}

}  // namespace

Sized give_sizes(const Graph& graph, const InputShapes& shapes) {
  Sized sized{graph, shapes, ""};
  infer_shapes(sized.graph, shapes);
  return sized;
}

Sized find_batch(const Graph& graph, const InputShapes& single) {
  try {
    return give_sizes(graph, single);
  } catch (const Error& error) {
    for (const std::int64_t batch : {2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48, 64, 100, 128, 256}) {
      const InputShapes shapes = concrete_input_shapes(graph, {}, batch);
      if (shapes == single) break;  // nothing is free
      try {
        Sized sized = give_sizes(graph, shapes);
        sized.note =
            fmt::format("the batch is declared free but fixed to {} inside ({})", batch, error.what());
        return sized;
      } catch (const Error&) {
        continue;
      }
    }
    throw;
  }
}

Graph read_fitting_model(const std::filesystem::path& path, const InputShapes& given) {
  Graph model = read_onnx(path);
  try {
    refuse_giants(given.empty() ? sized_as_declared(model)
                                : give_sizes(model, concrete_input_shapes(model, given)).graph);
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("{}: {}", path.string(), error.what()));
  }
  return model;
}

}  // namespace lithe::cli
