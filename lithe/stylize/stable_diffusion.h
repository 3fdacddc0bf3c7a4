// The folder of a Stable Diffusion model exported to ONNX.
//
// As Hugging Face's Optimum and the older script of the diffusers library write it: text_encoder, unet,
// vae_encoder and vae_decoder with a model.onnx each, tokenizer, scheduler, and, where control pictures are
// taken, either a U-Net with their inputs or a folder controlnet.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "lithe/stylize/clip_tokenizer.h"
#include "lithe/stylize/latent_schedule.h"
#include "lithe/stylize/network_part.h"

namespace lithe {

/// What the inputs of a U-Net mean. Names are empty, pointers null, where there is no such input.
struct UnetInputs {
  std::string sample, text, time, control_pictures, control_scales, middle_residual;
  std::vector<std::string> down_residuals;
  std::int64_t channels = 0;             // of latents
  std::int64_t height = -1, width = -1;  // of latents, where they are fixed
  std::int64_t text_tokens = -1;         // likewise
};

/// Tells the inputs of a U-Net by name, rank and order. Throws Error(Input) that names the model's family
/// where it is another one (SDXL, LCM, inpainting), or lists inputs that are not known.
UnetInputs find_unet_inputs(const NetworkPart& unet);

class StableDiffusion {
 public:
  /// Reads all parts, the U-Net with the rest of the folder. Throws Error(Input) naming the file that is
  /// missing or does not fit.
  explicit StableDiffusion(const std::filesystem::path& folder, const ExecutorOptions& options = {});

  const std::filesystem::path& folder() const { return folder_; }
  const ExecutorOptions& options() const { return options_; }
  const ClipTokenizer& tokenizer() const { return tokenizer_; }
  const ModelSchedule& schedule() const { return schedule_; }
  NetworkPart& unet() { return unet_; }
  NetworkPart& encoder() { return encoder_; }
  NetworkPart& decoder() { return decoder_; }
  const UnetInputs& unet_inputs() const { return unet_inputs_; }
  double scaling_factor() const { return scaling_factor_; }
  /// The ControlNet of the folder, or nothing.
  const std::filesystem::path& controlnet() const { return controlnet_; }
  /// What a user should know of the model, one line each.
  const std::vector<std::string>& notes() const { return notes_; }

  /// Embeddings float32 [1, 77 k, width] of two prompts, of one length: long prompts are cut into rows that
  /// are encoded one by one and joined. Throws Error(Input) for long prompts where the U-Net takes one row
  /// only.
  std::pair<at::Tensor, at::Tensor> encode_prompts(const std::string& prompt, const std::string& negative);

 private:
  at::Tensor encode_rows(const std::vector<std::vector<std::int64_t>>& rows);

  std::filesystem::path folder_;
  ExecutorOptions options_;
  std::vector<std::string> notes_;  // ahead of the parts, which add to it
  ClipTokenizer tokenizer_;
  ModelSchedule schedule_;
  NetworkPart text_encoder_, unet_, encoder_, decoder_;
  UnetInputs unet_inputs_;
  double scaling_factor_ = 0;
  std::filesystem::path controlnet_;
};

}  // namespace lithe
