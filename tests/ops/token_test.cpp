// Tokens thinned out, and rates that are learnt, against numbers of the published code.
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "lithe/engine/executor.h"
#include "lithe/graph/token_function.h"
#include "lithe/ops/token_reduce.h"
#include "lithe/ops/token_soft.h"
#include "message_of.h"
#include "ops/op_testing.h"

namespace lithe {
namespace {

void expect_close(const at::Tensor& got, const at::Tensor& wanted, double tolerance = 1e-5) {
  ASSERT_EQ(got.sizes(), wanted.sizes());
  EXPECT_LT((got.detach().to(at::kDouble) - wanted.to(at::kDouble)).abs().max().item<double>(), tolerance)
      << got;
}

at::Tensor learnt(const std::vector<float>& values) {
  return floats(values).requires_grad_(true);
}

at::Tensor gradient(const at::Tensor& of, const at::Tensor& by) {
  return torch::autograd::grad({of}, {by})[0];
}

struct RateCase {
  std::int64_t granularity;
  std::vector<float> theta, probability, count_gradient, loss_gradient;
  double kept;
};

// Six patches; the loss weighs the mask by w.
TEST(TokenRate, PublishedNumbers) {
  const std::vector<RateCase> cases{{1,
                                     {0, .5f, 1, -.5f, .2f, .1f},
                                     {1, 1, .866849f, .719694f, .646618f, .319119f, .120480f},
                                     {.280387f, .263641f, .107171f, -.049162f, -.246155f, -.355882f},
                                     {-.000998f, -.081100f, .095538f, -.000605f, .028213f, -.041048f},
                                     5},
                                    {2,
                                     {.2f, -.3f, .6f},
                                     {1, 1, 1, .518511f, .518511f, .322752f, .322752f},
                                     {.747969f, .062149f, -.810118f},
                                     {-.050035f, .028380f, .021655f},
                                     5},
                                    {4, {0, 0}, {1, 1, 1, .5f, .5f, .5f, .5f}, {1, -1}, {-.05f, .05f}, 5},
                                    {7, {0.3f}, {1, 1, 1, 1, 1, 1, 1}, {0}, {0}, 7}};
  const at::Tensor w = floats({1, .9f, .5f, -.2f, .3f, -.7f, .4f});
  for (const RateCase& one : cases) {
    const at::Tensor theta = learnt(one.theta);
    const TokenRate rate = token_rate(theta, 6, one.granularity, 1);
    EXPECT_EQ(rate.kept.item<double>(), one.kept);
    expect_close(rate.probability, floats(one.probability), 2e-6);
    const auto kept = static_cast<std::int64_t>(one.kept);
    for (const std::int64_t alive : {7, 6}) {
      const at::Tensor mask = token_mask(rate, kept, alive);
      const at::Tensor hard = kept == 7    ? at::ones({7})
                              : alive == 7 ? floats({1, 1, 1, 1, 1, 0, 0})
                                           : floats({1, 1, 1, 1, 1, 0, 1});
      expect_close(mask, hard, 2e-7);
      expect_close(torch::autograd::grad({(mask * w).sum()}, {theta}, {}, /*retain_graph=*/true)[0],
                   floats(one.loss_gradient), 2e-6);
    }
    expect_close(gradient(rate.kept, theta), floats(one.count_gradient), 2e-6);
  }
}

TEST(TokenRate, WhereLearningStarts) {
  const auto start = [](std::int64_t patches, std::int64_t g) {
    return token_rate(at::zeros({(patches + g - 1) / g}), patches, g, 1).kept.item<double>();
  };
  EXPECT_EQ(start(196, 1), 100);
  EXPECT_EQ(start(196, 2), 100);
  EXPECT_EQ(start(196, 4), 101);
  EXPECT_EQ(start(256, 1), 130);
  EXPECT_EQ(start(256, 4), 131);
  EXPECT_EQ(start(64, 1), 34);
  EXPECT_EQ(start(64, 4), 35);
  EXPECT_EQ(token_rate(floats({0, 0, 12}), 3, 1, 1).kept.item<double>(),
            3);  // never quite at the last candidate
  EXPECT_EQ(token_rate(floats({0, 0, 12}), 6, 2, 1).kept.item<double>(), 4);
  EXPECT_EQ(token_rate(floats({0, 0, 12}), 12, 4, 1).kept.item<double>(), 6);
  EXPECT_NE(test::message_of([] { token_rate(at::zeros({5}), 6, 1, 1); }).find("6 candidates"),
            std::string::npos);
}

TEST(LeastCount, GradientGoesToBothCounts) {
  const at::Tensor before = learnt({7}), pruned = learnt({5}), merged = learnt({6});
  const at::Tensor least = least_count(before, pruned, merged);
  EXPECT_EQ(least.item<float>(), 5);
  const auto gradients =
      torch::autograd::grad({least.sum()}, {before, pruned, merged}, {}, false, false, true);
  EXPECT_FALSE(gradients[0].defined());
  EXPECT_EQ(gradients[1].item<float>(), 1);
  EXPECT_EQ(gradients[2].item<float>(), 1);
}

TEST(MaskedSoftmax, PublishedAttention) {
  const at::Tensor q = floats({1, 0, 0, 1, 1, 1}).reshape({1, 1, 3, 2}),
                   k = floats({1, 1, 1, -1, .5f, 0}).reshape({1, 1, 3, 2}),
                   v = floats({1, 0, 0, 1, 2, 2}).reshape({1, 1, 3, 2});
  const at::Tensor z =
      q.matmul(k.transpose(-1, -2)) / std::sqrt(2.0) + floats({1, 3, 2}).log().reshape({1, 1, 1, 3});
  const at::Tensor plain = masked_softmax(q.matmul(k.transpose(-1, -2)) / std::sqrt(2.0), at::ones({1, 3}));
  expect_close(
      plain[0][0],
      floats({.370070f, .370070f, .259859f, .575975f, .140029f, .283995f, .629190f, .152967f, .217843f})
          .reshape({3, 3}),
      3e-6);
  const at::Tensor whole = masked_softmax(z, at::ones({1, 3}));
  expect_close(
      whole[0][0],
      floats({.185035f, .555106f, .259859f, .368258f, .268589f, .363153f, .412915f, .301160f, .285925f})
          .reshape({3, 3}),
      3e-6);
  expect_close(whole.matmul(v)[0][0],
               floats({.704754f, 1.074824f, 1.094564f, .994895f, .984765f, .873010f}).reshape({3, 2}), 5e-6);
  const at::Tensor masked = masked_softmax(z, floats({1, 1, 0}).reshape({1, 3}));
  expect_close(masked[0][0],
               floats({.25f, .75f, 0, .578252f, .421748f, 0, .412915f, .301160f, .285925f}).reshape({3, 3}),
               3e-6);
  expect_close(masked.matmul(v)[0][0],
               floats({.250001f, .75f, .578252f, .421748f, .984765f, .873010f}).reshape({3, 2}), 3e-6);
}

// What admitting a token that is out would do: e_ij / Z_i (1 - [i = j]) ([j = l] - A_il).
TEST(MaskedSoftmax, TokensThatAreOutGetGradients) {
  const at::Tensor z = at::randn({1, 1, 4, 4}, at::make_generator<at::CPUGeneratorImpl>(3));
  const at::Tensor mask = learnt({1, 1, 0, 1}).reshape({1, 4});
  const at::Tensor weights = at::arange(16, at::kFloat).reshape({1, 1, 4, 4}) / 7;
  const at::Tensor a = masked_softmax(z, mask);
  const at::Tensor got = torch::autograd::grad({(a * weights).sum()}, {mask})[0];
  const double step = 1e-3;
  for (std::int64_t j = 0; j < 4; ++j) {
    const auto at_offset = [&](double by) {
      at::Tensor moved = mask.detach().clone().to(at::kDouble);
      moved[0][j] += by;
      return (masked_softmax(z, moved.to(at::kFloat)) * weights).sum().item<double>();
    };
    EXPECT_NEAR(got[0][j].item<double>(), (at_offset(step) - at_offset(-step)) / (2 * step), 3e-3) << j;
  }
}

at::Tensor golden_tokens() {
  return floats({1, 1, 3, 4, 4, 3, 0, 2, 1, 0, 6, 8, 0.1f, 1}).reshape({1, 7, 2});
}
at::Tensor golden_sizes() {
  return floats({1, 2, 1, 1, 1, 3, 1}).reshape({1, 7});
}
/// Attention that keeps the order of seven tokens.
at::Tensor falling_attention(std::int64_t batch = 1) {
  return (at::arange(7, 0, -1, at::kFloat) / 28).expand({batch, 2, 7, 7}).contiguous();
}

TEST(ReduceTokensSoft, PublishedMergeOfTraining) {
  at::Tensor keep_all = at::zeros({6}), keep_two = at::zeros({6});
  keep_all[0] = 60;  // six patches
  keep_two[4] = 60;  // two
  const SoftTokens out = reduce_tokens_soft(golden_tokens(), falling_attention(), golden_sizes(),
                                            at::ones({1, 7}), keep_all, keep_two, {});
  EXPECT_EQ(out.pruned.item<float>(), 7);
  EXPECT_EQ(out.merged.item<float>(), 3);
  expect_close(out.x[0],
               floats({1, 1, 2.275f, 3.75f, 2.5f, 1.5f, 0, 2, 1, 0, 6, 8, 0.1f, 1}).reshape({7, 2}));
  expect_close(out.size[0], floats({1, 7, 2, 1, 1, 3, 1}));
  expect_close(out.mask[0], floats({1, 1, 1, 0, 0, 0, 0}));
}

std::vector<at::Tensor> run_node(const char* type, const std::vector<at::Tensor>& inputs,
                                 Attributes attributes, bool native, std::int64_t opset) {
  Graph graph;
  graph.header.opsets = {{"", opset}, {"lithe", 1}};
  Node node{.name = "node",
            .op_type = type,
            .domain = "lithe",
            .outputs = {"y", "s"},
            .attributes = std::move(attributes)};
  if (std::string(type) == kEvitReduce) node.outputs = {"y"};
  Feeds feeds;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const std::string name = "x" + std::to_string(i);
    node.inputs.push_back(name);
    graph.inputs.push_back({.name = name, .dtype = DType::Float32});
    feeds[name] = inputs[i];
  }
  for (const std::string& output : node.outputs)
    graph.outputs.push_back({.name = output, .dtype = DType::Float32});
  graph.nodes = {node};
  add_token_functions(graph);
  if (!native) {  // the body, under a name that is not known
    graph.nodes[0].op_type += "Body";
    for (Function& function : graph.header.functions) function.name += "Body";
  }
  Executor executor(graph);
  const Feeds out = executor.run(feeds);
  std::vector<at::Tensor> results{out.at("y")};
  if (node.outputs.size() > 1) results.push_back(out.at("s"));
  return results;
}

// The function of standard operators, its opsets, the kernel and the differentiable form agree.
TEST(TokenReduce, FunctionKernelAndComposedAgree) {
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(11);
  const at::Tensor x = at::randn({3, 30, 24}, generator),
                   attention = at::softmax(at::randn({3, 4, 30, 30}, generator), -1),
                   size = at::rand({3, 30}, generator) * 3 + 0.5;
  for (const std::int64_t opset : {12, 13, 17, 18, 21})
    for (const std::int64_t specials : {0, 1, 2, 5}) {
      for (const bool weighted : {false, true}) {
        const Attributes attributes{{"prune", std::int64_t{21}},
                                    {"merge", std::int64_t{12}},
                                    {"specials", specials},
                                    {"rows", specials == 0 ? std::int64_t{30} : std::int64_t{1}},
                                    {"scaled", weighted ? 0.0f : 1.0f},
                                    {"weighted", weighted ? 1.0f : 0.0f},
                                    {"least", weighted ? 1.0f : -3.4e38f}};
        const auto kernel = run_node(kTokenReduce, {x, attention, size}, attributes, true, opset),
                   body = run_node(kTokenReduce, {x, attention, size}, attributes, false, opset);
        expect_close(kernel[0], body[0]);
        expect_close(kernel[1], body[1]);
        const TokenReduction reduction{.prune = 21,
                                       .merge = 12,
                                       .specials = specials,
                                       .scaled = !weighted,
                                       .weighted = weighted,
                                       .least = weighted ? 1.0f : -3.4e38f};
        const ReducedTokens composed =
            reduce_tokens_composed(x, attention, size, reduction, specials == 0 ? 30 : 1);
        expect_close(kernel[0], composed.x);
        expect_close(kernel[1], composed.size);
        const ReducedTokens traced =
            reduce_tokens(x, attention, size, reduction, specials == 0 ? 30 : 1, true, "test");
        EXPECT_TRUE(at::equal(traced.assignment, composed.assignment));
      }
      const Attributes pruning{{"kept", std::int64_t{14}}, {"specials", specials}, {"rows", std::int64_t{1}}};
      const auto kernel = run_node(kTokenPrune, {x, attention, size}, pruning, true, opset),
                 body = run_node(kTokenPrune, {x, attention, size}, pruning, false, opset);
      EXPECT_TRUE(at::equal(kernel[0], body[0]));
      EXPECT_TRUE(at::equal(kernel[1], body[1]));
    }
}

// Seven sorted tokens to three as published, by the kernel, the function of standard operators and in
// training.
TEST(TokenReduce, PublishedMergeInEveryForm) {
  const Attributes attributes{
      {"prune", std::int64_t{7}}, {"merge", std::int64_t{3}}, {"specials", std::int64_t{1}},
      {"rows", std::int64_t{1}},  {"scaled", 1.0f},           {"weighted", 0.0f},
      {"least", -3.4e38f}};
  const at::Tensor x = floats({1, 1, 2.275f, 3.75f, 2.5f, 1.5f}).reshape({3, 2}),
                   sizes = floats({1, 6.655732f, 1.8f});
  for (const bool native : {true, false}) {
    const auto out = run_node(kTokenReduce, {golden_tokens(), falling_attention(), golden_sizes()},
                              attributes, native, 17);
    expect_close(out[0][0], x);
    expect_close(out[1][0], sizes);
  }
  const ReducedTokens composed = reduce_tokens_composed(golden_tokens(), falling_attention(), golden_sizes(),
                                                        {.prune = 7, .merge = 3}, 1);
  expect_close(composed.x[0], x);
  expect_close(composed.size[0], sizes);
}

// By hand: a class token and five patches; each image keeps what holds 0.45 of the patches' importance, at
// most four tokens, merged to three. The first image keeps the class token and one patch (0.4 of 0.8), the
// second needs three patches (0.3 of 0.5), of which the third points to where the first does.
TEST(TokenReduceOwn, EveryImageKeepsItsOwnCount) {
  const at::Tensor x = floats({1, 1, 3, 4, 4, 3, 6, 8, 0, 1, 1, 0}).reshape({1, 6, 2}).expand({2, 6, 2});
  const at::Tensor attention =
      floats({.2f, .4f, .2f, .1f, .06f, .04f, .5f, .1f, .1f, .1f, .1f, .1f}).reshape({2, 1, 1, 6});
  const Attributes attributes{{"prune", std::int64_t{4}},
                              {"merge", std::int64_t{3}},
                              {"specials", std::int64_t{1}},
                              {"rows", std::int64_t{1}},
                              {"mass", 0.45f},
                              {"scaled", 1.0f},
                              {"weighted", 0.0f},
                              {"least", -3.4e38f}};
  for (const std::int64_t opset : {12, 13, 17, 18, 21})
    for (const bool native : {true, false}) {
      const auto both =
          run_node(kTokenReduceOwn, {x, attention, at::ones({1, 6})}, attributes, native, opset);
      expect_close(both[0], floats({1, 1, 3, 4, 0, 0, 1, 1, 4.5f, 6, 4, 3}).reshape({2, 3, 2}));
      expect_close(both[1], floats({1, 1, 0, 1, 2, 1}).reshape({2, 3}));
      const auto alone =
          run_node(kTokenReduceOwn, {x.slice(0, 0, 1), attention.slice(0, 0, 1), at::ones({1, 6})},
                   attributes, native, opset);
      expect_close(alone[0], both[0].slice(0, 0, 1).slice(1, 0, 2));
    }
  const at::Tensor values = x.contiguous().requires_grad_(true);
  const ReducedTokens out =
      reduce_own_tokens(values, attention, at::ones({1, 6}), {.prune = 4, .merge = 3}, 1, 0.45, true, "test");
  expect_close(gradient(out.x.sum(), values).select(2, 0),
               floats({1, 1, 0, 0, 0, 0, 1, .5f, 1, .5f, 0, 0}).reshape({2, 6}));
  EXPECT_TRUE(at::equal(out.assignment,
                        at::tensor({0, 1, -1, -1, -1, -1, 0, 1, 2, 1, -1, -1}, at::kLong).reshape({2, 6})));
}

// Behind the tokens of a sample stand some that are not there; what comes out is what TokenReduce makes of
// the others alone, with the counts that the sample came to.
TEST(TokenReduceOwn, IsTokenReduceOfEverySampleAlone) {
  const auto generator = at::make_generator<at::CPUGeneratorImpl>(12);
  const std::vector<std::int64_t> present{30, 22, 9};
  at::Tensor x = at::randn({3, 30, 24}, generator), size = at::rand({3, 30}, generator) * 3 + 1;
  const at::Tensor attention = at::softmax(2 * at::randn({3, 4, 30, 30}, generator), -1);
  for (std::int64_t b = 0; b < 3; ++b) {
    x[b].slice(0, present[static_cast<std::size_t>(b)]).zero_();
    size[b].slice(0, present[static_cast<std::size_t>(b)]).zero_();
  }
  for (const std::int64_t specials : {0, 1, 5})
    for (const bool weighted : {false, true})
      for (const float mass : {0.3f, 0.8f, 1.0f}) {
        const std::int64_t rows = specials == 0 ? 30 : 1;
        Attributes attributes{{"prune", std::int64_t{21}},
                              {"merge", std::int64_t{12}},
                              {"specials", specials},
                              {"rows", rows},
                              {"mass", mass},
                              {"scaled", weighted ? 0.0f : 1.0f},
                              {"weighted", weighted ? 1.0f : 0.0f},
                              {"least", weighted ? 1.0f : -3.4e38f}};
        const auto kernel = run_node(kTokenReduceOwn, {x, attention, size}, attributes, true, 17),
                   body = run_node(kTokenReduceOwn, {x, attention, size}, attributes, false, 17);
        expect_close(kernel[0], body[0]);
        expect_close(kernel[1], body[1]);
        const TokenReduction most{.prune = 21, .merge = 12, .specials = specials};
        const at::Tensor went =
            reduce_own_tokens(x, attention, size, most, rows, mass, true, "test").assignment;
        attributes.erase("mass");
        for (std::int64_t b = 0; b < 3; ++b) {
          const std::int64_t there = present[static_cast<std::size_t>(b)];
          const auto pruned = (went[b] >= 0).sum().item<std::int64_t>(),
                     merged = went[b].max().item<std::int64_t>() + 1;
          EXPECT_LE(pruned, std::min<std::int64_t>(21, there));
          EXPECT_EQ(merged, std::min<std::int64_t>(12, pruned));
          attributes["prune"] = pruned;
          attributes["merge"] = merged;
          const auto own = [&](const at::Tensor& of) { return of.slice(0, b, b + 1).slice(1, 0, there); };
          const auto alone = run_node(
              kTokenReduce,
              {own(x), attention.slice(0, b, b + 1).slice(2, 0, there).slice(3, 0, there), own(size)},
              attributes, true, 17);
          expect_close(kernel[0][b].slice(0, 0, merged), alone[0][0]);
          expect_close(kernel[1][b].slice(0, 0, merged), alone[1][0]);
          EXPECT_EQ(kernel[1][b].slice(0, merged).abs().sum().item<float>(), 0);
        }
      }
}

// The mean over the queries counts those that are still there.
TEST(ReduceTokensSoft, MaskedQueriesDoNotVote) {
  at::Tensor attention = at::zeros({1, 1, 4, 4});
  attention[0][0][0] = floats({0, .5f, .3f, .2f});
  attention[0][0][1] = floats({0, .5f, .3f, .2f});
  attention[0][0][2] = floats({0, .5f, .3f, .2f});
  attention[0][0][3] = floats({9, 0, 0, 0});  // of a token that is out
  at::Tensor keep_all = at::zeros({4}), keep_two = at::zeros({4});
  keep_all[0] = 60;
  keep_two[2] = 60;
  const at::Tensor x = at::arange(8, at::kFloat).reshape({1, 4, 2});
  const SoftTokens out =
      reduce_tokens_soft(x, attention, at::ones({1, 4}), floats({1, 1, 1, 0}).reshape({1, 4}), keep_two,
                         keep_all, {.specials = 0, .rows = 4});
  expect_close(out.x[0][0], x[0][1]);
  expect_close(out.mask[0], floats({1, 1, 0, 0}));
}

TEST(TokenReduce, GradientsReachTheTokens) {
  const at::Tensor x = golden_tokens().requires_grad_(true);
  const ReducedTokens out =
      reduce_tokens(x, falling_attention(), golden_sizes(), {.prune = 6, .merge = 3}, 1, false, "test");
  const at::Tensor got = gradient(out.x.sum(), x);
  // Token 1 has three members (1, 3, 5), token 2 two (2, 4); the last one was pruned.
  expect_close(got[0].select(1, 0), floats({1, 1 / 3.f, .5f, 1 / 3.f, .5f, 1 / 3.f, 0}));
}

TEST(TokenReduce, EqualImportanceKeepsTheFirstTokens) {
  const at::Tensor blank = at::full({1, 2, 7, 7}, 1.0 / 7);
  for (const bool native : {true, false}) {
    const auto out = run_node(
        kTokenPrune, {golden_tokens(), blank, golden_sizes()},
        {{"kept", std::int64_t{4}}, {"specials", std::int64_t{1}}, {"rows", std::int64_t{1}}}, native, 17);
    EXPECT_TRUE(at::equal(out[0], golden_tokens().slice(1, 0, 4)));
  }
}

TEST(TokenReduce, CountsThatDoNotFit) {
  const auto run = [](std::int64_t prune, std::int64_t merge) {
    reduce_tokens(golden_tokens(), falling_attention(), golden_sizes(), {.prune = prune, .merge = merge}, 1,
                  false, "node");
  };
  EXPECT_NE(test::message_of([&] { run(8, 3); }).find("cannot be kept"), std::string::npos);
  EXPECT_NE(test::message_of([&] { run(3, 4); }).find("cannot be kept"), std::string::npos);
  EXPECT_NE(test::message_of([&] { run(3, 1); }).find("cannot be kept"), std::string::npos);
  EXPECT_NE(test::message_of([&] {
              reduce_tokens(golden_tokens(), at::zeros({1, 2, 7, 6}), golden_sizes(),
                            {.prune = 3, .merge = 3}, 1, false, "node");
            }).find("does not fit"),
            std::string::npos);
}

// Seven tokens, the class token first; keys as published, [heads, d, n].
TEST(TomeMerge, PublishedMatching) {
  const at::Tensor keys =
      floats({1, 0, 3, 4, 4, 3, 0, 1, .6f, .8f, -1, 0, 1, 1}).reshape({7, 2}).t().reshape({1, 1, 2, 7});
  const at::Tensor x = floats({10, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}).reshape({1, 7, 2});
  const at::Tensor size = floats({1, 1, 2, 1, 1, 3, 1}).reshape({1, 7});
  const auto merged = [&](std::int64_t removed) {
    std::vector<std::int64_t> order;
    for (std::int64_t i = 0; i < 7 - removed; ++i) order.push_back(i);
    return run_node(kTomeMerge, {x, keys, size},
                    {{"removed", removed}, {"specials", std::int64_t{1}}, {"order", order}}, true, 17);
  };
  const auto one = merged(1);
  expect_close(one[0][0], floats({10, 0, 3, 4, 11, 12, 4, 5, 5, 6, 9, 10}).reshape({6, 2}));
  expect_close(one[1][0], floats({1, 2, 1, 2, 1, 3}));
  const auto two = merged(2);
  expect_close(two[0][0], floats({10, 0, 3, 4, 6.333333f, 7.333333f, 5, 6, 9, 10}).reshape({5, 2}));
  expect_close(two[1][0], floats({1, 2, 3, 1, 3}));
  // Which rows hold which tokens, found by merging unit vectors; the published tokens put back in their
  // places.
  const at::Tensor where = std::get<1>(run_node(kTomeMerge, {at::eye(7).unsqueeze(0), keys, size},
                                                {{"removed", std::int64_t{2}},
                                                 {"specials", std::int64_t{1}},
                                                 {"order", std::vector<std::int64_t>{0, 1, 2, 3, 4}}},
                                                true, 17)[0][0]
                                           .max(0));
  expect_close(two[0][0].index_select(0, where), floats({10, 0, 6.333333f, 7.333333f, 3, 4, 5, 6, 6.333333f,
                                                         7.333333f, 9, 10, 6.333333f, 7.333333f})
                                                     .reshape({7, 2}));
  const auto three = merged(3);
  expect_close(three[0][0], floats({10, 0, 5, 6, 5, 6, 9, 10}).reshape({4, 2}));
  expect_close(three[1][0], floats({1, 5, 1, 3}));
}

TEST(EvitReduce, OneTokenHoldsTheRest) {
  const auto out = run_node(
      kEvitReduce, {golden_tokens(), falling_attention()},
      {{"kept", std::int64_t{5}}, {"specials", std::int64_t{1}}, {"rows", std::int64_t{1}}}, true, 17);
  const at::Tensor x = golden_tokens()[0];
  expect_close(out[0][0].slice(0, 0, 5), x.slice(0, 0, 5));
  expect_close(out[0][0][5], (2 * x[5] + x[6]) / 28);
}

}  // namespace
}  // namespace lithe
