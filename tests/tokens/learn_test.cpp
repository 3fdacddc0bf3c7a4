#include "lithe/tokens/learn.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <cmath>

#include "lithe/base/file.h"
#include "lithe/ops/registry.h"
#include "lithe/tokens/tokens.h"
#include "message_of.h"
#include "tokens/toy_vit.h"

namespace lithe {
namespace {

void expect_close(const at::Tensor& got, const std::vector<double>& wanted, double tolerance) {
  ASSERT_GE(got.numel(), static_cast<std::int64_t>(wanted.size()));
  for (std::size_t i = 0; i < wanted.size(); ++i)
    EXPECT_NEAR(got[static_cast<std::int64_t>(i)].item<double>(), wanted[i], tolerance) << i;
}

// Values and gradients of a whole search step against the published code.
TEST(SearchGraph, PublishedGradients) {
  const Graph graph = prepare_tokens(toy_vit());
  const TokenModel model = find_attention(graph);
  const TokenCost cost = token_cost(graph, model);
  const SearchGraph search = insert_search(graph, model, cost, token_limits(model, false));
  ASSERT_EQ(search.blocks.size(), 2u);
  Executor executor(search.graph);
  std::vector<at::Tensor> thetas;
  std::vector<std::string> names;
  const std::vector<std::pair<double, double>> peaks{{5, 8}, {10, 12}};
  for (std::size_t b = 0; b < 2; ++b)
    for (const bool merge : {false, true}) {
      const double peak = merge ? peaks[b].second : peaks[b].first;
      at::Tensor theta = (-0.5 * (at::arange(16, at::kFloat) - peak).abs()).requires_grad_(true);
      names.push_back(merge ? search.blocks[b].merge_theta : search.blocks[b].prune_theta);
      executor.set_constant(names.back(), theta);
      thetas.push_back(theta);
    }
  const std::string logits = search.graph.outputs[0].name;
  std::vector<std::string> fetch{logits, search.macs};
  for (const LearntBlock& block : search.blocks) fetch.insert(fetch.end(), {block.pruned, block.merged});
  const Feeds out = executor.run({{"input", toy_images()}}, fetch);
  EXPECT_EQ(out.at(search.blocks[0].pruned).item<float>(), 12);
  EXPECT_EQ(out.at(search.blocks[0].merged).item<float>(), 10);
  EXPECT_EQ(out.at(search.blocks[1].pruned).item<float>(), 8);
  EXPECT_EQ(out.at(search.blocks[1].merged).item<float>(), 6);
  const at::Tensor wanted =
      at::tensor({1.281146f, -.668576f, 1.804954f, .093268f, .012132f, .612256f}).reshape({2, 3});
  EXPECT_LT((out.at(logits) - wanted).abs().max().item<double>(), 1e-5);

  const at::Tensor log_shares = at::log_softmax(out.at(logits), 1);
  const at::Tensor loss = -(log_shares[0][0] + log_shares[1][2]) / 2;
  EXPECT_NEAR(loss.item<double>(), .901578, 2e-6);
  const auto ce =
      torch::autograd::grad({loss}, thetas, {}, /*retain_graph=*/true, false, /*allow_unused=*/true);
  expect_close(
      ce[0],
      {-4.52507e-4, -7.76986e-4, -9.85227e-4, 3.08099e-4, 8.38115e-4, 1.66894e-3, 1.012263e-3, 6.13969e-4,
       2.7327e-4, -1.19871e-3, -8.45282e-4, -2.29535e-4, -1.43785e-4, -1.58909e-4, 5.2057e-5, 2.4229e-5},
      5e-7);
  expect_close(
      ce[1],
      {-6.926e-5, -1.1419e-4, -1.88267e-4, -3.104e-4, -5.11764e-4, -8.43756e-4, 1.433627e-3, 2.841101e-3,
       4.24684e-3, -3.444432e-3, -2.6108e-3, -3.34193e-4, -2.22838e-4, -4.51508e-4, 3.81096e-4, 1.98738e-4},
      5e-7);
  for (const std::size_t last : {2u, 3u}) {
    EXPECT_TRUE(!ce[last].defined() || ce[last].abs().max().item<double>() == 0);
  }
  const auto macs = torch::autograd::grad({out.at(search.macs)}, thetas);
  const double dense = static_cast<double>(cost.dense);
  expect_close(macs[0] * dense,
               {117.8872, 157.0489, 197.409, 224.0416, 202.151, 57.5731, -132.3112, -181.6816}, 2e-2);
  expect_close(macs[3] * dense, {3.9089, 5.8846, 8.7784, 12.9504, 18.841, 26.9243}, 2e-3);
  EXPECT_NEAR(macs[3][14].item<double>() * dense, -125.8351, 2e-2);
  EXPECT_NEAR(macs[3][15].item<double>() * dense, -106.9081, 2e-2);
  // coefficient * share * (count - expected count), for every candidate of every rate.
  const std::vector<double> expected{10.791187, 8.036556, 6.208813, 4.495408}, factor{1088, 1088, 512, 512};
  for (std::size_t i = 0; i < 4; ++i) {
    const at::Tensor counts = 16 - at::arange(16, at::kDouble),
                     shares = at::softmax(thetas[i].detach().to(at::kDouble), 0);
    EXPECT_NEAR((counts * shares).sum().item<double>(), expected[i], 2e-6);
    const at::Tensor wanted = factor[i] * shares * (counts - expected[i]);
    EXPECT_LT((macs[i].to(at::kDouble) * dense - wanted).abs().max().item<double>(), 2e-2) << i;
    EXPECT_NEAR(macs[i].sum().item<double>() * dense, 0, 2e-3);
  }
  for (std::size_t i = 0; i < 2; ++i) EXPECT_NEAR(ce[i].sum().item<double>(), 0, 1e-7);
  EXPECT_NEAR(out.at(search.macs).item<double>(), cost.network({17, 10, 6}) / dense, 1e-6);
}

TEST(SearchGraph, OfMeansAndOfOneOperation) {
  const Graph graph = prepare_tokens(build_vit(
      {.image_size = 16, .patch = 4, .dim = 16, .depth = 3, .heads = 2, .classes = 3, .class_token = false}));
  const TokenModel model = find_attention(graph);
  ASSERT_EQ(model.tail, TokenTail::Mean);
  const SearchGraph search = insert_search(graph, model, token_cost(graph, model), token_limits(model, false),
                                           {.kind = TokenKind::Merge, .granularity = 3});
  EXPECT_EQ(search.blocks.size(), 1u);  // neither the first nor the last
  EXPECT_EQ(search.thetas.size(), 1u);
  Executor executor(search.graph);
  const at::NoGradGuard no_grad;
  const Feeds out = executor.run({{"input", at::zeros({2, 3, 16, 16})}});
  EXPECT_EQ(out.at(search.blocks[0].pruned).item<float>(), 16);
  EXPECT_LT(out.at(search.blocks[0].merged).item<float>(), 16);
  EXPECT_TRUE(out.at("logits").isfinite().all().item<bool>());
}

// Three epochs at a base of 0.01 and a floor of 0.001.
TEST(RateShare, PublishedLearningRates) {
  EXPECT_NEAR(0.01 * rate_share(0, 3, 0.1), .01, 1e-12);
  EXPECT_NEAR(0.01 * rate_share(1, 3, 0.1), .01, 1e-12);
  EXPECT_NEAR(0.01 * rate_share(2, 3, 0.1), .00775, 1e-12);
}

TEST(LearnRates, MeetsTheBudgetWithAndWithoutLabels) {
  at::set_num_threads(1);
  const Graph graph =
      build_vit({.image_size = 16, .patch = 4, .dim = 16, .depth = 4, .heads = 2, .classes = 4});
  Progress silent;
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(2);
  const at::Tensor images = at::randn({64, 3, 16, 16}, generator),
                   labels = at::randint(4, {64}, generator, at::kLong);
  TokensOptions options{.share = 0.55};
  options.train.epochs = 6;
  options.train.batch = 16;
  options.train.threads = 1;
  options.repair_samples = 16;
  for (const bool labelled : {true, false}) {
    const TokensResult result = reduce_model_tokens(
        graph, tensor_dataset({{"", images}}, labelled ? labels : at::Tensor()), options, silent);
    EXPECT_TRUE(result.complete);
    ASSERT_TRUE(result.learnt.has_value());
    EXPECT_EQ(result.history.size(), 6u);
    EXPECT_TRUE(result.history.back().extra.contains("macs"));
    const double share = static_cast<double>(result.macs) / static_cast<double>(result.macs_before);
    EXPECT_LE(share, 0.55);
    EXPECT_GT(share, 0.53);
    for (const auto& [name, weight] : result.graph.constants)  // nothing but counts was learnt
      if (const auto found = graph.constants.find(name); found != graph.constants.end()) {
        EXPECT_TRUE(std::equal(weight.bytes().begin(), weight.bytes().end(), found->second.bytes().begin()));
      }
  }
}

// The search itself, not what brings its counts to the budget, comes there, and by its multiplier.
TEST(LearnRates, TheSearchMovesTheCounts) {
  at::set_num_threads(1);
  const TokensOptions options{.share = 0.7};
  const TokensPlan plan = plan_tokens(
      build_vit({.image_size = 16, .patch = 4, .dim = 16, .depth = 3, .heads = 2, .classes = 4}), options);
  const SearchGraph search = insert_search(plan.prepared, plan.model, plan.cost, plan.limits);
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(2);
  const DatasetPtr data = tensor_dataset({{"", at::randn({16, 3, 16, 16}, generator)}},
                                         at::randint(4, {16}, generator, at::kLong));
  TrainOptions train = options.train;
  train.epochs = 60;
  train.batch = 8;
  train.threads = 1;
  train.learning_rate = 0.1;
  Progress silent;
  const auto reached = [&](const RateLearning& learning) {
    const LearntRates rates = learn_rates(plan.prepared, plan.model, search, data, learning, train, silent);
    return rates.history.back().extra.at("macs");
  };
  EXPECT_NEAR(reached({.share = 0.7}), 0.7, 0.04);
  EXPECT_NEAR(reached({.share = 0.95}), 0.95, 0.04);
  // Without penalty and multiplier there are labels alone, which are noise.
  const double free = reached({.share = 0.7, .penalty = 0, .multiplier_rate = 0});
  EXPECT_GT(free, 0.78);
  EXPECT_LT(free, 0.9);
}

TEST(LearnRates, DefaultEpochs) {
  EXPECT_EQ(search_epochs(1000, 16), 3);
  EXPECT_EQ(search_epochs(100000, 16), 1);
  EXPECT_EQ(search_epochs(320, 16), 9);
  EXPECT_EQ(search_epochs(1, 16), 100);
}

bool same_weights(const Graph& a, const Graph& b) {
  for (const auto& [name, weight] : a.constants) {
    const auto& other = b.constants.at(name);
    if (!std::equal(weight.bytes().begin(), weight.bytes().end(), other.bytes().begin())) return false;
  }
  return true;
}

TEST(FineTune, LearnsAllWeightsAndResumes) {
  at::set_num_threads(1);
  const Graph graph =
      build_vit({.image_size = 16, .patch = 4, .dim = 16, .depth = 4, .heads = 2, .classes = 4});
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(2);
  const at::Tensor images = at::randn({48, 3, 16, 16}, generator),
                   labels = at::randint(4, {48}, generator, at::kLong);
  const TemporaryFolder folder;
  Progress silent;
  for (const bool labelled : {true, false}) {
    const DatasetPtr data = tensor_dataset({{"", images}}, labelled ? labels : at::Tensor());
    TokensOptions options{.method = TokenMethod::Fixed, .share = 0.6, .fine_tune_epochs = 3};
    options.train.threads = 1;
    options.fine_tune.batch = 16;
    options.fine_tune.learning_rate = 1e-2;
    int epochs = 0;
    options.fine_tune.on_epoch = [&](const EpochRecord& record) { epochs = static_cast<int>(record.epoch); };
    const TokensResult whole = reduce_model_tokens(graph, data, options, silent);
    EXPECT_TRUE(whole.complete);
    EXPECT_EQ(epochs, 3);
    EXPECT_TRUE(whole.history.empty());
    ASSERT_EQ(whole.fine_tuning.size(), 3u);
    EXPECT_LT(whole.fine_tuning.back().loss, whole.fine_tuning.front().loss);
    TokensOptions none = options;
    none.fine_tune_epochs = 0;
    EXPECT_FALSE(same_weights(whole.graph, reduce_model_tokens(graph, data, none, silent).graph));

    options.train.checkpoints = folder.path() / (labelled ? "labelled" : "unlabelled");
    options.train.time_budget = 1e-9;
    const TokensResult cut = reduce_model_tokens(graph, data, options, silent);
    EXPECT_FALSE(cut.complete);
    ASSERT_FALSE(cut.warnings.empty());
    EXPECT_NE(cut.warnings[0].find("fine-tuning"), std::string::npos);
    options.train.time_budget = 0;
    options.train.resume = true;
    const TokensResult resumed = reduce_model_tokens(graph, data, options, silent);
    EXPECT_TRUE(resumed.complete);
    EXPECT_TRUE(same_weights(whole.graph, resumed.graph));
  }
}

TEST(LearnRates, ResumesToTheSameCounts) {
  at::set_num_threads(1);
  const Graph graph =
      build_vit({.image_size = 16, .patch = 4, .dim = 16, .depth = 4, .heads = 2, .classes = 4});
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(2);
  const DatasetPtr data = tensor_dataset({{"", at::randn({48, 3, 16, 16}, generator)}},
                                         at::randint(4, {48}, generator, at::kLong));
  const TemporaryFolder folder;
  TokensOptions options{.share = 0.6};
  options.train.epochs = 4;
  options.train.batch = 16;
  options.train.threads = 1;
  options.train.learning_rate = 0.1;
  Progress silent;
  const TokensResult whole = reduce_model_tokens(graph, data, options, silent);
  options.train.checkpoints = folder.path() / "search";
  options.train.time_budget = 1e-9;  // stops behind the first step
  EXPECT_FALSE(reduce_model_tokens(graph, data, options, silent).complete);
  options.train.time_budget = 0;
  options.train.resume = true;
  const TokensResult resumed = reduce_model_tokens(graph, data, options, silent);
  EXPECT_EQ(*resumed.learnt, *whole.learnt);
  EXPECT_EQ(resumed.schedule, whole.schedule);
  options.share = 0.5;
  EXPECT_NE(test::message_of([&] { reduce_model_tokens(graph, data, options, silent); }).find("share"),
            std::string::npos);
}

TEST(Tokens, WhatCannotBeDone) {
  Progress silent;
  const Graph graph =
      build_vit({.image_size = 16, .patch = 4, .dim = 16, .depth = 4, .heads = 2, .classes = 4});
  const auto complaint = [&](const TokensOptions& options) {
    return test::message_of([&] { reduce_model_tokens(graph, nullptr, options, silent); });
  };
  EXPECT_NE(complaint({.share = 0.6}).find("from images"), std::string::npos);
  EXPECT_NE(complaint({.method = TokenMethod::Fixed, .share = 0.01}).find("cannot be reached"),
            std::string::npos);
  EXPECT_NE(complaint({.method = TokenMethod::Evit, .share = 0.32}).find("cannot be reached"),
            std::string::npos);
  EXPECT_NE(complaint({.method = TokenMethod::Fixed, .share = 1.5}).find("at most 1"), std::string::npos);
  EXPECT_NE(complaint({.schedule = TokenSchedule{{17, 17}, {17, 17}}}).find("4 blocks"), std::string::npos);
  // The range that is printed is that of the method, with what would widen it.
  const double tome = plan_tokens(graph, {.method = TokenMethod::Tome}).range.least;
  EXPECT_NE(
      complaint({.method = TokenMethod::Tome, .share = tome / 2}).find(fmt::format("least {:.4f}", tome)),
      std::string::npos);
  const double least = plan_tokens(graph, {.method = TokenMethod::Fixed}).range.least;
  EXPECT_NE(complaint({.method = TokenMethod::Fixed, .share = least - 0.01}).find("--first-block"),
            std::string::npos);
  EXPECT_NE(complaint({.schedule = TokenSchedule{{17, 17, 17, 17}, {17, 6, 6, 6}, TokenOperators::Tome}})
                .find("at most half"),
            std::string::npos);
}

TEST(Tokens, SchedulesOfEveryMethodGiveTheModelBack) {
  Progress silent;
  const Graph graph =
      build_vit({.image_size = 16, .patch = 4, .dim = 16, .depth = 4, .heads = 2, .classes = 4});
  for (const TokenMethod method :
       {TokenMethod::Tome, TokenMethod::Evit, TokenMethod::Fixed, TokenMethod::Random}) {
    const TokensResult first = reduce_model_tokens(graph, nullptr, {.method = method, .share = 0.75}, silent);
    const TokensResult again = reduce_model_tokens(graph, nullptr, {.schedule = first.schedule}, silent);
    EXPECT_EQ(again.macs, first.macs);
    EXPECT_EQ(again.tokens, first.tokens);
    ASSERT_EQ(again.graph.nodes.size(), first.graph.nodes.size());
    for (std::size_t i = 0; i < first.graph.nodes.size(); ++i)
      EXPECT_EQ(again.graph.nodes[i].op_type, first.graph.nodes[i].op_type);
  }
}

// The published counts on a network of their shape.
TEST(Tokens, PublishedScheduleOnItsModel) {
  Progress silent;
  const Graph graph = build_vit({.dim = 384, .heads = 6, .layer_norm_operator = true});
  const TokenSchedule schedule{{197, 196, 190, 168, 150, 139, 129, 117, 99, 78, 58, 3},
                               {197, 194, 176, 156, 141, 133, 121, 107, 88, 64, 56, 3}};
  const TokensResult result = reduce_model_tokens(graph, nullptr, {.schedule = schedule}, silent);
  EXPECT_EQ(result.tokens, schedule.merge);
  EXPECT_EQ(result.schedule.prune, schedule.prune);
  EXPECT_TRUE(result.warnings.empty());
  // Beside the paper's count stands what matching and sums cost, a percent or so.
  const double ratio = static_cast<double>(result.macs) / static_cast<double>(result.macs_before);
  EXPECT_NEAR(ratio, 2905256448.0 / 4599177216.0, 0.01);
}

}  // namespace
}  // namespace lithe
