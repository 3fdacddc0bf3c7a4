// Folders of Stable Diffusion: what is read from them, how their parts are fed, and what is refused.
#include "lithe/stylize/stable_diffusion.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "lithe/base/file.h"
#include "lithe/graph/half_weights.h"
#include "lithe/graph/onnx.h"
#include "lithe/models/builder.h"
#include "lithe/models/tiny_stable_diffusion.h"
#include "lithe/stylize/guided_unet.h"
#include "lithe/stylize/pixels.h"
#include "lithe/stylize/vae.h"
#include "lithe/stylize/widen_graph.h"
#include "message_of.h"
#include "stylize/moving_frames.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

double difference(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() ? (a - b).abs().max().item<double>() : 1e9;
}

class TinyFolder : public testing::Test {
 protected:
  fs::path write(const TinyStableDiffusionOptions& options = {}) {
    fs::path path = folder_.path() / std::to_string(count_++);
    write_tiny_stable_diffusion(path, options);
    return path;
  }
  /// Changes a network of a folder.
  static void edit(const fs::path& file, const std::function<void(Graph&)>& change) {
    Graph graph = read_onnx(file);
    change(graph);
    write_onnx(graph, file);
  }
  static std::string refusal(const fs::path& path) {
    return test::message_of([&] { StableDiffusion model(path); });
  }
  static at::Tensor predict(StableDiffusion& model, const at::Tensor& x, GuidedUnetOptions options = {}) {
    options.prompt = "a boat on the sea";
    return GuidedUnet(model, std::move(options)).predict(x, {0, x.size(0)}, 500);
  }

  TemporaryFolder folder_;
  int count_ = 0;
};

TEST_F(TinyFolder, TheAutoencoderKeepsColours) {
  StableDiffusion model(write());
  EXPECT_DOUBLE_EQ(model.scaling_factor(), 0.18215);
  EXPECT_TRUE(model.notes().empty());
  StableDiffusionVae vae(model, 2);
  std::vector<Frame> frames(3, Frame(16, 24));
  for (std::size_t i = 0; i < frames.size(); ++i)
    for (std::size_t k = 0; k < frames[i].pixels.size(); ++k)
      frames[i].pixels[k] = static_cast<std::int16_t>(200 + 250 * i + 30 * (k % 3));
  const at::Tensor latents = vae.encode(frames);
  EXPECT_EQ(latents.sizes(), (at::IntArrayRef{3, 4, 2, 3}));
  EXPECT_NEAR(latents[1][2][0][0].item<double>(), 0.18215 * 5 * (510.0 / 510 - 1), 1e-5);
  EXPECT_NEAR(latents[0][0][1][2].item<double>(), 0.18215 * 5 * (200.0 / 510 - 1), 1e-5);
  EXPECT_EQ(vae.decode(latents), frames);
  const at::Tensor random = at::rand({2, 4, 2, 2}) * 0.2 - 0.1;
  EXPECT_LT(difference(vae.encode(vae.decode(random)), random), 2e-3) << "up to quarter levels";
  EXPECT_THAT(test::message_of([&] { vae.encode({Frame(12, 16)}); }), HasSubstr("multiples of 8"));
}

TEST_F(TinyFolder, EncodersThatDrawAreHeldStill) {
  StableDiffusion still(write()), drawing(write({.sampling_encoder = true}));
  ASSERT_EQ(drawing.notes().size(), 1u);
  EXPECT_THAT(drawing.notes()[0], HasSubstr("draws its latents"));
  const auto frames = test::moving_waves(2, 16, 16);
  const at::Tensor mean = StableDiffusionVae(still).encode(frames);
  EXPECT_LT(difference(StableDiffusionVae(drawing).encode(frames), mean), 1e-6);
}

TEST_F(TinyFolder, TheScalingFactorIsRead) {
  const fs::path path = write();
  const fs::path config = path / "vae_decoder" / "config.json";
  write_file(config, "{\"scaling_factor\": 0.5}");
  EXPECT_EQ(StableDiffusion(path).scaling_factor(), 0.5);
  fs::remove(config);
  EXPECT_DOUBLE_EQ(StableDiffusion(path).scaling_factor(), 0.18215);
  write_file(config, "{\"scaling_factor\": -1}");
  EXPECT_THAT(refusal(path), HasSubstr("'scaling_factor' -1"));
  write_file(config, "{\"shift_factor\": 0.1}");
  EXPECT_THAT(refusal(path), HasSubstr("shift_factor"));
}

TEST_F(TinyFolder, TypesOfTimesAndTokensDoNotMatter) {
  at::manual_seed(1);
  const at::Tensor x = at::randn({3, 4, 8, 8});
  StableDiffusion recent(write()), old(write({.timestep = DType::Int64, .token = DType::Int32}));
  EXPECT_LT(difference(predict(recent, x), predict(old, x)), 1e-5);
}

TEST_F(TinyFolder, HalfPrecisionIsComputedAsFloat) {
  at::manual_seed(1);
  const at::Tensor x = at::randn({2, 4, 8, 8});
  StableDiffusion plain(write());
  const fs::path path = write();
  edit(path / "unet" / "model.onnx", [](Graph& graph) {
    halve_weights(graph, 16);
    for (ValueInfo& input : graph.inputs) {
      if (input.name == "timestep") continue;
      input.dtype = DType::Float16;
      const std::string wide = graph.unique_name(input.name + "_wide");
      graph.replace_uses(input.name, wide);
      Node cast{.name = wide, .op_type = "Cast", .inputs = {input.name}, .outputs = {wide}};
      cast.attributes["to"] = static_cast<std::int64_t>(DType::Float32);
      graph.nodes.insert(graph.nodes.begin(), std::move(cast));
    }
  });
  StableDiffusion half(path);
  for (const ValueInfo* input : half.unet().graph().required_inputs())
    EXPECT_EQ(input->dtype, DType::Float32);
  EXPECT_LT(difference(predict(half, x), predict(plain, x)), 0.05);
  EXPECT_TRUE(at::isfinite(predict(half, x * 1e5)).all().item<bool>()) << "more than float16 holds";
}

TEST_F(TinyFolder, WeightsMayLieInFilesOfTheirOwn) {
  const fs::path path = write(), file = path / "unet" / "model.onnx";
  write_onnx(read_onnx(file), file, {.external_threshold = 64});
  const fs::path weights = path / "unet" / "model.onnx.data";
  ASSERT_TRUE(fs::exists(weights));
  EXPECT_EQ(refusal(path), "");
  fs::remove(weights);
  EXPECT_THAT(refusal(path), HasSubstr("model.onnx"));
}

TEST_F(TinyFolder, GuidanceGoesAwayFromTheNegativePrompt) {
  at::manual_seed(2);
  const at::Tensor x = at::randn({2, 4, 8, 8});
  StableDiffusion model(write());
  const auto at_scale = [&](double scale) {
    return predict(model, x, {.negative_prompt = "fog", .guidance_scale = scale});
  };
  const at::Tensor with = at_scale(1), without = at_scale(0);
  EXPECT_GT(difference(with, without), 1e-4);
  EXPECT_LT(difference(at_scale(7.5), without + 7.5 * (with - without)), 1e-4);
}

TEST_F(TinyFolder, FixedBatchesAreFilledUp) {
  at::manual_seed(3);
  const at::Tensor x = at::randn({5, 4, 8, 8});
  const fs::path path = write();
  StableDiffusion model(path);
  const at::Tensor wanted = predict(model, x);
  for (const std::int64_t batch : {1, 4}) {
    EXPECT_LT(difference(predict(model, x, {.batch = batch}), wanted), 1e-5);
    const fs::path fixed = write();
    edit(fixed / "unet" / "model.onnx", [&](Graph& graph) {
      for (ValueInfo& input : graph.inputs)
        if (input.name != "timestep") (*input.shape)[0] = {batch, ""};
      (*graph.outputs[0].shape)[0] = {batch, ""};
    });
    StableDiffusion loop(fixed);
    EXPECT_LT(difference(predict(loop, x), wanted), 1e-5) << batch;
    EXPECT_THAT(test::message_of([&] {
                  predict(loop, x, {.cross_frames = {-1, 1}});
                }),
                HasSubstr("no multiple"));
  }
}

TEST_F(TinyFolder, CrossFramesSeeTheirNeighbours) {
  at::manual_seed(4);
  const at::Tensor x = at::randn({4, 4, 8, 8});
  StableDiffusion model(write());
  EXPECT_EQ(set_offsets({-10000, -1, 0, 1, -1}), (std::vector<std::int64_t>{0, -10000, -1, 1}));
  const GuidedUnetOptions options{.guidance_scale = 2, .cross_frames = {-10000, -1, 0, 1}, .batch = 6};
  const at::Tensor crossed = predict(model, x, options);
  EXPECT_EQ(crossed.sizes(), x.sizes());
  EXPECT_GT(difference(crossed, predict(model, x, {.guidance_scale = 2})), 1e-3);
  // Frame 1 sees 0 and 2, but not 3.
  at::Tensor moved = x.clone();
  moved[3].add_(1);
  const at::Tensor after = predict(model, moved, options);
  EXPECT_LT(difference(after[1], crossed[1]), 1e-6);
  EXPECT_GT(difference(after[2], crossed[2]), 1e-3);
  moved = x.clone();
  moved[0].add_(1);
  EXPECT_GT(difference(predict(model, moved, options)[3], crossed[3]), 1e-3) << "everyone sees the first";
  const at::Tensor same = x.narrow(0, 0, 1).expand({4, -1, -1, -1}).contiguous();
  EXPECT_LT(difference(predict(model, same, options), predict(model, same, {.guidance_scale = 2})), 1e-4);
  // A range of frames says what the whole says of it.
  GuidedUnet unet(model, [&] {
    GuidedUnetOptions one = options;
    one.prompt = "a boat on the sea";
    return one;
  }());
  EXPECT_LT(difference(unet.predict(x, {1, 2}, 500), crossed.narrow(0, 1, 2)), 1e-5);
}

TEST_F(TinyFolder, ControlsOfBothKinds) {
  at::manual_seed(5);
  const at::Tensor x = at::randn({2, 4, 8, 8});
  const auto waves = test::moving_waves(2, 64, 64);
  const std::vector<Frame> dark(2, Frame(64, 64));
  for (const ControlForm form : {ControlForm::Merged, ControlForm::Split}) {
    StableDiffusion model(write({.control = form}));
    const auto with = [&](std::vector<Control> controls, std::vector<std::int64_t> cross = {}) {
      return predict(model, x, {.cross_frames = std::move(cross), .controls = std::move(controls)});
    };
    const at::Tensor led = with({{.frames = waves}});
    EXPECT_GT(difference(led, with({{.frames = dark}})), 1e-3);
    EXPECT_GT(difference(led, with({{.frames = waves, .scale = 0.5}})), 1e-4);
    // Two of half the strength are one of the whole.
    EXPECT_LT(difference(led, with({{.frames = waves, .scale = 0.5}, {.frames = waves, .scale = 0.5}})),
              1e-4);
    EXPECT_EQ(with({{.frames = waves}}, {-1}).sizes(), x.sizes());
    EXPECT_THAT(test::message_of([&] { with({}); }),
                HasSubstr(form == ControlForm::Merged ? "takes control pictures" : "give control pictures"));
    EXPECT_THAT(test::message_of([&] { with({{.frames = {waves[0]}}}); }),
                HasSubstr("1 control pictures for 2"));
    if (form == ControlForm::Merged) {
      EXPECT_THAT(test::message_of([&] { with({{.frames = waves, .shuffle = true}}); }), HasSubstr("inside"));
      continue;
    }
    EXPECT_GT(difference(led, with({{.frames = waves, .shuffle = true}})), 1e-4);
    // Without an effect there is what zero residuals give, for either.
    EXPECT_LT(difference(with({{.frames = waves, .scale = 0}}), with({{.frames = dark, .scale = 0}})), 1e-6);
  }
  StableDiffusion plain(write());
  EXPECT_THAT(test::message_of([&] { predict(plain, x, {.controls = {{.frames = waves}}}); }),
              HasSubstr("takes no control pictures"));
}

TEST_F(TinyFolder, LongPromptsAreJoined) {
  const fs::path path = write();
  StableDiffusion model(path);
  const auto [one, other] = model.encode_prompts("cat", std::string(200, 'x'));
  EXPECT_EQ(one.sizes(), (at::IntArrayRef{1, 231, 24}));
  EXPECT_EQ(other.sizes(), one.sizes());
  const auto [alone, empty] = model.encode_prompts("cat", "");
  EXPECT_LT(difference(one.narrow(1, 0, 77), alone), 1e-5);

  edit(path / "unet" / "model.onnx", [](Graph& graph) {
    for (ValueInfo& input : graph.inputs)
      if (input.name == "encoder_hidden_states") (*input.shape)[1] = {77, ""};
  });
  StableDiffusion fixed(path);
  EXPECT_THAT(test::message_of([&] { fixed.encode_prompts(std::string(200, 'x'), ""); }),
              HasSubstr("shorten it"));
}

TEST_F(TinyFolder, OtherFamiliesAreRefused) {
  const auto with_input = [&](const char* name, std::vector<std::int64_t> shape) {
    const fs::path path = write();
    edit(path / "unet" / "model.onnx", [&](Graph& graph) {
      DimVector dims;
      for (const std::int64_t size : shape) dims.push_back({size, ""});
      graph.inputs.push_back({.name = name, .dtype = DType::Float32, .shape = dims});
    });
    return refusal(path);
  };
  EXPECT_THAT(with_input("text_embeds", {1, 1280}), HasSubstr("Stable Diffusion XL"));
  EXPECT_THAT(with_input("timestep_cond", {1, 256}), HasSubstr("latent consistency"));
  EXPECT_THAT(with_input("mask", {1, 4, 8, 8}), HasSubstr("the input 'mask'"));

  fs::path path = write();
  edit(path / "unet" / "model.onnx", [](Graph& graph) { (*graph.inputs[0].shape)[1] = {9, ""}; });
  EXPECT_THAT(refusal(path), HasSubstr("inpainting"));
  path = write();
  fs::create_directory(path / "text_encoder_2");
  EXPECT_THAT(refusal(path), HasSubstr("second text encoder"));
  path = write();
  fs::rename(path / "unet", path / "transformer");
  EXPECT_THAT(refusal(path), HasSubstr("transformer"));
  fs::remove_all(path / "transformer");
  EXPECT_THAT(refusal(path), HasSubstr("no unet/model.onnx"));
  for (const char* part : {"text_encoder", "vae_encoder", "vae_decoder", "tokenizer", "scheduler"}) {
    path = write();
    fs::remove_all(path / part);
    EXPECT_THAT(refusal(path), HasSubstr(part)) << part;
  }
  path = write();
  write_file(path / "vae_decoder" / "model.onnx", "not a model");
  EXPECT_THAT(refusal(path), HasSubstr("vae_decoder"));
  EXPECT_THAT(refusal(folder_.path() / "none"), HasSubstr("no folder"));
}

TEST_F(TinyFolder, MismatchedControlNetsAreRefused) {
  const fs::path path = write({.control = ControlForm::Split});
  edit(path / "controlnet" / "model.onnx", [](Graph& graph) {
    graph.outputs.pop_back();
    graph.remove_dead();
  });
  StableDiffusion model(path);
  const auto waves = test::moving_waves(1, 64, 64);
  EXPECT_THAT(test::message_of([&] {
                predict(model, at::zeros({1, 4, 8, 8}), {.controls = {{.frames = waves}}});
              }),
              HasSubstr("gives 3 residuals, the U-Net takes 4"));
}

TEST(WidenGraph, HalfBecomesFloat) {
  GraphBuilder builder("half", 1);
  const std::string x = builder.input("x", {-1, 300}, DType::Float16);
  const auto to = [](DType type) { return Attributes{{"to", static_cast<std::int64_t>(type)}}; };
  const std::string weight = builder.random("weight", {300, 4}, 1);
  const std::string wide = builder.node("Cast", "wide", {x}, to(DType::Float32));
  const std::string product = builder.node("MatMul", "product", {wide, weight});
  builder.output("y", builder.node("Cast", "narrow", {product}, to(DType::Float16)), {-1, 4}, DType::Float16);
  Graph graph = builder.finish();
  halve_weights(graph);
  ASSERT_TRUE(std::any_of(graph.constants.begin(), graph.constants.end(),
                          [](const auto& one) { return one.second.dtype() == DType::Float16; }));
  EXPECT_TRUE(widen_graph(graph));
  EXPECT_FALSE(widen_graph(graph));
  EXPECT_EQ(graph.inputs[0].dtype, DType::Float32);
  for (const auto& [name, data] : graph.constants) EXPECT_NE(data.dtype(), DType::Float16) << name;
  Executor executor(graph);
  // 70,000 is more than float16 holds.
  EXPECT_TRUE(at::isfinite(executor(at::full({1, 300}, 70000.0, at::kFloat))).all().item<bool>());
}

}  // namespace
}  // namespace lithe
