// The sizes of all values of a model, and whether they fit together.
#pragma once

#include <filesystem>
#include <string>

#include "lithe/graph/graph.h"
#include "lithe/graph/shape_inference.h"

namespace lithe::cli {

/// A graph whose values all have their sizes, and what the reader should know about them.
struct Sized {
  Graph graph;
  InputShapes shapes;
  std::string note;
};

/// Throws Error(Input) naming the node where `shapes` do not fit the model or it does not fit itself.
Sized give_sizes(const Graph& graph, const InputShapes& shapes);

/// The same for inputs of one sample. Exporters sometimes bake the batch of their example into Split or
/// Reshape, so that a model which declares its batch free has the sizes of that batch only: the least of some
/// usual ones that fits is taken then, and the note says so.
Sized find_batch(const Graph& graph, const InputShapes& single);

/// Reads a model whose weights, attributes and inputs must fit together, at the given shapes if there are
/// any. Throws Error(Input) naming the file and the node that does not fit, or the value that would be larger
/// than any run time holds.
Graph read_fitting_model(const std::filesystem::path& path, const InputShapes& given);

}  // namespace lithe::cli
