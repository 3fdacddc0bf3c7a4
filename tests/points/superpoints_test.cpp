#include "lithe/points/superpoints.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <limits>
#include <map>

#include "lithe/points/edge_keys.h"
#include "lithe/points/normals.h"
#include "points/shapes.h"
#include "tests/message_of.h"

namespace lithe {
namespace {

using test::message_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Labels = std::vector<std::int32_t>;

/// Sizes of superpoints, the largest first.
std::vector<int> sizes_of(const Superpoints& superpoints) {
  std::vector<int> sizes(static_cast<std::size_t>(superpoints.count));
  for (const std::int32_t id : superpoints.ids) ++sizes.at(static_cast<std::size_t>(id));
  std::sort(sizes.rbegin(), sizes.rend());
  return sizes;
}

TEST(SegmentGraph, GoldenG5) {
  const std::vector<GraphEdge> edges{{0, 1, .1f}, {1, 2, .12f}, {0, 2, .3f}, {2, 3, .9f}, {3, 4, .05f},
                                     {4, 5, .2f}, {3, 5, .25f}, {5, 6, .6f}, {6, 7, .15f}};
  EXPECT_THAT(segment_graph(8, edges, .5f, 1), ElementsAre(1, 1, 1, 4, 4, 4, 7, 7));
  EXPECT_THAT(segment_graph(8, edges, .5f, 3), ElementsAre(1, 1, 1, 7, 7, 7, 7, 7));
  EXPECT_THAT(segment_graph(8, edges, 1, 1), ElementsAre(1, 1, 1, 4, 4, 4, 7, 7));
  EXPECT_THAT(segment_graph(8, edges, 2, 1), ElementsAre(1, 1, 1, 7, 7, 7, 7, 7));
}

TEST(SegmentGraph, EqualWeightsInTheirOrder) {
  // Node 2 is small; the first of two equal edges decides which pair it joins.
  std::vector<GraphEdge> edges{{0, 1, 0}, {3, 4, -0.0f}, {1, 2, .9f}, {2, 3, .9f}};
  EXPECT_THAT(segment_graph(5, edges, .1f, 2), ElementsAre(1, 1, 1, 4, 4));
  std::swap(edges[2], edges[3]);
  EXPECT_THAT(segment_graph(5, edges, .1f, 2), ElementsAre(1, 1, 4, 4, 4));
}

TEST(SegmentGraph, RefusesEdgesOfNoNodes) {
  const std::vector<GraphEdge> beyond{{0, 3, 1}}, endless{{0, 1, std::numeric_limits<float>::infinity()}};
  EXPECT_THAT(message_of([&] { segment_graph(3, beyond, 1, 1); }), HasSubstr("edge 0"));
  EXPECT_THAT(message_of([&] { segment_graph(3, endless, 1, 1); }), HasSubstr("inf"));
}

TEST(EdgeKeys, RiseWithWeightAndThenWithTheEdge) {
  Rng rng(4);
  std::vector<float> weights{0.0f, -0.0f, -1e-7f, 1e-7f, 2, -2, 1e-42f};
  while (weights.size() < 5000) weights.push_back(static_cast<float>(std::round(rng.normal() * 50) / 50));
  std::vector<std::uint64_t> keys;
  std::vector<std::uint32_t> order(weights.size());
  for (std::uint32_t i = 0; i < weights.size(); ++i) {
    keys.push_back(edge_key(weights[i], i));
    EXPECT_EQ(key_weight(keys[i]), weights[i]);
    order[i] = i;
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](std::uint32_t a, std::uint32_t b) { return weights[a] < weights[b]; });
  sort_edge_keys(keys);
  for (std::size_t i = 0; i < keys.size(); ++i) EXPECT_EQ(key_edge(keys[i]), order[i]);
}

TEST(MeshSuperpoints, GoldenG6) {
  const PointCloud torus = golden_torus();
  EXPECT_NEAR(torus.positions[0][0], 1.39845087, 1e-6);
  EXPECT_NEAR(torus.positions[13][1], .36946258, 1e-6);
  const auto sizes = [&](float threshold, std::int64_t least) {
    return sizes_of(mesh_superpoints(torus, {.threshold = threshold, .least = least}));
  };
  EXPECT_EQ(sizes(.01f, 1).size(), 87u);
  EXPECT_THAT(sizes(.01f, 5), ElementsAre(31, 29, 12, 12, 12));
  const auto many = sizes(.05f, 1);
  EXPECT_EQ(many.size(), 82u);
  EXPECT_THAT(std::vector<int>(many.begin(), many.begin() + 4), ElementsAre(6, 2, 2, 2));
  EXPECT_THAT(sizes(.05f, 5), ElementsAre(31, 29, 12, 12, 12));
  const auto some = sizes(.2f, 1);
  EXPECT_EQ(some.size(), 30u);
  EXPECT_THAT(std::vector<int>(some.begin(), some.begin() + 10),
              ElementsAre(12, 12, 12, 12, 12, 8, 3, 2, 2, 1));
  EXPECT_THAT(sizes(.5f, 1), ElementsAre(36, 12, 12, 12, 12, 12));
  EXPECT_THAT(sizes(1, 1), ElementsAre(84, 12));
}

TEST(MeshSuperpoints, AsTheReference) {
  for (const std::uint64_t seed : {1, 2, 3}) {
    PointCloud mesh = noisy_torus(120, 60 + static_cast<int>(seed), seed);
    Rng rng(seed);
    mesh.faces[40] = {3, 3, 9};  // without area
    for (std::size_t i = 0; i < mesh.positions.size(); ++i)
      mesh.colours.push_back({static_cast<std::uint8_t>(rng.below(256)), 10, 200});
    for (const float threshold : {0.f, 0.01f, 0.2f})
      for (const std::int64_t least : {1, 20})
        for (const float colour : {0.f, 0.1f})
          for (const bool dead_zone : {false, true}) {
            SuperpointOptions options{
                .threshold = threshold, .least = least, .colour = colour, .dead_zone = dead_zone};
            const Superpoints wanted = mesh_superpoints_reference(mesh, options);
            for (const int threads : {1, 3}) {
              options.threads = threads;
              const Superpoints got = mesh_superpoints(mesh, options);
              EXPECT_EQ(got.ids, wanted.ids);
              EXPECT_EQ(got.count, wanted.count);
            }
          }
  }
}

TEST(MeshSuperpoints, LonelyPointsAndFlatFacesAreLeftAlone) {
  PointCloud mesh = golden_torus();
  mesh.positions.insert(mesh.positions.begin() + 96, {9, 9, 9});  // 96 is in no face
  mesh.positions.push_back({std::numeric_limits<float>::quiet_NaN(), 0, 0});
  mesh.faces.push_back({96, 96, 5});
  mesh.faces.push_back({97, 1, 5});
  const Superpoints got = mesh_superpoints(mesh, {.threshold = .5f, .least = 5});
  EXPECT_EQ(std::count(got.ids.begin(), got.ids.end(), got.ids[96]), 1);
  EXPECT_EQ(std::count(got.ids.begin(), got.ids.end(), got.ids[97]), 1);
  EXPECT_EQ(got.ids, mesh_superpoints_reference(mesh, {.threshold = .5f, .least = 5}).ids);
}

TEST(MeshSuperpoints, DeadZoneMakesFlatSurfacesWhole) {
  PointCloud roof;  // two exactly flat halves that meet in a crease
  for (int i = 0; i < 21; ++i)
    for (int j = 0; j < 20; ++j)
      roof.positions.push_back({0.1f * static_cast<float>(i), 0.1f * static_cast<float>(j),
                                -0.1f * static_cast<float>(std::abs(i - 10))});
  for (int i = 0; i < 20; ++i)
    for (int j = 0; j < 19; ++j) {
      const int a = 20 * i + j;
      roof.faces.push_back({a, a + 20, a + 1});
      roof.faces.push_back({a + 20, a + 21, a + 1});
    }
  const Superpoints got = mesh_superpoints(roof, {.threshold = .01f, .least = 30, .dead_zone = true});
  EXPECT_EQ(got.ids,
            mesh_superpoints_reference(roof, {.threshold = .01f, .least = 30, .dead_zone = true}).ids);
  EXPECT_NE(got.ids.front(), got.ids.back());
  for (int row = 0; row < 9; ++row) EXPECT_EQ(got.ids[static_cast<std::size_t>(20 * row)], got.ids.front());
  for (int row = 12; row < 21; ++row) EXPECT_EQ(got.ids[static_cast<std::size_t>(20 * row)], got.ids.back());
}

TEST(MeshSuperpoints, RefusesWhatCannotBe) {
  PointCloud mesh = golden_torus();
  EXPECT_THAT(message_of([&] { mesh_superpoints(mesh, {.threshold = -1}); }), HasSubstr("threshold"));
  EXPECT_THAT(message_of([&] { mesh_superpoints(mesh, {.least = 0}); }), HasSubstr("at least 0"));
  EXPECT_THAT(message_of([&] { mesh_superpoints(mesh, {.colour = -1}); }), HasSubstr("colours"));
  mesh.colours.resize(3);
  EXPECT_THAT(message_of([&] { mesh_superpoints(mesh); }), HasSubstr("3 colours"));
  mesh.colours.clear();
  mesh.faces[7][1] = 96;
  EXPECT_THAT(message_of([&] { mesh_superpoints(mesh); }), HasSubstr("face 7"));
  mesh.faces.clear();
  EXPECT_THAT(message_of([&] { mesh_superpoints(mesh); }), HasSubstr("need faces"));
}

/// A floor and a box that stands on it, as a scanner sees them, with 3 mm of noise.
PointCloud floor_with_box() {
  PointCloud cloud;
  Rng rng(9);
  const auto add = [&](double x, double y, double z) {
    cloud.positions.push_back({static_cast<float>(x + 0.003 * rng.normal()),
                               static_cast<float>(y + 0.003 * rng.normal()),
                               static_cast<float>(z + 0.003 * rng.normal())});
  };
  const auto inside = [](double v) { return v > 0.8 && v < 1.6; };
  for (double x = 0; x < 2.4; x += 0.04)
    for (double y = 0; y < 2.4; y += 0.04) add(x, y, inside(x) && inside(y) ? 0.8 : 0);
  for (double t = 0.8; t < 1.6; t += 0.04)
    for (double z = 0.04; z < 0.8; z += 0.04) {
      add(t, 0.8, z);
      add(t, 1.6, z);
      add(0.8, t, z);
      add(1.6, t, z);
    }
  return cloud;
}

TEST(CloudSuperpoints, PartsAFloorFromABox) {
  PointCloud cloud = floor_with_box();
  SuperpointOptions options{.threshold = .05f, .least = 20};
  const Superpoints got = cloud_superpoints(cloud, options);
  EXPECT_GE(got.count, 5);
  EXPECT_LE(got.count, 60);
  EXPECT_EQ(find_superpoints(cloud, options).ids, got.ids);
  // Hardly any superpoint has points of both the floor and the top of the box.
  std::map<std::int32_t, std::array<int, 2>> parts;
  int mixed = 0, all = 0;
  for (std::size_t i = 0; i < cloud.positions.size(); ++i) {
    const float z = cloud.positions[i][2];
    if (z < 0.02f) ++parts[got.ids[i]][0];
    if (z > 0.78f) ++parts[got.ids[i]][1];
  }
  for (const auto& [id, part] : parts) {
    mixed += std::min(part[0], part[1]);
    all += part[0] + part[1];
  }
  EXPECT_LT(mixed, all / 50);
  options.threads = 3;
  EXPECT_EQ(cloud_superpoints(cloud, options).ids, got.ids);
}

TEST(CloudSuperpoints, ColoursPartFlatSurfaces) {
  PointCloud cloud;
  Rng rng(2);
  for (int i = 0; i < 40; ++i)
    for (int j = 0; j < 40; ++j) {
      cloud.positions.push_back({0.05f * static_cast<float>(i), 0.05f * static_cast<float>(j),
                                 static_cast<float>(0.001 * rng.normal())});
      const std::uint8_t red = i < 20 ? 250 : 20;
      cloud.colours.push_back({red, 90, 90});
    }
  const SuperpointOptions plain{.threshold = .5f, .least = 50};
  EXPECT_EQ(cloud_superpoints(cloud, plain).count, 1);
  SuperpointOptions coloured = plain;
  coloured.colour = 2;
  EXPECT_THAT(sizes_of(cloud_superpoints(cloud, coloured)), ElementsAre(800, 800));
}

TEST(CloudSuperpoints, TakesFewPointsAndDoubles) {
  EXPECT_EQ(cloud_superpoints({}).count, 0);
  PointCloud cloud;
  cloud.positions = {{1, 2, 3}};
  EXPECT_EQ(cloud_superpoints(cloud).count, 1);
  cloud.positions.assign(100, {1, 2, 3});
  EXPECT_EQ(cloud_superpoints(cloud).count, 1);
  cloud.positions[7][1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(message_of([&] { cloud_superpoints(cloud); }), HasSubstr("1 points"));
  cloud.positions.pop_back();
  EXPECT_THAT(message_of([&] { cloud_superpoints(cloud, {.neighbours = 0}); }), HasSubstr("0 neighbours"));
  EXPECT_THAT(message_of([&] { cloud_superpoints(cloud, {.normal_neighbours = 3}); }),
              HasSubstr("fitted to 3"));
}

TEST(Normals, FaceUpOnTheFloorAndOutOfTheBox) {
  const PointCloud cloud = floor_with_box();
  const Neighbours near = nearest_neighbours(cloud.positions, 15, 2);
  std::vector<Float3> normals = fit_normals(cloud.positions, near, 15, 2);
  orient_normals(cloud.positions, near, normals);
  int wrong = 0;
  for (std::size_t i = 0; i < normals.size(); ++i) {
    const Float3 &p = cloud.positions[i], &n = normals[i];
    EXPECT_NEAR(n[0] * n[0] + n[1] * n[1] + n[2] * n[2], 1, 1e-5);
    if (p[2] < 0.02f || p[2] > 0.78f)
      wrong += n[2] < 0;
    else
      wrong += n[0] * (p[0] - 1.2f) + n[1] * (p[1] - 1.2f) < 0;
  }
  EXPECT_LT(wrong, static_cast<int>(normals.size() / 100));
}

TEST(Normals, FaceAViewpoint) {
  const PointCloud cloud = floor_with_box();
  const Neighbours near = nearest_neighbours(cloud.positions, 15);
  std::vector<Float3> normals = fit_normals(cloud.positions, near, 15);
  const Float3 below{0.5f, 0.5f, -4};
  orient_normals(cloud.positions, near, normals, below);
  for (std::size_t i = 0; i < normals.size(); ++i) {
    float facing = 0;
    for (std::size_t axis = 0; axis < 3; ++axis)
      facing += normals[i][axis] * (below[axis] - cloud.positions[i][axis]);
    EXPECT_GE(facing, 0);
  }
}

TEST(Normals, NeighboursAreTheNearestWithoutThePoint) {
  const PointCloud cloud = floor_with_box();
  const Neighbours one = nearest_neighbours(cloud.positions, 6, 1),
                   three = nearest_neighbours(cloud.positions, 6, 3);
  EXPECT_EQ(one.index, three.index);
  for (std::int64_t i = 0; i < cloud.size(); i += 97) {
    std::vector<std::pair<float, std::int32_t>> all;
    for (std::int32_t j = 0; j < cloud.size(); ++j) {
      float d[3];
      for (std::size_t axis = 0; axis < 3; ++axis)
        d[axis] = cloud.positions[static_cast<std::size_t>(j)][axis] -
                  cloud.positions[static_cast<std::size_t>(i)][axis];
      if (j != i) all.emplace_back((d[0] * d[0] + d[1] * d[1]) + d[2] * d[2], j);
    }
    std::sort(all.begin(), all.end());
    for (std::size_t k = 0; k < 6; ++k) EXPECT_EQ(one.of(i)[k], all[k].second);
  }
}

}  // namespace
}  // namespace lithe
