// Multi-bit models in stock ONNX Runtime, as users run it: with all optimisations.
#include "lithe/base/file.h"
#include "lithe/engine/onnxruntime.h"
#include "lithe/graph/onnx.h"
#include "lithe/multibit/deploy.h"
#include "lithe/multibit/session.h"
#include "multibit/helpers.h"
#include "onnxruntime/need.h"

namespace lithe {
namespace {

using namespace test;

const std::vector<int> kBits{2, 3, 4, 6, 8};

/// The integer model with entry and exit of the body as further outputs.
Graph with_ends(Graph graph, const std::vector<std::string>& values) {
  for (const std::string& value : values) graph.outputs.push_back({.name = value, .dtype = DType::Float32});
  return graph;
}

class MultibitInOnnxRuntime : public ::testing::Test {
 protected:
  const Graph& model() {
    static const Graph graph = small_model(kBits, {.widths = {8, 16}, .blocks = 2}).branches.graph;
    return graph;
  }
  /// exit by the integer session from the entry that ONNX Runtime computed.
  static at::Tensor integer_exit(MultibitSession& session, const at::Tensor& entry, const at::Tensor& like) {
    const at::Tensor from = entry.contiguous();
    at::Tensor exit = at::empty(like.sizes());
    for (std::int64_t i = 0; i < entry.size(0); ++i)
      session.run_body(from[i].data_ptr<float>(), exit[i].data_ptr<float>());
    return exit;
  }
  /// The static model in ONNX Runtime gives the exit of the integer session.
  void expect_integer_reference(const Graph& graph, MultibitSession& session, int bits) {
    const MultibitInfo info = multibit_info(graph);
    const auto path = folder_.path() / "static.onnx";
    const std::string exit = info.path(bits).exit;
    write_onnx(with_ends(deploy_static(graph, bits), {info.entry, exit}), path);
    if (runtime_)
      runtime_->load(path);
    else
      runtime_.emplace(path);
    const Feeds values = runtime_->run({{"x", x_}});
    session.set_bits(bits);
    const at::Tensor exact = integer_exit(session, values.at(info.entry), values.at(exit));
    EXPECT_EQ((exact - values.at(exit)).abs().max().item<double>(), 0) << graph.name << " " << bits;
  }
  TemporaryFolder folder_;
  std::optional<OnnxRuntime> runtime_;
  at::Tensor x_ = random_images(4, 9);
};

TEST_F(MultibitInOnnxRuntime, StaticModelsEqualTheIntegerReference) {
  LITHE_NEED_ONNX_RUNTIME();
  MultibitSession session(model());
  for (const int bits : kBits) expect_integer_reference(model(), session, bits);
}

// With norms in front of the convolutions, and with bounds of weights by place.
TEST_F(MultibitInOnnxRuntime, OtherBodiesEqualTheIntegerReference) {
  LITHE_NEED_ONNX_RUNTIME();
  const MultibitOptions slots{.slots = true};
  for (const Graph& graph : {quickly_trained(pre_activation_net(), {2, 4}).branches.graph,
                             quickly_trained(pre_activation_net(true), {2, 4}).branches.graph,
                             small_model({2, 4, 8}, {}, slots).branches.graph}) {
    MultibitSession session(graph);
    for (const int bits : multibit_info(graph).bits) expect_integer_reference(graph, session, bits);
  }
}

TEST_F(MultibitInOnnxRuntime, OneModelChoosesByInput) {
  LITHE_NEED_ONNX_RUNTIME();
  const auto path = folder_.path() / "selectable.onnx", fixed = folder_.path() / "static.onnx";
  const MultibitInfo info = multibit_info(model());
  const Graph graph = deploy_selectable(model(), kBits);
  write_onnx(with_ends(graph, {info.entry, "exit"}), path);
  OnnxRuntime runtime(path);
  MultibitSession session(model());
  for (const int bits : kBits) {
    const Feeds values = runtime.run({{"x", x_}, {"bits", at::full({}, bits, at::kLong)}});
    session.set_bits(bits);
    const at::Tensor exact = integer_exit(session, values.at(info.entry), values.at("exit"));
    EXPECT_EQ((exact - values.at("exit")).abs().max().item<double>(), 0) << bits;
    write_onnx(deploy_static(model(), bits), fixed);
    EXPECT_TRUE(at::equal(OnnxRuntime(fixed).run({{"x", x_}}).begin()->second, values.at("logits"))) << bits;
  }
  const Feeds none = runtime.run({{"x", x_}, {"bits", at::full({}, 5, at::kLong)}});
  EXPECT_TRUE(none.at("logits").isnan().all().item<bool>());
}

TEST_F(MultibitInOnnxRuntime, FastModelsAreThoseOfTheEngine) {
  LITHE_NEED_ONNX_RUNTIME();
  const auto path = folder_.path() / "fast.onnx";
  for (const int bits : {3, 8}) {
    const Graph graph = deploy_fast(model(), bits);
    write_onnx(graph, path);
    const at::NoGradGuard no_grad;
    Executor run(graph, {.fuse = false});
    const at::Tensor y = OnnxRuntime(path).run({{"x", x_}}).begin()->second, expected = run(x_);
    EXPECT_LT((y - expected).norm().item<double>(), 0.1 * expected.norm().item<double>()) << bits;
  }
}

// The trained file itself: learnt quantisers as a function of standard operators.
TEST_F(MultibitInOnnxRuntime, TrainedModelsRunAsTheyAre) {
  LITHE_NEED_ONNX_RUNTIME();
  const auto path = folder_.path() / "trained.onnx";
  write_onnx(model(), path);
  const at::NoGradGuard no_grad;
  Executor run(model());
  const Feeds expected = run.run({{"x", x_}});
  for (const auto& [name, value] : OnnxRuntime(path).run({{"x", x_}})) {
    const at::Tensor& ours = expected.at(name);
    EXPECT_LT((value - ours).abs().median().item<double>(), 1e-3 * ours.abs().max().item<double>()) << name;
  }
}

}  // namespace
}  // namespace lithe
