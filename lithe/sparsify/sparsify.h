// N:M sparsity: one-shot, with retraining, with refined straight-through gradients, and with spatial
// re-parameterisation.
//
//   Sparsified result = sparsify(read_onnx("resnet.onnx"), data, {.method = SparsifyMethod::SpRe,
//                                .layers = {.pattern = {1, 4}}, .train = {.epochs = 30}}, progress);
//   write_onnx(result.graph, "resnet.1_4.onnx");
//
// The road: choose layers and patterns, permute channels (optional), insert batch norms where they were
// folded, insert masks and branches, train, re-estimate batch norms under frozen masks, fold, verify. The
// methods are described in docs/spre.md.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "lithe/kernels/spatial_sparsity.h"
#include "lithe/sparsify/choose.h"
#include "lithe/sparsify/fold.h"
#include "lithe/sparsify/layers.h"
#include "lithe/sparsify/learn.h"
#include "lithe/sparsify/masked_graph.h"
#include "lithe/sparsify/permute.h"
#include "lithe/sparsify/verify.h"
#include "lithe/train/train.h"

namespace lithe {

enum class SparsifyMethod {
  Magnitude,  // one-shot, no training
  Asp,        // one-shot, then training with the mask fixed (Mishra et al., 2021)
  SrSte,      // Zhou et al., "Learning N:M Fine-grained Structured Sparse Neural Networks From Scratch", ICLR
              // 2021
  SpRe,       // "Spatial Re-parameterization for N:M Sparsity", IEEE TPAMI 2025
};

struct SparsifyOptions {
  SparsifyMethod method = SparsifyMethod::SpRe;
  LayerPolicy layers;
  std::optional<SparsityBudget> budget;  // chooses a pattern for every layer instead of `layers.pattern`
  ChooseOptions choose;
  bool permute = false;  // channels, before anything is pruned
  PermuteOptions permutation;

  double decay = 2e-4;              // of pruned weights (SrSte, SpRe)
  std::int64_t tighten_epochs = 0;  // in which N falls from M (SrSte, SpRe); see MaskTraining
  /// Of SpRe, as the paper's code: second batch norms start at scale 1 and spatial masks are measured before
  /// every step. Else (stabilised) they start at 0 and masks are measured once an epoch. The recipe of
  /// `train` stays what it is, see `published_recipe`; a note says where it departs.
  bool faithful = false;
  std::optional<double> branch_gamma;           // over the line above
  std::optional<SpatialUpdate> spatial_update;  // likewise
  double spatial_margin = 0;                    // hysteresis of the spatial masks
  SpatialChoice spatial = SpatialChoice::Measured;

  bool from_scratch = false;  // draw all weights anew
  double distillation = 0;    // weight of the dense model as teacher, 0..1; 0: off
  double temperature = 4;     // of the distillation
  TrainOptions train;         // recipe; its seed also draws branches and samples
  std::int64_t norm_batches = 40;
  std::int64_t norm_samples = 1024;  // for batch norms that are inserted
  /// Of the fold (and of permuting): for the largest difference of the output itself in float64 arithmetic
  /// (of outputs above 80, in proportion: kernels are rounded once). Float32 may differ by more in deep
  /// networks, which a note tells; where float64 cannot run the graph, for the difference over its scale in
  /// float32.
  double tolerance = 1e-5;
};

struct SparsifiedLayer {
  SparseLayer layer;
  std::int64_t weights = 0, nonzero = 0;
  double kept_magnitude = 1;  // of the weights before training: share that the pattern keeps
  /// Of convolutions with a kernel: how unstructured pruning at the pattern's rate would spread in the final
  /// weights.
  std::optional<SpatialSparsity> spatial;
  std::vector<int> branch;  // SpRe: the stored spatial mask, by kernel position
};

struct Sparsified {
  Graph graph;         // to be exported
  MaskedGraph masked;  // as it was trained, with the learnt constants
  std::vector<SparsifiedLayer> layers;
  std::vector<Sensitivity> sensitivities;  // under a budget
  std::vector<PermutedGroup> permuted;
  std::vector<EpochRecord> history;
  std::int64_t best_epoch = 0;
  FoldDifference fold_difference;
  std::vector<std::string> notes;  // what was done or left undone and why, one line each
};

/// Sparsifies `model`. `data` may be missing for Magnitude without a budget: batch norms then stay as they
/// are. Throws Error(Input) in one line if no layer can be pruned, if names match nothing, if data or labels
/// are missing where the method trains, if training fails (see `train`), and if the fold would change the
/// output by more than the tolerance or a weight broke its pattern.
Sparsified sparsify(const Graph& model, const DatasetPtr& data, const SparsifyOptions& options,
                    Progress& progress);

/// How the paper's code trains on CIFAR-10, over `train`: SGD with momentum 0.9 at 0.1, batches of 256,
/// weight decay on everything, the cosine set once an epoch after five epochs of warm-up (a sixth of the
/// epochs if those are fewer than 30), label smoothing 0.1.
TrainOptions published_recipe(TrainOptions train);

/// Where a run with these options departs from the paper's code, in a few words each.
std::vector<std::string> departures(const SparsifyOptions& options);

/// The layers and their patterns as `sparsify` would prune them, without data or training.
std::vector<SparseLayer> plan_sparsity(const Graph& model, const SparsifyOptions& options);

}  // namespace lithe
