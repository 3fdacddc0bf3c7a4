// The loss of a training: what the model should give for a batch, from labels, images or a teacher.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <string>

#include "lithe/data/loader.h"
#include "lithe/engine/executor.h"
#include "lithe/train/train.h"

namespace lithe {

class Objective {
 public:
  /// For the first output of the graph. Throws Error(Input) if the data lack what the loss needs. `options`
  /// must outlive this object.
  Objective(const Graph& graph, const Dataset& data, const TrainOptions& options);

  struct Value {
    at::Tensor loss;   // a scalar, differentiable in y
    at::Tensor right;  // how many samples had their label scored highest; undefined for image targets
  };
  /// `y` is what the model gave for the batch, `feeds` its inputs on the device. Throws Error(Input) that
  /// names the sample if a label or a target does not fit.
  Value operator()(const at::Tensor& y, const Batch& batch, const Feeds& feeds);

  bool image_targets() const { return image_targets_; }
  /// Whether it is the mean squared difference to the targets.
  bool squared() const { return options_.loss == TrainLoss::L2; }

 private:
  at::Tensor taught(const at::Tensor& y, const Feeds& feeds);
  at::Tensor difference(const at::Tensor& a, const at::Tensor& b) const;  // mean, absolute or squared
  Value compare_images(const at::Tensor& y, const Batch& batch, const at::Tensor& taught) const;
  Value compare_labels(const at::Tensor& y, const Batch& batch, const at::Tensor& taught) const;

  const TrainOptions& options_;
  std::string output_;
  bool image_targets_ = false, probabilities_ = false;
  std::optional<Executor> teacher_;
};

}  // namespace lithe
