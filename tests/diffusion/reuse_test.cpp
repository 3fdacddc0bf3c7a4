// Layers that are left out, but add what they gave in an earlier step.
#include <gtest/gtest.h>

#include <ATen/Parallel.h>

#include "lithe/diffusion/denoiser.h"
#include "lithe/diffusion/sampler.h"
#include "lithe/diffusion/search/candidate.h"
#include "lithe/diffusion/skippable_layers.h"
#include "lithe/models/models.h"

namespace lithe {
namespace {

class Reuse : public testing::Test {
 protected:
  Reuse() {
    at::set_num_threads(1);
    Graph graph =
        build_adm_unet({.image_size = 8, .image_channels = 1, .base = 8, .multipliers = {1, 2}, .seed = 3});
    Rng rng(9);
    for (auto& [name, data] : graph.constants) {  // ADM starts with branches that give zero
      if (data.dtype() != DType::Float32 || data.rank() < 2) continue;
      std::vector<float> values(static_cast<std::size_t>(data.count()));
      for (float& value : values) value = static_cast<float>(0.1 * rng.normal());
      data = TensorData::from<float>(data.shape(), values);
    }
    layers_ = find_skippable_layers(graph);
    graph_ = std::make_shared<const Graph>(std::move(graph));
    x_ = at::linspace(-1, 1, 3 * 64).view({3, 1, 8, 8});
  }

  GraphDenoiser denoiser() const {
    GraphDenoiserOptions options;
    for (const SkippableLayer& layer : layers_) options.branches.push_back(layer.branch);
    return GraphDenoiser(graph_, options);
  }

  GraphPtr graph_;
  std::vector<SkippableLayer> layers_;
  at::Tensor x_;
  const std::vector<int> some_{1, 4, 9};
};

TEST_F(Reuse, AddsWhatTheLastExecutionGave) {
  const at::NoGradGuard no_grad;
  GraphDenoiser reusing = denoiser(), plain(graph_);
  const at::Tensor first = reusing.predict(x_, 900, {}, {});
  EXPECT_TRUE(at::allclose(first, plain.predict(x_, 900, {}, {}), 1e-5, 1e-6));
  const at::Tensor second = reusing.predict(0.5 * x_, 500, {}, some_);

  Executor executor(*graph_);
  const auto time = [](std::int64_t t) { return at::full({3}, t, at::kLong); };
  std::vector<std::string> branches;
  for (const int layer : some_) branches.push_back(layers_[static_cast<std::size_t>(layer)].branch);
  Feeds feeds = executor.run({{"x", x_}, {"t", time(900)}}, branches);
  feeds["x"] = 0.5 * x_;
  feeds["t"] = time(500);
  const std::string output = graph_->outputs[0].name;
  EXPECT_TRUE(at::allclose(second, executor.run(feeds, {output}).at(output), 1e-5, 1e-6));
  EXPECT_FALSE(at::allclose(second, plain.predict(0.5 * x_, 500, {}, {}), 1e-3, 1e-3));
}

TEST_F(Reuse, ExecutesWhereNothingIsKept) {
  const at::NoGradGuard no_grad;
  GraphDenoiser reusing = denoiser(), plain(graph_);
  EXPECT_TRUE(at::allclose(reusing.predict(x_, 900, {}, some_), plain.predict(x_, 900, {}, {}), 1e-5, 1e-6));
  reusing.start();  // other images
  EXPECT_TRUE(
      at::allclose(reusing.predict(2 * x_, 500, {}, some_), plain.predict(2 * x_, 500, {}, {}), 1e-5, 1e-6));
}

TEST_F(Reuse, BatchesDoNotMix) {
  const SamplingPlan plan{
      {.timestep = 100, .skipped = some_}, {.timestep = 500, .skipped = {2}}, {.timestep = 900}};
  const auto images = [&](std::int64_t batch) {
    GraphDenoiser model = denoiser();
    SamplerOptions options;
    options.batch = batch;
    return sample(model, NoiseSchedule::cosine(), plan, options,
                  {.images = {.seed = 5, .count = 7, .shape = {1, 8, 8}}});
  };
  EXPECT_TRUE(at::allclose(images(7), images(3), 1e-4, 1e-4));
}

TEST(ReuseSpace, TheFirstStepIsWhole) {
  SearchSpace space{.grid = 1000, .least = 1, .most = 20};
  space.first_whole = true;
  space.step_cost = 20;
  space.layer_costs.assign(20, 1.0);
  space.budget = 60;
  space.most_skipped = 0.5;
  EXPECT_FALSE(is_valid(space, {{.t = 100}, {.t = 900, .skipped = {3}}}));
  EXPECT_TRUE(is_valid(space, {{.t = 100, .skipped = {3}}, {.t = 900}}));
  for (std::uint64_t i = 0; i < 100; ++i) {
    Rng rng(1, i);
    const auto legal = repair(space, {{.t = 900, .skipped = {1, 2}}, {.t = 100}, {.t = 300}, {.t = 400}},
                              {.most = 0.5}, rng);
    ASSERT_TRUE(legal);
    EXPECT_TRUE(is_valid(space, *legal));
    EXPECT_TRUE(legal->back().skipped.empty());
  }
}

}  // namespace
}  // namespace lithe
