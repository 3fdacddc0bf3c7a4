// A graph that was read can be analysed, or there is an Error: shapes, blocks, units, costs, sparsity.
#include <cstddef>
#include <cstdint>
#include <span>

#include "lithe/base/error.h"
#include "lithe/graph/blocks.h"
#include "lithe/graph/cost.h"
#include "lithe/graph/onnx.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/graph/sparsity.h"
#include "lithe/graph/units.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    lithe::Graph graph = lithe::parse_onnx(std::as_bytes(std::span(data, size)), "fuzz");
    lithe::check_sparsity(graph, {2, 4});
    lithe::find_blocks(graph);
    lithe::find_units(graph);
    lithe::infer_shapes(graph);
    lithe::measure_cost(graph);
    lithe::fold_shape_constants(graph);
  } catch (const lithe::Error&) {
  }
  return 0;
}
