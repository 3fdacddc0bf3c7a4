#include "lithe/train/recipe.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <span>

#include "lithe/base/error.h"
#include "lithe/base/hash.h"

namespace lithe {
namespace {

using nlohmann::json;

void require(bool holds, const char* what) {
  if (!holds) fail("training: {}", what);
}

json to_json(const std::optional<double>& value) {
  return value ? json(*value) : json();
}

json to_json(const std::variant<Sgd, AdamW>& optimiser) {
  if (const auto* sgd = std::get_if<Sgd>(&optimiser)) return {"sgd", sgd->momentum, sgd->nesterov};
  const auto& adam = std::get<AdamW>(optimiser);
  return {"adamw", adam.beta1, adam.beta2, adam.epsilon};
}

std::optional<double> optional_number(const json& json, const char* key) {
  const auto& value = json.at(key);
  return value.is_null() ? std::nullopt : std::optional<double>(value.get<double>());
}

/// The name of the graph and a checksum of its weights.
std::string identity(const Graph& graph) {
  std::uint64_t sum = 0;
  for (const auto& [name, data] : graph.constants)
    sum = sum * 31 + fnv1a(std::as_bytes(std::span(name))) + fnv1a(data.bytes());
  return fmt::format("{} {:016x}", graph.name, sum);
}

/// Fails naming the first option in which the two objects differ.
void require_same(const json& checkpoint, const json& now, const std::filesystem::path& folder) {
  const auto text = [](const json& of, const std::string& key) {
    const auto found = of.find(key);
    return found == of.end() ? "nothing" : found->dump();
  };
  json keys = now;
  keys.update(checkpoint);
  for (const auto& [key, value] : keys.items()) {
    const std::string before = text(checkpoint, key), after = text(now, key);
    if (before != after)
      fail("{}: the checkpoint was made with {} = {}, not {}; use the same options, or leave --resume out",
           folder.string(), key, before, after);
  }
}

}  // namespace

void check_options(const TrainOptions& o) {
  for (const ParameterGroup& group : o.groups)
    require(group.learning_rate > 0 && std::isfinite(group.learning_rate) && group.weight_decay >= 0 &&
                group.weight_decay < 1,
            "a group needs a positive learning rate and a weight decay of at least 0 and below 1");
  require(o.epochs >= 1, "epochs must be at least 1");
  require(o.batch >= 1, "a batch needs at least one sample");
  require(o.learning_rate > 0 && std::isfinite(o.learning_rate), "the learning rate must be positive");
  require(o.warmup_epochs >= 0 && o.warmup_epochs <= static_cast<double>(o.epochs),
          "warm-up takes from 0 to all epochs");
  require(o.step_factor > 0 && o.step_factor <= 1,
          "the factor of the step schedule must be above 0 and at most 1");
  require(o.weight_decay >= 0 && o.weight_decay < 1, "weight decay must be at least 0 and below 1");
  require(o.label_smoothing >= 0 && o.label_smoothing < 1, "label smoothing must be at least 0 and below 1");
  require(o.clip_norm >= 0, "the norm to clip to must not be negative");
  require(o.ema_decay >= 0 && o.ema_decay < 1, "the decay of the average must be at least 0 and below 1");
  require(o.validation_share >= 0 && o.validation_share < 1,
          "the validation share must be at least 0 and below 1");
  require(o.evaluate_every >= 1 && o.checkpoint_every >= 1,
          "evaluation and checkpoints come every 1 or more epochs");
  require(o.time_budget >= 0, "the time budget must not be negative");
  require(o.divergence_factor == 0 || o.divergence_factor > 1, "the divergence factor must be 0 or above 1");
  const Augmentation& a = o.augmentation;
  require(a.padded_crop >= 0 && a.padded_crop <= 4096, "the padding of crops must be 0 to 4096 pixels");
  require(a.least_area > 0 && a.least_area <= 1,
          "the least area of random crops must be above 0 and at most 1");
  require(a.colour_jitter >= 0 && a.colour_jitter < 1, "colour jitter must be at least 0 and below 1");
  require(a.mixup_alpha >= 0, "mixup's alpha must not be negative");
  require(a.patch >= 0, "the patch must not be negative");
  const Distillation& d = o.distillation;
  require(!d.teacher || (d.temperature > 0 && d.weight >= 0 && d.weight <= 1),
          "distillation needs a positive temperature and a weight from 0 to 1");
  if (const auto* sgd = std::get_if<Sgd>(&o.optimiser))
    require(sgd->momentum >= 0 && sgd->momentum < 1, "momentum must be at least 0 and below 1");
  if (const auto* adam = std::get_if<AdamW>(&o.optimiser))
    require(adam->beta1 >= 0 && adam->beta1 < 1 && adam->beta2 >= 0 && adam->beta2 < 1 && adam->epsilon > 0,
            "AdamW needs betas of at least 0 and below 1 and a positive epsilon");
}

double learning_rate(const TrainOptions& options, std::int64_t step, std::int64_t steps) {
  const std::int64_t finished = step / steps;
  const double epoch = static_cast<double>(finished), epochs = static_cast<double>(options.epochs);
  const double warmup = options.warmup_epochs, rate = options.learning_rate;
  const double now = static_cast<double>(step) / static_cast<double>(steps);  // in epochs
  if (options.schedule == Schedule::CosinePerEpoch) {
    if (epoch < warmup) return rate * std::min(1.0, (epoch + 1) / warmup);
    return rate * 0.5 * (1 + std::cos(std::numbers::pi * epoch / epochs));
  }
  if (now < warmup)
    return rate * std::min(1.0, static_cast<double>(step + 1) / (warmup * static_cast<double>(steps)));
  switch (options.schedule) {
    case Schedule::CosinePerStep:
      return rate * 0.5 * (1 + std::cos(std::numbers::pi * (now - warmup) / (epochs - warmup)));
    case Schedule::Step: {
      const auto falls = std::count_if(options.step_epochs.begin(), options.step_epochs.end(),
                                       [&](double at) { return now >= at; });
      return rate * std::pow(options.step_factor, static_cast<double>(falls));
    }
    default:
      return rate;
  }
}

json recipe_json(const TrainOptions& o, std::int64_t samples, std::int64_t processes,
                 const std::vector<std::string>& parameters,
                 const std::map<std::string, std::string>& method) {
  const Augmentation& a = o.augmentation;
  json recipe{
      {"epochs", o.epochs},
      {"batch", o.batch},
      {"processes", processes},
      {"samples", samples},
      {"seed", o.seed},
      {"optimiser", to_json(o.optimiser)},
      {"learning_rate", o.learning_rate},
      {"warmup_epochs", o.warmup_epochs},
      {"schedule", static_cast<int>(o.schedule)},
      {"step_epochs", o.step_epochs},
      {"step_factor", o.step_factor},
      {"weight_decay", o.weight_decay},
      {"decay_all", o.decay_all},
      {"label_smoothing", o.label_smoothing},
      {"clip_norm", o.clip_norm},
      {"ema_decay", o.ema_decay},
      {"loss", static_cast<int>(o.loss)},
      {"evaluate_every", o.evaluate_every},
      {"augmentation",
       {a.flip, a.padded_crop, a.random_resized_crop, a.least_area, a.colour_jitter, a.mixup_alpha, a.patch}},
      {"distillation", o.distillation.teacher ? json{identity(*o.distillation.teacher),
                                                     o.distillation.temperature, o.distillation.weight}
                                              : json()},
      {"preprocess", to_json(o.preprocess)},
      {"method", method},
      {"parameters", parameters}};
  json groups = json::array();
  for (const ParameterGroup& group : o.groups)
    groups.push_back({to_json(group.optimiser), group.learning_rate, group.weight_decay, group.names});
  if (!groups.empty()) recipe["groups"] = groups;
  return recipe;
}

void require_same_recipe(const json& checkpoint, const json& now, const std::filesystem::path& folder) {
  // A method that joins in changes what learns: its own options say more than the names of the constants.
  const auto rest = [](json recipe) {
    recipe.erase("method");
    recipe.erase("parameters");
    return recipe;
  };
  require_same(checkpoint.value("method", json::object()), now.value("method", json::object()), folder);
  require_same(rest(checkpoint), rest(now), folder);
  if (checkpoint.value("parameters", json()) != now.at("parameters"))
    fail("{}: the checkpoint is of another model; give another folder, or leave --resume out",
         folder.string());
}

json to_json(const EpochRecord& r) {
  return {{"epoch", r.epoch},
          {"learning_rate", r.learning_rate},
          {"loss", r.loss},
          {"train_top1", to_json(r.train_top1)},
          {"validation_loss", to_json(r.validation_loss)},
          {"validation_top1", to_json(r.validation_top1)},
          {"validation_psnr", to_json(r.validation_psnr)},
          {"seconds", r.seconds},
          {"images_per_second", r.images_per_second},
          {"extra", r.extra}};
}

EpochRecord epoch_record_from_json(const json& j) {
  return {.epoch = j.at("epoch").get<std::int64_t>(),
          .learning_rate = j.at("learning_rate").get<double>(),
          .loss = j.at("loss").get<double>(),
          .train_top1 = optional_number(j, "train_top1"),
          .validation_loss = optional_number(j, "validation_loss"),
          .validation_top1 = optional_number(j, "validation_top1"),
          .validation_psnr = optional_number(j, "validation_psnr"),
          .seconds = j.at("seconds").get<double>(),
          .images_per_second = j.at("images_per_second").get<double>(),
          .extra = j.at("extra").get<std::map<std::string, double>>()};
}

}  // namespace lithe
