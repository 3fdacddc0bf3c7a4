// `lithe schedule`: sampling schedules of diffusion models.
#include "cli/schedule.h"

#include <cmath>
#include <filesystem>
#include <map>

#include "cli/overwrite.h"
#include "cli/sample_json.h"
#include "cli/torch_setup.h"
#include "cli/verbs.h"
#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/diffusion/model_record.h"
#include "lithe/diffusion/timesteps.h"
#include "lithe/graph/onnx.h"

namespace lithe::cli {
namespace {

namespace fs = std::filesystem;

/// The steps of a file as a plan without layers.
SamplingPlan times_of(const SavedSchedule& schedule) {
  SamplingPlan plan;
  for (const SavedStep& step : schedule.steps) plan.push_back({.timestep = step.timestep, .skipped = {}});
  return plan;
}

json schedule_json(const SavedSchedule& schedule) {
  json timesteps = json::array(), skipped = json::array(), lambdas = json::array();
  const NoiseSchedule noise = noise_of(schedule);
  for (auto step = schedule.steps.rbegin(); step != schedule.steps.rend(); ++step) {
    timesteps.push_back(step->timestep);
    skipped.push_back(step->skipped);
    lambdas.push_back(noise.lambda_at(noise.time_of_step(step->timestep)));
  }
  return {{"timesteps", timesteps},
          {"lambdas", lambdas},
          {"skip_layers", skipped},
          {"nfe", network_calls(schedule.sampler, times_of(schedule))},
          {"sampler", sampler_name(schedule.sampler.kind)},
          {"noise_schedule", schedule.noise_name},
          {"diffusion_steps", schedule.noise_steps},
          {"fitness", schedule.provenance.value("fitness", json())},
          {"provenance", schedule.provenance}};
}

std::string schedule_table(const SavedSchedule& schedule) {
  const NoiseSchedule noise = noise_of(schedule);
  std::vector<std::vector<std::string>> rows;
  for (std::size_t i = schedule.steps.size(); i-- > 0;) {
    const SavedStep& step = schedule.steps[i];
    const double time = noise.time_of_step(step.timestep);
    const bool end = i == 0 && schedule.sampler.kind == SamplerKind::DpmSolver;  // without a call
    rows.push_back({end ? "end" : std::to_string(schedule.steps.size() - 1 - i),
                    fmt::format("{:.6g}", step.timestep), fmt::format("{:.3f}", noise.lambda_at(time)),
                    std::to_string(step.skipped.size())});
  }
  return format_table({"call", "step", "half log-SNR", "layers skipped"}, rows);
}

// --- show
// -----------------------------------------------------------------------------------------------------

void report_schedule(const Invocation& call, const SavedSchedule& schedule, const json& result,
                     std::vector<std::string>& files) {
  if (call.options.report.empty()) return;
  Report report{.title = "Sampling schedule", .subtitle = call.options.model, .facts = {}, .items = {}};
  report.facts = {{"network calls an image", result.at("nfe").dump()},
                  {"sampler", sampler_name(schedule.sampler.kind)},
                  {"noise schedule", fmt::format("{}, {} steps", schedule.noise_name, schedule.noise_steps)}};
  report.add(log_snr_plot(noise_of(schedule), {{"schedule", times_of(schedule)}}));
  const auto written = write_report(report, call.envelope(result, files), call.options.report);
  files.insert(files.end(), written.begin(), written.end());
}

void run_show(Invocation& call) {
  const SavedSchedule schedule = read_sampling_schedule(call.options.model);
  const json result = schedule_json(schedule);
  std::vector<std::string> files;
  report_schedule(call, schedule, result, files);
  call.say("{}: {}, {} calls of the network; noise schedule {} of {} steps", call.options.model,
           sampler_name(schedule.sampler.kind), result.at("nfe").dump(), schedule.noise_name,
           schedule.noise_steps);
  call.say("{}", schedule_table(schedule));
  call.finish(result, files);
}

// --- transfer
// -------------------------------------------------------------------------------------------------

struct TransferFlags {
  Invocation call{"schedule transfer"};
  std::string to_model, noise, prediction, sampler;
  std::int64_t steps = 0;
  double guidance_scale = std::nan("");
};

/// Steps that have no counterpart there.
void warn_of_shifts(Invocation& call, const SavedSchedule& from, const SavedSchedule& to) {
  constexpr double kMuch = 0.1;  // of half the log of the signal-to-noise ratio
  const NoiseSchedule before = noise_of(from), after = noise_of(to);
  for (std::size_t i = 0; i < from.steps.size(); ++i) {
    const double wanted = before.lambda_at(before.time_of_step(from.steps[i].timestep));
    const double got = after.lambda_at(after.time_of_step(to.steps[i].timestep));
    if (std::abs(wanted - got) > kMuch)
      call.warn(fmt::format(
          "step {:.6g} lies at a half log-SNR of {:.2f}; the nearest there, step {:.6g}, has {:.2f}",
          from.steps[i].timestep, wanted, to.steps[i].timestep, got));
  }
}

void run_transfer(TransferFlags& flags) {
  Invocation& call = flags.call;
  if (call.options.output.empty()) fail("schedule transfer needs -o FILE.json");
  check_overwriting(call, {{"--to", flags.to_model}}, {}, false);
  const SavedSchedule schedule = read_sampling_schedule(call.options.model);
  const Graph model = flags.to_model.empty() ? Graph() : read_model(flags.to_model);
  const std::optional<DiffusionRecord> record = diffusion_record(model);
  if (flags.noise.empty() && !record)
    fail("name the noise schedule to go to: --noise-schedule, or --to MODEL where the model says it");
  const NoiseSchedule noise = NoiseSchedule::parse(flags.noise.empty() ? record->noise_schedule : flags.noise,
                                                   flags.steps > 0 ? flags.steps
                                                   : record        ? record->steps
                                                                   : 1000);
  SamplerOptions use = schedule.sampler;
  if (!flags.prediction.empty())
    use.prediction = parse_prediction(flags.prediction);
  else if (record)
    use.prediction = record->prediction;
  if (!flags.sampler.empty()) use.kind = parse_sampler(flags.sampler);
  if ((use.kind == SamplerKind::DpmSolver) != (schedule.sampler.kind == SamplerKind::DpmSolver))
    fail(
        "--sampler {}: a schedule of dpmpp2m has one point more than it makes calls, which the others do not",
        flags.sampler);
  if (!std::isnan(flags.guidance_scale)) use.guidance.scale = flags.guidance_scale;
  if (use.guidance.scale != 1 && use.guidance.kind == GuidanceKind::None)
    use.guidance.kind = GuidanceKind::ClassifierFree;
  const std::vector<std::string> differ = mismatches(schedule, use);
  for (const std::string& one : differ) call.warn(one + ": it may be far from the best there");
  SavedSchedule out = transferred(schedule, noise);
  warn_of_shifts(call, schedule, out);
  out.sampler = use;
  if (!flags.to_model.empty()) {
    std::vector<std::string> names;
    for (const SavedStep& step : out.steps)
      names.insert(names.end(), step.skipped.begin(), step.skipped.end());
    if (!names.empty()) layer_numbers(find_skippable_layers(model), names);  // throws what the model lacks
  }
  write_file(call.options.output, schedule_text(out));
  json result = schedule_json(out);
  result["mismatches"] = differ;
  std::vector<std::string> files{call.options.output};
  report_schedule(call, out, result, files);
  call.say("{}", schedule_table(out));
  for (const std::string& file : files) call.say("wrote {}", file);
  call.finish(result, files);
}

// --- export
// ---------------------------------------------------------------------------------------------------

struct ExportFlags {
  Invocation call{"schedule export"};
  std::string model, format = "diffusers";
};

/// A model for each set of layers that the schedule skips, and a list of which step takes which.
std::vector<std::string> export_models(const ExportFlags& flags, const SavedSchedule& schedule) {
  if (schedule.reuse)
    fail("layers of this schedule are reused from earlier steps, which a model of one step cannot do");
  if (flags.model.empty()) fail("--format onnx needs --model: the network whose layers are skipped");
  const Graph model = read_model(flags.model);
  const auto layers = find_skippable_layers(model);
  const fs::path folder = flags.call.options.output;
  std::error_code missing;
  for (const std::string& read : {flags.model, flags.call.options.model})
    if (fs::equivalent(fs::absolute(read).parent_path(), folder, missing))
      fail("-o {}: holds {}, which could be written over; give another folder", folder.string(), read);
  require_writable_folder(folder);
  fs::create_directories(folder);
  std::map<std::vector<int>, std::string> written;
  std::vector<std::string> files;
  json steps = json::array();
  const SamplingPlan plan = to_plan(schedule, layers);
  for (const std::size_t point : called_points(schedule.sampler, plan)) {
    const PlanStep& step = plan[point];
    auto [place, fresh] = written.emplace(step.skipped, fmt::format("skip_{}.onnx", written.size()));
    if (fresh) {
      const fs::path path = folder / place->second;
      write_onnx(without_layers(model, layers, step.skipped), path);
      files.push_back(path.string());
    }
    steps.push_back({{"timestep", step.timestep}, {"model", place->second}});
  }
  const fs::path list = folder / "steps.json";
  write_file(list, json{{"steps", steps}}.dump(2) + "\n");
  files.push_back(list.string());
  return files;
}

void run_export(ExportFlags& flags) {
  Invocation& call = flags.call;
  if (call.options.output.empty()) fail("schedule export needs -o: a .json for diffusers, a folder for onnx");
  const SavedSchedule schedule = read_sampling_schedule(call.options.model);
  std::vector<std::string> files;
  json result = schedule_json(schedule);
  if (flags.format == "diffusers") {
    check_overwriting(call, {{"--model", flags.model}}, {}, false);
    const json exported = diffusers_json(schedule);
    write_file(call.options.output, exported.dump(2) + "\n");
    files.push_back(call.options.output);
    for (const json& note : exported.at("notes")) call.say("{}", note.get<std::string>());
    result["diffusers"] = exported;
  } else {
    files = export_models(flags, schedule);
  }
  report_schedule(call, schedule, result, files);
  for (const std::string& file : files) call.say("wrote {}", file);
  call.finish(result, files);
}

}  // namespace

void add_schedule_show(CLI::App& parent) {
  auto call = std::make_shared<Invocation>("schedule show");
  CLI::App* verb = parent.add_subcommand("show", "print a schedule's steps and where they lie");
  call->add_flags(*verb, {}, false);
  verb->add_option("schedule", call->options.model, "a schedule file")->required();
  verb->callback([call] { run_show(*call); });
}

void add_schedule_transfer(CLI::App& parent) {
  auto flags = std::make_shared<TransferFlags>();
  CLI::App* verb =
      parent.add_subcommand("transfer", "bring a schedule to another noise schedule, at equal log-SNR");
  flags->call.add_flags(*verb, {Flag::Output}, false);
  verb->add_option("schedule", flags->call.options.model, "a schedule file")->required();
  verb->add_option("--to", flags->to_model, "the model that it is for, where that says how it was trained");
  verb->add_option("--noise-schedule", flags->noise, "linear, cosine or scaled_linear");
  verb->add_option("--diffusion-steps", flags->steps, "its training steps (default: 1000)")
      ->check(CLI::Range(1, 1000000));
  verb->add_option("--prediction", flags->prediction, "what that network predicts: epsilon, v or x0");
  verb->add_option("--sampler", flags->sampler, "ddim, ddpm, plms or dpmpp2m (default: as it is)");
  verb->add_option("--guidance-scale", flags->guidance_scale, "of the guidance there");
  verb->callback([flags] { run_transfer(*flags); });
}

void add_schedule_export(CLI::App& parent) {
  auto flags = std::make_shared<ExportFlags>();
  CLI::App* verb =
      parent.add_subcommand("export", "write a schedule for diffusers, or a model for each set of layers");
  flags->call.add_flags(*verb, {Flag::Output}, false);
  verb->add_option("schedule", flags->call.options.model, "a schedule file")->required();
  verb->add_option("--format", flags->format, "diffusers or onnx")
      ->check(CLI::IsMember({"diffusers", "onnx"}))
      ->capture_default_str();
  verb->add_option("--model", flags->model, "for onnx: the network");
  verb->callback([flags] { run_export(*flags); });
}

void add_schedule(CLI::App& app) {
  CLI::App* verb = app.add_subcommand("schedule", summary_of("schedule"));
  verb->require_subcommand(1);
  add_schedule_search(*verb);
  add_schedule_show(*verb);
  add_schedule_transfer(*verb);
  add_schedule_export(*verb);
}

}  // namespace lithe::cli
