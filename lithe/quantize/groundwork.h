// What is decided before data are seen: the prepared graph, its layers, their bits, and where activations are
// quantised.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "lithe/quantize/export_qdq.h"
#include "lithe/quantize/fidelity.h"
#include "lithe/quantize/quantize.h"

namespace lithe {

/// The options with every default that depends on others decided.
struct QuantizeSettings {
  Profile profile;
  PlacementStyle placement;
  ReduceRange reduce_range;
  Scheme weight_scheme, activation_scheme;
};

/// Everything that is decided before data are seen.
struct Groundwork {
  Graph graph;
  std::vector<Layer> layers;
  QuantizeSettings settings{};
  std::vector<ActivationPoint> points;
  std::vector<QuantizedWeight> weights;  // bits only
};

/// Sees everything but the weights before their bits are final.
using ChooseBits = std::function<void(Groundwork&)>;

Groundwork lay_ground(const Graph& model, const DatasetPtr& data, const QuantizeOptions& options,
                      std::vector<std::string>& notes, const ChooseBits& choose = {});

/// Its first part: the prepared graph and its layers, without bits. Throws Error(Input) if there are none.
Groundwork prepare_layers(const Graph& model, const DatasetPtr& data, const QuantizeOptions& options,
                          std::vector<std::string>& notes);

/// Completes what is to be learnt with (where it runs, what model and options a checkpoint is for) and throws
/// Error(Input), before anything takes long, if there are too few samples or the checkpoint is of others.
void prepare_learning(const Graph& model, const DatasetPtr& calibration, QuantizeOptions& options);

/// Throws Error(Input), before anything takes long, if what is to be learnt does not fit into the memory or
/// the units, as `reconstruct` would behind calibration.
void require_learnable(const Groundwork& ground, const DatasetPtr& data, const QuantizeOptions& options);

/// How the SQNR of the result is measured.
SqnrOptions sqnr_options(const QuantizeOptions& options);

/// With a budget the layers start with the most bits.
QuantizeOptions widest(QuantizeOptions options);

RangeMethod range_method(QuantizeMethod method);

/// ONNX Runtime rounds a float bias of a quantised layer to int32 by itself, and moves codes by it: what is
/// exact must say so in the file. TensorRT wants biases in float.
ExportOptions export_options_for(const QuantizeOptions& options, const QuantizeSettings& settings);

/// Keeps every bias of an integer network within int32.
void guard_biases(const Graph& graph, QdqPlan& plan, std::vector<std::string>& notes);

/// How the bits of weights are chosen. Fixed are the layers whose bits do not follow the general ones.
MixedPrecisionOptions precision_options(const Graph& model, const Groundwork& ground,
                                        const QuantizeOptions& options);

/// A layer as the file will hold it, with weights of so many bits; the bits of its input are its own.
LayerResult describe_layer(const Graph& graph, const Layer& layer, int weight_bits, Target target);
/// The layers as the file will hold them.
std::vector<LayerResult> describe_layers(const Groundwork& ground, Target target);

}  // namespace lithe
