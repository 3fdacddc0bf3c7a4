// Labelled and unlabelled samples from folders, sheets, CIFAR, IDX and NumPy files behind one interface.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lithe/data/preprocess.h"
#include "lithe/engine/executor.h"

namespace lithe {

/// One sample, without the batch dimension.
struct Sample {
  /// By the model's input names; the name "" stands for the only input of the model.
  Feeds inputs;
  std::int64_t label = -1;  // -1: none
  at::Tensor target;  // what an image-to-image model should give, in the units of the input; or undefined
  std::string name;   // file or index, for messages
};

/// Samples by index. `get` may be called from several threads at once and depends on the index alone.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual std::int64_t size() const = 0;
  /// Throws Error(Input) that names the file if it cannot be decoded or does not fit the preprocessing.
  virtual Sample get(std::int64_t index) const = 0;
  virtual bool labelled() const { return false; }
  virtual bool has_targets() const { return false; }
  /// Names of the classes by label; empty where unknown.
  virtual std::vector<std::string> class_names() const { return {}; }
};
using DatasetPtr = std::shared_ptr<const Dataset>;

/// Opens what `--data` and `--calib` name: `[kind:]path[,key=value...]`, documented in docs/data.md.
/// kind: folder, pairs, sheet, cifar10, idx, array; guessed from the path when omitted.
/// Throws Error(Input) if nothing is there, if it is empty, or if an option is unknown.
DatasetPtr open_dataset(std::string_view spec, const Preprocess& preprocess = {});

/// `spec` taken apart; options keep their order.
struct DataSpec {
  std::string kind, path;
  std::vector<std::pair<std::string, std::string>> options;
};
DataSpec parse_data_spec(std::string_view spec);

/// A selection "a:b:step" of 0..size-1 as in NumPy (negative numbers count from the end; step > 0).
std::vector<std::int64_t> select_range(std::string_view slice, std::int64_t size);

/// The samples `indices` of another dataset, in that order.
DatasetPtr subset(DatasetPtr dataset, std::vector<std::int64_t> indices);

/// `count` samples chosen by the seed, in their original order; all of them if there are no more than that.
/// (Folders and sheets are ordered by class, so that the first few would be of one class.)
DatasetPtr seeded_subset(DatasetPtr dataset, std::int64_t count, std::uint64_t seed);

/// Tensors whose first dimension counts the samples, fed as they are. `labels` [n] and `target` [n, ...] may
/// be undefined. Throws Error(Input) if the first dimensions disagree.
DatasetPtr tensor_dataset(Feeds inputs, at::Tensor labels = {}, at::Tensor target = {});

}  // namespace lithe
