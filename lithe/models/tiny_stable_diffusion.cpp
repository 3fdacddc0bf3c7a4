#include "lithe/models/tiny_stable_diffusion.h"

#include <cmath>
#include <numbers>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/graph/onnx.h"
#include "lithe/models/tiny_attention.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kContext = 77, kBlock = 8, kLatents = 4;
constexpr float kSpread = 5;  // latents of Stable Diffusion 1 are about so large before they are scaled

/// A JSON string of one visible ASCII character and what follows it.
std::string json_string(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out.push_back('\\');
    out.push_back(c);
  }
  return out + "\"";
}

/// Returns the number of tokens.
std::int64_t write_tokenizer(const fs::path& folder) {
  const std::vector<std::pair<std::string, std::string>> merges{{"a", "n"}, {"t", "h"}, {"th", "e</w>"}};
  std::vector<std::string> tokens;
  for (const char* ending : {"", "</w>"})
    for (char c = '!'; c <= '~'; ++c) tokens.push_back(c + std::string(ending));
  std::string lines = "#version: 0.2\n";
  for (const auto& merge : merges) {
    tokens.push_back(merge.first + merge.second);
    lines += merge.first + " " + merge.second + "\n";
  }
  tokens.insert(tokens.end(), {"<|startoftext|>", "<|endoftext|>"});
  std::string vocabulary = "{";
  for (std::size_t i = 0; i < tokens.size(); ++i)
    vocabulary += fmt::format("{}{}: {}", i ? ", " : "", json_string(tokens[i]), i);
  write_file(folder / "vocab.json", vocabulary + "}\n");
  write_file(folder / "merges.txt", lines);
  write_file(folder / "special_tokens_map.json",
             "{\"bos_token\": \"<|startoftext|>\", \"eos_token\": \"<|endoftext|>\", "
             "\"pad_token\": \"<|endoftext|>\"}\n");
  write_file(folder / "tokenizer_config.json", "{\"model_max_length\": 77}\n");
  return static_cast<std::int64_t>(tokens.size());
}

/// Orthogonal pictures of 8 x 8 pixels, [4, 3, 8, 8]: red, green and blue, and a slope of grey.
std::vector<float> block_pictures(float scale) {
  const auto size = static_cast<std::size_t>(kBlock);
  std::vector<float> weights(static_cast<std::size_t>(kLatents) * 3 * size * size);
  for (std::size_t k = 0; k < 4; ++k)
    for (std::size_t c = 0; c < 3; ++c)
      for (std::size_t y = 0; y < size; ++y)
        for (std::size_t x = 0; x < size; ++x) {
          const double slope =
              std::sqrt(2.0 / 3) * std::cos((static_cast<double>(x) + 0.5) * std::numbers::pi / 8);
          weights[((k * 3 + c) * size + y) * size + x] = scale * static_cast<float>(k == 3   ? slope
                                                                                    : k == c ? 1.0
                                                                                             : 0.0);
        }
  return weights;
}

const Attributes& block_attributes() {
  static const Attributes attributes{{"kernel_shape", std::vector<std::int64_t>{kBlock, kBlock}},
                                     {"strides", std::vector<std::int64_t>{kBlock, kBlock}}};
  return attributes;
}

void write_part(const Graph& graph, const fs::path& folder, const std::string& config = "{}") {
  fs::create_directories(folder);
  write_onnx(graph, folder / "model.onnx");
  write_file(folder / "config.json", config + "\n");
}

}  // namespace

Graph build_tiny_text_encoder(const TinyStableDiffusionOptions& options, std::int64_t vocabulary) {
  const std::int64_t width = options.text_width;
  AttentionBuilder builder("text_encoder", options.seed + 2);
  const std::string ids = builder.input("input_ids", {-1, kContext}, options.token);
  const std::string rows = builder.node("Gather", "embeddings.tokens",
                                        {builder.random("embeddings.table", {vocabulary, width}, 1), ids},
                                        {{"axis", std::int64_t{0}}});
  std::string x =
      builder.node("Add", "embeddings", {rows, builder.random("embeddings.places", {kContext, width}, 0.3)});
  std::vector<float> mask(static_cast<std::size_t>(kContext * kContext));
  for (std::size_t i = 0; i < mask.size(); ++i) {
    const auto place = static_cast<std::int64_t>(i);
    mask[i] = place % kContext > place / kContext ? -1e9f : 0.0f;  // nobody looks at later tokens
  }
  const std::string causal =
      builder.constant("mask", TensorData::from<float>({kContext, kContext}, std::move(mask)));
  const std::string normed = builder.layer_norm("layers.0.norm", x, width, false);
  x = builder.node("Add", "layers.0.add",
                   {x, builder.attention("layers.0.self_attn", normed, normed,
                                         {.width = width, .source_width = width, .mask = causal})});
  x = builder.layer_norm("final_norm", x, width, false);
  const std::string last =
      builder.node("Gather", "pooled", {x, builder.constant("end", TensorData::scalar<std::int64_t>(76))},
                   {{"axis", std::int64_t{1}}});
  builder.output("pooler_output", last, {-1, width});
  builder.output("last_hidden_state", x, {-1, kContext, width});
  Graph graph = builder.finish();
  std::swap(graph.outputs[0], graph.outputs[1]);
  return graph;
}

Graph build_tiny_vae_encoder(const TinyStableDiffusionOptions& options) {
  GraphBuilder builder("vae_encoder", options.seed + 3);
  const std::string x = builder.input("sample", {-1, 3, -1, -1});
  const auto area = static_cast<float>(kBlock * kBlock);
  // Projections onto the block pictures, whose squares each sum up to the block's area.
  std::vector<float> weights = block_pictures(kSpread / area);
  weights.resize(2 * weights.size());
  const std::string kernel = builder.constant(
      "quant_conv.weight", TensorData::from<float>({2 * kLatents, 3, kBlock, kBlock}, weights));
  constexpr float kLogVariance = -4;
  const std::string bias = builder.constant(
      "quant_conv.bias", TensorData::from<float>({2 * kLatents}, {0, 0, 0, 0, kLogVariance, kLogVariance,
                                                                  kLogVariance, kLogVariance}));
  const std::string moments = builder.node("Conv", "quant_conv", {x, kernel, bias}, block_attributes());
  if (!options.sampling_encoder) {
    builder.output("latent_parameters", moments, {-1, 2 * kLatents, -1, -1});
  } else {
    const auto parts = builder.node_outputs("Split", "moments", {moments, builder.ints("halves", {4, 4})},
                                            {"mean", "logarithm"}, {{"axis", std::int64_t{1}}});
    const std::string deviation =
        builder.node("Exp", "deviation",
                     {builder.node("Mul", "half_logarithm", {parts[1], builder.scalar("half", 0.5f)})});
    const std::string noise = builder.node("RandomNormalLike", "noise", {parts[0]});
    builder.output(
        "latent_sample",
        builder.node("Add", "drawn", {parts[0], builder.node("Mul", "spread", {deviation, noise})}),
        {-1, kLatents, -1, -1});
  }
  Graph graph = builder.finish();
  name_free_sizes(graph);
  return graph;
}

Graph build_tiny_vae_decoder(const TinyStableDiffusionOptions& options) {
  GraphBuilder builder("vae_decoder", options.seed + 4);
  const std::string x = builder.input("latent_sample", {-1, kLatents, -1, -1});
  const std::string kernel =
      builder.constant("post_quant_conv.weight",
                       TensorData::from<float>({kLatents, 3, kBlock, kBlock}, block_pictures(1 / kSpread)));
  builder.output("sample", builder.node("ConvTranspose", "post_quant_conv", {x, kernel}, block_attributes()),
                 {-1, 3, -1, -1});
  Graph graph = builder.finish();
  name_free_sizes(graph);
  return graph;
}

void write_tiny_stable_diffusion(const fs::path& folder, const TinyStableDiffusionOptions& options) {
  fs::create_directories(folder / "tokenizer");
  fs::create_directories(folder / "scheduler");
  const std::int64_t vocabulary = write_tokenizer(folder / "tokenizer");
  write_part(build_tiny_text_encoder(options, vocabulary), folder / "text_encoder");
  write_part(build_tiny_unet(options), folder / "unet");
  write_part(build_tiny_vae_encoder(options), folder / "vae_encoder");
  write_part(build_tiny_vae_decoder(options), folder / "vae_decoder", "{\"scaling_factor\": 0.18215}");
  if (options.control == ControlForm::Split)
    write_part(build_tiny_controlnet(options), folder / "controlnet");
  write_file(folder / "scheduler" / "scheduler_config.json",
             "{\"beta_start\": 0.00085, \"beta_end\": 0.012, \"beta_schedule\": \"scaled_linear\", "
             "\"num_train_timesteps\": 1000, \"set_alpha_to_one\": false, \"steps_offset\": 1}\n");
  write_file(folder / "model_index.json",
             "{\"_class_name\": \"OnnxStableDiffusionPipeline\", \"unet\": [\"diffusers\", "
             "\"OnnxRuntimeModel\"]}\n");
}

}  // namespace lithe
