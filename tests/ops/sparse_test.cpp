#include <gtest/gtest.h>

#include "lithe/base/error.h"
#include "lithe/base/random.h"
#include "lithe/engine/executor.h"
#include "lithe/kernels/nm_mask.h"
#include "lithe/ops/sparse.h"

namespace lithe {
namespace {

/// One NmPrune node and, if `branch`, a SpatialBranch behind it.
Graph pruning_graph(const std::vector<std::int64_t>& shape, const std::string& mode, bool branch = false) {
  Graph graph;
  graph.header.opsets["lithe"] = 1;
  std::int64_t count = 1;
  for (const std::int64_t size : shape) count *= size;
  const TensorData zeros = TensorData::from(shape, std::vector<double>(static_cast<std::size_t>(count)));
  graph.constants["w"] = zeros;
  Node prune{
      .name = "prune", .op_type = "NmPrune", .domain = "lithe", .inputs = {"w"}, .outputs = {"p", "b"}};
  prune.attributes = {
      {"n", std::int64_t{2}}, {"m", std::int64_t{4}}, {"axis", std::int64_t{1}}, {"mode", mode}};
  if (mode == "fixed") {
    graph.constants["mask"] = zeros;
    prune.inputs.push_back("mask");
  }
  graph.nodes.push_back(prune);
  graph.outputs = {{.name = "p"}, {.name = "b"}};
  if (branch) {
    graph.constants["v"] = zeros;
    graph.constants["s"] = TensorData::from<double>({1, 1}, {1.0});
    graph.nodes.push_back({.name = "branch",
                           .op_type = "SpatialBranch",
                           .domain = "lithe",
                           .inputs = {"v", "b", "s"},
                           .outputs = {"q"}});
    graph.outputs.push_back({.name = "q"});
  }
  return graph;
}

at::Tensor row(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble).view({1, -1});
}

at::Tensor learnt(const std::vector<double>& values) {
  return row(values).requires_grad_(true);
}

void expect_close(const at::Tensor& value, const std::vector<double>& wanted, double tolerance = 1e-12) {
  EXPECT_TRUE(at::allclose(value.detach().reshape({-1}), at::tensor(wanted, at::kDouble), 0, tolerance))
      << value;
}

// Golden case G4: gradients and one step of SGD (rate 0.1, weight decay 5e-4).
TEST(NmPrune, SparseRefinedGradient) {
  Executor run(pruning_graph({1, 4}, "sr-ste", true));
  const at::Tensor w = learnt({0.5, -0.2, 0.1, 0.4}), v = learnt({0.3, 0.7, -0.6, 0.2});
  run.set_constant("w", w);
  run.set_constant("v", v);
  for (const double s : {1.0, 0.0}) {
    run.set_constant("s", row({s}));
    const Feeds out = run.run({});
    expect_close(out.at("b"), {1, 0, 0, 1});
    expect_close(out.at("p"), {0.5, 0, 0, 0.4});
    w.mutable_grad() = at::Tensor();
    v.mutable_grad() = at::Tensor();
    ((out.at("p") * row({1, -1, 0.5, 2})).sum() + out.at("q").sum()).backward();
    expect_close(w.grad(), {1, -1.00004, 0.50002, 2}, 1e-8);  // the decay is stored as float32
    expect_close(v.grad(), s == 1 ? std::vector<double>{1, 0, 0, 1} : std::vector<double>(4));
    const auto step = [](const at::Tensor& x) { return x.detach() - 0.1 * (x.grad() + 5e-4 * x.detach()); };
    expect_close(step(w), {0.399975, -0.099986, 0.049993, 0.19998}, 1e-8);
    expect_close(step(v), s == 1 ? std::vector<double>{0.199985, 0.699965, -0.59997, 0.09999}
                                 : std::vector<double>{0.299985, 0.699965, -0.59997, 0.19999});
  }
}

TEST(NmPrune, StraightThroughAndFixed) {
  Executor ste(pruning_graph({1, 4}, "ste"));
  const at::Tensor w = learnt({0.5, -0.2, 0.1, 0.4});
  ste.set_constant("w", w);
  ste.run({}).at("p").sum().backward();
  expect_close(w.grad(), {1, 1, 1, 1});
  Executor fixed(pruning_graph({1, 4}, "fixed"));
  w.mutable_grad() = at::Tensor();
  fixed.set_constant("w", w);
  fixed.set_constant("mask", row({0, 1, 0, 1}));
  const at::Tensor pruned = fixed.run({}).at("p");
  expect_close(pruned, {0, -0.2, 0, 0.4});
  pruned.sum().backward();
  expect_close(w.grad(), {0, 1, 0, 1});
}

TEST(NmPrune, ZerosAreLiteral) {
  Executor run(pruning_graph({1, 4}, "sr-ste"));
  run.set_constant("w", row({-1, -2, -3, -4}));
  const at::Tensor pruned = run.run({}).at("p");
  for (int i = 0; i < 2; ++i) EXPECT_FALSE(at::signbit(pruned)[0][i].item<bool>());
}

// What other devices compute is what the kernel computes, ties and short last groups included.
TEST(NmPrune, SortingAgreesWithTheKernel) {
  Rng rng(6);
  for (const auto& shape :
       std::vector<std::vector<std::int64_t>>{{3, 16, 2, 2}, {5, 11}, {2, 7, 3}, {4, 130, 1}})
    for (const auto& [n, m] : std::vector<std::pair<std::int64_t, std::int64_t>>{
             {2, 4}, {1, 4}, {3, 8}, {1, 16}, {4, 4}, {7, 64}}) {
      at::Tensor weight = at::empty(shape, at::kDouble);
      for (std::int64_t i = 0; i < weight.numel(); ++i)
        weight.data_ptr<double>()[i] = static_cast<double>(static_cast<int>(rng.below(7)) - 3);
      const ChannelGroups groups{shape[0], shape[1], weight.numel() / (shape[0] * shape[1])};
      std::vector<std::uint8_t> wanted(static_cast<std::size_t>(weight.numel()));
      nm_mask(weight.data_ptr<double>(), groups, n, m, wanted.data());
      const at::Tensor mask = nm_mask_by_sorting(weight, 1, n, m).to(at::kByte);
      EXPECT_TRUE(at::equal(mask.reshape({-1}), at::tensor(wanted, at::kByte)))
          << n << ":" << m << " " << shape.size();
      // Along another axis.
      const at::Tensor turned = nm_mask_by_sorting(weight.transpose(0, 1).contiguous(), 0, n, m);
      EXPECT_TRUE(at::equal(turned.transpose(0, 1).to(at::kByte), mask));
    }
}

TEST(NmPrune, RefusesWhatMakesNoSense) {
  Graph graph = pruning_graph({1, 4}, "sr-ste");
  graph.nodes[0].attributes["n"] = std::int64_t{5};
  EXPECT_THROW(Executor(graph).run({}), Error);
  graph = pruning_graph({1, 4}, "sometimes");
  EXPECT_THROW(Executor(graph).run({}), Error);
  graph = pruning_graph({1, 4}, "fixed");
  Executor run(graph);
  run.set_constant("mask", row({1, 1}));
  EXPECT_THROW(run.run({}), Error);
}

}  // namespace
}  // namespace lithe
