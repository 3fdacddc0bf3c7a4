// The layers of a noise predictor that a sampling step may leave out.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "lithe/graph/graph.h"
#include "lithe/graph/shape_inference.h"

namespace lithe {

enum class LayerKind { Residual, Attention };
std::string_view layer_kind_name(LayerKind kind);  // "residual", "attention"

/// A sum of a shortcut and a branch, output = shortcut + branch. Skipped, its output is the shortcut alone:
/// the layer's input, or what a learned 1x1 convolution and a resampling without parameters make of it.
/// Everything else of the layer (norms, wide convolutions, attention, what the time embedding adds) is not
/// executed.
struct SkippableLayer {
  std::string name;  // what the names of its nodes share; unique
  LayerKind kind = LayerKind::Residual;
  std::string entry;      // value that shortcut and branch are computed from
  std::string shortcut;   // value; the entry itself for an identity
  std::string branch;     // value; fed to Executor::run, it takes the place of the branch's computation
  std::string output;     // value: the sum
  int nodes = 0;          // that a skip removes
  std::int64_t macs = 0;  // of these nodes, for one image
};

/// The residual and attention blocks of a network (`find_blocks`) that have such a shortcut, in topological
/// order: a layer's number is its index. Blocks inside others count as one layer with them, but for blocks
/// that hold concatenations of encoder and decoder, or several layers and more than half of the network's
/// weighted nodes: there the inner ones are the layers. The nodes must be sorted. A free batch size counts as
/// 1; `shapes` gives other free dimensions. Throws Error(Input) if an input's dimensions are unknown.
std::vector<SkippableLayer> find_skippable_layers(const Graph& graph, const InputShapes& shapes = {});

/// The network in which the layers of these numbers are skipped, without the nodes and constants that served
/// them alone. Throws Error(Input) for a number that is no layer's.
Graph without_layers(const Graph& graph, const std::vector<SkippableLayer>& layers,
                     const std::vector<int>& skipped);

/// The numbers of the layers of these names, ascending, each once. Throws Error(Input) naming one that the
/// network does not have.
std::vector<int> layer_numbers(const std::vector<SkippableLayer>& layers,
                               const std::vector<std::string>& names);

}  // namespace lithe
