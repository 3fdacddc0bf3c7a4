#include "lithe/diffusion/guided_network.h"

#include <algorithm>
#include <functional>

#include "lithe/base/error.h"
#include "lithe/diffusion/classifier.h"

namespace lithe {
namespace {

/// Runs `part` on pieces of at most `batch` images and joins what comes out.
at::Tensor by_pieces(const at::Tensor& x, const at::Tensor& labels, std::int64_t batch,
                     const std::function<at::Tensor(const at::Tensor&, const at::Tensor&)>& part) {
  if (x.size(0) <= batch) return part(x, labels);
  std::vector<at::Tensor> results;
  for (std::int64_t at = 0; at < x.size(0); at += batch) {
    const std::int64_t size = std::min(batch, x.size(0) - at);
    results.push_back(part(x.narrow(0, at, size), labels.defined() ? labels.narrow(0, at, size) : labels));
  }
  return at::cat(results);
}

/// The batch that was asked for, in whole runs of a network whose batch is fixed.
std::int64_t piece(std::int64_t wanted, std::int64_t fixed) {
  return fixed == 0 ? wanted : std::max(fixed, wanted / fixed * fixed);
}

}  // namespace

GuidedNetwork::GuidedNetwork(Denoiser& denoiser, const SamplerOptions& options, at::Tensor labels)
    : denoiser_(denoiser), options_(options), labels_(std::move(labels)) {
  const GuidanceKind kind = options.guidance.kind;
  if (kind != GuidanceKind::None && !labels_.defined())
    fail("{} guidance needs a label for each image; give labels", guidance_name(kind));
  if (kind == GuidanceKind::ClassifierFree && !denoiser.takes_labels())
    fail("classifier-free guidance needs a model that takes labels; this one does not");
}

at::Tensor GuidedNetwork::guide(const at::Tensor& with, const at::Tensor& without,
                                std::int64_t channels) const {
  at::Tensor guided = without + options_.guidance.scale * (with - without);
  if (with.size(1) > channels)  // the range of the variance is not guided
    guided = at::cat({guided.narrow(1, 0, channels), with.narrow(1, channels, with.size(1) - channels)}, 1);
  return guided;
}

at::Tensor GuidedNetwork::call(const at::Tensor& x, const at::Tensor& labels, const PlanStep& point) {
  const Guidance& guidance = options_.guidance;
  const auto predict = [&](const at::Tensor& images, const at::Tensor& classes) {
    return denoiser_.predict(images, point.timestep, classes, point.skipped);
  };
  if (guidance.kind != GuidanceKind::ClassifierFree || guidance.scale == 1) return predict(x, labels);
  const at::Tensor none = at::full_like(labels, guidance.null_label);
  if (denoiser_.fixed_batch() > 0) return guide(predict(x, labels), predict(x, none), x.size(1));
  const auto both = predict(at::cat({x, x}), at::cat({labels, none})).chunk(2);
  return guide(both[0], both[1], x.size(1));
}

GuidedNetwork::Output GuidedNetwork::operator()(const at::Tensor& x, const PlanStep& point) {
  const at::Tensor y = by_pieces(
      x, labels_, piece(options_.batch, denoiser_.fixed_batch()),
      [&](const at::Tensor& images, const at::Tensor& labels) { return call(images, labels, point); });
  const std::int64_t channels = x.size(1);
  if (y.size(1) == channels) return {y, {}};
  return {y.narrow(1, 0, channels), y.narrow(1, channels, channels)};
}

at::Tensor GuidedNetwork::pull(const at::Tensor& x, const PlanStep& point) {
  return options_.guidance.scale *
         by_pieces(x, labels_, options_.batch, [&](const at::Tensor& images, const at::Tensor& labels) {
           return options_.guidance.classifier->gradient(images, point.timestep, labels);
         });
}

}  // namespace lithe
