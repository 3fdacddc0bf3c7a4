#include "lithe/stylize/stable_diffusion.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/json.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kMostConfig = 16 << 20;
constexpr double kScalingFactor = 0.18215;  // of Stable Diffusion 1, whose oldest files do not say it

const fs::path& checked(const fs::path& folder) {
  if (!fs::is_directory(folder))
    fail("{}: is no folder; the folder of a Stable Diffusion model exported to ONNX was expected",
         folder.string());
  if (fs::exists(folder / "text_encoder_2"))
    fail(
        "{}: has a second text encoder, as Stable Diffusion XL does; a model of Stable Diffusion 1 or 2 is "
        "needed",
        folder.string());
  if (!fs::exists(folder / "unet") && fs::exists(folder / "transformer"))
    fail("{}: has a transformer in place of a U-Net; a model of Stable Diffusion 1 or 2 is needed",
         folder.string());
  if (!fs::exists(folder / "unet" / "model.onnx"))
    fail(
        "{}: there is no unet/model.onnx in it; export the model to ONNX, for example by 'optimum-cli export "
        "onnx'",
        folder.string());
  return folder;
}

double read_scaling_factor(const fs::path& folder) {
  for (const char* part : {"vae_decoder", "vae_encoder", "vae"}) {
    const fs::path file = folder / part / "config.json";
    if (!fs::exists(file)) continue;
    const nlohmann::json config = parse_json(read_text_file(file, kMostConfig), file.string());
    if (!config.is_object()) fail("{}: an object of settings was expected", file.string());
    if (config.contains("shift_factor") && config.at("shift_factor").is_number() &&
        config.at("shift_factor") != 0)
      fail(
          "{}: shifts its latents ('shift_factor'), as Stable Diffusion 3 does; a model of Stable Diffusion "
          "1 or 2 is "
          "needed",
          file.string());
    if (!config.contains("scaling_factor") || config.at("scaling_factor").is_null()) continue;
    const nlohmann::json& value = config.at("scaling_factor");
    const double factor = value.is_number() ? value.get<double>() : 0;
    if (!(factor > 0 && std::isfinite(factor)))
      fail("{}: the 'scaling_factor' {} is no positive number", file.string(), value.dump().substr(0, 60));
    return factor;
  }
  return kScalingFactor;
}

/// Encoders of older exports draw their latents. With their random numbers at 0 they give the mean.
bool still_random_numbers(Graph& graph) {
  bool any = false;
  for (Node& node : graph.nodes) {
    if (node.is("RandomNormalLike")) {
      const Node random = node;
      node = {.name = random.name,
              .op_type = "Sub",
              .inputs = {random.input(0), random.input(0)},
              .outputs = random.outputs};
    } else if (node.is("RandomNormal")) {
      const auto shape = node.attr("shape", std::vector<std::int64_t>{});
      const auto axes = static_cast<std::int64_t>(shape.size());
      const std::string sizes =
          graph.add_constant(node.output(0) + ".shape", TensorData::from<std::int64_t>({axes}, shape));
      node = {.name = node.name, .op_type = "ConstantOfShape", .inputs = {sizes}, .outputs = node.outputs};
    } else {
      continue;
    }
    any = true;
  }
  return any;
}

NetworkPart open_encoder(const fs::path& folder, const ExecutorOptions& options,
                         std::vector<std::string>& notes) {
  const fs::path file = folder / "vae_encoder" / "model.onnx";
  NetworkPart part(file, options);
  Graph graph = part.graph();
  if (!still_random_numbers(graph)) return part;
  notes.push_back(
      file.string() +
      ": draws its latents inside; its random numbers are taken as 0, so that it gives their mean");
  return NetworkPart(graph, file.string(), options);
}

}  // namespace

StableDiffusion::StableDiffusion(const fs::path& folder, const ExecutorOptions& options)
    : folder_(checked(folder)),
      options_(options),
      tokenizer_(ClipTokenizer::open(folder / "tokenizer")),
      schedule_(read_scheduler_config(folder / "scheduler" / "scheduler_config.json")),
      text_encoder_(folder / "text_encoder" / "model.onnx", options),
      unet_(folder / "unet" / "model.onnx", options),
      encoder_(open_encoder(folder, options, notes_)),
      decoder_(folder / "vae_decoder" / "model.onnx", options),
      unet_inputs_(find_unet_inputs(unet_)),
      scaling_factor_(read_scaling_factor(folder)) {
  const auto ids = text_encoder_.graph().required_inputs();
  if (ids.size() != 1 || !is_integer(ids[0]->dtype))
    fail("{}: takes {}; token numbers alone were expected", text_encoder_.origin(),
         text_encoder_.list_inputs());
  for (const NetworkPart* part : {&encoder_, &decoder_})
    if (part->graph().required_inputs().size() != 1 || part->graph().outputs.empty())
      fail("{}: takes {}; pictures or latents alone were expected", part->origin(), part->list_inputs());
  if (fs::exists(folder / "controlnet" / "model.onnx")) controlnet_ = folder / "controlnet" / "model.onnx";
}

at::Tensor StableDiffusion::encode_rows(const std::vector<std::vector<std::int64_t>>& rows) {
  at::Tensor ids = at::empty({static_cast<std::int64_t>(rows.size()), ClipTokenizer::kContext}, at::kLong);
  for (std::size_t i = 0; i < rows.size(); ++i)
    ids[static_cast<std::int64_t>(i)] = at::tensor(rows[i], at::kLong);
  const std::string& name = text_encoder_.graph().required_inputs()[0]->name;
  const Feeds outputs = text_encoder_.run({.items = {{name, ids}}});
  auto found = outputs.find("last_hidden_state");
  if (found == outputs.end())
    found =
        std::find_if(outputs.begin(), outputs.end(), [](const auto& one) { return one.second.dim() == 3; });
  if (found == outputs.end() || found->second.dim() != 3 || found->second.size(0) != ids.size(0))
    fail("{}: gives no embeddings [rows, {}, width] for its tokens", text_encoder_.origin(),
         ClipTokenizer::kContext);
  const at::Tensor states = found->second;
  return states.reshape({1, states.size(0) * states.size(1), states.size(2)});
}

std::pair<at::Tensor, at::Tensor> StableDiffusion::encode_prompts(const std::string& prompt,
                                                                  const std::string& negative) {
  auto rows = tokenizer_.rows(prompt), other = tokenizer_.rows(negative);
  const std::vector<std::int64_t> empty(static_cast<std::size_t>(ClipTokenizer::kContext),
                                        tokenizer_.padding());
  const std::size_t count = std::max(rows.size(), other.size());
  const auto tokens = static_cast<std::int64_t>(count) * ClipTokenizer::kContext;
  if (unet_inputs_.text_tokens >= 0 && unet_inputs_.text_tokens != tokens)
    fail("the prompt takes {} tokens with start, end and padding, but {} takes {}; shorten it", tokens,
         unet_.origin(), unet_inputs_.text_tokens);
  rows.resize(count, empty);
  other.resize(count, empty);
  return {encode_rows(rows), encode_rows(other)};
}

}  // namespace lithe
