// Random changes of training samples.
#include <ATen/Functions.h>

#include <algorithm>
#include <cmath>

#include "lithe/base/error.h"
#include "lithe/train/samples.h"

namespace lithe {
namespace {

constexpr std::uint64_t kAugmentation = 0x61756700;
constexpr int kEpochShift = 40;  // room for 2^40 samples

/// The numbers that black and white pixels become.
double black(const Preprocess& preprocess, std::int64_t channel) {
  return -preprocess.mean_of(channel) / preprocess.std_of(channel);
}

/// A window of the image at (top, left), which may lie partly outside, where the image is black; mirrored or
/// not.
at::Tensor crop(const at::Tensor& image, std::int64_t top, std::int64_t left, std::int64_t height,
                std::int64_t width, bool mirror, const Preprocess& preprocess) {
  const at::Tensor plain = image.contiguous();
  const std::int64_t channels = plain.size(0), h = plain.size(1), w = plain.size(2);
  at::Tensor out = at::empty({channels, height, width}, plain.options());
  const float* from = plain.data_ptr<float>();
  float* to = out.data_ptr<float>();
  const std::int64_t first = std::clamp<std::int64_t>(-left, 0, width),
                     last = std::clamp<std::int64_t>(w - left, 0, width);
  for (std::int64_t c = 0; c < channels; ++c) {
    const float outside = static_cast<float>(black(preprocess, c));
    for (std::int64_t y = 0; y < height; ++y) {
      float* row = to + (c * height + y) * width;
      if (y + top < 0 || y + top >= h) {
        std::fill(row, row + width, outside);
        continue;
      }
      const float* source = from + (c * h + y + top) * w + left;
      std::fill(row, row + first, outside);
      std::copy(source + first, source + std::max(first, last), row + first);
      std::fill(row + std::max(first, last), row + width, outside);
      if (mirror) std::reverse(row, row + width);
    }
  }
  return out;
}

/// A random part of the image, resized to `height` x `width` (Szegedy et al., CVPR 2015, section 6).
at::Tensor resized_crop(const at::Tensor& image, std::int64_t height, std::int64_t width, double least_area,
                        Rng& rng, const Preprocess& preprocess) {
  const std::int64_t h = image.size(1), w = image.size(2);
  std::int64_t part_h = std::min(h, w), part_w = part_h, top = (h - part_h) / 2, left = (w - part_w) / 2;
  for (int attempt = 0; attempt < 10; ++attempt) {
    const double area = static_cast<double>(h * w) * (least_area + (1 - least_area) * rng.uniform());
    const double ratio = std::exp((2 * rng.uniform() - 1) * std::log(4.0 / 3));
    const auto wide = std::llround(std::sqrt(area * ratio)), high = std::llround(std::sqrt(area / ratio));
    if (wide < 1 || high < 1 || wide > w || high > h) continue;
    part_w = wide;
    part_h = high;
    top = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(h - high + 1)));
    left = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(w - wide + 1)));
    break;
  }
  at::Tensor part = crop(image, top, left, part_h, part_w, false, preprocess);
  if (part_h == height && part_w == width) return part;
  return at::_upsample_bilinear2d_aa(part.unsqueeze(0), {height, width}, false).squeeze(0).contiguous();
}

/// Brightness, contrast and saturation, each multiplied by a number from 1 - strength to 1 + strength.
void jitter(at::Tensor& image, double strength, Rng& rng, const Preprocess& preprocess) {
  const auto factor = [&] { return 1 + strength * (2 * rng.uniform() - 1); };
  const double brightness = factor(), contrast = factor(), saturation = factor();
  const std::int64_t channels = image.size(0), plane = image.numel() / channels;
  float* values = image.data_ptr<float>();
  const auto white = static_cast<float>(255 * preprocess.scale);
  const float weights[3] = {0.299f, 0.587f, 0.114f};
  const auto luma = [&](std::int64_t i) {
    if (channels != 3) return values[i];
    const float parts[3] = {values[i], values[plane + i], values[2 * plane + i]};
    return weights[0] * parts[0] + weights[1] * parts[1] + weights[2] * parts[2];
  };
  for (std::int64_t c = 0; c < channels; ++c)
    for (std::int64_t i = c * plane; i < (c + 1) * plane; ++i)
      values[i] = std::clamp(
          static_cast<float>((values[i] * preprocess.std_of(c) + preprocess.mean_of(c)) * brightness), 0.0f,
          white);
  double sum = 0;
  for (std::int64_t i = 0; i < plane; ++i) sum += luma(i);
  const double grey = sum / static_cast<double>(plane);
  for (std::int64_t i = 0; i < channels * plane; ++i)
    values[i] = std::clamp(static_cast<float>(grey + contrast * (values[i] - grey)), 0.0f, white);
  for (std::int64_t i = 0; i < plane; ++i) {
    const float own = luma(i);
    for (std::int64_t c = 0; c < channels; ++c) {
      float& value = values[c * plane + i];
      if (channels == 3)
        value = std::clamp(static_cast<float>(own + saturation * (value - own)), 0.0f, white);
      value = static_cast<float>((value - preprocess.mean_of(c)) / preprocess.std_of(c));
    }
  }
}

class Augmented : public Dataset {
 public:
  Augmented(DatasetPtr dataset, std::vector<std::int64_t> order, const EpochOptions& options)
      : dataset_(std::move(dataset)), order_(std::move(order)), options_(options) {}

  std::int64_t size() const override { return static_cast<std::int64_t>(order_.size()); }
  bool labelled() const override { return dataset_->labelled(); }
  bool has_targets() const override {
    return dataset_->has_targets() || options_.augmentation.mixup_alpha > 0;
  }

  Sample get(std::int64_t position) const override {
    const std::int64_t index = order_.at(static_cast<std::size_t>(position));
    Sample sample = dataset_->get(index);
    if (!augments(options_.augmentation, sample.target.defined())) return sample;
    Rng rng = rng_of(index);
    change(sample, rng);
    if (options_.augmentation.mixup_alpha > 0 && sample.label >= 0) mix(sample, rng);
    return sample;
  }

 private:
  Rng rng_of(std::int64_t index) const {
    return Rng(seed_for(options_.seed, kAugmentation),
               static_cast<std::uint64_t>(options_.epoch) << kEpochShift | static_cast<std::uint64_t>(index));
  }

  at::Tensor& image_of(Sample& sample) const {
    if (sample.inputs.size() != 1 || sample.inputs.begin()->second.dim() != 3 ||
        sample.inputs.begin()->second.scalar_type() != at::kFloat)
      fail(
          "{}: augmentation needs a single image [channels, height, width] of float32 a sample; train "
          "without it",
          sample.name);
    return sample.inputs.begin()->second;
  }

  void change(Sample& sample, Rng& rng) const {
    at::Tensor& image = image_of(sample);
    const bool last = options_.preprocess.layout == ImageLayout::Nhwc;
    if (last) image = image.permute({2, 0, 1});
    if (sample.target.defined()) {
      if (last) sample.target = sample.target.permute({2, 0, 1});
      change_pair(sample, image, rng);
      if (last) sample.target = sample.target.permute({1, 2, 0}).contiguous();
    } else {
      image = changed(image, rng);
    }
    if (last) image = image.permute({1, 2, 0}).contiguous();
  }

  at::Tensor changed(at::Tensor image, Rng& rng) const {
    const Augmentation& how = options_.augmentation;
    const std::int64_t height = image.size(1), width = image.size(2);
    if (how.random_resized_crop)
      image = resized_crop(image, height, width, how.least_area, rng, options_.preprocess);
    const auto shift = [&] {
      return static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(2 * how.padded_crop + 1))) -
             how.padded_crop;
    };
    const std::int64_t top = how.padded_crop > 0 ? shift() : 0, left = how.padded_crop > 0 ? shift() : 0;
    const bool mirror = how.flip && rng.below(2) == 1;
    image = crop(image, top, left, height, width, mirror, options_.preprocess);
    if (how.colour_jitter > 0) jitter(image, how.colour_jitter, rng, options_.preprocess);
    return image;
  }

  void change_pair(Sample& sample, at::Tensor& image, Rng& rng) const {
    const Augmentation& how = options_.augmentation;
    at::Tensor& target = sample.target;
    const std::int64_t h = image.size(1), w = image.size(2);
    const bool scaled = target.dim() == 3 && target.size(1) % h == 0 &&
                        target.size(1) / h == target.size(2) / w && target.size(2) % w == 0;
    if (!scaled)
      fail("{}: the target {} is no whole multiple of the image {}", sample.name,
           format_shape(target.sizes().vec()), format_shape(image.sizes().vec()));
    const std::int64_t scale = target.size(1) / h, patch = how.patch;
    std::int64_t top = 0, left = 0, height = h, width = w;
    if (patch > 0) {
      if (h < patch || w < patch)
        fail("{}: an image of {}x{} is smaller than the patch of {}; give a smaller --patch", sample.name, h,
             w, patch);
      top = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(h - patch + 1)));
      left = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(w - patch + 1)));
      height = width = patch;
    }
    const bool mirror = how.flip && rng.below(2) == 1;
    image = crop(image, top, left, height, width, mirror, options_.preprocess);
    target =
        crop(target, top * scale, left * scale, height * scale, width * scale, mirror, options_.preprocess);
  }

  void mix(Sample& sample, Rng& rng) const {
    const auto other_index =
        static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(dataset_->size())));
    const double share = beta_draw(rng, options_.augmentation.mixup_alpha);
    Sample other = dataset_->get(other_index);
    change(other, rng);
    at::Tensor& image = image_of(sample);
    if (image_of(other).sizes() != image.sizes())
      fail("{}: mixup needs images of equal size, {} has {}", sample.name, other.name,
           format_shape(image_of(other).sizes().vec()));
    image = image.mul(share).add_(image_of(other), 1 - share);
    sample.target = at::tensor(
        {static_cast<float>(sample.label), static_cast<float>(other.label), static_cast<float>(share)});
  }

  DatasetPtr dataset_;
  std::vector<std::int64_t> order_;
  EpochOptions options_;
};

/// Marsaglia and Tsang, "A Simple Method for Generating Gamma Variables", 2000.
double gamma_draw(Rng& rng, double shape) {
  if (shape < 1) {
    const double uniform = 1 - rng.uniform();
    return gamma_draw(rng, shape + 1) * std::pow(uniform, 1 / shape);
  }
  const double d = shape - 1.0 / 3, c = 1 / std::sqrt(9 * d);
  while (true) {
    const double x = rng.normal(), cube = 1 + c * x;
    if (cube <= 0) continue;
    const double v = cube * cube * cube, u = 1 - rng.uniform();
    if (std::log(u) < 0.5 * x * x + d - d * v + d * std::log(v)) return d * v;
  }
}

}  // namespace

DatasetPtr augmented(DatasetPtr dataset, std::vector<std::int64_t> order, const EpochOptions& options) {
  return std::make_shared<Augmented>(std::move(dataset), std::move(order), options);
}

bool augments(const Augmentation& how, bool image_targets) {
  if (image_targets) return how.flip || how.patch > 0;
  return how.flip || how.padded_crop > 0 || how.random_resized_crop || how.colour_jitter > 0 ||
         how.mixup_alpha > 0;
}

double beta_draw(Rng& rng, double alpha) {
  const double a = gamma_draw(rng, alpha), b = gamma_draw(rng, alpha);
  return a + b > 0 ? a / (a + b) : 0.5;
}

std::uint64_t seed_for(std::uint64_t seed, std::uint64_t purpose) {
  // The finaliser of SplitMix64.
  std::uint64_t z = seed + 0x9e3779b97f4a7c15u * (purpose + 1);
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

}  // namespace lithe
