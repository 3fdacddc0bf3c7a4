#include "lithe/ops/bound_quantize.h"

#include <torch/csrc/autograd/autograd.h>

#include "lithe/engine/executor.h"
#include "lithe/graph/bound_function.h"
#include "ops/op_testing.h"

namespace lithe {
namespace {

at::Tensor number(double value) {
  return at::full({}, value, at::kFloat);
}

struct Result {
  at::Tensor y, x, low, high;
};

template <typename Function>
Result run(Function function, const at::Tensor& x, double low, double high, bool centred,
           const at::Tensor& weight) {
  const at::Tensor variable = x.detach().requires_grad_(), bottom = number(low).requires_grad_(),
                   top = number(high).requires_grad_();
  const at::Tensor y = function(variable, bottom, top, 7, centred);
  const auto gradients = torch::autograd::grad({y}, {variable, bottom, top}, {weight});
  return {y.detach(), gradients[0], gradients[1], gradients[2]};
}

TEST(BoundQuantizeOperator, FusedIsComposed) {
  at::manual_seed(1);
  const at::Tensor image = at::randn({3, 4, 5, 7}), weight = at::randn({3, 4, 5, 7});
  const at::Tensor kinds[] = {image, image.contiguous(at::MemoryFormat::ChannelsLast), image.slice(3, 0, 4),
                              image.slice(0, 0, 0)};
  for (const at::Tensor& x : kinds)
    for (const bool centred : {false, true})
      for (const auto& [low, high] : {std::pair{-0.4, 1.2}, std::pair{0.0, 2.0}}) {
        const at::Tensor g = weight.slice(0, 0, x.size(0)).slice(3, 0, x.size(3));
        const Result fused = run(bound_quantize, x, low, high, centred, g),
                     composed = run(bound_quantize_composed, x, low, high, centred, g);
        EXPECT_TRUE(close(fused.y, composed.y));
        EXPECT_TRUE(close(fused.x, composed.x));
        EXPECT_TRUE(at::allclose(fused.low, composed.low, 1e-4, 1e-4)) << fused.low << composed.low;
        EXPECT_TRUE(at::allclose(fused.high, composed.high, 1e-4, 1e-4));
      }
}

TEST(BoundQuantizeOperator, CrossedBoundsMoveTogether) {
  const at::Tensor x = floats({-1e-6f, 2e-6f, 4e-6f, 1}), g = floats({1, 2, 3, 4});
  const Result fused = run(bound_quantize, x, 0, -1, false, g),
               composed = run(bound_quantize_composed, x, 0, -1, false, g);
  EXPECT_TRUE(same(fused.high, number(0)));
  EXPECT_NEAR(fused.low.item<double>(), -5e5, 1);
  EXPECT_TRUE(at::allclose(fused.low, composed.low));
  EXPECT_TRUE(close(fused.y, composed.y));
}

TEST(BoundQuantizeOperator, BodyOfStandardOperatorsIsExact) {
  Graph graph;
  graph.inputs = {{.name = "x", .dtype = DType::Float32, .shape = DimVector{{.value = 1000}}}};
  graph.outputs = {{.name = "y", .dtype = DType::Float32, .shape = DimVector{{.value = 1000}}}};
  graph.constants["low"] = TensorData::scalar(-0.37f);
  graph.constants["high"] = TensorData::scalar(0.9f);
  for (const bool centred : {false, true}) {
    Node node{.name = "q",
              .op_type = "BoundQuantize",
              .domain = "lithe",
              .inputs = {"x", "low", "high"},
              .outputs = {"y"}};
    node.attributes["levels"] = std::int64_t{63};
    node.attributes["centred"] = std::int64_t{centred};
    Graph native = graph, standard = graph;
    native.nodes = {node};
    native.header.opsets["lithe"] = 1;
    add_bound_function(standard);
    for (const Node& inner : standard.header.functions[0].nodes) {
      Node copy = inner;  // the body, written out
      if (const auto* reference = copy.find<AttributeReference>("value_int")) {
        const std::int64_t value = reference->name == "levels" ? 63 : std::int64_t{centred};
        copy.attributes["value_int"] = value;
      }
      standard.nodes.push_back(copy);
    }
    at::manual_seed(2);
    const at::Tensor x = at::randn({1000});
    Executor a(native), b(standard);
    EXPECT_TRUE(at::equal(a(x), b(x)));
  }
}

TEST(BoundQuantizeOperator, RefusesSeveralBounds) {
  EXPECT_THROW(bound_quantize(at::zeros({4}), at::zeros({2}), number(1), 3, false), Error);
}

}  // namespace
}  // namespace lithe
