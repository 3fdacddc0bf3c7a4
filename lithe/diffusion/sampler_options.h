// What a sampler is told.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace lithe {

class NoisyClassifier;

enum class SamplerKind {
  Ddim,       // Song et al., "Denoising Diffusion Implicit Models", ICLR 2021
  Ddpm,       // Ho et al., NeurIPS 2020: ancestral sampling on the re-spaced chain
  Plms,       // Liu et al., ICLR 2022, with a trial step at the start, as Rombach et al. run it
  DpmSolver,  // Lu et al., "DPM-Solver++", 2022: second order, multistep
};

/// What the network's output stands for: the noise; alpha epsilon - sigma x0; or the clean image.
enum class Prediction { Epsilon, V, X0 };

enum class GuidanceKind {
  None,
  ClassifierFree,  // Ho and Salimans, 2022: away from what the network says without a label
  Classifier,      // Dhariwal and Nichol, NeurIPS 2021: along a classifier's gradient
};

struct Guidance {
  GuidanceKind kind = GuidanceKind::None;
  double scale = 1;
  std::int64_t null_label = -1;  // classifier-free: what stands for "no label"
  NoisyClassifier* classifier = nullptr;
};

struct SamplerOptions {
  SamplerKind kind = SamplerKind::Ddim;
  Prediction prediction = Prediction::Epsilon;
  double eta = 0;        // DDIM: share of the ancestral noise, 0..1
  bool clip = true;      // DDIM and DDPM: predicted clean images to -1..1
  bool rederive = true;  // DDIM: take the noise from the clipped image, as Dhariwal and Nichol do
  Guidance guidance;
  std::int64_t batch = 32;  // images in one call of the network; the images do not depend on it
};

// Names as in files and flags: "ddim", "ddpm", "plms", "dpmpp2m"; "epsilon", "v", "x0"; "none",
// "classifier_free", "classifier". Parsing throws Error(Input) that lists them.
std::string sampler_name(SamplerKind kind);
SamplerKind parse_sampler(std::string_view name);
std::string prediction_name(Prediction prediction);
Prediction parse_prediction(std::string_view name);
std::string guidance_name(GuidanceKind kind);
GuidanceKind parse_guidance(std::string_view name);

}  // namespace lithe
