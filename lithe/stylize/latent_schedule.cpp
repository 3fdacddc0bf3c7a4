#include "lithe/stylize/latent_schedule.h"

#include <cmath>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/json.h"

namespace lithe {
namespace {

constexpr std::uint64_t kMostConfig = 16 << 20;
constexpr std::int64_t kMostTrainSteps = 100000;

/// A scheduler's settings, each read with its type checked.
class Config {
 public:
  explicit Config(const std::filesystem::path& file)
      : file_(file.string()), json_(parse_json(read_text_file(file, kMostConfig), file_)) {
    if (!json_.is_object()) fail("{}: an object of settings was expected", file_);
  }

  bool has(const char* key) const { return json_.contains(key) && !json_.at(key).is_null(); }

  template <typename T>
  T get(const char* key, T fallback) const {
    if (!has(key)) return fallback;
    const nlohmann::json& value = json_.at(key);
    const bool fits = std::is_same_v<T, bool>          ? value.is_boolean()
                      : std::is_same_v<T, std::string> ? value.is_string()
                      : std::is_integral_v<T>          ? value.is_number_integer()
                                                       : value.is_number();
    if (!fits) fail("{}: '{}' is {}, which is of the wrong kind", file_, key, value.dump().substr(0, 60));
    return value.get<T>();
  }

  std::vector<double> numbers(const char* key) const {
    std::vector<double> out;
    if (!has(key)) return out;
    if (!json_.at(key).is_array() || json_.at(key).size() > static_cast<std::size_t>(kMostTrainSteps))
      fail("{}: '{}' is no list of at most {} numbers", file_, key, kMostTrainSteps);
    for (const auto& value : json_.at(key)) {
      if (!value.is_number()) fail("{}: '{}' holds something other than numbers", file_, key);
      out.push_back(value.get<double>());
    }
    return out;
  }

  const std::string& file() const { return file_; }

 private:
  std::string file_;
  nlohmann::json json_;
};

NoiseSchedule read_noise(const Config& config) {
  const auto steps = config.get<std::int64_t>("num_train_timesteps", 1000);
  if (steps < 1 || steps > kMostTrainSteps)
    fail("{}: 'num_train_timesteps' is {}; it must lie between 1 and {}", config.file(), steps,
         kMostTrainSteps);
  if (std::vector<double> betas = config.numbers("trained_betas"); !betas.empty())
    return NoiseSchedule::from_betas(std::move(betas), "trained_betas");
  const auto kind = config.get<std::string>("beta_schedule", "scaled_linear");
  if (kind == "squaredcos_cap_v2") return NoiseSchedule::cosine(steps);
  if (kind != "linear" && kind != "scaled_linear")
    fail("{}: the 'beta_schedule' {} is not known; there are linear, scaled_linear and squaredcos_cap_v2",
         config.file(), kind);
  const auto first = config.get<double>("beta_start", 0.00085), last = config.get<double>("beta_end", 0.012);
  const bool roots = kind == "scaled_linear";
  const auto map = [&](double beta) { return roots ? std::sqrt(beta) : beta; };
  std::vector<double> betas(static_cast<std::size_t>(steps));
  for (std::size_t i = 0; i < betas.size(); ++i) {
    const double share = steps > 1 ? static_cast<double>(i) / static_cast<double>(steps - 1) : 0;
    const double value = map(first) + (map(last) - map(first)) * share;
    betas[i] = roots ? value * value : value;
  }
  return NoiseSchedule::from_betas(std::move(betas), kind);
}

Prediction read_prediction(const Config& config) {
  const auto name = config.get<std::string>("prediction_type", "epsilon");
  if (name == "epsilon") return Prediction::Epsilon;
  if (name == "v_prediction") return Prediction::V;
  if (name == "sample") return Prediction::X0;
  fail("{}: the 'prediction_type' {} is not known; there are epsilon, v_prediction and sample", config.file(),
       name);
}

}  // namespace

ModelSchedule read_scheduler_config(const std::filesystem::path& file) {
  const Config config(file);
  if (config.get<bool>("rescale_betas_zero_snr", false))
    fail(
        "{}: 'rescale_betas_zero_snr' leaves no signal at the first step, from which no picture can be "
        "predicted; take a model without it",
        config.file());
  return {.noise = read_noise(config),
          .prediction = read_prediction(config),
          .end_clean = config.get<bool>("set_alpha_to_one", false),
          .steps_offset = config.get<std::int64_t>("steps_offset", 1)};
}

TimeSpacing parse_time_spacing(std::string_view name) {
  if (name == "paper") return TimeSpacing::Paper;
  if (name == "studio") return TimeSpacing::Studio;
  if (name == "leading") return TimeSpacing::Leading;
  fail("no spacing of time is called '{}'; there are paper, studio and leading", name);
}

std::string time_spacing_name(TimeSpacing spacing) {
  switch (spacing) {
    case TimeSpacing::Paper:
      return "paper";
    case TimeSpacing::Studio:
      return "studio";
    case TimeSpacing::Leading:
      break;
  }
  return "leading";
}

std::vector<LatentStep> make_latent_steps(const ModelSchedule& model, std::int64_t count, double strength,
                                          TimeSpacing spacing) {
  const std::int64_t trained = model.noise.steps();
  if (count < 1 || count > trained)
    fail("{} steps: the model was trained with {}; take 1 to {}", count, trained, trained);
  if (!(strength > 0 && strength <= 1)) fail("the strength {} lies outside 0 to 1", strength);
  std::vector<std::int64_t> times;
  const std::int64_t apart = trained / count;
  const double rounding = 1e-9;  // 0.29 * 100 is meant to be 29
  const auto taken = static_cast<std::int64_t>(static_cast<double>(count) * strength + rounding);
  if (spacing == TimeSpacing::Studio) {
    const auto top = static_cast<double>(std::llround(strength * static_cast<double>(trained)) - 1);
    const double last = static_cast<double>(std::max<std::int64_t>(count - 1, 1));
    for (std::int64_t i = 0; i < count; ++i)
      times.push_back(static_cast<std::int64_t>(std::nearbyint(top - static_cast<double>(i) * top / last)));
  } else {
    for (std::int64_t i = count - taken; i < count; ++i)
      times.push_back(spacing == TimeSpacing::Paper
                          ? trained - 1 - i * apart
                          : std::min((count - 1 - i) * apart + model.steps_offset, trained - 1));
  }
  if (times.empty()) fail("a strength of {} leaves none of {} steps; take more of either", strength, count);

  std::vector<LatentStep> steps;
  for (std::size_t i = 0; i < times.size(); ++i) {
    const bool is_last = i + 1 == times.size();
    if (times[i] < 0 || (!is_last && times[i + 1] >= times[i]))
      fail("a strength of {} has no room for {} steps; take fewer of them or more of it", strength, count);
    double next = 1;
    if (!is_last)
      next = model.noise.alpha_bar(times[i + 1]);
    else if (spacing == TimeSpacing::Paper && times[i] - apart >= 0)
      next = model.noise.alpha_bar(times[i] - apart);  // where K does not divide T
    else if (spacing == TimeSpacing::Leading && !model.end_clean)
      next = model.noise.alpha_bar(0);
    steps.push_back({static_cast<double>(times[i]), model.noise.alpha_bar(times[i]), next});
  }
  return steps;
}

std::vector<std::int64_t> regular_smoothing(std::int64_t count, std::int64_t interval,
                                            std::int64_t ignored_last) {
  if (interval < 1) fail("a smoothing interval of {}: it must be 1 or more", interval);
  if (ignored_last < 0) fail("{} last steps without smoothing: the number cannot be negative", ignored_last);
  std::vector<std::int64_t> steps;
  for (std::int64_t step = 0; step < count - ignored_last; step += interval) steps.push_back(step);
  return steps;
}

}  // namespace lithe
