// A model of the make of Stable Diffusion 1 that is small enough for tests: its files, names and types, but
// random weights. What it paints means nothing.
#pragma once

#include <cstdint>
#include <filesystem>

#include "lithe/graph/graph.h"

namespace lithe {

/// How an exporter wrote attention down.
enum class AttentionForm {
  Heads,   // [batch, heads, tokens, d], as for PyTorch's scaled_dot_product_attention
  Merged,  // [batch heads, tokens, d]
  Einsum,  // merged heads, both products by Einsum
  Fused,   // queries, keys and values of self-attention by one product that is split
};

/// How control pictures reach the U-Net.
enum class ControlForm {
  None,
  Merged,  // inputs controlnet_conds [nets, batch, 3, H, W] and conditioning_scales [nets, 1]
  Split,  // residuals down_block_0.. and mid_block_additional_residual, made by a graph controlnet/model.onnx
};

struct TinyStableDiffusionOptions {
  std::uint64_t seed = 0;
  std::int64_t width = 16;       // channels of the U-Net's first level, a multiple of 8
  std::int64_t text_width = 24;  // of text embeddings, a multiple of 2
  AttentionForm attention = AttentionForm::Heads;
  ControlForm control = ControlForm::None;
  DType timestep = DType::Float32;  // a number, or Int64: [batch]
  DType token = DType::Int64;       // or Int32
  bool sampling_encoder = false;    // gives a random `latent_sample` in place of `latent_parameters`
};

/// The folder of a model: text_encoder, unet, vae_encoder, vae_decoder (each with model.onnx and
/// config.json), tokenizer, scheduler, model_index.json, and controlnet where the options ask for it. The
/// autoencoder keeps the mean colour of blocks of 8 x 8 pixels and one slope of grey, and gives them back
/// exactly. The tokenizer knows visible ASCII characters. Throws Error(System) if the disk refuses.
void write_tiny_stable_diffusion(const std::filesystem::path& folder,
                                 const TinyStableDiffusionOptions& options = {});

// The parts.
Graph build_tiny_unet(const TinyStableDiffusionOptions& options = {});
Graph build_tiny_controlnet(const TinyStableDiffusionOptions& options = {});
Graph build_tiny_text_encoder(const TinyStableDiffusionOptions& options, std::int64_t vocabulary);
Graph build_tiny_vae_encoder(const TinyStableDiffusionOptions& options = {});
Graph build_tiny_vae_decoder(const TinyStableDiffusionOptions& options = {});

}  // namespace lithe
