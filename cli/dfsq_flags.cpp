#include "cli/dfsq_flags.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "cli/validators.h"
#include "cli/verb.h"
#include "lithe/base/error.h"

namespace lithe::cli {
namespace {

constexpr const char* kGroup = "Points (method dfsq)";

const char* statistics_name(SubsetStatistics statistics) {
  return statistics == SubsetStatistics::Static ? "static" : "dynamic";
}
const char* points_name(PointMethod points) {
  return points == PointMethod::Exact ? "exact" : points == PointMethod::KMeans ? "kmeans" : "uniform";
}
const char* weights_name(SubsetWeights weights) {
  return weights == SubsetWeights::Mse ? "mse" : "minmax";
}

}  // namespace

void DfsqFlags::add_to(CLI::App& verb) {
  const auto choice = [&](const char* name, std::string& value, const char* what,
                          const std::vector<std::string>& among) {
    return verb.add_option(name, value, what)->check(CLI::IsMember(among))->group(kGroup);
  };
  choice("--statistics", statistics,
         "channels are normalised by static statistics of the calibration data, folded into weights and "
         "biases, or "
         "by dynamic ones of every image (as published)",
         {"static", "dynamic"})
      ->capture_default_str();
  choice(
      "--points", points,
      "how points are chosen: exact (least squared error), kmeans (as published) or uniform (for comparison)",
      {"exact", "kmeans", "uniform"})
      ->capture_default_str();
  choice("--weights", weights, "ranges of the weights: mse or minmax (as published)", {"mse", "minmax"})
      ->capture_default_str();
  choice("--reconstruct", reconstruct,
         "then learn the rounding of weights on the network with rounded activations: adaround, brecq, qdrop "
         "or mrecg",
         {"adaround", "brecq", "qdrop", "mrecg"});
  verb.add_option("--restarts", restarts, "of kmeans")
      ->check(in_range(1, 1000))
      ->capture_default_str()
      ->group(kGroup);
}

DfsqOptions dfsq_options_of(const DfsqFlags& flags, std::uint64_t seed, std::int64_t memory) {
  DfsqOptions options{
      .statistics = flags.statistics == "static" ? SubsetStatistics::Static : SubsetStatistics::Dynamic,
      .points = flags.points == "exact"    ? PointMethod::Exact
                : flags.points == "kmeans" ? PointMethod::KMeans
                                           : PointMethod::Uniform,
      .weights = flags.weights == "mse" ? SubsetWeights::Mse : SubsetWeights::MinMax,
      .restarts = flags.restarts,
      .seed = seed};
  if (memory > 0) options.memory = memory;
  return options;
}

void refuse_dfsq_flags(const CLI::App& verb, const std::string& method) {
  for (const CLI::Option* option : verb.get_options())
    if (option->get_group() == kGroup && option->count() > 0)
      fail("{} is for --method dfsq, not {}", option->get_name(), method);
}

void refuse_range_flags(const CLI::App& verb) {
  constexpr std::array kFlags{"--first-last",   "--percentile", "--momentum",     "--activation-scheme",
                              "--budget",       "--vit",        "--correct-bias", "--bias-samples",
                              "--reduce-range", "--scales",     "--scale-rate",   "--attention-bits"};
  for (const char* flag : kFlags)
    if (verb.get_option(flag)->count() > 0)
      fail("{} is not for --method dfsq; leave it out (--bits-for and --exclude choose layers)", flag);
}

void refuse_idle_dfsq_flags(const CLI::App& verb, const QuantizeOptions& options) {
  const auto needs = [&verb](std::initializer_list<const char*> flags, bool met, const char* what) {
    for (const char* flag : flags)
      if (!met && verb.get_option(flag)->count() > 0) fail("{} has no effect here: it needs {}", flag, what);
  };
  const auto by_rule = [&options](int BitsRule::*bits) {
    return std::any_of(options.bits_for.begin(), options.bits_for.end(),
                       [bits](const BitsRule& rule) { return rule.*bits != 0 && rule.*bits != kFloatBits; });
  };
  const bool activations = options.activation_bits != kFloatBits || by_rule(&BitsRule::activation_bits);
  const bool weights = options.weight_bits != kFloatBits || by_rule(&BitsRule::weight_bits);
  const bool learns = verb.get_option("--reconstruct")->count() > 0;
  needs({"--statistics", "--points", "--restarts"}, activations, "inputs to round, --activation-bits 2 to 8");
  needs({"--restarts"}, options.dfsq->points == PointMethod::KMeans, "--points kmeans");
  needs({"--memory"}, activations || learns, "--activation-bits 2 to 8, or --reconstruct");
  needs({"--weights", "--weight-scheme", "--search", "--reconstruct"}, weights,
        "weights to quantise, --weight-bits 2 to 8");
  needs({"--weight-scheme", "--search"}, options.dfsq->weights == SubsetWeights::Mse, "--weights mse");
}

std::string dfsq_text(const DfsqReport& report) {
  std::vector<std::vector<std::string>> rows;
  for (const DfsqLayer& layer : report.layers)
    rows.push_back({layer.name, std::to_string(layer.channels), std::to_string(layer.bits),
                    layer.centred ? "yes" : "no", fmt::format("{:.1f}", layer.used),
                    layer.noise > 0 ? fmt::format("{:.1f}", -10 * std::log10(layer.noise)) : "exact"});
  return fmt::format(
      "{} statistics, {} points, weights by {}; points chosen for {:.1f} million numbers: {:.2f} s to "
      "observe, {:.2f} s to choose\n{}",
      statistics_name(report.options.statistics), points_name(report.options.points),
      weights_name(report.options.weights), static_cast<double>(report.numbers) / 1e6, report.observe_seconds,
      report.select_seconds,
      format_table({"rounded input of", "channels", "bits", "centred", "points", "SNR dB"}, rows));
}

nlohmann::json dfsq_json(const DfsqReport& report) {
  json layers = json::array();
  for (const DfsqLayer& layer : report.layers)
    layers.push_back({{"name", layer.name},
                      {"input", layer.input},
                      {"bits", layer.bits},
                      {"channels", layer.channels},
                      {"centred", layer.centred},
                      {"points", layer.used},
                      {"constant_channels", layer.constant},
                      {"noise", layer.noise}});
  return {{"statistics", statistics_name(report.options.statistics)},
          {"points", points_name(report.options.points)},
          {"weights", weights_name(report.options.weights)},
          {"observe_seconds", report.observe_seconds},
          {"select_seconds", report.select_seconds},
          {"numbers", report.numbers},
          {"layers", layers}};
}

}  // namespace lithe::cli
