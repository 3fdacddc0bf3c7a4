// Where activations are quantised.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"
#include "lithe/quantize/layers.h"

namespace lithe {

enum class PlacementStyle {
  Academic,  // the inputs of layers and nothing else, as papers on low bit-widths do
  Deploy,    // what integer kernels need: also the operands of Add, Mul, Concat and products, around pools
};

/// Both operands of every MatMul of two activations, as attention has two of: queries and keys, probabilities
/// and values.
std::vector<std::string> attention_operands(const Graph& graph);

enum class Target { OnnxRuntime, TensorRt, OpenVino };

/// A value that is quantised right behind its maker; all readers but those in float read the quantised one.
struct ActivationPoint {
  std::string value;
  int bits = 8;
  std::size_t group = 0;  // points of one group share scale and zero-point
};

/// The points in the order in which the values are made (graph inputs first).
///
/// Academic: every data input of a layer with activation bits, once, with the most bits that a reader asks
/// for; not between a convolution and the Add behind it, not the output of the network (Ma et al., CVPR 2023,
/// as in their code).
///
/// Deploy adds, with `other_bits`: the outputs of convolutions behind their Relu or Clip (without which
/// runtimes fall back to float), both operands of Add, Mul, Sub, Concat and of MatMul of two activations
/// where integers reach them, and inputs and outputs of pools. MaxPool, Reshape, Transpose, Slice, Pad,
/// Split, nearest Resize and the like share the parameters of their input, and Concat those of all inputs.
/// The last layers' outputs stay float. TensorRT fuses a convolution with the Add behind it, so there the
/// convolution's own output is not quantised.
///
/// Neither reaches the attention of usual transformers: Academic leaves products of two activations alone,
/// and for Deploy integers end at the bias Add behind a MatMul and at Softmax. `attention_bits` other than
/// kFloatBits quantises the `attention_operands` with that many bits, under either placement.
std::vector<ActivationPoint> place_activations(const Graph& graph, const std::vector<Layer>& layers,
                                               PlacementStyle style, Target target, int other_bits,
                                               int attention_bits = kFloatBits);

}  // namespace lithe
