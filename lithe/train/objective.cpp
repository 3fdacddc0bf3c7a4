#include "lithe/train/objective.h"

#include "lithe/base/error.h"
#include "lithe/metrics/evaluate.h"
#include "lithe/train/loss.h"

namespace lithe {
namespace {

constexpr double kLeastProbability = 1e-12;

const at::Tensor& check_labels(const Batch& batch, std::int64_t classes) {
  if (!batch.labels.defined()) fail("{}: has no label", batch.names[0]);
  const std::int64_t* labels = batch.labels.data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < batch.size(); ++i)
    if (labels[i] < 0 || labels[i] >= classes)
      fail("{}: the label is {}, but the model has {} classes", batch.names[static_cast<std::size_t>(i)],
           labels[i], classes);
  return batch.labels;
}

}  // namespace

Objective::Objective(const Graph& graph, const Dataset& data, const TrainOptions& options)
    : options_(options), output_(graph.outputs.at(0).name) {
  image_targets_ =
      options.loss == TrainLoss::L1 || squared() || (options.loss == TrainLoss::Auto && data.has_targets());
  if (image_targets_ && !data.has_targets())
    fail("the loss between images needs data with target images (pairs); see docs/data.md");
  if (!image_targets_ && !data.labelled()) fail("cross-entropy needs labelled data; see docs/data.md");
  if (image_targets_ && options.augmentation.mixup_alpha > 0)
    fail("mixup is for labelled data, not target images");
  probabilities_ = !image_targets_ && is_probability(graph, output_);
  if (options.distillation.teacher && options.distillation.weight > 0)
    teacher_.emplace(*options.distillation.teacher, ExecutorOptions{.device = options.device});
}

Objective::Value Objective::operator()(const at::Tensor& y, const Batch& batch, const Feeds& feeds) {
  const at::Tensor teacher = teacher_ ? taught(y, feeds) : at::Tensor();
  return image_targets_ ? compare_images(y, batch, teacher) : compare_labels(y, batch, teacher);
}

at::Tensor Objective::taught(const at::Tensor& y, const Feeds& feeds) {
  const at::NoGradGuard no_grad;
  const Graph& graph = *options_.distillation.teacher;
  const std::string& name = graph.outputs.at(0).name;
  Feeds inputs;
  for (const auto& [key, value] : feeds)
    inputs[feeds.size() == 1 ? graph.required_inputs().at(0)->name : key] = value;
  at::Tensor out = teacher_->run(inputs, {name}).at(name);
  if (out.sizes() != y.sizes())
    fail("the teacher gives {}, the model {}; they must have the same output",
         format_shape(out.sizes().vec()), format_shape(y.sizes().vec()));
  return out;
}

at::Tensor Objective::difference(const at::Tensor& a, const at::Tensor& b) const {
  return squared() ? (a - b).square().mean() : (a - b).abs().mean();
}

Objective::Value Objective::compare_images(const at::Tensor& y, const Batch& batch,
                                           const at::Tensor& taught) const {
  const at::Tensor target = batch.targets.to(options_.device);
  if (y.sizes() != target.sizes())
    fail("{}: the model gives {}, the target is {}", batch.names[0], format_shape(y.sizes().vec()),
         format_shape(target.sizes().vec()));
  at::Tensor loss = difference(y, target);
  const double weight = options_.distillation.weight;
  if (taught.defined()) loss = (1 - weight) * loss + weight * difference(y, taught);
  return {loss, at::Tensor()};
}

Objective::Value Objective::compare_labels(const at::Tensor& y, const Batch& batch,
                                           const at::Tensor& taught) const {
  if (y.dim() != 2)
    fail("the output '{}' has the shape {}; cross-entropy needs [n, classes]", output_,
         format_shape(y.sizes().vec()));
  const at::Tensor labels = check_labels(batch, y.size(1)).to(options_.device);
  const bool mixed = options_.augmentation.mixup_alpha > 0;
  const at::Tensor shares = mixed ? batch.targets.to(options_.device) : at::Tensor();
  at::Tensor loss = smoothed_cross_entropy(y, labels, shares, options_.label_smoothing, probabilities_);
  if (taught.defined()) {
    const auto logits = [&](const at::Tensor& scores) {
      return probabilities_ ? scores.clamp_min(kLeastProbability).log() : scores;
    };
    const double weight = options_.distillation.weight;
    loss = (1 - weight) * loss +
           weight * distillation_loss(logits(y), logits(taught), options_.distillation.temperature);
  }
  return {loss, (y.detach().argmax(1) == labels).sum()};
}

}  // namespace lithe
