// Reconstruction: rounding of weights and scales of activations learnt slice by slice, so that each slice of
// the quantised network gives what it gave in float.
//
// One engine, of which the published methods are settings (docs/mrecg.md has the table):
// AdaRound (Nagel et al., ICML 2020), BRECQ (Li et al., ICLR 2021), QDrop (Wei et al., ICLR 2022) and MRECG
// (Ma et al., CVPR 2023); learnt weight scales after GENIE (Jeon et al., CVPR 2023).
//
//   QdqPlan plan = ...;                       // ranges chosen, weights rounded to the nearest
//   Reconstruction done = reconstruct(graph, plan, calibration, reconstruct_options(...), progress);
//   export_qdq(graph, plan);                  // the plan now holds the learnt codes and scales
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lithe/base/progress.h"
#include "lithe/data/dataset.h"
#include "lithe/graph/graph.h"
#include "lithe/graph/units.h"
#include "lithe/quantize/export_qdq.h"
#include "lithe/quantize/reconstruct/grouping.h"
#include "lithe/quantize/reconstruct/rounding_schedule.h"

namespace lithe {

enum class Granularity {
  Layer,  // one layer with what follows it
  Block,  // residual blocks, short chains
};

enum class ScaleLearning {
  Off,       // activation scales stay as calibrated
  Joint,     // with the roundings
  Separate,  // roundings with activations in float, then a pass for the scales (BRECQ's own code)
};

/// How much each output of a slice counts in its loss (Li et al., ICLR 2021, section 3.3).
enum class Fisher {
  None,      // all the same
  Diagonal,  // by the square of the gradient of the network's loss
  Full,      // by its products
};

/// Which samples make up a step.
enum class Draw {
  Distinct,  // no sample twice in a step (BRECQ)
  Any,       // with replacement (QDrop)
  Batches,   // one of the batches into which the data were cut once (MRECG)
};

/// What the grouping of units goes by.
enum class CapacityMetric {
  ModCap,  // weights, bits and strides, no data
  Loss,    // what each unit loses when all are reconstructed one by one first
};

struct ReconstructOptions {
  Granularity granularity = Granularity::Block;
  double keep = 1;  // QDrop: the probability with which an element is quantised in a step
  ScaleLearning scales = ScaleLearning::Joint;
  Fisher fisher = Fisher::None;

  CapacityMetric capacity = CapacityMetric::Loss;
  GroupingOptions grouping{.selector = Grouping::None};
  std::string preset;  // of Grouping::Preset: the name of a published grouping or a list, see parse_groups
  double stride_factor = 1.6;     // of ModCap
  std::int64_t survey_steps = 0;  // of the run that measures the losses; 0: as many as `schedule.steps`

  RoundingSchedule schedule{.steps = 2000};
  std::int64_t batch = 32;
  Draw draw = Draw::Distinct;
  double rounding_rate = 5e-3;  // Adam's learning rate of the rounding variables
  double scale_rate = 4e-5;     // of activation scales; falls as a cosine to 0
  double weight_scale_rate = 1e-4;
  /// These rates hold in passes of fewer steps too (survey, polish), which else raise them.
  bool fixed_rounding_rate = false, fixed_scale_rate = false;
  bool learn_weight_scales = false;
  /// Weight of the regulariser. Nothing: 0.1 for networks with depthwise convolutions, else 0.01.
  std::optional<double> rounding_weight;
  bool round_eight_bits = false;  // learn the rounding of 8-bit weights too: they gain nothing from it
  std::int64_t scale_steps = 0;   // of the separate pass; 0: a quarter of the steps
  double scale_pass_rate = 4e-4;

  /// Steps that learn the whole network at once after its slices: all units' outputs and the network's own,
  /// each by its relative error (after the network-wise tuning of AE-QDrop and NWQ). 0: none.
  std::int64_t polish_steps = 0;

  std::uint64_t seed = 1005;
  int threads = 2;  // that decode
  at::Device device = at::kCPU;
  /// Bytes for what a step through a group (or, polishing, the network) holds and for cached values,
  /// together. Fewer samples run at a time where a step would pass half of them; units whose step on a single
  /// sample would pass them are not merged; what caches hold beyond what steps leave goes to disk. 0: no
  /// bound.
  std::int64_t memory = 0;
  bool half_caches = false;  // cached values as float16
  /// Slices that learning made worse (by its own loss on all calibration data, with hard codes and everything
  /// quantised), or whose loss is not finite, get their codes and scales back. False: what was learnt stays,
  /// as published (Effort::Paper).
  bool keep_better = true;
  /// Plain LibTorch operators instead of the fused kernels: what those are compared with.
  bool composed = false;

  /// Where finished slices are kept; empty: nowhere.
  std::filesystem::path checkpoints;
  bool resume = false;
  /// What else the result depends on (model, bits, ...), by name; only compared with the checkpoint's.
  std::map<std::string, std::string> task;
};

/// The published methods as settings of the one engine.
enum class ReconstructMethod {
  AdaRound,  // layer by layer
  Brecq,     // block by block
  QDrop,     // block by block, activations quantised at random
  Mrecg,     // QDrop with neighbouring blocks grouped where the loss drops
};
std::string_view reconstruct_method_name(ReconstructMethod method);  // "adaround", "brecq", ...

/// How long and how fast: 500 steps a unit with rate 2e-2, 2,000 with 5e-3, 20,000 with 1e-3 (as published;
/// then also with the published batches of MRECG). Rates of scales grow with the root of what is saved. What
/// else the authors' scripts differ in (the search of ranges, a pass of their own for the scales) stays
/// apart.
enum class Effort { Fast, Balanced, Paper };

ReconstructOptions reconstruct_options(ReconstructMethod method, Effort effort);
/// The rates for another number of steps; those of an Effort's steps are the Effort's.
void set_steps(ReconstructOptions& options, std::int64_t steps);

/// One slice after it was learnt.
struct SliceResult {
  std::string name;
  std::vector<int> units;
  std::int64_t steps = 0;
  /// Mean over samples and positions of the squared error of the outputs, summed over channels, on all
  /// calibration data: with the nearest codes (NaN with separate scales, where that network never ran), and
  /// with the learnt ones. Several outputs are averaged, each brought to their mean power first.
  double loss_before = 0, loss_after = 0;
  double power = 0;                // the same of the float outputs themselves
  bool kept_nearest = false;       // learning did harm and was taken back: loss_after is loss_before
  double loss_learnt = 0;          // what it had come to then; NaN if it diverged
  std::int64_t diverged = 0;       // the step whose loss was not finite; 0: none
  bool scales_taken_back = false;  // ScaleLearning::Separate: the pass for the scales did harm
  /// Of reconstruction loss and weighted regulariser where the latter sets in.
  double loss_at_warmup = 0, regulariser_at_warmup = 0;
  std::int64_t weights = 0, undecided = 0;  // soft roundings that were not within 0.01 of 0 or 1 at the end
  double seconds = 0;
};

struct Reconstruction {
  std::vector<Unit> units;
  std::vector<double> capacity;          // by unit; empty if nothing was grouped by it
  std::vector<std::vector<int>> groups;  // units learnt together
  std::vector<SliceResult> survey;       // slice by slice without groups, where losses were measured first
  std::vector<SliceResult> slices;
  std::optional<SliceResult> polish;  // of the whole network, all units' outputs averaged
  std::int64_t samples = 0;
  std::int64_t peak_cache = 0, spilled = 0;  // bytes
  std::int64_t held = 0;       // bytes of a step and of caches in memory together, at most; 0 without a bound
  double rounding_weight = 0;  // that was used
  double seconds = 0;
  std::vector<std::string> notes;
};

/// Learns codes and scales and writes them into `plan`, which holds calibrated ranges and nearest codes.
/// `graph` is what the plan is of. Weights whose plan is null stay in float. The same seed, data, options and
/// number of threads give the same bits, also after `resume`.
/// Throws Error(Input) in one line if there are fewer samples than a step draws, if nothing is to be learnt,
/// if a loss is not finite (slice and step are named; finished slices are in the checkpoint) and there is
/// nothing to go back to or `keep_better` is off, or if the checkpoint belongs to other options or data.
Reconstruction reconstruct(const Graph& graph, QdqPlan& plan, const DatasetPtr& calibration,
                           const ReconstructOptions& options, Progress& progress);

/// Throws Error(Input) if `samples` are fewer than a step draws, or a step's samples are no multiple of the
/// `at_once` that the model takes; or if the options are out of range.
void require_enough_samples(const ReconstructOptions& options, std::int64_t samples, std::int64_t at_once);
/// Of `samples`, those in whole batches.
std::int64_t used_samples(const ReconstructOptions& options, std::int64_t samples);

/// Units of the granularity.
std::vector<Unit> reconstruction_units(const Graph& graph, Granularity granularity);

}  // namespace lithe
