#include "lithe/quantize/reconstruct/reconstruct_checkpoint.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

#include "lithe/base/error.h"
#include "lithe/base/hash.h"
#include "lithe/base/json.h"
#include "lithe/ops/registry.h"
#include "lithe/train/checkpoint.h"

namespace lithe {
namespace {

using nlohmann::json;

std::uint64_t hash_of(const at::Tensor& tensor) {
  const at::Tensor plain = tensor.contiguous();
  return fnv1a({static_cast<const std::byte*>(plain.data_ptr()), static_cast<std::size_t>(plain.nbytes())});
}

constexpr std::int64_t kToldSamples = 32;  // that stand for the data

/// The numbers of samples that lie evenly over all of them.
std::uint64_t hash_of(const Dataset& data, std::int64_t samples) {
  std::uint64_t hash = 0;
  const std::int64_t told = std::min(samples, kToldSamples);
  for (std::int64_t i = 0; i < told; ++i)
    for (const auto& [name, value] : data.get(told > 1 ? i * (samples - 1) / (told - 1) : 0).inputs)
      hash = hash * 1099511628211u + hash_of(value);
  return hash;
}

/// What the result depends on and is known from the start.
json early_recipe_of(const ReconstructOptions& options, const Dataset& data, std::int64_t samples) {
  const GroupingOptions& grouping = options.grouping;
  json recipe{
      {"data", hash_of(data, samples)},
      {"samples", samples},
      {"granularity", static_cast<int>(options.granularity)},
      {"keep", options.keep},
      {"scales", static_cast<int>(options.scales)},
      {"fisher", static_cast<int>(options.fisher)},
      {"capacity", static_cast<int>(options.capacity)},
      {"grouping",
       {static_cast<int>(grouping.selector), grouping.merges, fmt::format("{}", grouping.penalty),
        grouping.max_group, grouping.max_bytes, grouping.extend_backwards, grouping.merge_last,
        options.preset}},
      {"stride_factor", options.stride_factor},
      {"survey_steps", options.survey_steps},
      {"schedule",
       {options.schedule.steps, options.schedule.warmup, options.schedule.start, options.schedule.end}},
      {"batch", options.batch},
      {"draw", static_cast<int>(options.draw)},
      {"rates",
       {options.rounding_rate, options.scale_rate, options.weight_scale_rate, options.fixed_rounding_rate,
        options.fixed_scale_rate}},
      {"learn_weight_scales", options.learn_weight_scales},
      {"rounding_weight", options.rounding_weight.value_or(-1)},
      {"round_eight_bits", options.round_eight_bits},
      {"scale_pass", {options.scale_steps, options.scale_pass_rate}},
      {"polish_steps", options.polish_steps},
      // Groups stay within it.
      {"memory", grouping.selector == Grouping::None ? 0 : options.memory},
      {"seed", options.seed},
      {"half_caches", options.half_caches},
      {"composed", options.composed}};
  for (const auto& [name, value] : options.task) recipe[name] = value;
  return recipe;
}

/// What a run may change when it goes on, and then does not come to the result of one run.
json told_recipe_of(const ReconstructOptions& options) {
  return {{"--threads", at::get_num_threads()},
          {"--device", options.device.str()},
          {"--faithful", !options.keep_better}};
}

/// Everything that the result depends on.
json recipe_of(const ReconstructOptions& options, const QdqPlan& plan, const Dataset& data,
               std::int64_t samples, std::int64_t at_once) {
  std::uint64_t hash = 0;
  const auto mix = [&](const at::Tensor& tensor) { hash = hash * 1099511628211u + hash_of(tensor); };
  for (const QuantizedWeight& weight : plan.weights) {
    mix(weight.quantizer.scale);
    mix(weight.codes);
  }
  for (const QuantizedActivation& activation : plan.activations) mix(activation.quantizer.scale);
  json recipe = early_recipe_of(options, data, samples);
  recipe["ranges"] = hash;
  recipe["at_once"] = at_once;
  return recipe;
}

/// What of `wanted` was different when the checkpoint was made.
std::string differing_from(const json& wanted, const json& about, const std::filesystem::path& file) {
  const json found = parse_json(about.value("recipe", "{}"), file.string());
  std::string differing;
  for (const auto& [key, value] : wanted.items())
    if (!found.contains(key) || found.at(key) != value) differing += (differing.empty() ? "" : ", ") + key;
  return differing;
}

void require_equal(const json& wanted, const json& about, const std::filesystem::path& file) {
  const std::string differing = differing_from(wanted, about, file);
  if (!differing.empty())
    fail(
        "'{}' was made with another model, other data or other options ({}); give the same again, or leave "
        "out --resume to start anew",
        file.string(), differing);
}

json to_json(const SliceResult& result) {
  return {{"name", result.name},
          {"units", result.units},
          {"steps", result.steps},
          {"loss", {result.loss_before, result.loss_after, result.power}},
          {"warmup", {result.loss_at_warmup, result.regulariser_at_warmup}},
          {"weights", {result.weights, result.undecided}},
          {"kept_nearest", result.kept_nearest},
          {"loss_learnt", result.loss_learnt},
          {"diverged", result.diverged},
          {"seconds", result.seconds}};
}

SliceResult result_of(const json& item) {
  SliceResult result;
  result.name = item.at("name");
  result.units = item.at("units").get<std::vector<int>>();
  result.steps = item.at("steps");
  const auto number = [](const json& value) {  // JSON has no NaN
    return value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN();
  };
  result.loss_before = number(item.at("loss").at(0));
  result.loss_after = number(item.at("loss").at(1));
  result.power = number(item.at("loss").at(2));
  result.loss_at_warmup = item.at("warmup").at(0);
  result.regulariser_at_warmup = item.at("warmup").at(1);
  result.weights = item.at("weights").at(0);
  result.undecided = item.at("weights").at(1);
  result.kept_nearest = item.at("kept_nearest");
  result.loss_learnt = number(item.at("loss_learnt"));
  result.diverged = item.at("diverged");
  result.seconds = item.at("seconds");
  return result;
}

/// Codes as bytes above the lowest code.
std::map<std::string, at::Tensor> state_of(const QdqPlan& plan) {
  std::map<std::string, at::Tensor> state;
  for (std::size_t w = 0; w < plan.weights.size(); ++w) {
    const QuantizedWeight& weight = plan.weights[w];
    state[fmt::format("weight{}.codes", w)] =
        (weight.codes - static_cast<double>(weight.quantizer.codes.low)).to(at::kByte);
    state[fmt::format("weight{}.scale", w)] = weight.quantizer.scale;
  }
  for (std::size_t a = 0; a < plan.activations.size(); ++a)
    state[fmt::format("activation{}.scale", a)] = plan.activations[a].quantizer.scale;
  return state;
}

}  // namespace

std::filesystem::path reconstruction_checkpoint(const std::filesystem::path& folder) {
  return folder / "reconstruction.safetensors";
}

void ReconstructMemory::open(const ReconstructOptions& options, const QdqPlan& plan, const Dataset& data,
                             std::int64_t samples, std::int64_t at_once, std::vector<std::string>& notes) {
  if (options.checkpoints.empty()) return;
  std::filesystem::create_directories(options.checkpoints);
  file_ = reconstruction_checkpoint(options.checkpoints);
  const json recipe = recipe_of(options, plan, data, samples, at_once), told = told_recipe_of(options);
  json whole = recipe;
  whole.update(told);
  recipe_ = whole.dump();
  const bool there = std::filesystem::exists(file_);
  if (!options.resume) {
    if (there)
      notes.push_back(
          fmt::format("'{}' of an earlier run was replaced; with --resume it would have been gone on from",
                      file_.string()));
    return;
  }
  if (!there) {
    notes.push_back(fmt::format("'{}' is not there: reconstruction started anew", file_.string()));
    return;
  }
  std::pair<NamedTensors, json> read;
  try {
    read = read_checked(file_);
  } catch (const Error& error) {
    notes.push_back(fmt::format("{}; reconstruction started anew", error.what()));
    return;
  }
  const json& about = read.second;
  require_equal(recipe, about, file_);
  if (const std::string changed = differing_from(told, about, file_); !changed.empty())
    notes.push_back(fmt::format("'{}' was begun with other {}: the result is not that of one run",
                                file_.string(), changed));
  pass_ = about.at("pass");
  finished_ = about.at("finished");
  for (const auto& [number, list] : about.at("results").items())
    for (const json& item : list) results_[std::stoi(number)].push_back(result_of(item));
  for (const auto& [name, data_of_name] : read.first) state_[name] = to_tensor(data_of_name).clone();
}

void require_resumable(const ReconstructOptions& options, const Dataset& data, std::int64_t samples) {
  const std::filesystem::path file = reconstruction_checkpoint(options.checkpoints);
  if (options.checkpoints.empty() || !options.resume || !std::filesystem::exists(file)) return;
  json about;
  try {
    about = read_checked(file).second;
  } catch (const Error&) {
    return;  // told when it is opened
  }
  require_equal(early_recipe_of(options, data, samples), about, file);
}

bool ReconstructMemory::restore(int number, QdqPlan& plan, std::vector<SliceResult>& results) const {
  const auto found = results_.find(number);
  if (found == results_.end() || number > pass_) return false;
  results = found->second;
  if (number < pass_) return true;
  for (std::size_t w = 0; w < plan.weights.size(); ++w) {
    QuantizedWeight& weight = plan.weights[w];
    weight.codes = state_.at(fmt::format("weight{}.codes", w)).to(at::kFloat) +
                   static_cast<double>(weight.quantizer.codes.low);
    weight.quantizer.scale = state_.at(fmt::format("weight{}.scale", w));
  }
  for (std::size_t a = 0; a < plan.activations.size(); ++a)
    plan.activations[a].quantizer.scale = state_.at(fmt::format("activation{}.scale", a));
  return finished_;
}

void ReconstructMemory::save(int number, const QdqPlan& plan, const std::vector<SliceResult>& results,
                             bool finished) {
  if (file_.empty()) return;
  pass_ = number;
  finished_ = finished;
  results_[number] = results;
  json about{{"recipe", recipe_}, {"pass", pass_}, {"finished", finished_}, {"results", json::object()}};
  for (const auto& [pass, list] : results_)
    for (const SliceResult& result : list) about["results"][std::to_string(pass)].push_back(to_json(result));
  NamedTensors tensors;
  for (const auto& [name, tensor] : state_of(plan))
    tensors.emplace(name, to_tensor_data(tensor.contiguous()));
  write_checked(file_, std::move(tensors), about);
}

}  // namespace lithe
