// `lithe sample`: images from a diffusion model.
#include <algorithm>
#include <filesystem>
#include <fstream>

#include "cli/denoiser_flags.h"
#include "cli/overwrite.h"
#include "cli/sample_json.h"
#include "cli/torch_setup.h"
#include "cli/validators.h"
#include "cli/verbs.h"
#include "lithe/base/clock.h"
#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/data/npz.h"
#include "lithe/data/picture_grid.h"
#include "lithe/diffusion/schedule_file.h"
#include "lithe/diffusion/timesteps.h"
#include "lithe/metrics/features.h"
#include "lithe/report/report.h"

namespace lithe::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kLeastShown = 40;  // pixels across one image of a grid

struct SampleFlags {
  Invocation call{"sample"};
  DenoiserFlags denoiser;
  std::string spacing, timesteps, schedule, labels;
  std::int64_t steps = 10, count = 64, columns = 0, magnify = 0;
  CLI::App* verb = nullptr;
};

SamplingPlan plan_for(SampleFlags& flags, LoadedDenoiser& model) {
  const int given =
      (flags.spacing.empty() ? 0 : 1) + (flags.timesteps.empty() ? 0 : 1) + (flags.schedule.empty() ? 0 : 1);
  if (given > 1) fail("give one of --spacing, --timesteps and --schedule");
  const bool counted = flags.verb->count("--steps") > 0;
  if (counted && (!flags.timesteps.empty() || !flags.schedule.empty()))
    fail("--steps goes with --spacing; {} has its own",
         flags.schedule.empty() ? "--timesteps" : "--schedule");
  const SamplerOptions& sampler = model.task.sampler;
  if (!flags.timesteps.empty()) return to_plan(parse_steps(flags.timesteps, "--timesteps"));
  if (!flags.schedule.empty()) {
    const SavedSchedule schedule = read_sampling_schedule(flags.schedule);
    require_same_noise(schedule, model.task.noise, flags.schedule);
    for (const std::string& one : mismatches(schedule, sampler)) flags.call.warn(flags.schedule + ": " + one);
    const std::string hash = model_hash(flags.call);
    if (schedule.provenance.value("model_hash", json(hash)) != hash)  // whatever stands there
      flags.call.warn(flags.schedule + ": was searched with another model");
    if (schedule.reuse) reuse_layers(model);
    return to_plan(schedule, model.layers);
  }
  return make_plan(flags.spacing.empty() ? "centred" : flags.spacing, model.task.noise, flags.steps,
                   sampler.kind);
}

/// --labels in turn, or drawn.
at::Tensor labels_for(const SampleFlags& flags, const ImageTask& task, std::int64_t first,
                      std::int64_t count) {
  if (flags.verb->count("--labels") == 0)
    return task.classes > 0 ? random_labels(flags.call.options.seed, first, count, task.classes)
                            : at::Tensor();
  const std::vector<std::int64_t> wanted = parse_numbers(flags.labels, "--labels");
  if (task.classes < 1) fail("--labels: the model takes no labels");
  at::Tensor out = at::empty({count}, at::kLong);
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t label =
        wanted[static_cast<std::size_t>((first + i) % static_cast<std::int64_t>(wanted.size()))];
    if (label >= task.classes) fail("--labels {}: the classes are 0 to {}", flags.labels, task.classes - 1);
    out[i] = label;
  }
  return out;
}

/// Time inside the network, to tell what the sampler adds.
class TimedDenoiser : public Denoiser {
 public:
  explicit TimedDenoiser(std::unique_ptr<Denoiser> inner) : inner_(std::move(inner)) {}
  at::Tensor predict(const at::Tensor& x, double timestep, const at::Tensor& labels,
                     const std::vector<int>& skipped) override {
    const auto start = Clock::now();
    at::Tensor out = inner_->predict(x, timestep, labels, skipped);
    seconds_ += seconds_since(start);
    return out;
  }
  void start() override { inner_->start(); }
  bool takes_labels() const override { return inner_->takes_labels(); }
  std::int64_t fixed_batch() const override { return inner_->fixed_batch(); }
  double seconds() const { return seconds_; }

 private:
  std::unique_ptr<Denoiser> inner_;
  double seconds_ = 0;
};

/// `shape` is channels, height, width.
std::int64_t magnification(const SampleFlags& flags, const std::vector<std::int64_t>& shape) {
  const std::int64_t across = std::max(shape[1], shape[2]);
  return flags.magnify > 0 ? flags.magnify : std::max<std::int64_t>(1, (kLeastShown + across - 1) / across);
}

void write_images(const SampleFlags& flags, const at::Tensor& images) {
  const std::string& output = flags.call.options.output;
  const at::Tensor pixels = to_uint8(images);
  if (output.ends_with(".npz")) {
    write_npz({{"images", images.contiguous()}}, output);
  } else if (output.ends_with(".png")) {
    write_file(output, grid_png(pixels, flags.columns, magnification(flags, pixels.sizes().slice(1).vec())));
  } else {
    fs::create_directories(output);
    for (std::int64_t i = 0; i < pixels.size(0); ++i)
      write_file(fs::path(output) / fmt::format("{:06}.png", i), picture_png(pixels[i]));
  }
}

void check_output(const SampleFlags& flags, const LoadedDenoiser& model) {
  const std::string& output = flags.call.options.output;
  if (output.empty()) fail("sample needs -o: grid.png, images.npz or a folder");
  const bool file = output.ends_with(".png") || output.ends_with(".npz");
  if (!file && fs::path(output).has_extension())
    fail("-o {}: give a .png (a grid), a .npz or a folder", output);
  if (!output.ends_with(".npz") && model.task.shape[0] != 1 && model.task.shape[0] != 3)
    fail("the model makes {} channels, which is no picture; write them to a .npz", model.task.shape[0]);
  constexpr std::int64_t kMostNumbers = std::int64_t{1} << 31;
  const auto& shape = model.task.shape;
  if (flags.count > kMostNumbers / (shape[0] * shape[1] * shape[2]))
    fail("--count {}: that many images are too much for one call; give less, and another --seed each",
         flags.count);
  if (output.ends_with(".png")) grid_size(flags.count, shape, flags.columns, magnification(flags, shape));
  if (file)
    check_overwriting(
        flags.call, {{"--schedule", flags.schedule}, {"--classifier", flags.denoiser.classifier}}, {}, false);
  else
    require_writable_folder(output);
}

void run_sample(SampleFlags& flags) {
  Invocation& call = flags.call;
  const at::Device device = set_up_torch(call);
  LoadedDenoiser model = load_denoiser(call, flags.denoiser, device);
  check_output(flags, model);
  const SamplingPlan plan = plan_for(flags, model);
  const ImageTask& task = model.task;
  check_plan(plan, task.noise, task.sampler);
  for (const PlanStep& step : plan)
    if (step.timestep != std::floor(step.timestep)) {
      call.warn(
          "times of this schedule are no whole steps; for a network that takes whole ones they are rounded");
      break;
    }

  SamplerOptions sampler = task.sampler;
  std::unique_ptr<NoisyClassifier> classifier = task.make_classifier ? task.make_classifier() : nullptr;
  sampler.guidance.classifier = classifier.get();
  TimedDenoiser denoiser(task.make_denoiser());
  std::vector<at::Tensor> parts;
  const auto start = Clock::now();
  call.progress().start("sample", flags.count);
  for (std::int64_t first = 0; first < flags.count; first += sampler.batch) {
    const std::int64_t count = std::min(sampler.batch, flags.count - first);
    const at::NoGradGuard no_grad;
    parts.push_back(
        sample(denoiser, task.noise, plan, sampler,
               {.images = {.seed = call.options.seed, .first = first, .count = count, .shape = task.shape},
                .labels = labels_for(flags, task, first, count),
                .start = {}}));
    call.progress().advance(count);
  }
  call.progress().finish();
  const double seconds = seconds_since(start);
  const at::Tensor images = at::cat(parts);
  const std::int64_t broken = images.flatten(1).isfinite().all(1).logical_not().sum().item<std::int64_t>();
  if (broken == flags.count) fail("none of the images is finite; try more steps, or clipped predictions");
  if (broken > 0) call.warn(fmt::format("{} of {} images are not finite", broken, flags.count));
  write_images(flags, images.nan_to_num(0, 1, -1));

  json result = plan_json(plan, model.layers);
  result["n"] = flags.count;
  result["not_finite"] = broken;
  result["sampler"] = sampler_name(sampler.kind);
  result["nfe"] = network_calls(sampler, plan);
  result["shape"] = task.shape;
  result["network_seconds"] = denoiser.seconds();
  result["sampler_seconds"] = std::max(0.0, seconds - denoiser.seconds());
  result["images_per_second"] = static_cast<double>(flags.count) / std::max(seconds, 1e-9);
  std::vector<std::string> files{call.options.output};
  if (!call.options.report.empty()) {
    Report report{.title = "Samples", .subtitle = model.name, .facts = {}, .items = {}};
    report.facts = {{"images", std::to_string(flags.count)},
                    {"network calls an image", result["nfe"].dump()},
                    {"images a second", fmt::format("{:.1f}", result["images_per_second"].get<double>())}};
    report.add(Text{plan_line(plan)});
    if (task.shape[0] == 1 || task.shape[0] == 3)
      report.add(Picture{.title = "The images",
                         .png = grid_png(to_uint8(images.nan_to_num(0, 1, -1).narrow(
                                             0, 0, std::min<std::int64_t>(100, flags.count))),
                                         0, std::max<std::int64_t>(1, kLeastShown / task.shape[2])),
                         .note = ""});
    const auto written = write_report(report, call.envelope(result, files), call.options.report);
    files.insert(files.end(), written.begin(), written.end());
  }
  call.say("{} images in {}, {} calls of the network each: {}", flags.count, format_seconds(seconds),
           result["nfe"].dump(), plan_line(plan));
  for (const std::string& file : files) call.say("wrote {}", file);
  call.finish(result, files);
}

}  // namespace

void add_sample(CLI::App& app) {
  auto flags = std::make_shared<SampleFlags>();
  CLI::App* verb = flags->verb = app.add_subcommand("sample", summary_of("sample"));
  flags->call.add_flags(*verb, {Flag::Output, Flag::Seed, Flag::Threads, Flag::Device}, false);
  add_denoiser_flags(*verb, flags->denoiser, flags->call);
  verb->add_option("-n,--count", flags->count, "images")->check(in_range(1, 1e7))->capture_default_str();
  verb->add_option("--steps", flags->steps, "calls of the network an image")
      ->check(in_range(1, 1e6))
      ->capture_default_str();
  std::string names;
  for (const Spacing& one : spacings()) names += (names.empty() ? "" : ", ") + std::string(one.name);
  for (const ContinuousSpacing& one : continuous_spacings())
    if (names.find(one.name) == std::string::npos) names += ", " + std::string(one.name);
  verb->add_option("--spacing", flags->spacing, "which steps: " + names + " (default: centred)");
  verb->add_option("--timesteps", flags->timesteps, "the steps themselves, such as 999,600,300,20");
  verb->add_option("--schedule", flags->schedule, "a file of lithe schedule search");
  verb->add_option("--labels", flags->labels, "labels of the images, in turn (default: drawn)");
  verb->add_option("--columns", flags->columns, "of the grid (default: about a square)")->check(at_least(0));
  verb->add_option("--magnify", flags->magnify,
                   "pixels across a pixel of the grid (default: 40 across an image)")
      ->check(in_range(1, 1024));
  verb->callback([flags] { run_sample(*flags); });
}

}  // namespace lithe::cli
