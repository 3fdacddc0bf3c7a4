#include "lithe/diffusion/noise.h"

#include <algorithm>

#include "lithe/base/error.h"
#include "lithe/base/math.h"
#include "lithe/base/random.h"
#include "lithe/train/samples.h"

namespace lithe {
namespace {

// A stream of random numbers is (purpose of the seed, block of streams, image).
constexpr std::uint64_t kNoise = 0x6e6f697365;  // purposes for seed_for
constexpr std::uint64_t kLabels = 0x6c6162656c;
constexpr int kImageBits = 40;
constexpr std::int64_t kMostImages = std::int64_t{1} << kImageBits;
constexpr std::int64_t kMostSteps = (std::int64_t{1} << (63 - kImageBits)) - 2;

void check_images(std::int64_t first, std::int64_t count) {
  if (first < 0 || count < 0 || first > kMostImages - count)
    fail("images {} to {} + {} cannot be drawn; their numbers are 0 to {}", first, first, count,
         kMostImages - 1);
}

at::Tensor noise_of(const ImageRange& images, std::int64_t block) {
  check_images(images.first, images.count);
  std::vector<std::int64_t> shape{images.count};
  shape.insert(shape.end(), images.shape.begin(), images.shape.end());
  const auto total = element_count(shape);
  constexpr std::int64_t kMostNumbers = std::int64_t{1} << 36;
  if (!total || *total > kMostNumbers)
    fail("{} images of {} sizes cannot be held at once; sample fewer at a time", images.count,
         images.shape.size());
  at::Tensor noise = at::empty(shape, at::kFloat);
  const std::int64_t size = images.count == 0 ? 0 : *total / images.count;
  float* values = noise.data_ptr<float>();
  const std::uint64_t seed = seed_for(images.seed, kNoise);
  for (std::int64_t i = 0; i < images.count; ++i, values += size) {
    Rng rng(seed,
            (static_cast<std::uint64_t>(block) << kImageBits) | static_cast<std::uint64_t>(images.first + i));
    std::generate_n(values, size, [&] { return static_cast<float>(rng.normal()); });
  }
  return noise;
}

}  // namespace

at::Tensor start_noise(const ImageRange& images) {
  return noise_of(images, 0);
}

at::Tensor step_noise(const ImageRange& images, std::int64_t step) {
  if (step < 0 || step > kMostSteps) fail("no point {} of a plan has noise; points count from 0", step);
  return noise_of(images, step + 1);
}

at::Tensor random_labels(std::uint64_t seed, std::int64_t first, std::int64_t count, std::int64_t classes) {
  check_images(first, count);
  if (classes < 1) fail("labels cannot be drawn from {} classes", classes);
  at::Tensor labels = at::empty({count}, at::kLong);
  for (std::int64_t i = 0; i < count; ++i)
    labels.data_ptr<std::int64_t>()[i] =
        static_cast<std::int64_t>(Rng(seed_for(seed, kLabels), static_cast<std::uint64_t>(first + i))
                                      .below(static_cast<std::uint64_t>(classes)));
  return labels;
}

}  // namespace lithe
