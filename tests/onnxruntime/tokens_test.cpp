// Transformers with fewer tokens in stock ONNX Runtime, alone and quantised.
#include <gtest/gtest.h>

#include "lithe/models/models.h"
#include "lithe/tokens/tokens.h"
#include "onnxruntime/export_and_verify.h"
#include "onnxruntime/need.h"

namespace lithe {
namespace {

Graph small_vit(bool class_token, std::int64_t batch, std::int64_t opset) {
  return build_vit({.image_size = 32,
                    .patch = 4,
                    .dim = 48,
                    .depth = 6,
                    .heads = 3,
                    .classes = 10,
                    .class_token = class_token,
                    .layer_norm_operator = opset >= 17,
                    .batch = batch,
                    .seed = 4,
                    .opset = opset});
}

struct Case {
  TokenMethod method;
  TokenSizes sizes = TokenSizes::Faithful;
  bool class_token = true, class_rows = false;
  std::int64_t opset = 17;
  double own_mass = 0;
};

class TokensExport : public ::testing::TestWithParam<Case> {};

TEST_P(TokensExport, AgreesWithTheEngine) {
  LITHE_NEED_ONNX_RUNTIME();
  const auto& [method, sizes, class_token, class_rows, opset, own_mass] = GetParam();
  const at::NoGradGuard no_grad;
  Progress silent;
  const bool also_baked = method == TokenMethod::Fixed && sizes == TokenSizes::Faithful;
  for (const std::int64_t baked :
       also_baked ? std::vector<std::int64_t>{-1, 1} : std::vector<std::int64_t>{-1}) {
    const TokensOptions options{.method = method,
                                .share = 0.55,
                                .sizes = sizes,
                                .own_mass = own_mass,
                                .class_rows = class_rows,
                                .seed = 3};
    const TokensResult result =
        reduce_model_tokens(small_vit(class_token, baked, opset), nullptr, options, silent);
    const TemporaryFolder folder;
    const auto path = folder.path() / "tokens.onnx";
    write_onnx(result.graph, path);
    Executor executor(read_onnx(path));
    for (const std::int64_t batch : {1, 8}) {
      if (baked == 1 && batch != 1) continue;
      const Feeds feeds = random_inputs(result.graph, 5, {}, batch);
      const Verification verification = verify(executor, path, feeds, {.tolerance = 1e-4});
      EXPECT_TRUE(verification.pass) << verification.outputs[0].judged.max_abs;
      EXPECT_LT(verification.outputs[0].judged.max_abs, 1e-5);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, TokensExport,
    ::testing::Values(Case{TokenMethod::Fixed}, Case{TokenMethod::Fixed, TokenSizes::Consistent},
                      Case{TokenMethod::Fixed, TokenSizes::Weighted, false},
                      Case{TokenMethod::Fixed, TokenSizes::Faithful, true, true},
                      Case{TokenMethod::Fixed, TokenSizes::Faithful, true, false, 13},
                      Case{TokenMethod::Fixed, TokenSizes::Faithful, false, false, 20},
                      Case{TokenMethod::Tome}, Case{TokenMethod::Tome, TokenSizes::Faithful, false},
                      Case{TokenMethod::Tome, TokenSizes::Faithful, true, false, 13}, Case{TokenMethod::Evit},
                      Case{TokenMethod::Evit, TokenSizes::Faithful, true, false, 20},
                      Case{TokenMethod::Random},
                      Case{TokenMethod::Fixed, TokenSizes::Faithful, true, false, 17, 0.6},
                      Case{TokenMethod::Fixed, TokenSizes::Consistent, true, true, 13, 0.6},
                      Case{TokenMethod::Fixed, TokenSizes::Weighted, false, false, 20, 0.4}));

// The schedule that is published for DeiT-S at 2.9 G, on a network of its shape.
TEST(TokensExport, PublishedScheduleOfDeitSmall) {
  LITHE_NEED_ONNX_RUNTIME();
  const at::NoGradGuard no_grad;
  Progress silent;
  const TokenSchedule schedule{{197, 196, 190, 168, 150, 139, 129, 117, 99, 78, 58, 3},
                               {197, 194, 176, 156, 141, 133, 121, 107, 88, 64, 56, 3}};
  const TokensResult result = reduce_model_tokens(build_vit({.dim = 384, .heads = 6, .seed = 6}), nullptr,
                                                  {.schedule = schedule}, silent);
  EXPECT_EQ(result.tokens, schedule.merge);
  const TemporaryFolder folder;
  const auto path = folder.path() / "deit.onnx";
  write_onnx(result.graph, path);
  Executor executor(read_onnx(path));
  const Verification verification =
      verify(executor, path, random_inputs(result.graph, 5, {}, 2), {.tolerance = 1e-4});
  EXPECT_TRUE(verification.pass);
  EXPECT_LT(verification.outputs[0].judged.max_abs, 1e-5);
}

TEST(TokensExport, ThenEightBits) {
  LITHE_NEED_ONNX_RUNTIME();
  Progress silent;
  const TokensResult result = reduce_model_tokens(small_vit(true, -1, 17), nullptr,
                                                  {.method = TokenMethod::Fixed, .share = 0.6}, silent);
  QuantizeOptions options{.weight_bits = 8, .activation_bits = 8};
  options.report_samples = 0;
  const Verification verification = export_and_verify(result.graph, options);
  EXPECT_TRUE(verification.pass) << verification.outputs[0].judged.max_rel;
  EXPECT_GT(verification.codes.values, 20);
}

}  // namespace
}  // namespace lithe
