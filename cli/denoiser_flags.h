// The flags that name a diffusion model and a sampler, the same in every verb that makes images.
#pragma once

#include <ATen/ATen.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <vector>

#include "cli/verb.h"
#include "lithe/diffusion/search/image_fitness.h"
#include "lithe/diffusion/skippable_layers.h"
#include "lithe/graph/graph.h"
#include "lithe/graph/shape_inference.h"

namespace lithe::cli {

struct DenoiserFlags {
  std::string noise, prediction, sampler = "ddim", classifier, shape;
  std::int64_t training_steps = 0, batch = 100, null_label = -1, classes = -1;
  double eta = 0, guidance_scale = 1;
  bool no_clip = false, keep_noise = false;
  InputNames inputs;
};

/// Adds the model (optional: the embedded one) and the flags above.
void add_denoiser_flags(CLI::App& verb, DenoiserFlags& flags, Invocation& call);

struct LoadedDenoiser {
  std::string name;  // of the file, or "digits (embedded)"
  GraphPtr graph;
  std::vector<SkippableLayer> layers;
  InputShapes shapes;  // of one call, where the model leaves sizes free
  GraphDenoiserOptions how;
  ImageTask task;  // without features
  bool embedded = false;
};

/// Reads the model, and what it says of itself; flags go over that. What is missing is said in one line each
/// (`call.warn`), or refused: Throws Error(Input) naming the flag that tells.
LoadedDenoiser load_denoiser(Invocation& call, const DenoiserFlags& flags, at::Device device);

/// An ONNX file whose weights may be stored in half precision.
Graph read_model(const std::string& path);

/// The hash of a file's bytes, and that of the model's: what tells models apart in schedules.
std::string file_hash(const std::string& path);
std::string model_hash(const Invocation& call);

/// Skipped layers then add what they gave last, in place of nothing.
void reuse_layers(LoadedDenoiser& model);

/// "3,0,7" as numbers that are not negative; throws Error(Input) naming the flag.
std::vector<std::int64_t> parse_numbers(const std::string& text, const std::string& flag);
/// "1000,500,10" as ascending steps; throws Error(Input) naming the flag.
std::vector<std::int64_t> parse_steps(const std::string& text, const std::string& flag);

/// The network whose features are compared: a file, or for "" an embedded one. `which` 0 searches, 1 judges.
std::function<std::unique_ptr<FeatureNetwork>()> load_features(const std::string& path,
                                                               const std::string& value, int which,
                                                               at::Device device);

}  // namespace lithe::cli
