#include "lithe/data/patches.h"

#include <algorithm>
#include <numeric>

#include "lithe/base/error.h"
#include "lithe/base/random.h"
#include "lithe/data/loader.h"

namespace lithe {
namespace {

class Patches : public Dataset {
 public:
  Patches(DatasetPtr dataset, std::int64_t side, std::int64_t count, std::uint64_t seed, ImageLayout layout)
      : dataset_(std::move(dataset)),
        side_(side),
        count_(count),
        seed_(seed),
        rows_(layout == ImageLayout::Nchw) {}

  std::int64_t size() const override { return count_; }
  bool has_targets() const override { return dataset_->has_targets(); }
  Sample get(std::int64_t index) const override {
    return cut(dataset_->get(index % dataset_->size()), index);
  }

  /// Patch `index` of the sample that it is of.
  Sample cut(Sample sample, std::int64_t index) const {
    if (sample.inputs.size() != 1 || sample.inputs.begin()->second.dim() != 3)
      fail("{}: patches are of single images", sample.name);
    at::Tensor& image = sample.inputs.begin()->second;
    const std::int64_t axis = rows_ ? 1 : 0, height = image.size(axis), width = image.size(axis + 1);
    if (height < side_ || width < side_)
      fail("{}: {}x{} pixels are less than a patch of {}; give a smaller --calib-patch", sample.name, height,
           width, side_);
    Rng rng(seed_, static_cast<std::uint64_t>(index));
    const auto top = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(height - side_ + 1)));
    const auto left = static_cast<std::int64_t>(rng.below(static_cast<std::uint64_t>(width - side_ + 1)));
    const auto part = [&](const at::Tensor& from, std::int64_t scale) {
      return from.narrow(axis, scale * top, scale * side_)
          .narrow(axis + 1, scale * left, scale * side_)
          .clone();
    };
    image = part(image, 1);
    if (sample.target.defined() && sample.target.dim() == 3)
      sample.target = part(sample.target, std::max<std::int64_t>(1, sample.target.size(axis) / height));
    sample.name += "@" + std::to_string(top) + "," + std::to_string(left);
    return sample;
  }

 private:
  DatasetPtr dataset_;
  std::int64_t side_, count_;
  std::uint64_t seed_;
  bool rows_;
};

class Kept : public Dataset {
 public:
  Kept(std::vector<Sample> samples, bool targets) : samples_(std::move(samples)), targets_(targets) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(samples_.size()); }
  bool has_targets() const override { return targets_; }
  Sample get(std::int64_t index) const override { return samples_.at(static_cast<std::size_t>(index)); }

 private:
  std::vector<Sample> samples_;
  bool targets_;
};

class Middles : public Dataset {
 public:
  Middles(DatasetPtr dataset, std::int64_t side) : dataset_(std::move(dataset)), side_(side) {}
  std::int64_t size() const override { return dataset_->size(); }
  Sample get(std::int64_t index) const override {
    Sample sample = dataset_->get(index);
    sample.target = at::Tensor();
    for (auto& [name, picture] : sample.inputs) {
      if (picture.dim() != 3) continue;
      for (const std::int64_t axis : {1, 2})
        if (const std::int64_t size = picture.size(axis); size > side_)
          picture = picture.narrow(axis, (size - side_) / 2, side_);
      picture = picture.contiguous();
    }
    return sample;
  }

 private:
  DatasetPtr dataset_;
  std::int64_t side_;
};

std::shared_ptr<const Patches> patches_of(DatasetPtr dataset, std::int64_t side, std::int64_t count,
                                          std::uint64_t seed, ImageLayout layout) {
  if (side < 1 || count < 1 || dataset->size() == 0) fail("there are no patches of {} pixels to take", side);
  return std::make_shared<Patches>(std::move(dataset), side, count, seed, layout);
}

std::int64_t bytes_of(const Sample& sample) {
  std::int64_t bytes = sample.target.defined() ? static_cast<std::int64_t>(sample.target.nbytes()) : 0;
  for (const auto& [name, input] : sample.inputs) bytes += static_cast<std::int64_t>(input.nbytes());
  return bytes;
}

}  // namespace

DatasetPtr random_patches(DatasetPtr dataset, std::int64_t side, std::int64_t count, std::uint64_t seed,
                          ImageLayout layout) {
  return patches_of(std::move(dataset), side, count, seed, layout);
}

DatasetPtr kept_patches(const DatasetPtr& dataset, std::int64_t side, std::int64_t count, std::uint64_t seed,
                        ImageLayout layout, const KeepOptions& options) {
  const auto patches = patches_of(dataset, side, count, seed, layout);
  if (bytes_of(patches->get(0)) > options.memory / count) return patches;
  std::vector<Sample> kept(static_cast<std::size_t>(count));
  std::vector<std::int64_t> sources(static_cast<std::size_t>(std::min(count, dataset->size())));
  std::iota(sources.begin(), sources.end(), std::int64_t{0});
  Loader loader(subset(dataset, sources), {.batch = 1, .threads = options.threads});
  std::int64_t source = 0;
  for (Batch batch; loader.next(batch); ++source) {
    Sample whole{.name = batch.names.front()};
    for (const auto& [name, input] : batch.inputs) whole.inputs[name] = input.select(0, 0);
    if (batch.targets.defined()) whole.target = batch.targets.select(0, 0);
    for (std::int64_t index = source; index < count; index += dataset->size())
      kept[static_cast<std::size_t>(index)] = patches->cut(whole, index);
  }
  return std::make_shared<Kept>(std::move(kept), dataset->has_targets());
}

DatasetPtr middles(DatasetPtr dataset, std::int64_t side) {
  return std::make_shared<Middles>(std::move(dataset), side);
}

}  // namespace lithe
