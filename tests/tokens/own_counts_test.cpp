#include "lithe/tokens/own_counts.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "lithe/data/dataset.h"
#include "lithe/engine/executor.h"
#include "lithe/engine/random_inputs.h"
#include "lithe/tokens/tokens.h"
#include "message_of.h"
#include "tokens/vit_forms.h"

namespace lithe {
namespace {

/// What attends sharply, so that images differ in how many tokens hold a share of it.
Graph sharp(Graph graph) {
  const std::string factor = graph.add_constant("sharper", TensorData::scalar(40.0f));
  std::vector<Node> products;
  for (Node& node : graph.nodes)
    if (node.is("Softmax")) {
      const std::string scores = node.input(0), product = scores + ".sharp";
      node.inputs[0] = product;
      products.push_back(
          {.name = product, .op_type = "Mul", .inputs = {scores, factor}, .outputs = {product}});
    }
  for (Node& node : products) graph.nodes.push_back(std::move(node));
  graph.values.clear();
  graph.sort();
  return graph;
}

at::Tensor logits_of(const Graph& graph, const Feeds& feeds) {
  Executor executor(graph);
  return executor.run(feeds, {"logits"}).at("logits");
}

// In a batch every image comes to what it does alone, and alone to what the model with a schedule of the
// image's own counts does.
TEST(OwnCounts, EveryImageHasItsOwnSchedule) {
  const at::NoGradGuard no_grad;
  bool differ = false;
  for (const VitForm& form :
       {VitForm{}, VitForm{.batch = 1}, VitForm{.specials = 2}, VitForm{.specials = 0},
        VitForm{.specials = 4, .mean_of_patches = true},
        VitForm{.projection = VitForm::Projection::Split, .scale = VitForm::Scale::Both, .batch = 1},
        VitForm{.projection = VitForm::Projection::Separate, .scale = VitForm::Scale::Before, .flat = true},
        VitForm{.projection = VitForm::Projection::Separate, .batch = 1, .flat = true}}) {
    const Graph graph = prepare_tokens(sharp(vit_form(form)));
    const TokenModel model = find_attention(graph);
    const std::int64_t n = model.tokens, images = form.batch < 0 ? 6 : 1;
    const TokenSchedule most{{n - 1, n - 4, n - 6}, {n - 2, n - 5, n - 7}};
    const std::vector<TokenStep> steps = reduce_steps(most, n);
    const Compressed compressed = compress_tokens(graph, model, steps, {.own_mass = 0.6, .trace = true});
    const Feeds feeds = random_inputs(graph, 3, {}, images);
    std::vector<std::string> wanted = compressed.assignments;
    wanted.emplace_back("logits");
    Executor executor(compressed.graph);
    const Feeds out = executor.run(feeds, wanted);
    std::vector<std::int64_t> last;
    for (std::int64_t i = 0; i < images; ++i) {
      TokenSchedule own = dense_schedule(3, n);
      for (std::size_t l = 0; l < 3; ++l) {
        const at::Tensor went = out.at(compressed.assignments[l])[i];
        own.prune[l] = (went >= 0).sum().item<std::int64_t>();
        own.merge[l] = went.max().item<std::int64_t>() + 1;
        EXPECT_LE(own.prune[l], most.prune[l]);
        EXPECT_LE(own.merge[l], most.merge[l]);
      }
      last.push_back(own.merge[2]);
      const Feeds one{{"input", feeds.at("input").slice(0, i, i + 1)}};
      const at::Tensor together = out.at("logits").slice(0, i, i + 1);
      const Compressed plain = compress_tokens(graph, model, reduce_steps(own, n));
      EXPECT_LT((logits_of(plain.graph, one) - together).abs().max().item<double>(), 2e-5);
      EXPECT_LT((logits_of(compressed.graph, one) - together).abs().max().item<double>(), 2e-5);
    }
    differ =
        differ || *std::min_element(last.begin(), last.end()) < *std::max_element(last.begin(), last.end());
  }
  EXPECT_TRUE(differ);
}

TEST(OwnCounts, AreCounted) {
  const at::NoGradGuard no_grad;
  const Graph model = sharp(vit_form({}));
  const TokensOptions options{.method = TokenMethod::Fixed, .share = 0.75, .own_mass = 0.5};
  Progress silent;
  const TokensPlan plan = plan_tokens(model, options);
  const TokensResult result = reduce_model_tokens(plan, nullptr, options, silent);
  const Feeds feeds = random_inputs(model, 4, {}, 20);
  const OwnCounts counts = count_own_tokens(plan.prepared, plan.model, plan.cost, result.steps,
                                            {.own_mass = 0.5}, tensor_dataset(feeds), 1, at::kCPU);
  EXPECT_EQ(counts.images, 20);
  ASSERT_EQ(counts.tokens.size(), 3u);
  EXPECT_EQ(counts.tokens[0].mean, 17);  // the first block removes nothing
  EXPECT_EQ(counts.tokens[0].deviation, 0);
  for (std::size_t l = 1; l < 3; ++l) {
    EXPECT_LE(counts.tokens[l].most, static_cast<double>(result.tokens[l]));
    EXPECT_GE(counts.tokens[l].least, 2);
  }
  EXPECT_GT(counts.macs.deviation, 0);
  EXPECT_LT(counts.macs.least, counts.macs.mean);
  EXPECT_LE(counts.macs.most, static_cast<double>(result.macs) / static_cast<double>(result.macs_before));
  EXPECT_LT(counts.macs.mean, counts.macs.most);

  const Spread spread = spread_of({1, 2, 3, 6});
  EXPECT_EQ(spread.mean, 3);
  EXPECT_NEAR(spread.deviation, std::sqrt(3.5), 1e-12);
  EXPECT_EQ(spread.least, 1);
  EXPECT_EQ(spread.most, 6);
}

TEST(OwnCounts, WeightsLearnThroughThem) {
  at::set_num_threads(1);
  const Graph model = sharp(vit_form({}));
  const DatasetPtr data = tensor_dataset(random_inputs(model, 5, {}, 8));
  TokensOptions options{.method = TokenMethod::Fixed, .share = 0.75, .own_mass = 0.5, .fine_tune_epochs = 2};
  options.train.threads = 1;
  options.fine_tune.batch = 4;
  options.fine_tune.weight_decay = 0;
  Progress silent;
  const TokensResult result = reduce_model_tokens(model, data, options, silent);
  EXPECT_EQ(result.fine_tuning.size(), 2u);
  const auto stem =
      std::find_if(model.nodes.begin(), model.nodes.end(), [](const Node& node) { return node.is("Conv"); });
  const TensorData &before = model.constants.at(stem->input(1)),
                   &after = result.graph.constants.at(stem->input(1));
  EXPECT_FALSE(std::equal(before.bytes().begin(), before.bytes().end(), after.bytes().begin()));
}

TEST(OwnCounts, WhatCannotHaveThem) {
  const TokensOptions own{.method = TokenMethod::Fixed, .share = 0.7, .own_mass = 0.5};
  const auto complaint = [](const Graph& model, const TokensOptions& options) {
    Progress silent;
    return test::message_of([&] { reduce_model_tokens(model, nullptr, options, silent); });
  };
  TokensOptions tome = own;
  tome.method = TokenMethod::Tome;
  EXPECT_NE(complaint(vit_form({}), tome).find("the operators of DiffRate alone"), std::string::npos);
  TokensOptions much = own;
  much.own_mass = 1.5;
  EXPECT_NE(complaint(vit_form({}), much).find("at most 1"), std::string::npos);
}

}  // namespace
}  // namespace lithe
