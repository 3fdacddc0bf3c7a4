#include "lithe/tokens/find_attention.h"

#include <gtest/gtest.h>

#include "lithe/engine/executor.h"
#include "lithe/engine/random_inputs.h"
#include "lithe/tokens/search_graph.h"
#include "lithe/tokens/tokens.h"
#include "message_of.h"
#include "tokens/toy_vit.h"
#include "tokens/vit_forms.h"

namespace lithe {
namespace {

using Projection = VitForm::Projection;
using Scale = VitForm::Scale;

/// Logits of the graph that learns, with rates pinned to a schedule: an implementation of its own, whose
/// tokens keep their places and are masked.
at::Tensor masked_logits(const Graph& graph, const TokenModel& model, const TokenSchedule& schedule,
                         TokenSizes sizes, const Feeds& feeds) {
  const TokenLimits all{.first = 0, .end = model.blocks.size(), .least = model.specials + 1};
  const SearchGraph search = insert_search(graph, model, token_cost(graph, model), all, {.sizes = sizes});
  Executor executor(search.graph);
  const auto pin = [&](const std::string& theta, std::int64_t count) {
    at::Tensor values = at::zeros({search.patches});
    values[model.tokens - count] = 100;
    executor.set_constant(theta, values);
  };
  for (const LearntBlock& block : search.blocks) {
    pin(block.prune_theta, schedule.prune[block.block]);
    pin(block.merge_theta, schedule.merge[block.block]);
  }
  return executor.run(feeds, {"logits"}).at("logits");
}

class Forms : public ::testing::TestWithParam<VitForm> {};

at::Tensor run(const Graph& graph, const Feeds& feeds) {
  Executor executor(graph);
  return executor.run(feeds, {"logits"}).at("logits");
}

// Every form is found; with everything kept the graph computes what it did; with less it runs for every
// batch.
TEST_P(Forms, AreFoundAndThinnedOut) {
  const at::NoGradGuard no_grad;
  const VitForm& form = GetParam();
  const Graph model = vit_form(form), graph = prepare_tokens(model);
  const TokenModel found = find_attention(graph);
  ASSERT_EQ(found.blocks.size(), 3u);
  EXPECT_EQ(found.tokens, 16 + form.specials);
  EXPECT_EQ(found.specials, form.specials);
  EXPECT_EQ(found.width, 24);
  EXPECT_EQ(found.heads, 3);
  EXPECT_EQ(found.blocks[1].residual, "layers.1.sum1");
  EXPECT_EQ(found.rows, form.specials == 0 || (form.mean_of_patches && form.specials > 1) ? 0
                        : form.specials == 2                                              ? 2
                                                                                          : 1);
  EXPECT_EQ(found.grid_rows, 4);
  EXPECT_EQ(found.grid_columns, 4);
  EXPECT_EQ(found.tail, form.specials == 0 || form.mean_of_patches ? TokenTail::Mean : TokenTail::Specials);
  const Feeds feeds = random_inputs(model, 3, {}, form.batch < 0 ? 2 : 1);
  const at::Tensor dense = run(model, feeds);
  const auto steps_of = [&](const TokenSchedule& schedule) { return reduce_steps(schedule, found.tokens); };
  const Compressed all = compress_tokens(graph, found, steps_of(dense_schedule(3, found.tokens)));
  EXPECT_LT((run(all.graph, feeds) - dense).abs().max().item<double>(), 1e-6);

  const std::int64_t n = found.tokens;
  const TokenSchedule schedule{{n, n - 5, n - 9}, {n - 2, n - 7, n - 9}};
  const Compressed less = compress_tokens(graph, found, steps_of(schedule));
  const at::Tensor thin = run(less.graph, feeds);
  EXPECT_GT((thin - dense).abs().max().item<double>(), 1e-5);
  for (const TokenSizes sizes : {TokenSizes::Consistent, TokenSizes::Weighted}) {
    const Compressed one = compress_tokens(graph, found, steps_of(schedule), {.sizes = sizes});
    const double apart = (run(one.graph, feeds) - masked_logits(graph, found, schedule, sizes, feeds))
                             .abs()
                             .max()
                             .item<double>();
    EXPECT_LT(apart, 2e-5);
  }
  if (form.batch < 0) {  // samples do not mix
    const at::Tensor alone = run(less.graph, {{"input", feeds.at("input").slice(0, 1, 2)}});
    EXPECT_LT((alone - thin.slice(0, 1, 2)).abs().max().item<double>(), 1e-5);
  }
  if (found.tail == TokenTail::Specials) {
    const Compressed rows =
        compress_tokens(graph, found, steps_of(dense_schedule(3, n)), {.class_rows = true});
    EXPECT_LT((run(rows.graph, feeds) - dense).abs().max().item<double>(), 2e-6);
    const TokenSchedule ends{{n, n - 5, n - 7}, {n - 2, n - 7, n - 7}};
    const Compressed both = compress_tokens(graph, found, steps_of(ends), {.class_rows = true}),
                     one = compress_tokens(graph, found, steps_of(ends));
    EXPECT_LT((run(both.graph, feeds) - run(one.graph, feeds)).abs().max().item<double>(), 2e-6);
  }
  std::vector<TokenStep> tome(3);
  tome[1] = {.kind = TokenStep::Kind::Tome, .removed = 4};
  tome[2] = {.kind = TokenStep::Kind::Tome, .removed = 3};
  EXPECT_TRUE(run(compress_tokens(graph, found, tome).graph, feeds).isfinite().all().item<bool>());
}

INSTANTIATE_TEST_SUITE_P(
    All, Forms,
    ::testing::Values(
        VitForm{}, VitForm{.batch = 1}, VitForm{.projection = Projection::Split, .scale = Scale::Both},
        VitForm{.projection = Projection::Split, .scale = Scale::Both, .batch = 1, .layer_scale = true},
        VitForm{.projection = Projection::Separate, .scale = Scale::Divided},
        VitForm{.projection = Projection::Separate,
                .scale = Scale::Before,
                .flat = true,
                .quick_gelu = true,
                .norm_in_front = true},
        VitForm{.projection = Projection::Separate, .scale = Scale::Before, .batch = 1, .flat = true},
        VitForm{.specials = 2}, VitForm{.specials = 5, .layer_scale = true}, VitForm{.specials = 0},
        VitForm{.batch = 1, .mean_of_patches = true}, VitForm{.specials = 4, .mean_of_patches = true},
        // As many tokens as channels, or as there are in a head.
        VitForm{.projection = Projection::Separate, .specials = 8, .flat = true},
        VitForm{.specials = 8, .batch = 1}, VitForm{.attention = true},
        VitForm{.projection = Projection::Separate, .attention = true}));

TEST(FindAttention, TokensOfTheSamePlaceInAnyForm) {
  const at::NoGradGuard no_grad;
  // Equal weights, once with heads in an axis of their own and once in that of the batch.
  const Graph apart = prepare_tokens(vit_form({.projection = Projection::Separate, .scale = Scale::Before}));
  const Graph flat =
      prepare_tokens(vit_form({.projection = Projection::Separate, .scale = Scale::Before, .flat = true}));
  const TokenSchedule schedule{{17, 12, 6}, {17, 9, 4}};
  const Feeds feeds = random_inputs(apart, 3, {}, 2);
  const at::Tensor first =
                       run(compress_tokens(apart, find_attention(apart), reduce_steps(schedule, 17)).graph,
                           feeds),
                   second = run(compress_tokens(flat, find_attention(flat), reduce_steps(schedule, 17)).graph,
                                feeds);
  EXPECT_LT((first - second).abs().max().item<double>(), 2e-6);
}

std::string complaint(const VitForm& form) {
  return test::message_of([&] { find_attention(prepare_tokens(vit_form(form))); });
}

TEST(FindAttention, RefusesByNameAndReason) {
  EXPECT_NE(complaint({.post_norm = true}).find("post-norm"), std::string::npos)
      << complaint({.post_norm = true});
  EXPECT_NE(complaint({.parallel = true}).find("parallel"), std::string::npos)
      << complaint({.parallel = true});
  EXPECT_NE(complaint({.specials = 0, .windows = true}).find("windows"), std::string::npos)
      << complaint({.specials = 0, .windows = true});
  EXPECT_NE(complaint({.bias = true}).find("relative position bias"), std::string::npos)
      << complaint({.bias = true});
  EXPECT_NE(complaint({.masked = true}).find("masked"), std::string::npos) << complaint({.masked = true});
  EXPECT_NE(complaint({.shows_tokens = true}).find("'hidden' shows all tokens"), std::string::npos)
      << complaint({.shows_tokens = true});
  EXPECT_NE(complaint({.narrowed_keys = true}).find("17 queries meet 8 keys"), std::string::npos)
      << complaint({.narrowed_keys = true});
  EXPECT_NE(complaint({.post_norm = true}).find("layers.0.attn.softmax"), std::string::npos);
  EXPECT_NE(complaint({.quantised = true}).find("thin it out first"), std::string::npos)
      << complaint({.quantised = true});
  EXPECT_NE(complaint({.bias_first = true}).find("relative position bias"), std::string::npos)
      << complaint({.bias_first = true});
  EXPECT_NE(
      test::message_of([] { find_attention(prepare_tokens(build_resnet20())); }).find("has no attention"),
      std::string::npos);
}

// Whatever mixes tokens outside of attention is refused by the name of its node and its block.
TEST(FindAttention, RefusesWhatWorksAcrossTokens) {
  using Between = VitForm::Between;
  const auto expect = [](const VitForm& form, const std::string& node, const std::string& reason) {
    const std::string text = complaint(form);
    EXPECT_NE(text.find(node), std::string::npos) << text;
    EXPECT_NE(text.find(reason), std::string::npos) << text;
  };
  expect({.between = Between::Mean}, "layers.1.across.mean", "mean over the tokens inside");
  expect({.between = Between::Gate}, "layers.0.across.mean", "behind block 1");
  expect({.between = Between::Pooled}, "layers.1.across.mean", "mean over the tokens inside");
  expect({.between = Between::Sum}, "layers.1.across.sums", "across tokens");
  expect({.between = Between::Shift}, "layers.1.across.shifted", "before or behind others");
  expect({.between = Between::Convolution}, "layers.1.across.conv", "across tokens");
  expect({.specials = 0, .between = Between::Grid}, "layers.1.across.grid", "as a grid");
  expect({.between = Between::Einsum}, "layers.1.attn.softmax", "Einsum");
  expect({.projection = Projection::Separate, .between = Between::Rotary}, "layers.1.attn.turned",
         "rotary embeddings");
}

TEST(FindAttention, FreeHeightAndWidth) {
  const at::NoGradGuard no_grad;
  const Graph fixed = vit_form({});
  Graph free = fixed;
  (*free.inputs[0].shape)[2] = Dim{.symbol = "height"};
  (*free.inputs[0].shape)[3] = Dim{.symbol = "width"};
  EXPECT_NE(test::message_of([&] { find_attention(prepare_tokens(free)); }).find("--shape input="),
            std::string::npos);
  Graph given = free;
  fix_input_sizes(given, {{"input", {1, 3, 16, 16}}});
  EXPECT_FALSE((*given.inputs[0].shape)[0].known());
  Progress silent;
  const TokensOptions options{.method = TokenMethod::Fixed, .share = 0.8};
  const Graph one = reduce_model_tokens(given, nullptr, options, silent).graph,
              other = reduce_model_tokens(fixed, nullptr, options, silent).graph;
  const Feeds feeds = random_inputs(fixed, 3, {}, 2);
  EXPECT_TRUE(at::equal(run(one, feeds), run(other, feeds)));
  EXPECT_NE(test::message_of([&] {
              fix_input_sizes(free, {{"image", {1, 3, 16, 16}}});
            }).find("'image'"),
            std::string::npos);
  EXPECT_NE(test::message_of([&] {
              fix_input_sizes(free, {{"input", {1, 4, 16, 16}}});
            }).find("axis 1"),
            std::string::npos);
  EXPECT_NE(test::message_of([&] {
              fix_input_sizes(free, {{"input", {3, 16, 16}}});
            }).find("4 axes"),
            std::string::npos);
}

TEST(FindAttention, NotTwice) {
  Progress silent;
  const Graph thin =
      reduce_model_tokens(vit_form({}), nullptr, {.method = TokenMethod::Fixed, .share = 0.8}, silent).graph;
  EXPECT_NE(test::message_of([&] { find_attention(prepare_tokens(thin)); }).find("thinned out already"),
            std::string::npos);
}

TEST(FindAttention, ImportanceCanBeChosen) {
  const auto rows = [](const VitForm& form, TokenImportance importance) {
    return plan_tokens(vit_form(form), {.method = TokenMethod::Fixed, .importance = importance}).model.rows;
  };
  EXPECT_EQ(rows({.specials = 4, .mean_of_patches = true}, TokenImportance::Auto), 0);
  EXPECT_EQ(rows({.specials = 4, .mean_of_patches = true}, TokenImportance::Class), 1);
  EXPECT_EQ(rows({.mean_of_patches = true}, TokenImportance::Auto), 1);
  EXPECT_EQ(rows({.mean_of_patches = true}, TokenImportance::Mean), 0);
  EXPECT_NE(test::message_of([&] { rows({.specials = 0}, TokenImportance::Class); }).find("no special token"),
            std::string::npos);
}

TEST(ReshapedAxes, ByProductsOfSizes) {
  using Axes = std::vector<TokenAxis>;
  EXPECT_EQ(reshaped_axes({{.axis = 1}}, 64, {2, 64, 192}, {2, 64, 3, 1, 64}), (Axes{{.axis = 1}}));
  EXPECT_EQ(reshaped_axes({{.axis = 2}}, 64, {2, 64, 64, 8}, {128, 64, 8}), (Axes{{.axis = 1}}));
  EXPECT_EQ(reshaped_axes({{.axis = 1}}, 5, {2, 5, 6}, {10, 6}), (Axes{{.axis = 0, .outer = 2}}));
  EXPECT_EQ(reshaped_axes({{.axis = 0, .outer = 2}}, 5, {10, 6}, {2, 5, 6}), (Axes{{.axis = 1}}));
  EXPECT_EQ(reshaped_axes({{.axis = 1}}, 5, {2, 5, 6}, {2, 30}), (Axes{{.axis = 1, .inner = 6}}));
  EXPECT_EQ(reshaped_axes({{.axis = 2}, {.axis = 3}}, 5, {2, 3, 5, 5}, {6, 5, 5}),
            (Axes{{.axis = 1}, {.axis = 2}}));
  EXPECT_TRUE(reshaped_axes({{.axis = 1}}, 64, {2, 64, 8}, {2, 8, 8, 8}).empty());
  EXPECT_TRUE(reshaped_axes({{.axis = 1}}, 64, {2, 64, 8}, {8, 16, 8}).empty());
}

}  // namespace
}  // namespace lithe
