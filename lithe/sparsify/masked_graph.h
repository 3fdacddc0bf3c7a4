// The graph that learns sparse weights: masks before the weights, and a second branch where SpRe wants one.
//
//   x -> Conv(W~) -> BatchNorm  -> Add ->            W~, B = lithe.NmPrune(W)
//    \-> Conv(V~) -> BatchNorm2 ->/                  V~ = lithe.SpatialBranch(V, B, S)
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lithe/data/dataset.h"
#include "lithe/sparsify/layers.h"

namespace lithe {

enum class MaskMode {
  Fixed,            // the mask of the weights as they are on insertion
  StraightThrough,  // recomputed at every run; gradients pass unchanged
  Refined,          // and pruned weights decay (Zhou et al., ICLR 2021)
};

/// Where the second branch lives.
enum class SpatialChoice {
  Measured,    // where pruning without structure keeps more than the average: SpRe
  Everywhere,  // control: S = 1
  Inverted,    // control: the complement
};

struct MaskOptions {
  MaskMode mode = MaskMode::Refined;
  double decay = 2e-4;    // of pruned weights, added to their gradient
  bool tightens = false;  // N is a constant of its own, so that it can fall from M while the masks are learnt
  bool branches = false;
  double branch_gamma = 0;  // scale of the second batch norm at the start; the paper's code has 1
  SpatialChoice spatial = SpatialChoice::Measured;
  std::uint64_t seed = 0;  // of the branches' weights
};

/// One pruned layer; names of values and constants in the graph.
struct MaskedLayer {
  SparseLayer layer;
  std::string pruned, mask;  // W~ and B
  std::string fixed_mask;    // the constant behind it, under MaskMode::Fixed
  std::string kept;          // N as it is now, an int64 constant, if it tightens
  std::string norm;          // output of the batch norm to fold, "" if none is folded
  // Of the second branch; "" without one.
  std::string branch_weight;  // V
  std::string spatial_mask;   // S, a float constant [1, 1, kh, kw]
  std::string branch_output;  // of the second convolution
  std::string branch_norm;    // output of the second batch norm
  bool has_branch() const { return !branch_weight.empty(); }
};

struct MaskedGraph {
  Graph graph;
  std::vector<MaskedLayer> layers;
  MaskOptions options;
};

/// Gives every pruned convolution that no batch norm follows one that changes nothing: statistics from the
/// data, scale sqrt(var + eps), shift mean, the bias taken over. Needs the layer's output to feed other nodes
/// only. Returns the outputs of the convolutions that got one (by their new names, which the layers then
/// have).
std::vector<std::string> insert_batch_norms(Graph& graph, std::vector<SparseLayer>& layers,
                                            const DatasetPtr& data, std::int64_t samples, std::int64_t batch);

/// Masks the layers that have a pattern. Branches go to convolutions with a kernel of more than one position
/// whose weight nobody shares and which a batch norm follows. `inserted` are the convolutions from
/// `insert_batch_norms`: their norms are folded afterwards.
MaskedGraph insert_masks(const Graph& graph, const std::vector<SparseLayer>& layers,
                         const MaskOptions& options, const std::vector<std::string>& inserted = {});

/// The N:M mask of a weight, 1 where it is kept.
std::vector<std::uint8_t> mask_of(const TensorData& weight, const SparseLayer& layer);

/// The spatial mask for a weight under the layer's pattern; `previous` and `margin` give hysteresis
/// (see lithe/kernels/magnitude_mask.h). Elements by kernel position.
std::vector<std::uint8_t> spatial_mask_of(const TensorData& weight, const SparseLayer& layer,
                                          SpatialChoice choice, double margin = 0,
                                          std::vector<std::uint8_t> previous = {});

}  // namespace lithe
