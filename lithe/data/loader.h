// Batches of a dataset, decoded ahead by worker threads.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "lithe/data/dataset.h"

namespace lithe {

struct LoaderOptions {
  std::int64_t batch = 32;
  int threads = 2;  // that decode; the batches do not depend on their number
  bool shuffle = false;
  std::uint64_t seed = 0;   // of the order
  std::uint64_t epoch = 0;  // another order for every epoch
  bool drop_last = false;   // leave out a last batch that is not full
  /// Most numbers that the samples of a batch hold together, and likewise those that are decoded ahead; one
  /// sample at least. 0: any.
  std::int64_t numbers = 0;
};

struct Batch {
  Feeds inputs;        // [n, ...]
  at::Tensor labels;   // int64 [n], undefined without labels
  at::Tensor targets;  // [n, ...], undefined without
  std::vector<std::string> names;
  std::int64_t size() const { return static_cast<std::int64_t>(names.size()); }
};

/// Stacks samples; their shapes must agree. Throws Error(Input) that names the sample that differs.
Batch stack(const std::vector<Sample>& samples);

/// Goes through a dataset once. A batch ends early where the next sample has another shape, so that pictures
/// of unequal size can be run without resizing (at the price of small batches).
class Loader {
 public:
  explicit Loader(DatasetPtr dataset, const LoaderOptions& options = {});
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// Fills `batch` and returns true, or returns false at the end. Errors of `Dataset::get` are thrown here,
  /// in the order of the samples.
  bool next(Batch& batch);
  std::int64_t samples() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Feeds for a graph: an input named "" becomes the graph's only required input.
/// Throws Error(Input) if the graph has several, or if a name is not an input of it.
Feeds bind_inputs(const Graph& graph, const Feeds& inputs);

/// The same for a batch. Throws Error(Input) naming its first sample, and the flags that would help, if the
/// shape is not what the graph declares; the batch dimension is not judged.
Feeds bind_batch(const Graph& graph, const Batch& batch);

/// The number that the graph fixes as the first dimension of its first required input; 0 if it is free.
std::int64_t fixed_batch(const Graph& graph);

/// All samples (or the first `limit`, if not negative) in one batch, for calibration.
Batch load_all(const DatasetPtr& dataset, std::int64_t limit = -1, int threads = 2);

}  // namespace lithe
