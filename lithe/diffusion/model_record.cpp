#include "lithe/diffusion/model_record.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "lithe/base/error.h"

namespace lithe {
namespace {

constexpr const char* kPrefix = "lithe.diffusion.";
constexpr double kWhite = 255;

template <typename Number>
Number parse_number(const std::string& key, const std::string& text) {
  Number value{};
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size())
    fail("the model's metadata '{}' is '{}', which is no number", key, text);
  return value;
}

}  // namespace

std::optional<DiffusionRecord> diffusion_record(const Graph& model) {
  const auto& metadata = model.header.metadata;
  if (!metadata.contains(kPrefix + std::string("noise_schedule"))) return std::nullopt;
  const auto text = [&](const char* name) {
    const auto found = metadata.find(kPrefix + std::string(name));
    if (found == metadata.end()) fail("the model's metadata lacks '{}{}'", kPrefix, name);
    return found->second;
  };
  const auto number = [&]<typename Number>(const char* name, Number) {
    return parse_number<Number>(kPrefix + std::string(name), text(name));
  };
  DiffusionRecord record{.noise_schedule = text("noise_schedule"),
                         .steps = number("steps", std::int64_t{}),
                         .prediction = parse_prediction(text("prediction")),
                         .low = number("low", double{}),
                         .high = number("high", double{})};
  record.noise();  // complains of what it does not know
  if (!(record.low < record.high))
    fail("the model's metadata says that images lie between {} and {}", record.low, record.high);
  return record;
}

void keep_diffusion_record(Graph& model, const DiffusionRecord& record) {
  const auto keep = [&](const char* name, std::string value) {
    model.header.metadata[kPrefix + std::string(name)] = std::move(value);
  };
  keep("noise_schedule", record.noise_schedule);
  keep("steps", std::to_string(record.steps));
  keep("prediction", prediction_name(record.prediction));
  keep("low", fmt::format("{}", record.low));
  keep("high", fmt::format("{}", record.high));
}

std::pair<double, double> image_range(const Preprocess& preprocess) {
  const auto at = [&](double pixel, std::int64_t channel) {
    return (pixel * preprocess.scale - preprocess.mean_of(channel)) / preprocess.std_of(channel);
  };
  const auto channels = static_cast<std::int64_t>(std::max(preprocess.mean.size(), preprocess.std.size()));
  for (std::int64_t channel = 1; channel < channels; ++channel)
    if (at(0, channel) != at(0, 0) || at(kWhite, channel) != at(kWhite, 0))
      fail(
          "a diffusion model needs one --mean and one --std for all channels, so that noise is the same in "
          "all");
  return {at(0, 0), at(kWhite, 0)};
}

}  // namespace lithe
