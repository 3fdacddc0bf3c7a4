#include "lithe/diffusion/noise.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "message_of.h"

namespace lithe {
namespace {

using test::message_of;

TEST(ImageNoise, DependsOnTheImageAlone) {
  const std::vector<std::int64_t> shape{3, 4, 4};
  const at::Tensor all = start_noise({.seed = 7, .first = 0, .count = 10, .shape = shape});
  const at::Tensor part = start_noise({.seed = 7, .first = 4, .count = 3, .shape = shape});
  EXPECT_TRUE(part.equal(all.narrow(0, 4, 3)));
  const at::Tensor later = step_noise({.seed = 7, .first = 0, .count = 10, .shape = shape}, 2);
  EXPECT_TRUE(
      step_noise({.seed = 7, .first = 9, .count = 1, .shape = shape}, 2).equal(later.narrow(0, 9, 1)));
  EXPECT_TRUE(random_labels(7, 5, 3, 10).equal(random_labels(7, 0, 10, 10).narrow(0, 5, 3)));
}

TEST(ImageNoise, DiffersBySeedImageAndStep) {
  const auto start = [](std::uint64_t seed, std::int64_t image) {
    return start_noise({.seed = seed, .first = image, .shape = {1, 4, 4}});
  };
  const ImageRange images{.seed = 7, .first = 3, .shape = {1, 4, 4}};
  const std::vector<at::Tensor> noises{start(7, 3), start(8, 3), start(7, 4), step_noise(images, 0),
                                       step_noise(images, 1)};
  for (std::size_t i = 0; i < noises.size(); ++i)
    for (std::size_t j = 0; j < i; ++j) EXPECT_FALSE(noises[i].isclose(noises[j]).any().item<bool>());
}

TEST(ImageNoise, IsStandardNormal) {
  const at::Tensor noise = start_noise({.count = 40, .shape = {3, 16, 16}});
  EXPECT_NEAR(noise.mean().item<double>(), 0, 0.02);
  EXPECT_NEAR(noise.std().item<double>(), 1, 0.02);
  const at::Tensor counts = at::bincount(random_labels(1, 0, 4000, 4));
  EXPECT_EQ(counts.numel(), 4);
  EXPECT_GT(counts.min().item<std::int64_t>(), 880);
}

TEST(ImageNoise, RefusesWhatCannotBeHeld) {
  constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
  EXPECT_THAT(message_of([] {
                start_noise({.count = 1000000, .shape = {1000, 1000, 1000}});
              }),
              testing::HasSubstr("fewer"));
  EXPECT_THAT(message_of([] {
                start_noise({.first = kHuge, .count = 1, .shape = {1, 1, 1}});
              }),
              testing::HasSubstr("cannot be drawn"));
  EXPECT_THAT(message_of([] {
                start_noise({.count = -1, .shape = {1, 1, 1}});
              }),
              testing::HasSubstr("cannot be drawn"));
  EXPECT_THAT(message_of([] { random_labels(0, 0, 1, 0); }), testing::HasSubstr("0 classes"));
}

}  // namespace
}  // namespace lithe
