#include "lithe/diffusion/classifier.h"

#include <algorithm>

#include "lithe/base/error.h"
#include "lithe/diffusion/denoiser.h"
#include "lithe/metrics/evaluate.h"
#include "lithe/ops/registry.h"

namespace lithe {

GraphClassifier::GraphClassifier(const Graph& graph, GraphClassifierOptions options)
    : options_(std::move(options)),
      inputs_(find_network_inputs(graph, options_.inputs)),
      executor_(graph, options_.executor) {
  if (inputs_.label)
    fail("the classifier takes labels by its input '{}'; it must tell them from the image instead",
         inputs_.label->name);
  if (graph.outputs.empty()) fail("the classifier has no outputs");
  output_ = options_.output.empty() ? graph.outputs[0].name : options_.output;
  if (std::none_of(graph.outputs.begin(), graph.outputs.end(),
                   [&](const ValueInfo& one) { return one.name == output_; }))
    fail("the classifier has no output '{}'; its first one is '{}'", output_, graph.outputs[0].name);
  probabilities_ = is_probability(graph, output_);
}

at::Tensor GraphClassifier::log_probabilities(const at::Tensor& x, double timestep) {
  Feeds feeds{{inputs_.image.name, x}};
  if (inputs_.time)
    feeds[inputs_.time->name] = time_feed(*inputs_.time, timestep, x.size(0), options_.round_timesteps);
  const at::Tensor y = executor_.run(feeds, {output_}).at(output_);
  if (y.dim() != 2 || y.size(0) != x.size(0))
    fail("the classifier's output '{}' has shape {} for {} images; it must be [n, classes]", output_,
         format_shape(y.sizes().vec()), x.size(0));
  constexpr double kLeastProbability = 1e-30;
  return probabilities_ ? y.clamp_min(kLeastProbability).log() : at::log_softmax(y, 1);
}

at::Tensor GraphClassifier::gradient_of(const at::Tensor& x, double timestep, const at::Tensor& labels) {
  const at::AutoGradMode enabled(true);
  const at::Tensor leaf = x.detach().clone().set_requires_grad(true);
  const at::Tensor scores = log_probabilities(leaf, timestep);
  if (!scores.requires_grad())
    fail("the classifier's output '{}' has no gradient in the image; guide by a model in floating point",
         output_);
  const auto most = labels.max().item<std::int64_t>(), least = labels.min().item<std::int64_t>();
  if (least < 0 || most >= scores.size(1))
    fail("the label {} is not among the {} classes of the classifier; give 0 to {}", least < 0 ? least : most,
         scores.size(1), scores.size(1) - 1);
  scores.gather(1, labels.to(scores.device()).unsqueeze(1)).sum().backward();
  return leaf.grad();
}

at::Tensor GraphClassifier::gradient(const at::Tensor& x, double timestep, const at::Tensor& labels) {
  if (!labels.defined() || labels.dim() != 1 || labels.size(0) != x.size(0))
    fail("guidance by a classifier needs a label for each of the {} images", x.size(0));
  const at::Tensor typed = x.to(scalar_type_of(inputs_.image.dtype));
  const auto part = [&](const at::Tensor& images, const at::Tensor& classes) {
    return gradient_of(images, timestep, classes);
  };
  const bool whole = inputs_.batch == 0 || x.size(0) == inputs_.batch;
  return (whole ? part(typed, labels) : in_batches(typed, labels, inputs_.batch, part)).to(x.options());
}

}  // namespace lithe
