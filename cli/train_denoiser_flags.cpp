#include "cli/train_denoiser_flags.h"

#include <string>
#include <vector>

#include "cli/train_flags.h"
#include "cli/validators.h"

namespace lithe::cli {
namespace {

constexpr const char* kHeading = "Noise predictors";
const std::vector<std::string> kNames{"--noise-schedule", "--diffusion-steps", "--prediction",
                                      "--class-conditional"};

}  // namespace

void add_noise_predictor_flags(CLI::App& verb, NoisePredictorFlags& flags) {
  verb.add_option("--noise-schedule", flags.noise_schedule, "cosine, linear or scaled_linear")
      ->check(CLI::IsMember({"cosine", "linear", "scaled_linear"}))
      ->group(kHeading)
      ->capture_default_str();
  verb.add_option("--diffusion-steps", flags.steps, "steps from image to noise")
      ->check(in_range(2, 1000000))
      ->group(kHeading)
      ->capture_default_str();
  verb.add_option("--prediction", flags.prediction,
                  "what the network learns to tell: epsilon (the noise), x0 (the image) or v (of both)")
      ->check(CLI::IsMember({"epsilon", "v", "x0"}))
      ->group(kHeading)
      ->capture_default_str();
  verb.add_flag("--class-conditional", flags.class_conditional,
                "tell the network the label; so does --classes")
      ->group(kHeading);
}

DiffusionRecord diffusion_of(const NoisePredictorFlags& flags) {
  DiffusionRecord record{.noise_schedule = flags.noise_schedule,
                         .steps = flags.steps,
                         .prediction = parse_prediction(flags.prediction)};
  record.noise();  // complains of too few steps
  return record;
}

void refuse_idle_denoiser_flags(const CLI::App& verb, bool denoises, bool recorded) {
  if (!denoises)
    refuse_idle(verb, kNames, "the model is no noise predictor that lithe has trained");
  else
    refuse_idle(verb, {"--loss", "--label-smoothing", "--mixup", "--patch"},
                "a noise predictor learns by the squared error");
  if (recorded) refuse_idle(verb, kNames, "the model says how it was trained");
}

}  // namespace lithe::cli
