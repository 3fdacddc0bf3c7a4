// The parts of a small model, and attention across frames, in stock ONNX Runtime.
#include <gtest/gtest.h>

#include "lithe/base/file.h"
#include "lithe/graph/onnx.h"
#include "lithe/metrics/verify.h"
#include "lithe/models/tiny_stable_diffusion.h"
#include "lithe/stylize/cross_frame_attention.h"
#include "onnxruntime/need.h"

namespace lithe {
namespace {

void expect_equal(const std::filesystem::path& file, const Feeds& feeds) {
  Executor executor(read_onnx(file));
  const Verification verification = verify(executor, file, feeds, {.tolerance = 1e-4});
  EXPECT_TRUE(verification.pass) << file << " " << verification.outputs[0].judged.max_abs;
}

at::Tensor tokens(at::ScalarType type) {
  return at::arange(154, at::kLong).remainder(190).reshape({2, 77}).to(type);
}

class TinyModelInOnnxRuntime : public testing::TestWithParam<TinyStableDiffusionOptions> {
 protected:
  static Feeds unet_feeds(const Graph& unet, std::int64_t count) {
    at::manual_seed(1);
    Feeds feeds;
    for (const ValueInfo* input : unet.required_inputs()) {
      const std::string& name = input->name;
      if (name == "sample") feeds[name] = at::randn({count, 4, 8, 8});
      if (name == "encoder_hidden_states") feeds[name] = at::randn({count, 77, 24});
      if (name == "timestep")
        feeds[name] = input->dtype == DType::Int64 ? at::full({count}, 321, at::kLong)
                                                   : at::full({}, 321.0, at::kFloat);
      if (name == "controlnet_conds") feeds[name] = at::rand({2, count, 3, 64, 64});
      if (name == "controlnet_cond") feeds[name] = at::rand({count, 3, 64, 64});
      if (name == "conditioning_scales") feeds[name] = at::rand({2, 1});
      if (name == "mid_block_additional_residual" || name == "down_block_2")
        feeds[name] = at::randn({count, 32, 4, 4});
      if (name == "down_block_0" || name == "down_block_1") feeds[name] = at::randn({count, 16, 8, 8});
    }
    return feeds;
  }
};

TEST_P(TinyModelInOnnxRuntime, GivesTheSameNumbers) {
  LITHE_NEED_ONNX_RUNTIME();
  const at::NoGradGuard no_grad;
  const TemporaryFolder temporary;
  const auto folder = temporary.path() / "tiny";
  write_tiny_stable_diffusion(folder, GetParam());
  const auto part = [&](const char* name) { return folder / name / "model.onnx"; };
  at::manual_seed(2);
  expect_equal(part("text_encoder"),
               {{"input_ids", tokens(GetParam().token == DType::Int32 ? at::kInt : at::kLong)}});
  const Graph unet = read_onnx(part("unet"));
  expect_equal(part("unet"), unet_feeds(unet, 2));
  if (!GetParam().sampling_encoder)
    expect_equal(part("vae_encoder"), {{"sample", at::rand({2, 3, 16, 24}) * 2 - 1}});
  expect_equal(part("vae_decoder"), {{"latent_sample", at::randn({2, 4, 2, 3})}});
  if (GetParam().control == ControlForm::Split)
    expect_equal(part("controlnet"), unet_feeds(read_onnx(part("controlnet")), 2));

  const auto crossed = temporary.path() / "crossed.onnx";
  write_onnx(with_cross_frame_attention(unet, 3), crossed);
  expect_equal(crossed, unet_feeds(unet, 6));
}

INSTANTIATE_TEST_SUITE_P(Forms, TinyModelInOnnxRuntime,
                         testing::Values(TinyStableDiffusionOptions{},
                                         TinyStableDiffusionOptions{.attention = AttentionForm::Merged,
                                                                    .control = ControlForm::Merged,
                                                                    .timestep = DType::Int64,
                                                                    .token = DType::Int32},
                                         TinyStableDiffusionOptions{.attention = AttentionForm::Einsum,
                                                                    .control = ControlForm::Split},
                                         TinyStableDiffusionOptions{.attention = AttentionForm::Fused,
                                                                    .sampling_encoder = true}));

}  // namespace
}  // namespace lithe
