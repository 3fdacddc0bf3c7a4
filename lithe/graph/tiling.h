// Whether an image can be run tile by tile with the same result, and how.
#pragma once

#include <cstdint>
#include <string>

#include "lithe/graph/graph.h"

namespace lithe {

/// How a graph from image to image may be cut. All in pixels of the input.
struct Tiling {
  std::int64_t overlap = 0;    // on every side of a tile: what its output depends on
  std::int64_t alignment = 1;  // corners of tiles must be multiples of it
  std::int64_t scale = 1;      // pixels of the output for one of the input, along one axis
};

/// The receptive field of an output (default: the first). Throws Error(Input) that names the node and the
/// reason if the output is not the same function everywhere (averages and maxima over the whole image,
/// statistics of it, layers that read all pixels, grids of coordinates made from the size of the image), if
/// it shifts or resizes the image in a way that does not follow from constants, if the graph has not one
/// image input and an image output, or if there is no output of that name.
Tiling find_tiling(const Graph& graph, const std::string& output = "");

}  // namespace lithe
