// The U-Net of a small model of the make of Stable Diffusion, and the network that controls it.
#include <cmath>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/models/tiny_attention.h"
#include "lithe/models/tiny_stable_diffusion.h"

namespace lithe {
namespace {

constexpr std::int64_t kLatentChannels = 4, kGroups = 4;

class TinyUnetBuilder : public AttentionBuilder {
 public:
  TinyUnetBuilder(const char* name, std::uint64_t seed, const TinyStableDiffusionOptions& options)
      : AttentionBuilder(name, seed), options_(options) {
    if (options.width < 8 || options.width % 8 != 0 || options.text_width < 2)
      fail("tiny model: a width of {} and a text width of {}; a multiple of 8 and 2 or more are needed",
           options.width, options.text_width);
    sample_ = input("sample", {-1, kLatentChannels, -1, -1});
    embed_time();
    text_ = input("encoder_hidden_states", {-1, -1, options.text_width});
  }

  Graph unet() {
    const std::int64_t wide = 2 * options_.width;
    std::vector<std::string> skips = encode();
    std::string x = transformer("mid_block.attentions.0", skips[2]);
    if (options_.control == ControlForm::Split) {
      for (std::size_t i = 0; i < skips.size(); ++i)
        skips[i] = added(skips[i], input(fmt::format("down_block_{}", i), {-1, channels(skips[i]), -1, -1}));
      x = added(x, input("mid_block_additional_residual", {-1, wide, -1, -1}));
    } else if (options_.control == ControlForm::Merged) {
      skips[1] = added(skips[1], merged_control());
    }
    x = residual("up_blocks.0.resnets.0", concat("up_blocks.0.concat", {x, skips[2]}), wide);
    x = upsample("up_blocks.0.upsample", x);
    x = residual("up_blocks.1.resnets.0", concat("up_blocks.1.concat", {x, skips[1]}), options_.width);
    x = residual("up_blocks.1.resnets.1", concat("up_blocks.1.concat1", {x, skips[0]}), options_.width);
    x = silu("conv_act", group_norm("conv_norm_out", x, kGroups));
    x = conv("conv_out", x, {.channels = kLatentChannels, .gain = 0.3});
    // Near to the noise that is in the latents, so that sampling stays within bounds.
    const bool merged = options_.control == ControlForm::Merged;
    output(merged ? "noise_pred" : "out_sample", node("Add", "noise", {sample_, x}),
           {-1, kLatentChannels, -1, -1});
    return named();
  }

  Graph controlnet() {
    const std::string picture = input("controlnet_cond", {-1, 3, -1, -1});
    std::vector<std::string> skips = encode(shrink("controlnet_cond_embedding", picture));
    std::string x = transformer("mid_block.attentions.0", skips[2]);
    for (std::size_t i = 0; i < skips.size(); ++i) {
      const std::int64_t c = channels(skips[i]);
      output(fmt::format("down_block_{}", i),
             conv(fmt::format("controlnet_down_blocks.{}", i), skips[i], {.channels = c, .kernel = 1}),
             {-1, c, -1, -1});
    }
    const std::int64_t c = channels(x);
    output("mid_block_additional_residual", conv("controlnet_mid_block", x, {.channels = c, .kernel = 1}),
           {-1, c, -1, -1});
    return named();
  }

 private:
  std::string added(const std::string& x, const std::string& y) { return add(x + ".controlled", x, y); }

  /// Cosines and sines of the time through two layers.
  void embed_time() {
    const std::int64_t half = options_.width / 2, size = 2 * options_.width;
    const bool number = options_.timestep == DType::Float32;
    const std::string t = input(
        "timestep", number ? std::vector<std::int64_t>{} : std::vector<std::int64_t>{-1}, options_.timestep);
    std::vector<float> frequencies;
    for (std::int64_t i = 0; i < half; ++i)
      frequencies.push_back(
          static_cast<float>(std::exp(-std::log(1e4) * static_cast<double>(i) / static_cast<double>(half))));
    const std::string steps =
        node("Cast", "time.cast", {t}, {{"to", static_cast<std::int64_t>(DType::Float32)}});
    const std::string angles =
        node("Mul", "time.angles",
             {reshape("time.column", steps, {-1, 1}),
              constant("time.frequencies", TensorData::from<float>({1, half}, std::move(frequencies)))});
    const std::string waves =
        concat("time.waves", {node("Cos", "time.cos", {angles}), node("Sin", "time.sin", {angles})}, 1);
    const std::string hidden = silu("time.silu", gemm("time.linear_1", waves, 2 * half, size));
    time_ = silu("time.act", gemm("time.linear_2", hidden, size, size));
  }

  /// What is added to the channels of a picture, by the time.
  std::string residual(const std::string& name, const std::string& x, std::int64_t out) {
    std::string y = silu(name + ".act1", group_norm(name + ".norm1", x, kGroups));
    y = conv(name + ".conv1", y, {.channels = out});
    const std::string shift = node(
        "Unsqueeze", name + ".time_map",
        {gemm(name + ".time_emb_proj", time_, 2 * options_.width, out), ints(name + ".time_axes", {2, 3})});
    y = add(name + ".shifted", y, shift);
    y = conv(name + ".conv2", silu(name + ".act2", group_norm(name + ".norm2", y, kGroups)),
             {.channels = out, .gain = 0.5});
    return add(name, channels(x) == out ? x : conv(name + ".shortcut", x, {.channels = out, .kernel = 1}), y);
  }

  std::string transformer(const std::string& name, const std::string& x) {
    const std::int64_t c = channels(x);
    const Attention own{.width = c, .source_width = c, .form = options_.attention};
    const Attention other{.width = c, .source_width = options_.text_width, .form = options_.attention};
    const std::string block = name + ".transformer_blocks.0";
    std::string tokens =
        transpose(name + ".tokens",
                  reshape(name + ".flat", group_norm(name + ".norm", x, kGroups), {0, c, -1}), {0, 2, 1});
    tokens = linear(name + ".proj_in", tokens, c, c);
    const std::string self = layer_norm(block + ".norm1", tokens, c, false);
    tokens = node("Add", block + ".add1", {attention(block + ".attn1", self, self, own), tokens});
    const std::string crossed = layer_norm(block + ".norm2", tokens, c, false);
    tokens = node("Add", block + ".add2", {attention(block + ".attn2", crossed, text_, other), tokens});
    const std::string hidden =
        gelu(block + ".ff.act",
             linear(block + ".ff.in", layer_norm(block + ".norm3", tokens, c, false), c, 2 * c));
    tokens = node("Add", block + ".add3", {linear(block + ".ff.out", hidden, 2 * c, c), tokens});
    tokens = linear(name + ".proj_out", tokens, c, c, 0.5);
    const std::string picture =
        node("Reshape", name + ".picture",
             {transpose(name + ".channels", tokens, {0, 2, 1}), node("Shape", name + ".size", {x})});
    set_channels(picture, c);
    return add(name, picture, x);
  }

  /// conv_in, the first level and its half-sized successor, as a U-Net keeps them.
  std::vector<std::string> encode(const std::string& control = {}) {
    std::string x = conv("conv_in", sample_, {.channels = options_.width});
    if (!control.empty()) x = add("conv_in.controlled", x, control);
    const std::string level =
        transformer("down_blocks.0.attentions.0", residual("down_blocks.0.resnets.0", x, options_.width));
    const std::string half =
        conv("down_blocks.0.downsample", level, {.channels = 2 * options_.width, .stride = 2});
    return {x, level, half};
  }

  std::string upsample(const std::string& name, const std::string& x) {
    const std::string scales = constant(name + ".scales", TensorData::from<float>({4}, {1, 1, 2, 2}));
    const std::string large = node("Resize", name + ".resize", {x, "", scales},
                                   {{"mode", std::string("nearest")},
                                    {"coordinate_transformation_mode", std::string("asymmetric")},
                                    {"nearest_mode", std::string("floor")}});
    set_channels(large, channels(x));
    return conv(name, large, {.channels = channels(x)});
  }

  /// A picture as large as the latents.
  std::string shrink(const std::string& name, std::string x) {
    set_channels(x, 3);
    for (int i = 0; i < 3; ++i)
      x = silu(fmt::format("{}.act{}", name, i),
               conv(fmt::format("{}.conv{}", name, i), x, {.channels = options_.width, .stride = 2}));
    return x;
  }

  std::string merged_control() {
    const std::string pictures = input("controlnet_conds", {-1, -1, 3, -1, -1});
    const std::string scales = input("conditioning_scales", {-1, 1});
    const std::string wide =
        node("Reshape", "controls.scales", {scales, ints("controls.scales_shape", {-1, 1, 1, 1, 1})});
    const std::string sum =
        node("ReduceSum", "controls.sum",
             {node("Mul", "controls.scaled", {pictures, wide}), ints("controls.axes", {0})},
             {{"keepdims", std::int64_t{0}}});
    return shrink("controls.embedding", sum);
  }

  Graph named() {
    Graph graph = finish();
    name_free_sizes(graph);
    for (ValueInfo& input : graph.inputs)
      if (input.name == "controlnet_conds" || input.name == "conditioning_scales")
        (*input.shape)[0].symbol = "nets";
    return graph;
  }

  TinyStableDiffusionOptions options_;
  std::string sample_, time_, text_;
};

}  // namespace

Graph build_tiny_unet(const TinyStableDiffusionOptions& options) {
  return TinyUnetBuilder("unet", options.seed, options).unet();
}

Graph build_tiny_controlnet(const TinyStableDiffusionOptions& options) {
  return TinyUnetBuilder("controlnet", options.seed + 1, options).controlnet();
}

}  // namespace lithe
