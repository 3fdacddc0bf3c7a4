// The network of a diffusion model, as a sampler sees it.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lithe/diffusion/network_inputs.h"
#include "lithe/engine/executor.h"

namespace lithe {

class Denoiser {
 public:
  virtual ~Denoiser() = default;

  /// The network's output for noisy images x [n, c, h, w] at a training step: [n, c, h, w], or [n, 2c, h, w]
  /// where the network gives its own range of the variance behind (Nichol and Dhariwal, 2021). `labels` is
  /// int64 [n] or undefined; `skipped` lists layers that are left out, ascending. Gives x's element type.
  virtual at::Tensor predict(const at::Tensor& x, double timestep, const at::Tensor& labels,
                             const std::vector<int>& skipped) = 0;

  /// A new series of images begins: what was kept of earlier steps is forgotten.
  virtual void start() {}
  /// Whether it depends on labels.
  virtual bool takes_labels() const { return false; }
  /// Images that one run takes, smaller calls being filled up; 0: any number.
  virtual std::int64_t fixed_batch() const { return 0; }
};

/// The graph with those layers left out; it must keep the names of inputs and of the output.
using SkipLayers = std::function<Graph(const std::vector<int>& skipped)>;

struct GraphDenoiserOptions {
  InputNames inputs;
  std::string output;  // empty: the first
  /// Round times for a network that takes whole steps; else they are refused.
  bool round_timesteps = false;
  std::size_t most_executors = 16;  // kept at a time, one for each set of skipped layers
  /// Values of the layers' branches, by number (`SkippableLayer::branch`). With them a skipped layer adds
  /// what its branch gave in the last step that executed it, in place of nothing; where no step has, it is
  /// executed. (DeepCache, Ma et al., CVPR 2024, keeps features of a U-Net in the same way.) Takes the memory
  /// of all branches.
  std::vector<std::string> branches;
  ExecutorOptions executor;
};

/// A graph as a denoiser. It serves one thread at a time; several over the same graph share its constants.
class GraphDenoiser : public Denoiser {
 public:
  /// Throws Error(Input) if the inputs cannot be told (see find_network_inputs), if there is no time input,
  /// or if the output is not there. Without `skip_layers` no layers can be skipped.
  explicit GraphDenoiser(GraphPtr graph, GraphDenoiserOptions options = {}, SkipLayers skip_layers = {});

  /// Throws Error(Input) as well if the output is no image of as many channels, or twice as many.
  at::Tensor predict(const at::Tensor& x, double timestep, const at::Tensor& labels,
                     const std::vector<int>& skipped) override;
  void start() override { kept_.clear(); }
  bool takes_labels() const override { return inputs_.label.has_value(); }
  std::int64_t fixed_batch() const override { return inputs_.batch; }

  const NetworkInputs& inputs() const { return inputs_; }
  /// channels, height, width; -1 where the graph leaves them free.
  std::vector<std::int64_t> image_shape() const { return inputs_.image_shape(); }
  /// Labels that the network knows, one for "no label" among them if it has one; nothing if it cannot be
  /// told.
  std::optional<std::int64_t> classes() const { return classes_; }
  /// Whether times other than whole steps can be fed.
  bool takes_fractions() const { return options_.round_timesteps || is_float(inputs_.time->dtype); }

 private:
  Executor& executor_for(const std::vector<int>& skipped);
  at::Tensor run(Executor& executor, const at::Tensor& x, double timestep, const at::Tensor& labels);
  Feeds feeds_of(const at::Tensor& x, double timestep, const at::Tensor& labels) const;
  at::Tensor run_reusing(const at::Tensor& x, double timestep, const at::Tensor& labels,
                         const std::vector<int>& skipped);
  void check_labels(const at::Tensor& x, const at::Tensor& labels) const;

  GraphPtr graph_;
  GraphDenoiserOptions options_;
  SkipLayers skip_layers_;
  NetworkInputs inputs_;
  std::string output_;
  std::optional<std::int64_t> classes_;
  std::list<std::pair<std::vector<int>, Executor>> executors_;  // the last used first
  // Branches as they were last executed, by the number of the run in its step.
  std::vector<Feeds> kept_;
  std::size_t run_in_step_ = 0;
  double kept_timestep_ = 0;
};

/// Runs `part` on pieces of `batch` images, the last one filled up with copies of its last image, and joins
/// what comes out; x [n, ...], labels [n] or undefined.
at::Tensor in_batches(const at::Tensor& x, const at::Tensor& labels, std::int64_t batch,
                      const std::function<at::Tensor(const at::Tensor&, const at::Tensor&)>& part);

}  // namespace lithe
