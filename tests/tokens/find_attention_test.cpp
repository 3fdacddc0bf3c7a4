#include "lithe/tokens/find_attention.h"

#include <gtest/gtest.h>

#include "lithe/engine/executor.h"
#include "lithe/engine/random_inputs.h"
#include "lithe/tokens/choose.h"
#include "message_of.h"
#include "tokens/toy_vit.h"
#include "tokens/vit_forms.h"

namespace lithe {
namespace {

using Projection = VitForm::Projection;
using Scale = VitForm::Scale;

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
  EXPECT_LT((thin - dense).abs().max().item<double>(), 2);
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
        VitForm{.batch = 1, .mean_of_patches = true}, VitForm{.attention = true},
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
  EXPECT_NE(
      test::message_of([] { find_attention(prepare_tokens(build_resnet20())); }).find("has no attention"),
      std::string::npos);
}

}  // namespace
}  // namespace lithe
