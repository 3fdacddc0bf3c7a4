#include "cli/denoiser_flags.h"

#include <algorithm>
#include <charconv>

#include "cli/embedded_models.h"
#include "cli/validators.h"
#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/hash.h"
#include "lithe/data/preprocess.h"
#include "lithe/diffusion/model_record.h"
#include "lithe/graph/half_weights.h"
#include "lithe/graph/onnx.h"

namespace lithe::cli {
namespace {

SamplerOptions sampler_of(const DenoiserFlags& flags) {
  SamplerOptions sampler;
  sampler.kind = parse_sampler(flags.sampler);
  sampler.eta = flags.eta;
  sampler.clip = !flags.no_clip;
  sampler.rederive = !flags.keep_noise;
  sampler.batch = flags.batch;
  if (!flags.classifier.empty()) {
    if (flags.null_label >= 0)
      fail("give --classifier or --null-label, not both: they are two kinds of guidance");
    sampler.guidance.kind = GuidanceKind::Classifier;
  } else if (flags.null_label >= 0) {
    sampler.guidance.kind = GuidanceKind::ClassifierFree;
    sampler.guidance.null_label = flags.null_label;
  } else if (flags.guidance_scale != 1) {
    fail("--guidance-scale needs --null-label (the label that stands for none) or --classifier");
  }
  sampler.guidance.scale = flags.guidance_scale;
  return sampler;
}

NoiseSchedule noise_of(const DenoiserFlags& flags, const std::optional<DiffusionRecord>& record,
                       const std::string& name) {
  if (flags.noise.empty() && !record)
    fail(
        "{}: does not say how it was trained; give --noise-schedule (linear, cosine or scaled_linear), and "
        "--prediction where it is not the noise",
        name);
  const std::string schedule = flags.noise.empty() ? record->noise_schedule : flags.noise;
  const std::int64_t known = record ? record->steps : 1000;
  return NoiseSchedule::parse(schedule, flags.training_steps > 0 ? flags.training_steps : known);
}

std::vector<std::int64_t> shape_of(const DenoiserFlags& flags, std::vector<std::int64_t> own,
                                   const std::string& name) {
  if (!flags.shape.empty()) {
    const auto given = parse_shape(flags.shape, "--image-shape");
    if (given.size() != 3)
      fail("--image-shape {}: give channels, height and width, such as 3,64,64", flags.shape);
    for (std::size_t i = 0; i < 3; ++i)
      if (own[i] > 0 && own[i] != given[i])
        fail("--image-shape {}: {} makes images of {} on that axis", flags.shape, name, own[i]);
    own = given;
  }
  if (std::any_of(own.begin(), own.end(), [](std::int64_t size) { return size < 1; }))
    fail("{}: leaves the size of its images free; give --image-shape C,H,W", name);
  return own;
}

std::function<std::unique_ptr<Denoiser>()> denoiser_maker(const LoadedDenoiser& model) {
  return [graph = model.graph, how = model.how, layers = model.layers] {
    return std::make_unique<GraphDenoiser>(graph, how, [graph, layers](const std::vector<int>& skipped) {
      return without_layers(*graph, layers, skipped);
    });
  };
}

}  // namespace

std::string file_hash(const std::string& path) {
  return fmt::format("{:016x}", fnv1a(MappedFile(path).bytes()));
}

std::string model_hash(const Invocation& call) {
  const std::string& path = call.options.model;
  return path.empty() ? fmt::format("{:016x}", fnv1a(embedded_denoiser_bytes())) : file_hash(path);
}

void reuse_layers(LoadedDenoiser& model) {
  for (const SkippableLayer& layer : model.layers) model.how.branches.push_back(layer.branch);
  model.task.make_denoiser = denoiser_maker(model);
}

void add_denoiser_flags(CLI::App& verb, DenoiserFlags& flags, Invocation& call) {
  verb.add_option("model", call.options.model,
                  "noise predictor, an ONNX file (default: an embedded one of digits)");
  const auto in = [&](const char* group, CLI::Option* option) { return option->group(group); };
  const char *model = "Model", *sampler = "Sampler";
  in(model, verb.add_option("--noise-schedule", flags.noise,
                            "linear, cosine or scaled_linear (default: what the model says of itself)"));
  in(model, verb.add_option("--diffusion-steps", flags.training_steps,
                            "training steps (default: likewise, or 1000)"))
      ->check(in_range(1, 1e6));
  in(model,
     verb.add_option("--prediction", flags.prediction, "epsilon, v or x0 (default: likewise, or epsilon)"));
  in(model, verb.add_option("--image-shape", flags.shape, "C,H,W where the model leaves it free"));
  in(model,
     verb.add_option("--image-input", flags.inputs.image, "name of the input, where it cannot be told"));
  in(model, verb.add_option("--time-input", flags.inputs.time, "likewise"));
  in(model, verb.add_option("--label-input", flags.inputs.label, "likewise"));
  in(model, verb.add_option("--classes", flags.classes,
                            "labels to draw from, 0 to this (default: what the model has)"))
      ->check(at_least(0));
  in(sampler, verb.add_option("--sampler", flags.sampler, "ddim, ddpm, plms or dpmpp2m"))
      ->capture_default_str();
  in(sampler, verb.add_option("--eta", flags.eta, "noise between the steps of ddim, 0 to 1"))
      ->check(in_range(0, 1))
      ->capture_default_str();
  in(sampler, verb.add_flag("--no-clip", flags.no_clip, "do not clip predicted images to -1..1"));
  in(sampler,
     verb.add_flag("--keep-noise", flags.keep_noise, "do not take the noise anew from a clipped image"));
  in(sampler, verb.add_option("--guidance-scale", flags.guidance_scale, "of guidance"))
      ->capture_default_str();
  in(sampler, verb.add_option("--null-label", flags.null_label,
                              "the label that stands for none: classifier-free guidance"))
      ->check(at_least(0));
  in(sampler, verb.add_option("--classifier", flags.classifier,
                              "ONNX classifier of noisy images: classifier guidance"));
  in(sampler, verb.add_option("--batch", flags.batch, "images in one call of the network"))
      ->check(in_range(1, 65536))
      ->capture_default_str();
}

LoadedDenoiser load_denoiser(Invocation& call, const DenoiserFlags& flags, at::Device device) {
  LoadedDenoiser out;
  out.embedded = call.options.model.empty();
  out.name = out.embedded ? kEmbeddedName : call.options.model;
  Graph graph = out.embedded ? embedded_denoiser() : read_model(call.options.model);
  graph.sort();
  const std::optional<DiffusionRecord> record = diffusion_record(graph);
  out.task.noise = noise_of(flags, record, out.name);
  out.task.sampler = sampler_of(flags);
  if (!flags.prediction.empty())
    out.task.sampler.prediction = parse_prediction(flags.prediction);
  else if (record)
    out.task.sampler.prediction = record->prediction;
  if (record && (record->low != -1 || record->high != 1))
    fail("{}: was trained on images in {}..{}; only -1..1 is sampled", out.name, record->low, record->high);
  out.graph = std::make_shared<const Graph>(std::move(graph));

  GraphDenoiserOptions how{.inputs = flags.inputs, .executor = {.device = device}};
  how.round_timesteps = out.task.sampler.kind == SamplerKind::DpmSolver;
  const GraphDenoiser probe(out.graph, how);
  out.task.shape = shape_of(flags, probe.image_shape(), out.name);
  if (probe.takes_labels()) {
    out.task.classes = flags.classes >= 0 ? flags.classes : probe.classes().value_or(0);
    if (flags.classes < 0 && flags.null_label >= 0 && flags.null_label == out.task.classes - 1)
      --out.task.classes;
    if (out.task.classes < 1)
      fail("{}: takes labels, but not how many can be told; give --classes", out.name);
  } else if (!flags.classifier.empty()) {  // the classifier alone is told labels
    if (flags.classes < 1) fail("--classifier needs --classes: how many labels to draw from");
    out.task.classes = flags.classes;
  } else if (flags.classes > 0) {
    fail("--classes: {} takes no labels", out.name);
  }
  out.shapes = {{probe.inputs().image.name,
                 {std::max<std::int64_t>(1, probe.fixed_batch()), out.task.shape[0], out.task.shape[1],
                  out.task.shape[2]}}};
  out.layers = find_skippable_layers(*out.graph, out.shapes);
  out.how = how;
  out.task.make_denoiser = denoiser_maker(out);
  if (!flags.classifier.empty()) {
    const auto classifier = std::make_shared<const Graph>(read_model(flags.classifier));
    const bool round = how.round_timesteps;
    out.task.make_classifier = [classifier, round, device] {
      return std::make_unique<GraphClassifier>(
          *classifier,
          GraphClassifierOptions{
              .inputs = {}, .output = {}, .round_timesteps = round, .executor = {.device = device}});
    };
  }
  return out;
}

Graph read_model(const std::string& path) {
  Graph graph = read_onnx(path);
  widen_weights(graph);
  return graph;
}

std::vector<std::int64_t> parse_numbers(const std::string& text, const std::string& flag) {
  std::vector<std::int64_t> out;
  const char *at = text.data(), *end = at + text.size();
  while (true) {
    std::int64_t number = -1;
    const auto [stop, code] = std::from_chars(at, end, number);
    if (code != std::errc() || number < 0 || (stop != end && *stop != ','))
      fail("{} {}: give numbers that are not negative, with commas between them", flag, text);
    out.push_back(number);
    if (stop == end) return out;
    at = stop + 1;
  }
}

std::vector<std::int64_t> parse_steps(const std::string& text, const std::string& flag) {
  std::vector<std::int64_t> steps = parse_numbers(text, flag);
  std::sort(steps.begin(), steps.end());
  if (std::adjacent_find(steps.begin(), steps.end()) != steps.end())
    fail("{} {}: a step comes twice", flag, text);
  return steps;
}

std::function<std::unique_ptr<FeatureNetwork>()> load_features(const std::string& path,
                                                               const std::string& value, int which,
                                                               at::Device device) {
  const auto graph =
      std::make_shared<const Graph>(path.empty() ? embedded_features(which) : read_model(path));
  const Preprocess preprocess = preprocess_for(path.empty() ? "embedded" : path, *graph);
  return [graph, preprocess, value, device] {
    return std::make_unique<FeatureNetwork>(*graph, preprocess, value, device);
  };
}

}  // namespace lithe::cli
