// One model, any bit-width at run time: MBQuant, and what it is compared with.
//
//   MultibitTrained result = train_multibit(read_onnx("resnet20.onnx"), data,
//                                           {.bits = {2, 4, 6, 8}, .train = {.epochs = 60}}, progress);
//   write_onnx(result.branches.graph, "resnet20.mb.onnx");
//
// Zhong et al., "MBQuant: A Novel Multi-Branch Topology Method for Arbitrary Bit-width Network Quantization",
// Pattern Recognition 2025 (arXiv 2305.08117, first called MultiQuant). The road: find stem, body and head,
// insert branches with quantisers, start their bounds, train all bit-widths in each step, re-estimate batch
// norms; `deploy.h` then makes integer models of it. docs/mbquant.md describes the method and where this
// departs from it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lithe/metrics/evaluate.h"
#include "lithe/multibit/account.h"
#include "lithe/multibit/branch_graph.h"
#include "lithe/multibit/learn.h"
#include "lithe/train/train.h"

namespace lithe {

struct MultibitOptions {
  MultibitMethod method = MultibitMethod::MbQuant;
  std::vector<int> bits{2, 4, 6, 8};
  bool amortise = true;
  bool slots = false;   // see BranchOptions
  NarrowWidths widths;  // of partial branches; empty: chosen
  Teaching teaching = Teaching::InPlace;
  bool sandwich = false;
  bool from_scratch = false;          // draw all weights anew
  double branch_noise = 0.1;          // on the copies of a trained model's weights; see BranchOptions
  double bound_learning_rate = 1e-4;  // of Adam; the schedule is that of the weights
  std::int64_t norm_batches = 10;
  std::int64_t norm_samples = 1024;  // for batch norms that are inserted
  TrainOptions train;
};

struct MultibitTrained {
  BranchGraph branches;  // as learnt
  std::vector<EpochRecord> history;
  std::int64_t best_epoch = 0;
  bool complete = true;  // false if the time budget ended it
  double images_per_second = 0;
  std::int64_t crossed = 0;  // bounds that met and were moved apart, in all steps
  std::vector<std::string> notes;
};

/// Trains `model`, a classifier whose body consists of convolutions, for all bit-widths at once. It starts
/// from the model's weights, of which every branch gets a copy, or from scratch. Throws Error(Input) as
/// `find_body`, `insert_branches` and `train` do.
MultibitTrained train_multibit(const Graph& model, const DatasetPtr& data, const MultibitOptions& options,
                               Progress& progress);

/// The rewrite alone, with bounds not started: what would be trained. `data` may be missing if batch norms
/// follow all convolutions.
BranchGraph plan_multibit(const Graph& model, const DatasetPtr& data, const MultibitOptions& options,
                          std::vector<std::string>* notes = nullptr);

/// Scores every bit-width of the list on the data.
std::vector<Evaluation> evaluate_bits(const Graph& graph, const std::vector<int>& bits,
                                      const DatasetPtr& data, const EvaluateOptions& options,
                                      at::Device device = at::kCPU);

}  // namespace lithe
