#include "lithe/diffusion/denoiser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "diffusion/toy_denoiser.h"
#include "lithe/diffusion/noise.h"
#include "lithe/models/models.h"
#include "message_of.h"

namespace lithe {
namespace {

using test::message_of;
using test::toy_denoiser;
using testing::HasSubstr;

TEST(GraphDenoiser, EveryFormOfTime) {
  const at::Tensor x = at::arange(12, at::kFloat).reshape({3, 1, 2, 2});
  for (const DType type : {DType::Int64, DType::Int32, DType::Float32, DType::Float64})
    for (const std::vector<std::int64_t>& shape :
         std::vector<std::vector<std::int64_t>>{{}, {1}, {-1}, {-1, 1}})
      for (const char* name : {"t", "Timesteps", "something"}) {
        GraphDenoiser denoiser(toy_denoiser({.time = name, .time_type = type, .time_shape = shape}));
        EXPECT_TRUE(denoiser.predict(x, 17, {}, {}).equal(x + 17)) << dtype_name(type) << shape.size();
        EXPECT_FALSE(denoiser.takes_labels());
      }
}

TEST(GraphDenoiser, FractionsOfSteps) {
  const at::Tensor x = at::zeros({2, 1, 2, 2});
  const GraphPtr whole = toy_denoiser();
  GraphDenoiser strict(whole), rounding(whole, {.round_timesteps = true}),
      fractional(toy_denoiser({.time_type = DType::Float32}));
  EXPECT_THAT(message_of([&] { strict.predict(x, 3.75, {}, {}); }), HasSubstr("round"));
  EXPECT_TRUE(rounding.predict(x, 3.75, {}, {}).equal(x + 4));
  EXPECT_TRUE(fractional.predict(x, 3.75, {}, {}).equal(x + 3.75));
  EXPECT_FALSE(strict.takes_fractions());
  EXPECT_TRUE(rounding.takes_fractions());
  EXPECT_TRUE(fractional.takes_fractions());
}

TEST(GraphDenoiser, Labels) {
  GraphDenoiser denoiser(toy_denoiser({.label = "class_labels"}));
  EXPECT_TRUE(denoiser.takes_labels());
  EXPECT_EQ(denoiser.classes(), 3);
  const at::Tensor x = at::zeros({2, 1, 2, 2});
  const at::Tensor y = denoiser.predict(x, 1, at::tensor({2, 0}, at::kLong), {});
  EXPECT_TRUE(y[0].eq(31).all().item<bool>());
  EXPECT_TRUE(y[1].eq(11).all().item<bool>());
  EXPECT_THAT(message_of([&] { denoiser.predict(x, 1, {}, {}); }), HasSubstr("class_labels"));
  EXPECT_THAT(message_of([&] {
                denoiser.predict(x, 1, at::tensor({2, 3}, at::kLong), {});
              }),
              HasSubstr("label 3"));
  EXPECT_THAT(message_of([&] { denoiser.predict(x, 1, at::tensor({2}, at::kLong), {}); }),
              HasSubstr("int64 labels"));
}

TEST(GraphDenoiser, FixedBatchIsFilledUp) {
  GraphDenoiser denoiser(toy_denoiser({.time_shape = {2}, .label = "y", .batch = 2}));
  EXPECT_EQ(denoiser.fixed_batch(), 2);
  EXPECT_THAT(denoiser.image_shape(), testing::ElementsAre(1, 2, 2));
  const at::Tensor x = at::arange(20, at::kFloat).reshape({5, 1, 2, 2});
  const at::Tensor labels = at::tensor({0, 1, 2, 0, 1}, at::kLong);
  const at::Tensor expected = x + 3 + (10 * (labels + 1)).to(at::kFloat).reshape({5, 1, 1, 1});
  EXPECT_TRUE(denoiser.predict(x, 3, labels, {}).equal(expected));
}

TEST(GraphDenoiser, TwiceTheChannels) {
  GraphDenoiser denoiser(toy_denoiser({.twice = true}));
  EXPECT_EQ(denoiser.predict(at::ones({3, 1, 2, 2}), 0, {}, {}).size(1), 2);
}

TEST(GraphDenoiser, InputsThatCannotBeTold) {
  Graph graph = *toy_denoiser();
  graph.inputs.push_back(
      {.name = "text", .dtype = DType::Float32, .shape = DimVector{{-1, "n"}, {77, ""}, {8, ""}}});
  EXPECT_THAT(message_of([&] { GraphDenoiser one(std::make_shared<const Graph>(graph)); }),
              testing::AllOf(HasSubstr("'text'"), HasSubstr("name the image")));
  const GraphPtr level = toy_denoiser({.time = "sigma", .time_type = DType::Float32});
  const auto refusal = [&](const GraphDenoiserOptions& options) {
    return message_of([&] { GraphDenoiser one(level, options); });
  };
  EXPECT_THAT(refusal({}), HasSubstr("'sigma'"));
  EXPECT_THAT(refusal({.inputs = {.time = "t"}}), HasSubstr("no free input 't'"));
  EXPECT_THAT(refusal({.inputs = {.image = "sigma"}}), HasSubstr("cannot be the image"));
  EXPECT_THAT(refusal({.inputs = {.time = "sigma"}, .output = "z"}), HasSubstr("no output 'z'"));
  const at::Tensor x = at::zeros({1, 1, 2, 2});
  GraphDenoiser named(level, {.inputs = {.time = "sigma"}});
  EXPECT_TRUE(named.predict(x, 5, {}, {}).equal(x + 5));
}

TEST(GraphDenoiser, LayersLeftOut) {
  int made = 0;
  const auto skip = [&](const std::vector<int>& skipped) {
    ++made;
    return *toy_denoiser({.shift = 100 * static_cast<float>(skipped.front())});
  };
  GraphDenoiserOptions options;
  options.most_executors = 2;
  GraphDenoiser plain(toy_denoiser()), denoiser(toy_denoiser(), options, skip);
  const at::Tensor x = at::ones({2, 1, 2, 2});
  EXPECT_TRUE(denoiser.predict(x, 5, {}, {}).equal(x + 5));
  EXPECT_TRUE(denoiser.predict(x, 5, {}, {1}).equal(x + 105));
  EXPECT_TRUE(denoiser.predict(x, 5, {}, {1}).equal(x + 105));
  EXPECT_EQ(made, 1);
  EXPECT_TRUE(denoiser.predict(x, 5, {}, {2, 4}).equal(x + 205));
  EXPECT_TRUE(denoiser.predict(x, 5, {}, {3}).equal(x + 305));
  EXPECT_TRUE(denoiser.predict(x, 5, {}, {1}).equal(x + 105));  // was dropped meanwhile
  EXPECT_EQ(made, 4);
  EXPECT_THAT(message_of([&] { plain.predict(x, 5, {}, {1}); }), HasSubstr("cannot be skipped"));
}

TEST(GraphDenoiser, RunsTheUnet) {
  GraphDenoiser denoiser(std::make_shared<const Graph>(build_unet({.image_size = 8,
                                                                   .base = 8,
                                                                   .multipliers = {1, 2},
                                                                   .residual_blocks = 1,
                                                                   .attention_sizes = {4},
                                                                   .groups = 4})));
  EXPECT_THAT(denoiser.image_shape(), testing::ElementsAre(3, 8, 8));
  const at::Tensor x = start_noise({.count = 3, .shape = {3, 8, 8}});
  const at::Tensor y = denoiser.predict(x, 400, {}, {});
  EXPECT_EQ(y.sizes(), x.sizes());
  EXPECT_FALSE(y.allclose(denoiser.predict(x, 10, {}, {})));
}

}  // namespace
}  // namespace lithe
