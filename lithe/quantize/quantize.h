// Post-training quantisation with calibrated ranges.
//
//   Quantized result = quantize(read_onnx("resnet.onnx"), calibration, {.weight_bits = 4, .activation_bits =
//   4}); write_onnx(result.graph, "resnet.w4a4.onnx");
//
// The road: simplify and fold batch norms, equalise (optional), choose layers, bits and places, observe
// activations, choose ranges, encode weights, reconstruct (optional), correct biases (optional), write
// QuantizeLinear and DequantizeLinear. Methods, options and what each deployment target needs are described
// in docs/quantize.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "lithe/base/progress.h"
#include "lithe/data/dataset.h"
#include "lithe/graph/graph.h"
#include "lithe/quantize/dfsq/dfsq.h"
#include "lithe/quantize/layers.h"
#include "lithe/quantize/mixed_precision.h"
#include "lithe/quantize/placement.h"
#include "lithe/quantize/quantizer.h"
#include "lithe/quantize/reconstruct/reconstruct.h"
#include "lithe/quantize/weights.h"

namespace lithe {

enum class QuantizeMethod { MinMax, Percentile, Mse };

/// What the exported file is for.
enum class Profile {
  Exact,  // a bit-faithful simulation of any bits; biases in float; speed is not promised
  Int8,   // what integer kernels run: 8-bit activations, int32 biases
};

struct QuantizeOptions {
  QuantizeMethod method = QuantizeMethod::Mse;
  int weight_bits = 8;      // 2..8, or kFloatBits
  int activation_bits = 8;  // 2..8, or kFloatBits
  /// Of both operands of every product of two activations (attention); kFloatBits: as the placement has it.
  int attention_bits = kFloatBits;
  FirstLast first_last = FirstLast::Eight;
  std::vector<BitsRule> bits_for;    // later ones win
  std::vector<std::string> exclude;  // patterns of layers that stay in float

  /// Chooses the weight bits of every layer that would have `weight_bits` (those of `first_last` and
  /// `bits_for` keep theirs) from measured sensitivities. A size is that of the exported file.
  std::optional<BitBudget> budget;
  std::vector<int> budget_bits{2, 3, 4, 5, 6, 7, 8};  // to choose from

  Target target = Target::OnnxRuntime;
  std::optional<Profile> profile;           // default: Int8 if all activations have 8 bits, else Exact
  std::optional<PlacementStyle> placement;  // default: Deploy for Int8, Academic for Exact
  std::optional<ReduceRange> reduce_range;  // default: All for ONNX Runtime, else Off
  std::int64_t opset = 13;                  // of the result; at least that of the model where that is newer
  bool raise_opset = true;                  // false: fail if the model is newer than `opset`

  std::optional<Scheme> weight_scheme;      // default: Asymmetric; Symmetric for TensorRT
  std::optional<Scheme> activation_scheme;  // likewise
  MseSearch search = MseSearch::Shrink;     // of the weights
  double percentile = 99.99;                // of QuantizeMethod::Percentile
  double momentum = 0;                      // min-max ranges averaged over batches; 0: their union

  /// Layer norms in front of matrix products: one range for all channels (reparameterise.h). Nothing: where
  /// activations have fewer than 8 bits and data are given.
  std::optional<bool> reparameterise_norms;
  bool equalize = false;
  bool correct_bias = false;
  std::int64_t bias_samples = 128;
  /// Learns roundings and scales from where the ranges leave them.
  std::optional<ReconstructOptions> reconstruct;
  /// Rounds activations to points of a universal set instead, in the layers that dfsq/choose_layers.h finds.
  std::optional<DfsqOptions> dfsq = {};

  std::int64_t batch = 32;           // of calibration, where the model leaves it free
  int threads = 2;                   // that decode
  at::Device device = at::kCPU;      // that runs the network
  std::int64_t report_samples = 64;  // on which SQNR is measured; 0: not at all
};

struct LayerResult {
  std::string name, op;
  int weight_bits = kFloatBits, activation_bits = kFloatBits;  // as exported
  std::optional<double> sqnr_db;  // of the layer's output, in the quantised against the float network
  std::int64_t bytes = 0;         // weights (codes, scales, zero-points) and bias in the file
  std::int64_t float_bytes = 0;   // before
  double weight_low = 0, weight_high = 0;
  double input_low = 0, input_high = 0;  // representable range of the input; 0 and 0 in float
};

struct ActivationResult {
  std::string value;
  int bits = 8;
  double low = 0, high = 0;              // seen in calibration
  double range_low = 0, range_high = 0;  // representable
  double saturated = 0;                  // share of what was seen that lies beyond the codes
};

struct Quantized {
  Graph graph;  // to be exported
  Graph
      reference;  // the float network it was made from, after folding: same names, same results as the input
  std::vector<LayerResult> layers;
  std::vector<ActivationResult> activations;
  std::optional<double> output_sqnr_db;   // of the first graph output, on the calibration data
  std::optional<double> minmax_sqnr_db;   // the same with min-max ranges, where another method was asked for
  std::optional<double> nearest_sqnr_db;  // the same before anything was learnt
  std::optional<Graph> minmax_graph;      // what `minmax_sqnr_db` is of
  std::optional<DfsqReport> dfsq;         // where it was asked for
  std::optional<Reconstruction> reconstruction;  // where it was asked for
  std::optional<MixedPrecision> precision;       // likewise: what the budget was spent on
  Profile profile = Profile::Exact;
  PlacementStyle placement = PlacementStyle::Academic;
  ReduceRange reduce_range = ReduceRange::Off;
  std::int64_t samples = 0;        // used in calibration; 0 if nothing needed any
  std::int64_t batch = 0;          // samples in one run that the model takes
  std::vector<std::string> notes;  // what was done or left undone and why, one line each
};

/// Whether `quantize` must see data: to observe activations, to learn, to correct biases or to choose bits.
bool needs_calibration(const QuantizeOptions& options);

/// Quantises `model`. Where nothing needs calibration, the data may be null; those given then only serve to
/// check the rewrites and to measure SQNR. Throws Error(Input), in one line, if the options contradict each
/// other or the target, if a pattern matches nothing, if weights are not finite float32 numbers, if the data
/// are empty or do not fit, or if a pass over the graph changed what it computes.
Quantized quantize(const Graph& model, const DatasetPtr& calibration, const QuantizeOptions& options,
                   Progress& progress);

/// What `quantize` will do, as far as it is known without data.
struct QuantizationPlan {
  Graph graph;                      // the float network after folding
  std::vector<LayerResult> layers;  // without SQNR and the ranges of inputs
  Profile profile = Profile::Exact;
  PlacementStyle placement = PlacementStyle::Academic;
  ReduceRange reduce_range = ReduceRange::Off;
  std::vector<std::string> notes;
};
/// Throws as `quantize` does.
QuantizationPlan plan_quantization(const Graph& model, const QuantizeOptions& options);

/// The model as `quantize` works on it, before anything is decided: simplified, raised to `opset`, folded
/// and, if asked for, equalised; every rewrite is checked on the first calibration samples if `calibration`
/// is given.
Graph prepare_for_quantization(const Graph& model, const DatasetPtr& calibration,
                               const QuantizeOptions& options, std::vector<std::string>& notes);

}  // namespace lithe
