// Searches among points against known numbers, and against the functions that files carry.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "lithe/engine/executor.h"
#include "lithe/graph/point_function.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/ops/point_search.h"
#include "message_of.h"
#include "ops/op_testing.h"

namespace lithe {
namespace {

at::Tensor ten_points() {
  return floats({1,    1, 0, 1.2f, 1, 0,    4,    1,    0,     4,    3,    0,   1, 3, 0,
                 2.5f, 2, 0, 2.5f, 2, 1.5f, .02f, .01f, .005f, 3.9f, 1.1f, .2f, 1, 1, 2})
      .view({1, 10, 3});
}

TEST(PointSearch, GoldenCaseG2) {
  EXPECT_TRUE(same(farthest_points(ten_points(), 8, true), ints({0, 3, 6, 2, 4, 9, 5, 8}).unsqueeze(0)));
  EXPECT_TRUE(same(farthest_points(ten_points(), 8, false), ints({0, 3, 6, 2, 4, 9, 5, 7}).unsqueeze(0)));
}

TEST(PointSearch, GoldenCaseG3) {
  const at::Tensor points = ten_points(), centres = points.index_select(1, ints({0, 2, 5}));
  EXPECT_TRUE(
      same(ball_query(points, centres, 1, 4), ints({0, 1, 0, 0, 2, 8, 2, 2, 5, 5, 5, 5}).view({1, 3, 4})));
  EXPECT_TRUE(same(ball_query(points, centres, 1.8f, 3), ints({0, 1, 7, 2, 8, 2, 1, 5, 6}).view({1, 3, 3})));
  const at::Tensor far = at::cat({centres, at::full({1, 1, 3}, 10.f)}, 1);
  EXPECT_TRUE(
      same(ball_query(points, far, .25f, 3), ints({0, 1, 0, 2, 8, 2, 5, 5, 5, 0, 0, 0}).view({1, 4, 3})));
  const at::Tensor pair = floats({1, 1, 0, 4, 1, 0}).view({1, 2, 3});
  EXPECT_TRUE(same(ball_query(pair, pair.slice(1, 0, 1), 3, 2), ints({0, 0}).view({1, 1, 2})));
}

TEST(PointSearch, GoldenCaseG4) {
  const at::Tensor known = floats({1, 1, 0, 4, 1, 0, 1, 3, 0, 2.5f, 2, 1.5f}).view({1, 4, 3});
  const at::Tensor queries = floats({1, 1, 0, 2, 2, .5f, 3, 1, 0}).view({1, 3, 3});
  const auto [indices, weights] = nearest_points(known, queries, 3);
  EXPECT_TRUE(same(indices, ints({0, 2, 3, 3, 0, 2, 1, 3, 0}).view({1, 3, 3})));
  EXPECT_TRUE(close(weights[0][1], floats({.401491624f, .299254188f, .299254188f})));
  EXPECT_TRUE(close(weights[0][2], floats({.491515825f, .262726261f, .245757914f})));
  const at::Tensor values =
      (floats({10, 20, 30, 40}).index_select(0, indices.view({-1})).view({3, 3}) * weights[0]).sum(1);
  EXPECT_TRUE(close(values, floats({10.000000228f, 28.029832471f, 22.796946081f})));
}

TEST(PointSearch, GoldenCaseG8) {
  const at::Tensor seeds = floats({0, 0, 0, .15f, 0, 0, 1, 0, 0, 1.05f, .1f, 0, 2, 2, 0}).view({1, 5, 3});
  const at::Tensor features = floats({1, -1, 2, 5, 3, 0, -4, 7, 9, 9}).view({5, 2});
  const at::Tensor points =
      floats({0, .02f, 0, .1f, .02f, 0, .05f, -.04f, 0, 1.02f, 0, 0, 1.02f, .1f, 0, 3, 3, 0, 3.1f, 3, 0})
          .view({1, 7, 3});
  const at::Tensor centres = superpoint_centres(points, ints({0, 0, 0, 1, 1, 3, 3}).unsqueeze(0));
  EXPECT_TRUE(close(centres[0], floats({.05f, 0, 0, 1.02f, .05f, 0, 0, 0, 0, 3.05f, 3, 0}).view({4, 3})));
  const at::Tensor near = ball_query(seeds, centres, .2f, 2);
  const at::Tensor pooled = features.index_select(0, near.view({-1})).view({4, 2, 2}).amax(1);
  EXPECT_TRUE(same(pooled, floats({2, 5, 3, 7, 2, 5, 1, -1}).view({4, 2})));
}

/// A graph of one call; `renamed`, so that only its body can compute it.
Graph one_call(const char* type, const std::vector<ValueInfo>& inputs, std::size_t outputs,
               const Attributes& attributes, bool renamed) {
  Graph graph;
  Node node{.name = "call", .op_type = type, .domain = "lithe", .attributes = attributes};
  for (const ValueInfo& input : inputs) node.inputs.push_back(input.name);
  for (std::size_t i = 0; i < outputs; ++i) node.outputs.push_back("y" + std::to_string(i));
  for (const std::string& name : node.outputs) graph.outputs.push_back({.name = name});
  graph.inputs = inputs;
  graph.nodes.push_back(node);
  add_point_functions(graph);
  if (renamed) {
    graph.header.functions.at(0).name = "Body";
    graph.nodes[0].op_type = "Body";
  }
  return graph;
}

struct BodyCase {
  const char* type;
  std::vector<std::int64_t> other;  // the shape of a second input of places, or empty
  std::size_t outputs;
  Attributes attributes;
};

TEST(PointFunctions, BodiesComputeTheSame) {
  const auto whole = [](std::int64_t value) { return Attribute(value); };
  const std::vector<BodyCase> cases{
      {kFarthestPointSample, {}, 1, {{"count", whole(12)}, {"skip_origin", whole(1)}}},
      {kFarthestPointSample, {}, 1, {{"count", whole(12)}, {"skip_origin", whole(0)}}},
      {kFarthestPointSample, {}, 1, {{"count", whole(1)}, {"skip_origin", whole(0)}}},
      {kBallQuery, {2, 9, 3}, 1, {{"radius", 0.4f}, {"samples", whole(5)}}},
      {kBallQuery, {2, 9, 3}, 1, {{"radius", 0.05f}, {"samples", whole(5)}}},
      {kBallQuery, {2, 9, 3}, 1, {{"radius", 2.f}, {"samples", whole(70)}}},
      {kNearestPoints, {2, 9, 3}, 2, {{"k", whole(3)}}},
      {kSuperpointCentres, {2, 50}, 1, {}},
      {kStopGradient, {}, 1, {}}};
  at::manual_seed(3);
  at::Tensor points = at::rand({2, 50, 3}) - 0.1;
  points[0][7].zero_();
  points[1][20] = points[1][3];  // of equals the first
  for (const BodyCase& one : cases) {
    SCOPED_TRACE(one.type);
    Feeds feeds{{"points", points}};
    std::vector<ValueInfo> inputs{
        {.name = "points", .dtype = DType::Float32, .shape = DimVector{{-1, "batch"}, {-1, "n"}, {3, ""}}}};
    if (one.other.size() == 3) {
      feeds["other"] = at::rand(one.other);
      inputs.push_back(
          {.name = "other", .dtype = DType::Float32, .shape = DimVector{{-1, "batch"}, {-1, "m"}, {3, ""}}});
    } else if (!one.other.empty()) {
      feeds["other"] = at::randint(0, 7, one.other, at::kLong) * 2;
      inputs.push_back(
          {.name = "other", .dtype = DType::Int64, .shape = DimVector{{-1, "batch"}, {-1, "n"}}});
    }
    Graph native = one_call(one.type, inputs, one.outputs, one.attributes, false);
    const Feeds fast = Executor(native).run(feeds);
    const Feeds body = Executor(one_call(one.type, inputs, one.outputs, one.attributes, true)).run(feeds);
    for (const auto& [name, value] : fast) EXPECT_TRUE(close(body.at(name), value, 1e-6, 1e-6)) << name;
    infer_shapes(native);
    for (const ValueInfo& output : native.outputs) {
      ASSERT_TRUE(output.shape) << output.name;
      const at::Tensor& value = fast.at(output.name);
      ASSERT_EQ(static_cast<std::int64_t>(output.shape->size()), value.dim());
      for (std::int64_t i = 0; i < value.dim(); ++i)
        if (const Dim& dim = (*output.shape)[static_cast<std::size_t>(i)]; dim.known()) {
          EXPECT_EQ(dim.value, value.size(i));
        }
      EXPECT_EQ(scalar_type_of(output.dtype), value.scalar_type());
    }
  }
}

TEST(PointFunctions, StopGradientStops) {
  Graph graph = one_call(kStopGradient, {{.name = "x", .dtype = DType::Float32, .shape = DimVector{{2, ""}}}},
                         1, {}, false);
  Executor executor(graph, {.training = true});
  const at::Tensor x = floats({1, 2}).requires_grad_(true);
  const at::Tensor y = executor.run({{"x", x}}).at("y0");
  EXPECT_TRUE(same(y, x.detach()));
  EXPECT_FALSE(y.requires_grad());
}

TEST(PointSearch, WhatDoesNotFitIsRefused) {
  const at::Tensor points = ten_points();
  const auto complains = [](const char* of, const std::function<void()>& action) {
    EXPECT_NE(test::message_of(action).find(of), std::string::npos) << of << ": " << test::message_of(action);
  };
  complains("float32", [&] { farthest_points(points.to(at::kDouble), 3, false); });
  complains("[n, points, 3]", [&] { farthest_points(points.slice(2, 0, 2), 3, false); });
  complains("'count' is 0", [&] { farthest_points(points, 0, false); });
  complains("radius", [&] { ball_query(points, points, 0, 3); });
  complains("'k' is 11", [&] { nearest_points(points, points, 11); });
  complains("2 sets", [&] { nearest_points(points, points.expand({2, 10, 3}), 1); });
  complains("negative", [&] {
    superpoint_centres(points, ints({0, 0, 0, 0, 0, 0, 0, 0, 0, -1}).unsqueeze(0));
  });
  complains("do not fit", [&] { superpoint_centres(points, ints({0}).unsqueeze(0)); });
  Graph old;
  old.header.opsets[""] = 16;
  complains("opset 17", [&] { add_point_functions(old); });
}

}  // namespace
}  // namespace lithe
