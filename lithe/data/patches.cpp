#include "lithe/data/patches.h"

#include <algorithm>

#include "lithe/base/error.h"
#include "lithe/base/random.h"

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
    Sample sample = dataset_->get(index % dataset_->size());
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
    const auto cut = [&](const at::Tensor& from, std::int64_t scale) {
      return from.narrow(axis, scale * top, scale * side_)
          .narrow(axis + 1, scale * left, scale * side_)
          .clone();
    };
    image = cut(image, 1);
    if (sample.target.defined() && sample.target.dim() == 3)
      sample.target = cut(sample.target, std::max<std::int64_t>(1, sample.target.size(axis) / height));
    sample.name += "@" + std::to_string(top) + "," + std::to_string(left);
    return sample;
  }

 private:
  DatasetPtr dataset_;
  std::int64_t side_, count_;
  std::uint64_t seed_;
  bool rows_;
};

}  // namespace

DatasetPtr random_patches(DatasetPtr dataset, std::int64_t side, std::int64_t count, std::uint64_t seed,
                          ImageLayout layout) {
  if (side < 1 || count < 1 || dataset->size() == 0) fail("there are no patches of {} pixels to take", side);
  return std::make_shared<Patches>(std::move(dataset), side, count, seed, layout);
}

}  // namespace lithe
