#include "lithe/diffusion/search/image_fitness.h"

#include <algorithm>
#include <cmath>

#include "lithe/base/error.h"
#include "lithe/diffusion/timesteps.h"

namespace lithe {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// In pieces that begin at multiples of the batch, so that the features of an image do not depend on how many
/// of them were asked for at once.
at::Tensor extend(ImageMaker& maker, const Candidate& candidate, std::int64_t images, std::uint64_t stream,
                  FeatureCache* cache) {
  const SamplingPlan plan = plan_of(candidate);
  const std::string key = key_of(candidate);
  const std::int64_t batch = maker.task().sampler.batch;
  std::vector<at::Tensor> parts;
  std::int64_t have = 0;
  if (cache)
    if (const at::Tensor known = cache->find(key, stream); known.defined()) {
      have = std::min(known.size(0) / batch, images / batch) * batch;
      if (known.size(0) == images) have = images;
      if (have > 0) parts.push_back(known.narrow(0, 0, have));
    }
  for (; have < images; have += batch)
    parts.push_back(maker.features(plan, stream, have, std::min(batch, images - have)));
  at::Tensor all = at::cat(parts);
  if (cache) cache->keep(key, stream, all);
  return all;
}

}  // namespace

SamplingPlan plan_of(const Candidate& candidate) {
  SamplingPlan plan;
  for (const Gene& gene : candidate)
    plan.push_back({.timestep = static_cast<double>(gene.t), .skipped = gene.skipped});
  return plan;
}

Candidate candidate_of_plan(const SamplingPlan& plan, std::int64_t steps) {
  std::vector<std::int64_t> whole;
  for (const PlanStep& step : plan) whole.push_back(static_cast<std::int64_t>(std::llround(step.timestep)));
  Candidate out = candidate_of(separate(std::move(whole), steps));
  for (std::size_t i = 0; i < out.size(); ++i) out[i].skipped = plan[i].skipped;
  return out;
}

// --- ImageMaker
// -----------------------------------------------------------------------------------------------

ImageMaker::ImageMaker(const ImageTask& task)
    : task_(task), sampler_(task.sampler), denoiser_(task.make_denoiser()) {
  if (task.make_features) network_ = task.make_features();
  if (!task.make_classifier) return;
  classifier_ = task.make_classifier();
  sampler_.guidance.classifier = classifier_.get();
}

at::Tensor ImageMaker::images(const SamplingPlan& plan, std::uint64_t stream, std::int64_t first,
                              std::int64_t count, const OnStep& on_step) {
  const at::NoGradGuard no_grad;
  SampleRequest request{.images = {.seed = stream, .first = first, .count = count, .shape = task_.shape},
                        .labels = {},
                        .start = {}};
  if (task_.classes > 0) request.labels = random_labels(stream, first, count, task_.classes);
  return sample(*denoiser_, task_.noise, plan, sampler_, request, on_step);
}

at::Tensor ImageMaker::features_of_images(const at::Tensor& images) {
  const at::Tensor wrong = images.flatten(1).isfinite().all(1).logical_not();
  at::Tensor features = (*network_)(to_uint8(images.nan_to_num(0, 1, -1)));
  if (wrong.any().item<bool>()) features.index_put_({wrong}, std::numeric_limits<double>::quiet_NaN());
  return features;
}

at::Tensor ImageMaker::features(const SamplingPlan& plan, std::uint64_t stream, std::int64_t first,
                                std::int64_t count) {
  const at::NoGradGuard no_grad;
  return features_of_images(images(plan, stream, first, count));
}

// --- FeatureCache
// ---------------------------------------------------------------------------------------------

at::Tensor FeatureCache::find(const std::string& key, std::uint64_t stream) {
  const std::lock_guard lock(mutex_);
  const auto place = places_.find({key, stream});
  if (place == places_.end()) return {};
  entries_.splice(entries_.begin(), entries_, place->second);
  return place->second->second;
}

void FeatureCache::keep(const std::string& key, std::uint64_t stream, const at::Tensor& features) {
  const std::lock_guard lock(mutex_);
  const auto bytes = [](const at::Tensor& one) { return static_cast<std::int64_t>(one.nbytes()); };
  if (const auto place = places_.find({key, stream}); place != places_.end()) {
    held_ -= bytes(place->second->second);
    entries_.erase(place->second);
    places_.erase(place);
  }
  if (bytes(features) > bytes_) return;
  entries_.emplace_front(Key{key, stream}, features);
  places_[{key, stream}] = entries_.begin();
  held_ += bytes(features);
  while (held_ > bytes_) {
    held_ -= bytes(entries_.back().second);
    places_.erase(entries_.back().first);
    entries_.pop_back();
  }
}

// --- Fitness
// --------------------------------------------------------------------------------------------------

ImageReference::ImageReference(const at::Tensor& features, ImageMetric metric) {
  if (metric == ImageMetric::Kernel) {
    kernel_.emplace(features);
    return;
  }
  FeatureStatistics statistics;
  statistics.add(features);
  frechet_.emplace(statistics);
}

double ImageReference::distance(const at::Tensor& features) const {
  if (!features.isfinite().all().item<bool>()) return kInfinity;
  if (kernel_) return kernel_->distance(features);
  FeatureStatistics statistics;
  statistics.add(features);
  return frechet_->distance(statistics);
}

ImageFitness::ImageFitness(const ImageTask& task, const ImageReference& reference, FeatureCache& cache)
    : maker_(task), reference_(reference), cache_(cache) {}

double ImageFitness::operator()(const Candidate& candidate, std::int64_t images, std::uint64_t stream) {
  return reference_.distance(extend(maker_, candidate, images, stream, &cache_));
}

TeacherFitness::TeacherFitness(const ImageTask& task, at::Tensor teacher, std::uint64_t stream)
    : maker_(task), teacher_(std::move(teacher)), stream_(stream) {}

double TeacherFitness::operator()(const Candidate& candidate, std::int64_t images, std::uint64_t stream) {
  if (stream != stream_ || images > teacher_.size(0))
    fail("the teacher made {} images of another noise than asked for", teacher_.size(0));
  const at::Tensor features = extend(maker_, candidate, images, stream, nullptr);
  const double distance = (features - teacher_.narrow(0, 0, images)).square().mean().item<double>();
  return std::isfinite(distance) ? distance : kInfinity;
}

at::Tensor teacher_features(const ImageTask& task, const SamplingPlan& plan, std::int64_t images,
                            std::uint64_t stream) {
  ImageMaker maker(task);
  std::vector<at::Tensor> parts;
  for (std::int64_t first = 0; first < images; first += task.sampler.batch)
    parts.push_back(maker.features(plan, stream, first, std::min(task.sampler.batch, images - first)));
  return at::cat(parts);
}

}  // namespace lithe
