// What a MultibitSession runs at one bit-width, compiled from the graph.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"
#include "lithe/kernels/bound_quantize.h"
#include "lithe/kernels/plain_layers.h"
#include "lithe/kernels/two_bit_conv.h"
#include "lithe/multibit/multibit_info.h"
#include "lithe/multibit/thresholds.h"

namespace lithe {

enum class StepKind {
  IntegerConv,
  FloatConv,
  Affine,
  Clip,
  Add,
  Divide,
  Channels,
  Pick,
  MaxPool,
  AveragePool,
  GlobalAverage,
  Linear,
  Flatten,
};

/// One node at work. Values are places in the session's floats.
struct Step {
  StepKind kind = StepKind::Add;
  std::int64_t input = 0, other = 0, output = 0;
  ImageShape from, to;
  WindowShape window;
  TwoBitConv conv;
  bool depthwise = false, count_padding = false;
  bool coded = false;                          // of a convolution: the input is codes, as bytes
  const ThresholdTable* thresholds = nullptr;  // of a convolution: what goes on is codes, as bytes
  BoundQuantizeSpec bounds;
  std::int64_t groups = 1, taken = 0, front = 0, first_y = 0, first_x = 0;
  float low = -std::numeric_limits<float>::infinity(), high = std::numeric_limits<float>::infinity();
  std::span<const float> weights, scale, shift;  // shift: of convolutions and products, the bias
};

struct SessionPath {
  std::vector<Step> steps;
  std::size_t body = 0, head = 0;  // first steps of the body and behind it
  std::int64_t input = 0, entry = 0, exit = 0, output = 0;
  ImageShape input_shape, entry_shape, exit_shape;
  std::int64_t classes = 0;
};

/// Constants of all bit-widths, each kept once; their addresses stay.
struct SessionConstants {
  std::map<std::string, TwoBitPlane> planes;  // by the value that quantises the weight
  std::map<std::string, std::vector<float>> floats;
  std::map<std::string, ThresholdTable> thresholds;  // by the value whose codes they give

  /// The floats of that name, which `make` gives the first time.
  std::span<const float> keep(const std::string& name, const std::function<std::vector<float>()>& make) {
    const auto found = floats.find(name);
    return found != floats.end() ? found->second : floats.emplace(name, make()).first->second;
  }
};

/// Sizes of the memory that the bit-widths share.
struct Scratch {
  std::int64_t codes = 0, sums = 0, patches = 0, weights = 0, floats = 0;

  void cover(const TwoBitConv& conv) {
    codes = std::max(codes, conv.height * conv.width * conv.input_stride());
    sums = std::max(sums, conv.out_height * conv.out_width * conv.output_stride());
    patches = std::max(patches, conv.patch_bytes());
    weights = std::max(weights, conv.weight_bytes());
  }
};

/// Throws Error(Input) naming the node that this run time does not have, or not in this form.
SessionPath compile_path(const Graph& graph, const BitPath& path, const std::string& entry,
                         SessionConstants& constants, Scratch& scratch);

}  // namespace lithe
