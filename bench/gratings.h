// A procedural set whose classes need attention to a small part of the image: gratings in discs.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "lithe/base/random.h"
#include "lithe/data/dataset.h"

namespace lithe::bench {

/// `count` images 3 x 32 x 32: a plane of colour with noise of 0.25; with probability 0.7 a disc of white
/// noise that distracts; a disc of radius 4.5 to 7 filled with a sine grating of one of 5 orientations (pi /
/// 5 apart, +-0.1) and 2 frequencies (0.16, 0.30 cycles a pixel, +-5 %): 10 classes, each as often.
inline DatasetPtr gratings(std::int64_t count, std::uint64_t seed) {
  constexpr std::int64_t kSide = 32;
  at::Tensor images = at::empty({count, 3, kSide, kSide}), labels = at::empty({count}, at::kLong);
  for (std::int64_t n = 0; n < count; ++n) {
    Rng rng(seed, static_cast<std::uint64_t>(n));
    float* image = images.data_ptr<float>() + n * 3 * kSide * kSide;
    const std::int64_t label = n % 10;
    labels.data_ptr<std::int64_t>()[n] = label;
    const auto between = [&](double low, double high) { return low + (high - low) * rng.uniform(); };
    for (std::int64_t c = 0; c < 3; ++c) {
      const double level = between(-0.5, 0.5), dx = between(-0.03, 0.03), dy = between(-0.03, 0.03);
      for (std::int64_t y = 0; y < kSide; ++y)
        for (std::int64_t x = 0; x < kSide; ++x)
          image[(c * kSide + y) * kSide + x] = static_cast<float>(
              level + dx * static_cast<double>(x) + dy * static_cast<double>(y) + 0.25 * rng.normal());
    }
    const auto disc = [&](auto&& value) {
      const double radius = between(4.5, 7), cx = between(radius, kSide - radius),
                   cy = between(radius, kSide - radius);
      for (std::int64_t y = 0; y < kSide; ++y)
        for (std::int64_t x = 0; x < kSide; ++x) {
          const double px = static_cast<double>(x) - cx, py = static_cast<double>(y) - cy;
          if (px * px + py * py > radius * radius) continue;
          const std::array<double, 3> pixel = value(px, py);
          for (std::int64_t c = 0; c < 3; ++c)
            image[(c * kSide + y) * kSide + x] = static_cast<float>(pixel[static_cast<std::size_t>(c)]);
        }
    };
    if (rng.uniform() < 0.7)
      disc([&](double, double) { return std::array<double, 3>{rng.normal(), rng.normal(), rng.normal()}; });
    const double angle = static_cast<double>(label % 5) * std::numbers::pi / 5 + between(-0.1, 0.1);
    const double frequency = (label < 5 ? 0.16 : 0.30) * between(0.95, 1.05),
                 phase = between(0, 2 * std::numbers::pi);
    std::array<double, 3> colour{rng.normal(), rng.normal(), rng.normal()};
    const double length =
        std::sqrt(colour[0] * colour[0] + colour[1] * colour[1] + colour[2] * colour[2]) + 1e-9;
    disc([&](double x, double y) {
      const double wave =
          1.5 *
          std::sin(2 * std::numbers::pi * frequency * (x * std::cos(angle) + y * std::sin(angle)) + phase);
      return std::array<double, 3>{wave * colour[0] / length, wave * colour[1] / length,
                                   wave * colour[2] / length};
    });
  }
  return tensor_dataset({{"", images}}, labels);
}

}  // namespace lithe::bench
