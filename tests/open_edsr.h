// A small network that enlarges pictures of any size.
#pragma once

#include "lithe/models/models.h"

namespace lithe::test {

/// EDSR of two blocks of eight channels, for images [n, 3, h, w] to twice their size.
inline Graph open_edsr() {
  Graph graph = build_edsr({.scale = 2, .channels = 8, .blocks = 2, .image_size = 16});
  for (ValueInfo* info : {&graph.inputs[0], &graph.outputs[0]}) {
    (*info->shape)[2] = {.symbol = "height_" + info->name};
    (*info->shape)[3] = {.symbol = "width_" + info->name};
  }
  graph.values.clear();
  return graph;
}

}  // namespace lithe::test
