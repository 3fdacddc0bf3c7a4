#include "lithe/diffusion/train_denoiser.h"

#include <cmath>
#include <map>
#include <string>
#include <tuple>

#include "lithe/base/error.h"
#include "lithe/base/random.h"
#include "lithe/train/samples.h"
#include "lithe/train/split.h"

namespace lithe {
namespace {

constexpr std::uint64_t kTraining = 0x6e7a7400, kHeldOut = 0x6e7a6800;
constexpr int kEpochShift = 40;  // room for 2^40 samples

class Noised : public Dataset {
 public:
  Noised(DatasetPtr images, const NoiseOptions& options, std::vector<std::int64_t> order)
      : images_(std::move(images)),
        options_(options),
        noise_(options.diffusion.noise()),
        order_(std::move(order)) {}

  std::int64_t size() const override { return images_->size(); }
  bool has_targets() const override { return true; }

  Sample get(std::int64_t position) const override {
    Sample sample = images_->get(position);
    if (sample.inputs.size() != 1 || sample.inputs.begin()->second.dim() != 3 ||
        sample.inputs.begin()->second.scalar_type() != at::kFloat)
      fail("{}: a noise predictor learns from single images [channels, height, width] of float32",
           sample.name);
    const at::Tensor image = sample.inputs.begin()->second.contiguous();
    const std::int64_t index = order_.empty() ? position : order_.at(static_cast<std::size_t>(position));
    Rng rng(options_.seed,
            static_cast<std::uint64_t>(options_.epoch) << kEpochShift | static_cast<std::uint64_t>(index));
    const auto step = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(noise_.steps())));
    at::Tensor epsilon = at::empty_like(image);
    float* values = epsilon.data_ptr<float>();
    for (std::int64_t i = 0; i < epsilon.numel(); ++i) values[i] = static_cast<float>(rng.normal());

    Sample out{.name = sample.name};
    const double alpha_bar = noise_.alpha_bar(step);
    const double alpha = std::sqrt(alpha_bar), sigma = std::sqrt(1 - alpha_bar);
    const NetworkInputs& inputs = options_.inputs;
    out.inputs[inputs.image.name] = alpha * image + sigma * epsilon;
    out.inputs[inputs.time->name] = time_feed(*inputs.time, static_cast<double>(step), 1, false).squeeze(0);
    if (inputs.label)
      out.inputs[inputs.label->name] =
          label_feed(*inputs.label, at::full({1}, label_of(sample), at::kLong)).squeeze(0);
    switch (options_.diffusion.prediction) {
      case Prediction::Epsilon:
        out.target = epsilon;
        break;
      case Prediction::V:
        out.target = alpha * epsilon - sigma * image;
        break;
      case Prediction::X0:
        out.target = image;
        break;
    }
    return out;
  }

 private:
  std::int64_t label_of(const Sample& sample) const {
    if (sample.label < 0)
      fail("{}: has no label, but the network is told one; give labelled data", sample.name);
    if (options_.classes > 0 && sample.label >= options_.classes)
      fail("{}: the label is {}, but the network knows {} classes", sample.name, sample.label,
           options_.classes);
    return sample.label;
  }

  DatasetPtr images_;
  NoiseOptions options_;
  NoiseSchedule noise_;
  std::vector<std::int64_t> order_;
};

class NoiseHooks : public TrainHooks {
 public:
  NoiseHooks(NoiseOptions options, std::uint64_t seed) : options_(std::move(options)) {
    options_.seed = seed_for(seed, kTraining);
  }

  DatasetPtr epoch_data(DatasetPtr samples, const std::vector<std::int64_t>& order,
                        std::int64_t epoch) override {
    NoiseOptions options = options_;
    options.epoch = epoch;
    return noised(std::move(samples), options, order);
  }

  std::map<std::string, std::string> recipe() const override {
    return {{"noise schedule", options_.diffusion.noise_schedule},
            {"diffusion steps", std::to_string(options_.diffusion.steps)},
            {"prediction", prediction_name(options_.diffusion.prediction)}};
  }

 private:
  NoiseOptions options_;
};

/// Samples of a step have times of their own, and predictions shaped like their images.
void check_network(const Graph& graph, const NetworkInputs& inputs) {
  if (!inputs.time) fail("the model '{}' takes no time step: it is no noise predictor", graph.name);
  if (inputs.time->shape && inputs.time->shape->empty())
    fail("the model '{}' takes one time for all images; training needs one for each", graph.name);
  if (graph.outputs.empty()) fail("the model '{}' has no output to train", graph.name);
  const std::optional<DimVector>& out = graph.outputs[0].shape;
  if (!out || out->size() != 4) return;  // the first step tells
  const Dim &given = (*inputs.image.shape)[1], &made = (*out)[1];
  if (given.known() && made.known() && given.value != made.value)
    fail(
        "the model '{}' makes {} channels of {}: only predictions shaped like the image are trained, without "
        "a "
        "learned variance",
        graph.name, made.value, given.value);
}

}  // namespace

DatasetPtr noised(DatasetPtr images, const NoiseOptions& options, std::vector<std::int64_t> order) {
  return std::make_shared<Noised>(std::move(images), options, std::move(order));
}

TrainResult train_denoiser(const Graph& graph, const DatasetPtr& data, DiffusionRecord diffusion,
                           TrainOptions options, Progress& progress) {
  const NetworkInputs inputs = find_network_inputs(graph);
  check_network(graph, inputs);
  if (options.augmentation.mixup_alpha > 0) fail("mixup is for labels, not for diffusion models");
  std::tie(diffusion.low, diffusion.high) = image_range(options.preprocess);
  NoiseOptions noise{.diffusion = diffusion, .inputs = inputs};
  if (inputs.label) noise.classes = class_count(graph, inputs.label->name).value_or(0);

  // Split here, where samples are still numbered: their noise must not depend on the number of processes.
  TrainOptions alone = options;
  alone.collective = nullptr;
  const Split split = split_data(data, alone);
  options.loss = TrainLoss::L2;
  options.validation_share = 0;
  if (split.validation) {
    noise.seed = seed_for(options.seed, kHeldOut);
    options.validation = noised(split.validation, noise);
  }
  NoiseHooks hooks(noise, options.seed);
  TrainResult result = train(graph, split.training, options, progress, &hooks);
  keep_diffusion_record(result.last, diffusion);
  keep_diffusion_record(result.best, diffusion);
  return result;
}

}  // namespace lithe
