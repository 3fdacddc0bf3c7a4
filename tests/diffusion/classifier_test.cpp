#include "lithe/diffusion/classifier.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lithe/diffusion/noise.h"
#include "lithe/models/builder.h"
#include "message_of.h"

namespace lithe {
namespace {

/// Logits or probabilities of three classes from four pixels, whose softmax gradient is known.
Graph linear_classifier(bool timed, bool softmax) {
  GraphBuilder net("classifier", 3);
  std::string y = net.flatten("flat", net.input("x", {-1, 1, 2, 2}));
  y = net.gemm("fc", y, 4, 3);
  if (timed) {
    const std::string t =
        net.node("Cast", "cast", {net.input("t", {-1}, DType::Int64)}, {{"to", std::int64_t{1}}});
    y = net.node("Mul", "scaled", {y, net.node("Unsqueeze", "column", {t, net.ints("axis", {1})})});
  }
  if (softmax) y = net.node("Softmax", "softmax", {y}, {{"axis", std::int64_t{1}}});
  net.output("logits", y, {-1, 3});
  return net.finish();
}

TEST(GraphClassifier, GradientOfTheLogProbability) {
  const at::Tensor x = start_noise({.count = 2, .shape = {1, 2, 2}});
  const at::Tensor labels = at::tensor({2, 0}, at::kLong);
  for (const bool timed : {false, true})
    for (const bool softmax : {false, true}) {
      const Graph graph = linear_classifier(timed, softmax);
      GraphClassifier classifier(graph);
      Executor executor(graph);
      // Logits are t W x + b: the gradient is t (row of the label - mean of the rows).
      const double t = timed ? 3 : 1;
      const at::Tensor weight = executor.constant("fc.weight"), bias = executor.constant("fc.bias");
      const at::Tensor p = at::softmax(t * (x.flatten(1).matmul(weight.t()) + bias), 1);
      const at::Tensor expected = t * (weight.index_select(0, labels) - p.matmul(weight));
      const at::Tensor made = classifier.gradient(x, 3, labels);
      EXPECT_TRUE(made.flatten(1).allclose(expected, 1e-4, 1e-5)) << timed << softmax << made << expected;
      EXPECT_FALSE(made.requires_grad());
    }
}

TEST(GraphClassifier, RefusesWrongLabels) {
  GraphClassifier classifier(linear_classifier(false, false));
  const at::Tensor x = at::zeros({1, 1, 2, 2});
  EXPECT_THAT(test::message_of([&] { classifier.gradient(x, 0, at::tensor({3}, at::kLong)); }),
              testing::HasSubstr("label 3"));
  EXPECT_THAT(test::message_of([&] { classifier.gradient(x, 0, {}); }), testing::HasSubstr("needs a label"));
}

}  // namespace
}  // namespace lithe
