#include "lithe/diffusion/denoiser.h"

#include <algorithm>
#include <iterator>

#include "lithe/base/error.h"
#include "lithe/ops/registry.h"

namespace lithe {
namespace {

/// [n, ...] lengthened to `batch` by copies of the last one.
at::Tensor fill_up(const at::Tensor& part, std::int64_t batch) {
  if (!part.defined() || part.size(0) == batch) return part;
  std::vector<std::int64_t> sizes = part.sizes().vec();
  sizes[0] = batch - sizes[0];
  return at::cat({part, part.narrow(0, part.size(0) - 1, 1).expand(sizes)});
}

void check_output(const std::string& name, const at::Tensor& x, const at::Tensor& y) {
  const bool fits = y.dim() == 4 && y.size(0) == x.size(0) && y.size(2) == x.size(2) &&
                    y.size(3) == x.size(3) && (y.size(1) == x.size(1) || y.size(1) == 2 * x.size(1));
  if (!fits)
    fail(
        "the output '{}' has shape {} for noisy images {}; a denoiser gives as many channels or twice as "
        "many",
        name, format_shape(y.sizes().vec()), format_shape(x.sizes().vec()));
}

}  // namespace

at::Tensor in_batches(const at::Tensor& x, const at::Tensor& labels, std::int64_t batch,
                      const std::function<at::Tensor(const at::Tensor&, const at::Tensor&)>& part) {
  const std::int64_t count = x.size(0);
  std::vector<at::Tensor> results;
  for (std::int64_t at = 0; at < count; at += batch) {
    const std::int64_t size = std::min(batch, count - at);
    const at::Tensor y = part(fill_up(x.narrow(0, at, size), batch),
                              fill_up(labels.defined() ? labels.narrow(0, at, size) : labels, batch));
    results.push_back(y.narrow(0, 0, size));
  }
  return results.size() == 1 ? results[0] : at::cat(results);
}

GraphDenoiser::GraphDenoiser(GraphPtr graph, GraphDenoiserOptions options, SkipLayers skip_layers)
    : graph_(std::move(graph)),
      options_(std::move(options)),
      skip_layers_(std::move(skip_layers)),
      inputs_(find_network_inputs(*graph_, options_.inputs)) {
  if (!inputs_.time)
    fail("the model takes the image '{}' but no training step; a denoiser needs one, called 't' for example",
         inputs_.image.name);
  if (graph_->outputs.empty()) fail("the model has no outputs");
  output_ = options_.output.empty() ? graph_->outputs[0].name : options_.output;
  if (std::none_of(graph_->outputs.begin(), graph_->outputs.end(),
                   [&](const ValueInfo& one) { return one.name == output_; }))
    fail("the model has no output '{}'; its first one is '{}'", output_, graph_->outputs[0].name);
  if (inputs_.label) classes_ = class_count(*graph_, inputs_.label->name);
  options_.most_executors = std::max<std::size_t>(1, options_.most_executors);
}

Executor& GraphDenoiser::executor_for(const std::vector<int>& skipped) {
  const auto found = std::find_if(executors_.begin(), executors_.end(),
                                  [&](const auto& one) { return one.first == skipped; });
  if (found != executors_.end()) {
    executors_.splice(executors_.begin(), executors_, found);
    return found->second;
  }
  if (!skipped.empty() && !skip_layers_)
    fail("the plan skips {} layers of a model whose layers cannot be skipped", skipped.size());
  Executor executor(skipped.empty() ? *graph_ : skip_layers_(skipped), options_.executor);
  if (executors_.size() >= options_.most_executors) executors_.pop_back();
  executors_.emplace_front(skipped, std::move(executor));
  return executors_.front().second;
}

void GraphDenoiser::check_labels(const at::Tensor& x, const at::Tensor& labels) const {
  if (!inputs_.label) return;
  if (!labels.defined())
    fail("the model takes labels by its input '{}', but none are given; give one for each image",
         inputs_.label->name);
  if (labels.dim() != 1 || labels.size(0) != x.size(0) || labels.scalar_type() != at::kLong)
    fail("{} images need int64 labels [{}], not {}", x.size(0), x.size(0),
         format_shape(labels.sizes().vec()));
  if (!classes_ || labels.numel() == 0) return;
  const auto least = labels.min().item<std::int64_t>(), most = labels.max().item<std::int64_t>();
  if (least < 0 || most >= *classes_)
    fail("the label {} is not among the {} that the model's input '{}' knows; give 0 to {}",
         least < 0 ? least : most, *classes_, inputs_.label->name, *classes_ - 1);
}

Feeds GraphDenoiser::feeds_of(const at::Tensor& x, double timestep, const at::Tensor& labels) const {
  Feeds feeds{{inputs_.image.name, x}};
  feeds[inputs_.time->name] = time_feed(*inputs_.time, timestep, x.size(0), options_.round_timesteps);
  if (inputs_.label) feeds[inputs_.label->name] = label_feed(*inputs_.label, labels);
  return feeds;
}

at::Tensor GraphDenoiser::run_reusing(const at::Tensor& x, double timestep, const at::Tensor& labels,
                                      const std::vector<int>& skipped) {
  if (kept_.empty() || timestep != kept_timestep_) run_in_step_ = 0;
  kept_timestep_ = timestep;
  if (kept_.size() <= run_in_step_) kept_.resize(run_in_step_ + 1);
  Feeds& kept = kept_[run_in_step_++];
  Feeds feeds = feeds_of(x, timestep, labels);
  std::vector<std::string> fetch{output_};
  for (std::size_t layer = 0; layer < options_.branches.size(); ++layer) {
    const std::string& branch = options_.branches[layer];
    const bool left_out = std::binary_search(skipped.begin(), skipped.end(), static_cast<int>(layer));
    const auto known = kept.find(branch);
    if (left_out && known != kept.end() && known->second.size(0) == x.size(0))
      feeds[branch] = known->second;
    else
      fetch.push_back(branch);
  }
  Feeds made = executor_for({}).run(feeds, fetch);
  at::Tensor y = made.at(output_);
  made.erase(output_);
  for (auto& [name, value] : made) kept[name] = value;
  return y;
}

at::Tensor GraphDenoiser::run(Executor& executor, const at::Tensor& x, double timestep,
                              const at::Tensor& labels) {
  Feeds feeds = feeds_of(x, timestep, labels);
  // With layers left out an input may have become useless and be gone.
  const auto& taken = executor.graph().inputs;
  std::erase_if(feeds, [&](const auto& feed) {
    return std::none_of(taken.begin(), taken.end(),
                        [&](const ValueInfo& input) { return input.name == feed.first; });
  });
  return executor.run(feeds, {output_}).at(output_);
}

at::Tensor GraphDenoiser::predict(const at::Tensor& x, double timestep, const at::Tensor& labels,
                                  const std::vector<int>& skipped) {
  check_labels(x, labels);
  Executor& executor = executor_for(options_.branches.empty() ? skipped : std::vector<int>());
  const at::Tensor typed = x.to(scalar_type_of(inputs_.image.dtype));
  const auto part = [&](const at::Tensor& images, const at::Tensor& classes) {
    return options_.branches.empty() ? run(executor, images, timestep, classes)
                                     : run_reusing(images, timestep, classes, skipped);
  };
  const bool whole = inputs_.batch == 0 || x.size(0) == inputs_.batch;
  const at::Tensor y = whole ? part(typed, labels) : in_batches(typed, labels, inputs_.batch, part);
  check_output(output_, x, y);
  return y.to(x.options());
}

}  // namespace lithe
