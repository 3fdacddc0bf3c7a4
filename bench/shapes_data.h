// A procedural data set of small colour pictures: five shapes in two textures make ten classes.
#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "lithe/base/random.h"
#include "lithe/data/dataset.h"
#include "lithe/data/preprocess.h"

namespace lithe::bench {

inline constexpr std::int64_t kShapeSize = 16;

/// How the pictures are normalised: 8-bit pixels, mean 0.5, deviation 0.25.
inline Preprocess shapes_preprocess() {
  return {.mean = {0.5}, .std = {0.25}};
}

/// Whether the point (u, v), in units of the shape's radius, lies in the shape.
inline bool inside_shape(int shape, double u, double v) {
  const double a = std::abs(u), b = std::abs(v);
  switch (shape) {
    case 0:
      return u * u + v * v < 1;  // disc
    case 1:
      return std::max(a, b) < 0.85;  // square
    case 2:
      return v > -0.8 && a < 0.6 * (0.9 - v);  // triangle
    case 3:
      return std::min(a, b) < 0.33 && std::max(a, b) < 1;  // cross
    default:
      return u * u + v * v < 1 && u * u + v * v > 0.35;  // ring
  }
}

/// Picture `index` of the seed: a shape of random place, size, angle and colour, plain or striped, on a
/// low-frequency background with two distracting dots, under noise of deviation 0.2.
inline void draw_shape(std::uint64_t seed, std::int64_t index, float* pixels, std::int64_t& label) {
  Rng rng(seed, static_cast<std::uint64_t>(index));
  label = static_cast<std::int64_t>(rng.below(10));
  const int shape = static_cast<int>(label / 2);
  const bool striped = label % 2 == 1;
  const auto between = [&](double low, double high) { return low + (high - low) * rng.uniform(); };
  const double cx = between(5, 11), cy = between(5, 11), radius = between(3.5, 6), angle = between(-0.5, 0.5);
  const double cosine = std::cos(angle), sine = std::sin(angle), phase = between(0, 6.28);
  std::array<double, 3> colour{}, other{}, base{}, slope_x{}, slope_y{};
  for (std::size_t c = 0; c < 3; ++c) {
    // Far from the background, so that the noise does not drown the shape.
    colour[c] = rng.below(2) == 0 ? between(0.0, 0.25) : between(0.75, 1.0);
    other[c] = 1 - colour[c];
    base[c] = between(0.35, 0.65);
    slope_x[c] = between(-0.15, 0.15);
    slope_y[c] = between(-0.15, 0.15);
  }
  std::array<std::array<double, 6>, 2> dots{};
  for (auto& dot : dots)
    dot = {between(0, 16), between(0, 16), between(1, 1.8), rng.uniform(), rng.uniform(), rng.uniform()};
  for (std::int64_t y = 0; y < kShapeSize; ++y)
    for (std::int64_t x = 0; x < kShapeSize; ++x) {
      const double dx = static_cast<double>(x) - cx, dy = static_cast<double>(y) - cy;
      const double u = (cosine * dx + sine * dy) / radius, v = (cosine * dy - sine * dx) / radius;
      const bool stripe = striped && std::sin(1.6 * (dx + dy) + phase) > 0;
      for (std::size_t c = 0; c < 3; ++c) {
        double value = base[c] + slope_x[c] * (static_cast<double>(x) / 8 - 1) +
                       slope_y[c] * (static_cast<double>(y) / 8 - 1);
        for (const auto& dot : dots)
          if (std::hypot(static_cast<double>(x) - dot[0], static_cast<double>(y) - dot[1]) < dot[2])
            value = dot[3 + c];
        if (inside_shape(shape, u, v)) value = stripe ? other[c] : colour[c];
        value += 0.2 * rng.normal();
        const double pixel = std::clamp(std::nearbyint(value * 255), 0.0, 255.0);
        pixels[(static_cast<std::int64_t>(c) * kShapeSize + y) * kShapeSize + x] =
            static_cast<float>((pixel / 255 - 0.5) / 0.25);
      }
    }
}

inline DatasetPtr shapes_dataset(std::int64_t count, std::uint64_t seed) {
  const at::Tensor images = at::empty({count, 3, kShapeSize, kShapeSize}),
                   labels = at::empty({count}, at::kLong);
  for (std::int64_t i = 0; i < count; ++i)
    draw_shape(seed, i, images.data_ptr<float>() + i * images.stride(0), labels.data_ptr<std::int64_t>()[i]);
  return tensor_dataset({{"", images}}, labels);
}

}  // namespace lithe::bench
