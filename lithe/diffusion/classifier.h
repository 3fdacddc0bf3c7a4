// Guidance along the gradient of a classifier of noisy images.
#pragma once

#include <ATen/ATen.h>

#include <string>

#include "lithe/diffusion/network_inputs.h"
#include "lithe/engine/executor.h"

namespace lithe {

class NoisyClassifier {
 public:
  virtual ~NoisyClassifier() = default;
  /// The gradient of log p(label | x, t) in x [n, c, h, w], of x's shape and type; labels int64 [n].
  virtual at::Tensor gradient(const at::Tensor& x, double timestep, const at::Tensor& labels) = 0;
};

struct GraphClassifierOptions {
  InputNames inputs;
  std::string
      output;  // of logits or, where a Softmax makes them, probabilities [n, classes]; empty: the first
  bool round_timesteps = false;
  ExecutorOptions executor;
};

/// A graph with inputs image and, where it was trained on noisy images, time. It serves one thread at a time.
class GraphClassifier : public NoisyClassifier {
 public:
  /// Throws Error(Input) if the inputs cannot be told, if it takes labels, or if the output is not there.
  explicit GraphClassifier(const Graph& graph, GraphClassifierOptions options = {});
  at::Tensor gradient(const at::Tensor& x, double timestep, const at::Tensor& labels) override;

 private:
  at::Tensor log_probabilities(const at::Tensor& x, double timestep);
  at::Tensor gradient_of(const at::Tensor& x, double timestep, const at::Tensor& labels);

  GraphClassifierOptions options_;
  NetworkInputs inputs_;
  std::string output_;
  bool probabilities_ = false;
  Executor executor_;
};

}  // namespace lithe
