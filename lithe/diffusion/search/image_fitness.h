// How good the images of a schedule are, in the features of a network.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "lithe/diffusion/noise_schedule.h"
#include "lithe/diffusion/sampler.h"
#include "lithe/diffusion/search/evaluator.h"
#include "lithe/metrics/features.h"
#include "lithe/metrics/frechet.h"
#include "lithe/metrics/kernel_distance.h"

namespace lithe {

/// The plan that a candidate stands for.
SamplingPlan plan_of(const Candidate& candidate);
/// And back, on whole steps: fractional ones are rounded, and moved apart where they fall together.
Candidate candidate_of_plan(const SamplingPlan& plan, std::int64_t steps);

/// How images are made and looked at. The functions are called once a thread.
struct ImageTask {
  std::function<std::unique_ptr<Denoiser>()> make_denoiser;
  std::function<std::unique_ptr<FeatureNetwork>()> make_features;
  std::function<std::unique_ptr<NoisyClassifier>()> make_classifier;  // for guidance by one; else empty
  NoiseSchedule noise = NoiseSchedule::cosine();
  SamplerOptions sampler;           // `batch` images are made at a time
  std::vector<std::int64_t> shape;  // channels, height, width
  std::int64_t classes = 0;         // labels are drawn from; 0: none
};

/// Makes images and their features, on one thread.
class ImageMaker {
 public:
  explicit ImageMaker(const ImageTask& task);
  /// Image `first` and the following ones of a stream, [count, c, h, w], about -1..1.
  at::Tensor images(const SamplingPlan& plan, std::uint64_t stream, std::int64_t first, std::int64_t count,
                    const OnStep& on_step = {});
  /// Their features [count, d] after rounding to 8-bit pixels; not finite where the images are not.
  at::Tensor features(const SamplingPlan& plan, std::uint64_t stream, std::int64_t first, std::int64_t count);
  at::Tensor features_of_images(const at::Tensor& images);
  const ImageTask& task() const { return task_; }

 private:
  const ImageTask& task_;
  SamplerOptions sampler_;  // of the task, with a classifier of its own
  std::unique_ptr<Denoiser> denoiser_;
  std::unique_ptr<NoisyClassifier> classifier_;
  std::unique_ptr<FeatureNetwork> network_;
};

/// Features of images already made, so that judging more images of a candidate adds only the rest. Bounded;
/// for several threads.
class FeatureCache {
 public:
  explicit FeatureCache(std::int64_t bytes = std::int64_t{256} << 20) : bytes_(bytes) {}
  /// Undefined where nothing is kept.
  at::Tensor find(const std::string& key, std::uint64_t stream);
  void keep(const std::string& key, std::uint64_t stream, const at::Tensor& features);

 private:
  using Key = std::pair<std::string, std::uint64_t>;
  std::mutex mutex_;
  std::int64_t bytes_, held_ = 0;
  std::list<std::pair<Key, at::Tensor>> entries_;  // the last used first
  std::map<Key, std::list<std::pair<Key, at::Tensor>>::iterator> places_;
};

enum class ImageMetric {
  Frechet,  // distance of Gaussians fitted to the features (FID, with the features of Inception)
  Kernel,   // unbiased kernel distance (KID): for few images
};

/// Features of real images [n, d], and the distance to them.
class ImageReference {
 public:
  explicit ImageReference(const at::Tensor& features, ImageMetric metric = ImageMetric::Frechet);
  /// Infinite where the features [n, d] are not finite.
  double distance(const at::Tensor& features) const;

 private:
  std::optional<FrechetReference> frechet_;
  std::optional<KernelReference> kernel_;
};

/// Distance to real images. `task`, `reference` and `cache` outlive it.
class ImageFitness : public Fitness {
 public:
  ImageFitness(const ImageTask& task, const ImageReference& reference, FeatureCache& cache);
  double operator()(const Candidate& candidate, std::int64_t images, std::uint64_t stream) override;

 private:
  ImageMaker maker_;
  const ImageReference& reference_;
  FeatureCache& cache_;
};

/// Mean squared difference, in features, to what a plan of many steps makes of the same noise: of tiny
/// variance, so that some tens of images tell schedules apart; but it measures closeness to that plan, not to
/// the data.
class TeacherFitness : public Fitness {
 public:
  /// `teacher` [n, d]: features of the first n images of `stream`, see `teacher_features`.
  TeacherFitness(const ImageTask& task, at::Tensor teacher, std::uint64_t stream);
  double operator()(const Candidate& candidate, std::int64_t images, std::uint64_t stream) override;

 private:
  ImageMaker maker_;
  at::Tensor teacher_;
  std::uint64_t stream_;
};
at::Tensor teacher_features(const ImageTask& task, const SamplingPlan& plan, std::int64_t images,
                            std::uint64_t stream);

}  // namespace lithe
