// Time of the searches of PointNet++ and of superpoints, against their plain references.
//   point_operators [--points 50000] [--repeats N]
// One thread, processor time. Each pair of runs is of the same input, one after the other; medians of the
// times and of the ratios. Points are a generated room: walls, a floor and clumps on it; meshes are noisy
// tori of square section, their faces in rows or shuffled.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "bench/processor_time.h"
#include "bench/statistics.h"
#include "lithe/base/error.h"
#include "lithe/base/random.h"
#include "lithe/kernels/point_search.h"
#include "lithe/points/superpoints.h"
#include "tests/points/shapes.h"

namespace {

using namespace lithe;

/// Room of 6 x 5 x 2.6 m: half of the points on floor and walls, the others on twenty boxes.
std::vector<float> room(std::int64_t n, std::uint64_t seed) {
  Rng rng(seed);
  const auto uniform = [&](double low, double high) { return low + (high - low) * rng.uniform(); };
  std::vector<float> out;
  for (std::int64_t i = 0; i < n; ++i) {
    double p[3];
    if (i % 2 == 0) {
      p[0] = uniform(0, 6);
      p[1] = uniform(0, 5);
      p[2] = uniform(0, 2.6);
      const auto side = rng.below(4);
      if (side < 2) p[2] = 0;
      if (side == 2) p[0] = 0;
      if (side == 3) p[1] = 0;
    } else {
      const auto box = static_cast<double>(rng.below(20));
      const double corner[3]{0.3 + std::fmod(box * 1.37, 5), 0.3 + std::fmod(box * 0.83, 4), 0};
      for (std::size_t axis = 0; axis < 3; ++axis) p[axis] = corner[axis] + uniform(0, 0.7);
      const auto side = rng.below(3);
      p[side] = corner[side] + (side == 2 || rng.below(2) ? 0.7 : 0);
    }
    for (const double x : p) out.push_back(static_cast<float>(x + 0.004 * rng.normal()));
  }
  return out;
}

/// Times both, in turn, and prints a line. `same` tells whether both results are equal.
void compare(const std::string& name, int repeats, const std::function<void()>& plain,
             const std::function<void()>& fast, const std::function<bool()>& same) {
  std::vector<double> plains, fasts, ratios;
  for (int i = 0; i < repeats; ++i) {
    const double start = bench::processor_seconds();
    plain();
    const double middle = bench::processor_seconds();
    fast();
    const double end = bench::processor_seconds();
    plains.push_back(1e3 * (middle - start));
    fasts.push_back(1e3 * (end - middle));
    ratios.push_back(plains.back() / std::max(fasts.back(), 1e-3));
  }
  fmt::print("{:<48}{:>12.2f}{:>12.2f}{:>10.1f}{:>8}\n", name, bench::median(plains), bench::median(fasts),
             bench::median(ratios), same() ? "yes" : "NO");
  std::fflush(stdout);
}

void searches(std::int64_t n, int repeats) {
  const std::vector<float> points = room(n, 1);
  std::vector<std::int64_t> plain(2048), fast(2048);
  const auto equal = [&] { return plain == fast; };
  compare(
      fmt::format("farthest points, {} to 2048", n), repeats,
      [&] { farthest_points_reference(points.data(), n, 2048, true, plain.data()); },
      [&] { farthest_points(points.data(), n, 2048, true, fast.data()); }, equal);
  std::vector<float> seeds;
  for (const std::int64_t i : fast)
    seeds.insert(seeds.end(), points.begin() + 3 * i, points.begin() + 3 * i + 3);
  struct Layer {
    std::int64_t from, to, samples;
    float radius;
  };
  for (const Layer& layer :
       {Layer{n, 2048, 64, .2f}, {2048, 1024, 32, .4f}, {1024, 512, 16, .8f}, {512, 256, 16, 1.2f}}) {
    const float* sources = layer.from == n ? points.data() : seeds.data();
    plain.resize(static_cast<std::size_t>(layer.to * layer.samples));
    fast = plain;
    compare(
        fmt::format("ball query, {} of {}, radius {}, {} samples", layer.to, layer.from, layer.radius,
                    layer.samples),
        repeats,
        [&] {
          ball_query_reference(sources, layer.from, seeds.data(), layer.to, layer.radius, layer.samples,
                               plain.data());
        },
        [&] {
          ball_query(sources, layer.from, seeds.data(), layer.to, layer.radius, layer.samples, fast.data());
        },
        equal);
  }
  for (const std::int64_t m : {std::int64_t{1024}, std::int64_t{20000}}) {
    plain.resize(static_cast<std::size_t>(3 * m));
    fast = plain;
    std::vector<float> plain_distances(plain.size()), fast_distances(plain.size());
    const std::int64_t known = m == 1024 ? 512 : 2048;
    compare(
        fmt::format("three nearest, {} of {}", m, known), repeats,
        [&] {
          nearest_points_reference(seeds.data(), known, points.data(), m, 3, plain.data(),
                                   plain_distances.data());
        },
        [&] { nearest_points(seeds.data(), known, points.data(), m, 3, fast.data(), fast_distances.data()); },
        [&] { return plain == fast && plain_distances == fast_distances; });
  }
}

void superpoints(int rows, int columns, bool shuffled, int repeats) {
  PointCloud mesh = noisy_torus(rows, columns, 2);
  if (shuffled) {
    Rng rng(3);
    for (std::size_t i = mesh.faces.size(); i > 1; --i)
      std::swap(mesh.faces[i - 1], mesh.faces[rng.below(i)]);
  }
  Superpoints plain, fast;
  compare(
      fmt::format("superpoints, mesh of {} points{}", rows * columns, shuffled ? ", shuffled" : ""), repeats,
      [&] { plain = mesh_superpoints_reference(mesh); }, [&] { fast = mesh_superpoints(mesh); },
      [&] { return plain.ids == fast.ids; });
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Time of point searches and superpoints");
  std::int64_t points = 50000;
  int repeats = 7;
  app.add_option("--points", points, "of the room")->check(CLI::Range(4096, 10000000));
  app.add_option("--repeats", repeats, "pairs of runs of which medians are taken")
      ->check(CLI::Range(1, 1000));
  CLI11_PARSE(app, argc, argv);
  try {
    fmt::print("{:<48}{:>12}{:>12}{:>10}{:>8}\n", "", "plain, ms", "here, ms", "ratio", "same");
    searches(points, repeats);
    for (const auto& [rows, columns] : {std::pair{250, 200}, {500, 300}, {600, 500}})
      superpoints(rows, columns, false, repeats);
    superpoints(500, 300, true, repeats);
  } catch (const std::exception& e) {
    fmt::print(stderr, "point_operators: {}\n", e.what());
    return 1;
  }
  return 0;
}
