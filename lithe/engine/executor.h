// Runs a graph, or any slice of it, on LibTorch tensors.
#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

class Collective;

using Feeds = std::map<std::string, at::Tensor, std::less<>>;

struct ExecutorOptions {
  at::Device device = at::kCPU;
  bool training = false;      // batch norm uses batch statistics and updates its running ones; dropout drops
  bool channels_last = true;  // keep images in NHWC where the graph convolves them: faster, same results
  // Where no gradient is asked for and nothing observes: evaluate constant parts once, merge chains of nodes
  // into one kernel. Values asked for by `fetch` are always computed; results agree up to rounding.
  bool fuse = true;
  /// Processes over which batch norms take their statistics in training; nullptr: this one alone. Outlives
  /// the executor.
  Collective* collective = nullptr;
};

/// Sees every value as it is made, in order, the fed ones first; for calibration. Constants are not shown.
using Observer = std::function<void(const std::string& name, const at::Tensor& value)>;

/// A graph made ready to run. Operators are resolved once; constants become tensors that share the graph's
/// bytes; model-local functions are run natively where Lithe knows them and from their bodies where not.
/// Gradients flow through everything that LibTorch can differentiate; run under at::NoGradGuard to save
/// memory. A value is freed after its last reader. One Executor serves one thread at a time.
class Executor {
 public:
  /// Throws Error(Input) that lists every operator that is missing, with node, operator and opset.
  explicit Executor(const Graph& graph, const ExecutorOptions& options = {});
  ~Executor();
  Executor(Executor&&) noexcept;
  Executor& operator=(Executor&&) noexcept;

  /// Runs a graph of one input; returns its first output.
  at::Tensor operator()(const at::Tensor& input);

  /// Feeds may name any value, not only inputs: what only served to make a fed value is not run.
  /// Returns the values asked for (default: the graph's outputs). Feeds of constants override them for this
  /// run. Throws Error(Input) if an input is missing or its rank, a fixed dimension or its type disagrees.
  Feeds run(const Feeds& feeds, const std::vector<std::string>& fetch = {}, const Observer& observe = {});

  /// The value `to` computed from the value `from` alone; throws Error(Input) if it depends on another input.
  at::Tensor slice(std::string_view from, std::string_view to, const at::Tensor& x);

  /// The tensor of a constant, and its replacement (for example by one that requires gradients).
  at::Tensor constant(std::string_view name) const;
  void set_constant(std::string_view name, at::Tensor value);
  /// Copies the constants that changed (set_constant, running statistics) into a graph.
  void store_constants(Graph& graph) const;

  void set_training(bool training);
  const Graph& graph() const;
  const ExecutorOptions& options() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Operators of the graph (sub-graphs and function bodies included) that no registry entry runs: one line
/// each, "GridSample (opset 20), 3 nodes, first 'sampler/0'".
std::vector<std::string> missing_operators(const Graph& graph);

}  // namespace lithe
