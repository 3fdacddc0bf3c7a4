#include "lithe/diffusion/schedule_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/json.h"
#include "lithe/base/version.h"
#include "lithe/diffusion/timesteps.h"

namespace lithe {
namespace {

using nlohmann::json;

constexpr int kSchema = 1;
constexpr const char* kKind = "sampling schedule";
constexpr std::uint64_t kMostBytes = std::uint64_t{16} << 20;
constexpr std::int64_t kMostSteps = 1'000'000;

/// A member, or an Error that names it.
template <typename T>
T member(const json& object, const char* name, const std::string& origin) {
  try {
    return object.at(name).get<T>();
  } catch (const json::exception&) {
    fail("{}: '{}' is missing or is not what it should be; see docs/schedule.md", origin, name);
  }
}

json step_json(const SavedStep& step) {
  json out{{"timestep", step.timestep}};
  if (step.timestep == std::floor(step.timestep)) out["timestep"] = static_cast<std::int64_t>(step.timestep);
  out["skipped"] = step.skipped;
  return out;
}

void check_steps(const SavedSchedule& schedule, const std::string& origin) {
  if (schedule.steps.empty()) fail("{}: holds no steps", origin);
  const auto last = static_cast<double>(schedule.noise_steps - 1);
  double before = -1;
  for (const SavedStep& step : schedule.steps) {
    if (!(step.timestep >= 0 && step.timestep <= last))
      fail("{}: step {} lies outside 0..{}", origin, step.timestep, last);
    if (step.timestep <= before) fail("{}: step {} comes twice, or out of order", origin, step.timestep);
    before = step.timestep;
  }
}

SamplerOptions sampler_from(const json& object, const std::string& origin) {
  SamplerOptions out;
  out.kind = parse_sampler(member<std::string>(object, "kind", origin));
  out.prediction = parse_prediction(member<std::string>(object, "prediction", origin));
  out.eta = member<double>(object, "eta", origin);
  out.clip = member<bool>(object, "clip", origin);
  out.rederive = member<bool>(object, "rederive", origin);
  out.guidance.kind = parse_guidance(member<std::string>(object, "guidance", origin));
  out.guidance.scale = member<double>(object, "guidance_scale", origin);
  if (!(out.eta >= 0 && out.eta <= 1)) fail("{}: 'eta' must lie in 0..1", origin);
  return out;
}

json sampler_json(const SamplerOptions& sampler) {
  return {{"kind", sampler_name(sampler.kind)},
          {"prediction", prediction_name(sampler.prediction)},
          {"eta", sampler.eta},
          {"clip", sampler.clip},
          {"rederive", sampler.rederive},
          {"guidance", guidance_name(sampler.guidance.kind)},
          {"guidance_scale", sampler.guidance.scale}};
}

json noise_json(const SavedSchedule& schedule) {
  json out{{"name", schedule.noise_name}, {"steps", schedule.noise_steps}, {"hash", schedule.noise_hash}};
  if (!schedule.alpha_bars.empty()) out["alpha_bars"] = schedule.alpha_bars;
  return out;
}

bool known_by_name(const std::string& name) {
  return name == "linear" || name == "cosine" || name == "scaled_linear";
}

bool clips(const SamplerOptions& sampler) {
  return sampler.clip && (sampler.kind == SamplerKind::Ddim || sampler.kind == SamplerKind::Ddpm);
}

/// Points of a DPM-Solver schedule that make no call.
std::size_t ends(const SavedSchedule& schedule) {
  return schedule.sampler.kind == SamplerKind::DpmSolver ? 1 : 0;
}

void refuse_what_diffusers_cannot(const SavedSchedule& schedule) {
  const SamplerOptions& sampler = schedule.sampler;
  if (sampler.kind == SamplerKind::Plms || sampler.kind == SamplerKind::Ddpm)
    fail(
        "a schedule for {} cannot be given to diffusers: its schedulers of that kind take no list of steps "
        "and "
        "assume even ones; search one for ddim or dpmpp2m",
        sampler_name(sampler.kind));
  if (clips(sampler))
    fail(
        "this schedule was made with predictions clipped to -1..1, which the scheduler of diffusers that "
        "takes "
        "a list of steps does not do: its images would differ silently; search again with --no-clip");
  if (sampler.kind == SamplerKind::Ddim && sampler.eta > 0)
    fail(
        "noise between the steps (eta {}) has no counterpart in diffusers for uneven steps; search with eta "
        "0",
        sampler.eta);
  for (const SavedStep& step : schedule.steps) {
    if (!step.skipped.empty())
      fail("step {} skips layers, which diffusers cannot: lithe schedule export writes a model for each set",
           step.timestep);
    if (step.timestep != std::floor(step.timestep))
      fail("step {} is no whole number, and diffusers takes whole ones", step.timestep);
  }
}

}  // namespace

std::string schedule_text(const SavedSchedule& schedule) {
  json steps = json::array();
  for (auto step = schedule.steps.rbegin(); step != schedule.steps.rend(); ++step)
    steps.push_back(step_json(*step));
  return json{{"schema", kSchema},
              {"kind", kKind},
              {"lithe", kVersion},
              {"noise_schedule", noise_json(schedule)},
              {"sampler", sampler_json(schedule.sampler)},
              {"skipped_layers", schedule.reuse ? "reused" : "left out"},
              {"steps", steps},
              {"provenance", schedule.provenance}}
             .dump(2) +
         "\n";
}

SavedSchedule schedule_from_text(std::string_view text, const std::string& origin) {
  const json object = parse_json(text, origin);
  if (!object.is_object() || object.value("kind", json()) != kKind)
    fail("{}: is no sampling schedule of lithe; see docs/schedule.md", origin);
  if (const auto schema = member<int>(object, "schema", origin); schema != kSchema)
    fail("{}: has schema {}, this version reads {}", origin, schema, kSchema);
  SavedSchedule out;
  const json noise = member<json>(object, "noise_schedule", origin);
  out.noise_name = member<std::string>(noise, "name", origin);
  if (!noise.contains("steps") || !noise.at("steps").is_number_integer())
    fail("{}: the noise schedule's 'steps' is no whole number", origin);
  out.noise_steps = member<std::int64_t>(noise, "steps", origin);
  out.noise_hash = member<std::string>(noise, "hash", origin);
  if (out.noise_steps < 1 || out.noise_steps > kMostSteps)
    fail("{}: {} training steps; there may be 1 to {}", origin, out.noise_steps, kMostSteps);
  if (noise.contains("alpha_bars")) out.alpha_bars = member<std::vector<double>>(noise, "alpha_bars", origin);
  out.sampler = sampler_from(member<json>(object, "sampler", origin), origin);
  const auto skipped = member<std::string>(object, "skipped_layers", origin);
  if (skipped != "reused" && skipped != "left out")
    fail("{}: 'skipped_layers' is '{}'; layers are 'reused' or 'left out'", origin, skipped);
  out.reuse = skipped == "reused";
  const json steps = member<json>(object, "steps", origin);
  if (!steps.is_array()) fail("{}: 'steps' is no list", origin);
  for (auto step = steps.rbegin(); step != steps.rend(); ++step)
    out.steps.push_back({.timestep = member<double>(*step, "timestep", origin),
                         .skipped = member<std::vector<std::string>>(*step, "skipped", origin)});
  out.provenance = object.value("provenance", json::object());
  if (!out.provenance.is_object()) fail("{}: 'provenance' is no object", origin);
  check_steps(out, origin);
  if (ends(out) > 0 && out.steps.size() < 3)
    fail("{}: a schedule for dpmpp2m needs three points, the last of which it only ends at", origin);
  try {
    noise_of(out);
  } catch (const Error& error) {
    fail("{}: {}", origin, error.what());
  }
  return out;
}

SavedSchedule read_sampling_schedule(const std::filesystem::path& path) {
  return schedule_from_text(read_text_file(path, kMostBytes), path.string());
}

NoiseSchedule noise_of(const SavedSchedule& schedule) {
  if (!known_by_name(schedule.noise_name) &&
      static_cast<std::int64_t>(schedule.alpha_bars.size()) != schedule.noise_steps)
    fail("the noise schedule '{}' has no known name and {} alpha_bars for {} steps", schedule.noise_name,
         schedule.alpha_bars.size(), schedule.noise_steps);
  NoiseSchedule noise = known_by_name(schedule.noise_name)
                            ? NoiseSchedule::parse(schedule.noise_name, schedule.noise_steps)
                            : NoiseSchedule::from_alpha_bars(schedule.alpha_bars, schedule.noise_name);
  if (fmt::format("{:016x}", noise.hash()) != schedule.noise_hash)
    fail("the schedule's noise schedule '{}' of {} steps does not have the hash {} that it names",
         schedule.noise_name, schedule.noise_steps, schedule.noise_hash);
  return noise;
}

void set_noise(SavedSchedule& schedule, const NoiseSchedule& noise) {
  schedule.noise_name = noise.name();
  schedule.noise_steps = noise.steps();
  schedule.noise_hash = fmt::format("{:016x}", noise.hash());
  schedule.alpha_bars = known_by_name(noise.name()) ? std::vector<double>() : noise.alpha_bars();
}

std::vector<std::string> mismatches(const SavedSchedule& schedule, const SamplerOptions& use) {
  const SamplerOptions& made = schedule.sampler;
  std::vector<std::string> out;
  const auto differ = [&](const std::string& what, const std::string& there, const std::string& here) {
    if (there != here)
      out.push_back(fmt::format("the schedule was made for {} {}, not {}", what, there, here));
  };
  differ("the sampler", sampler_name(made.kind), sampler_name(use.kind));
  differ("networks that predict", prediction_name(made.prediction), prediction_name(use.prediction));
  differ("eta", fmt::format("{:.3g}", made.eta), fmt::format("{:.3g}", use.eta));
  differ("predictions that are", clips(made) ? "clipped" : "unclipped", clips(use) ? "clipped" : "unclipped");
  if (made.kind == SamplerKind::Ddim && clips(made) && clips(use))
    differ("noise that is", made.rederive ? "taken anew from clipped images" : "kept",
           use.rederive ? "taken anew from clipped images" : "kept");
  differ("guidance", guidance_name(made.guidance.kind), guidance_name(use.guidance.kind));
  if (made.guidance.kind != GuidanceKind::None && use.guidance.kind != GuidanceKind::None)
    differ("a guidance scale of", fmt::format("{:.4g}", made.guidance.scale),
           fmt::format("{:.4g}", use.guidance.scale));
  return out;
}

void require_same_noise(const SavedSchedule& schedule, const NoiseSchedule& noise,
                        const std::string& origin) {
  if (const std::string hash = fmt::format("{:016x}", noise.hash()); hash != schedule.noise_hash)
    fail(
        "{}: is for the noise schedule {} of {} steps, the model has {} of {}; bring it over with lithe "
        "schedule "
        "transfer",
        origin, schedule.noise_name, schedule.noise_steps, noise.name(), noise.steps());
}

SamplingPlan to_plan(const SavedSchedule& schedule, const std::vector<SkippableLayer>& layers) {
  SamplingPlan plan;
  for (const SavedStep& step : schedule.steps)
    plan.push_back({.timestep = step.timestep, .skipped = layer_numbers(layers, step.skipped)});
  return plan;
}

std::vector<SavedStep> to_saved(const SamplingPlan& plan, const std::vector<SkippableLayer>& layers) {
  std::vector<SavedStep> out;
  for (const PlanStep& step : plan) {
    SavedStep saved{.timestep = step.timestep, .skipped = {}};
    for (const int layer : step.skipped)
      saved.skipped.push_back(layers.at(static_cast<std::size_t>(layer)).name);
    out.push_back(std::move(saved));
  }
  return out;
}

SavedSchedule transferred(const SavedSchedule& schedule, const NoiseSchedule& to) {
  const NoiseSchedule from = noise_of(schedule);
  if (static_cast<std::int64_t>(schedule.steps.size()) > to.steps())
    fail("a schedule of {} steps does not fit into {} training steps", schedule.steps.size(), to.steps());
  std::vector<std::int64_t> steps;
  for (const SavedStep& step : schedule.steps)
    steps.push_back(to.closest_step(from.lambda_at(from.time_of_step(step.timestep))));
  std::sort(steps.begin(), steps.end());
  steps = separate(std::move(steps), to.steps());
  SavedSchedule out = schedule;
  set_noise(out, to);
  for (std::size_t i = 0; i < steps.size(); ++i) out.steps[i].timestep = static_cast<double>(steps[i]);
  out.provenance["transferred_from"] = {{"noise_schedule", noise_json(schedule)},
                                        {"timesteps", json::array()}};
  for (auto step = schedule.steps.rbegin(); step != schedule.steps.rend(); ++step)
    out.provenance["transferred_from"]["timesteps"].push_back(step->timestep);
  return out;
}

json diffusers_json(const SavedSchedule& schedule) {
  refuse_what_diffusers_cannot(schedule);
  const NoiseSchedule noise = noise_of(schedule);
  const bool second_order = schedule.sampler.kind == SamplerKind::DpmSolver;
  json scheduler{{"_class_name", "DPMSolverMultistepScheduler"},
                 {"num_train_timesteps", noise.steps()},
                 {"algorithm_type", "dpmsolver++"},
                 {"solver_order", second_order ? 2 : 1},
                 {"solver_type", "midpoint"},
                 {"lower_order_final", true},
                 {"euler_at_final", false},
                 {"thresholding", false},
                 {"use_karras_sigmas", false},
                 {"use_lu_lambdas", false},
                 {"final_sigmas_type", "zero"},
                 {"prediction_type", schedule.sampler.prediction == Prediction::Epsilon ? "epsilon"
                                     : schedule.sampler.prediction == Prediction::V     ? "v_prediction"
                                                                                        : "sample"}};
  std::vector<double> betas;
  for (std::int64_t t = 0; t < noise.steps(); ++t) betas.push_back(noise.beta(t));
  scheduler["trained_betas"] = betas;
  json notes =
      json::array({"Use scheduler.set_timesteps(timesteps=...) with this list, and no number of steps."});
  json out{{"scheduler", scheduler}, {"notes", notes}};
  json timesteps = json::array(), sigmas = json::array();
  for (std::size_t i = schedule.steps.size(); i-- > ends(schedule);)
    timesteps.push_back(static_cast<std::int64_t>(schedule.steps[i].timestep));
  out["timesteps"] = timesteps;
  if (!second_order) return out;
  if (schedule.steps.front().timestep == 0) {
    out["scheduler"]["final_sigmas_type"] = "sigma_min";
    return out;
  }
  for (std::size_t i = schedule.steps.size(); i-- > 0;) {
    const double bar = noise.alpha_bar(static_cast<std::int64_t>(schedule.steps[i].timestep));
    sigmas.push_back(std::sqrt((1 - bar) / bar));
  }
  out["sigmas"] = sigmas;
  out["notes"] = json::array({fmt::format(
      "The last point, step {}, cannot be said by a list of timesteps, after which diffusers goes to "
      "sigma 0 or to step 0; set scheduler.sigmas to these numbers after set_timesteps.",
      schedule.steps.front().timestep)});
  return out;
}

}  // namespace lithe
