// What type and shape every value of a graph has, before it runs.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

using InputShapes = std::map<std::string, std::vector<std::int64_t>, std::less<>>;

/// Fills `graph.values` with the type and shape of every value that a node makes, and completes
/// `graph.outputs`. Symbolic dimensions stay symbolic ("batch", "64*batch"); what cannot be known stays
/// unknown. Small integer tensors are computed along the way, so that chains of Shape, Gather, Concat and
/// Reshape resolve. Covers opset 11 to 24, branches of If, and model-local functions through their bodies; an
/// operator that is not known has unknown results.
///
/// `shapes` gives graph inputs new shapes first (they are stored in `graph.inputs`): with concrete shapes for
/// all inputs every ordinary model comes out concrete. What the file declares of inner values fills gaps;
/// where it disagrees with what follows from the inputs, the latter holds. Throws Error(Input) naming the
/// node whose inputs do not fit together, or the input whose rank or fixed dimension contradicts `shapes`. A
/// graph of topologically sorted nodes is expected.
void infer_shapes(Graph& graph, const InputShapes& shapes = {});

/// Concrete shapes for all inputs that must be fed: those given, else the declared ones with `batch` for an
/// unknown first dimension. Throws Error(Input) naming an input that is given but does not exist, or one
/// whose other dimensions are unknown (the message shows how to give them).
InputShapes concrete_input_shapes(const Graph& graph, const InputShapes& given = {}, std::int64_t batch = 1);

/// Replaces what can be computed from shapes and constants alone by constants and drops the nodes that become
/// useless: chains of Shape, Gather, Concat and so on in a graph of known shapes. Types are inferred first.
/// Returns the number of values that became constants.
int fold_shape_constants(Graph& graph, const InputShapes& shapes = {});

}  // namespace lithe
