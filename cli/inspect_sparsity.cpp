#include "cli/inspect_sparsity.h"

#include <algorithm>
#include <map>

#include "cli/verb.h"
#include "lithe/base/error.h"
#include "lithe/graph/sparsity_record.h"
#include "lithe/graph/weights.h"
#include "lithe/kernels/magnitude_mask.h"
#include "lithe/kernels/nm_mask.h"
#include "lithe/kernels/spatial_sparsity.h"

namespace lithe::cli {
namespace {

constexpr std::int64_t kLeastChannels = 4;

const std::vector<SparsityPattern>& rates() {
  static const std::vector<SparsityPattern> patterns{{2, 4}, {1, 4}, {1, 16}};
  return patterns;
}

struct Convolution {
  std::string name, tensor;
  std::vector<std::int64_t> shape;
  std::vector<float> weight;
  ChannelGroups groups;
};

std::vector<Convolution> convolutions(const Graph& graph) {
  const GraphIndex index(graph);
  std::vector<Convolution> found;
  for (const Node& node : graph.nodes) {
    if (!node.is("Conv")) continue;
    const auto weight = find_weight(graph, index, node);
    if (!weight || weight->constant != node.input(1)) continue;
    const TensorData& data = graph.constants.at(weight->constant);
    if (!is_float(data.dtype()) || data.rank() < 3) continue;
    Convolution one{.name = node.name.empty() ? node.output(0) : node.name,
                    .tensor = weight->constant,
                    .shape = data.shape()};
    one.groups = {one.shape[0], one.shape[1], 1};
    for (std::size_t d = 2; d < one.shape.size(); ++d) one.groups.inner *= one.shape[d];
    if (one.groups.inner < 2 || one.groups.channels < kLeastChannels) continue;
    one.weight = data.to_floats();
    found.push_back(std::move(one));
  }
  return found;
}

json numbers(const std::vector<std::int64_t>& kept, const Convolution& layer) {
  const std::vector<std::int64_t> kernel(layer.shape.begin() + 2, layer.shape.end());
  const SpatialSparsity s = spatial_sparsity(kept, layer.groups, kernel);
  return {{"zeros", s.zeros},   {"deviation", s.deviation}, {"centre", s.centre},
          {"corner", s.corner}, {"z", s.noise_ratio},       {"rate", s.rate}};
}

std::string text(const json& value, int digits) {
  return fmt::format("{:.{}f}", value.get<double>(), digits);
}

std::vector<std::vector<std::string>> rows_of(const json& layers) {
  std::vector<std::vector<std::string>> rows;
  for (const json& layer : layers)
    for (const json& at : layer.at("patterns")) {
      const json &own = at.at("layer_wise"), &all = at.at("global");
      rows.push_back({layer.at("layer"), format_shape(layer.at("shape").get<std::vector<std::int64_t>>()),
                      at.at("pattern"), text(own.at("deviation"), 4), text(own.at("z"), 1),
                      text(own.at("centre"), 3), text(own.at("corner"), 3), text(all.at("deviation"), 4),
                      text(at.at("structured").at("deviation"), 4), at.at("mask").get<std::string>()});
    }
  return rows;
}

const std::vector<std::string> kHeader{
    "layer",       "shape",        "at",          "std",           "Z",
    "centre-mean", "corners-mean", "std, global", "std, N:M mask", "spatial mask"};

/// What of a check belongs into the table of violations.
json violation_json(const SparsityCheck& check) {
  return {{"tensor", check.tensor},
          {"node", check.node},
          {"groups", check.groups},
          {"offending", check.violations},
          {"zeros", check.zeros}};
}

}  // namespace

json check_sparsity_json(const Graph& graph, const SparsityPattern& pattern) {
  const std::vector<RecordState> recorded = check_sparsity_records(graph);
  const auto record_of = [&](const SparsityCheck& check) {
    return std::find_if(recorded.begin(), recorded.end(), [&](const RecordState& state) {
      return state.record.layer == check.node || state.record.weight == check.tensor;
    });
  };
  json violations = json::array(), skipped = json::array(), dense = json::array(), records = json::array();
  std::int64_t checked = 0;
  for (const SparsityCheck& check : check_sparsity(graph, pattern)) {
    const auto record = record_of(check);
    const bool pruned = record != recorded.end();
    if (pruned && (check.violations > 0 || !record->problem.empty())) {
      ++checked;
      violations.push_back(violation_json(check));
    } else if (!check.skipped.empty()) {
      skipped.push_back({{"tensor", check.tensor}, {"node", check.node}, {"reason", check.skipped}});
    } else if (!pruned && !recorded.empty() && check.violations > 0) {
      dense.push_back(violation_json(check));
    } else {
      ++checked;
      if (check.violations > 0) violations.push_back(violation_json(check));
    }
  }
  for (const RecordState& state : recorded)
    records.push_back({{"layer", state.record.layer},
                       {"weight", state.record.weight},
                       {"pattern", format_sparsity(state.record.pattern)},
                       {"problem", state.problem},
                       {"changed", state.changed}});
  return {{"pattern", format_sparsity(pattern)},
          {"violations", violations},
          {"checked", checked},
          {"skipped", skipped},
          {"dense", dense},
          {"recorded", records}};
}

void require_sparsity(const json& result, const std::string& model) {
  for (const json& record : result.at("recorded"))
    if (const auto problem = record.at("problem").get<std::string>(); !problem.empty())
      fail("{}: layer '{}', recorded as pruned, {}; prune it again", model,
           record.at("layer").get<std::string>(), problem);
  const json& violations = result.at("violations");
  if (violations.empty()) return;
  fail("{}: {} weights break {}, the first is '{}' in {} of {} groups", model, violations.size(),
       result.at("pattern").get<std::string>(), violations[0].at("tensor").get<std::string>(),
       violations[0].at("offending").get<std::int64_t>(), violations[0].at("groups").get<std::int64_t>());
}

json spatial_sparsity_json(const Graph& graph) {
  const std::vector<Convolution> layers = convolutions(graph);
  if (layers.empty())
    fail(
        "--spatial-sparsity: no convolution has a kernel of several positions and at least {} input channels",
        kLeastChannels);
  std::vector<std::span<const float>> all;
  for (const Convolution& layer : layers) all.emplace_back(layer.weight);
  json result = json::array();
  for (const Convolution& layer : layers)
    result.push_back({{"layer", layer.name},
                      {"tensor", layer.tensor},
                      {"shape", layer.shape},
                      {"patterns", json::array()}});
  for (const auto& [n, m] : rates()) {
    const float threshold = global_threshold(all, 1 - static_cast<double>(n) / static_cast<double>(m));
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const Convolution& layer = layers[i];
      std::vector<std::int64_t> kept(static_cast<std::size_t>(layer.groups.inner));
      spatial_counts(layer.weight.data(), layer.groups, n, m, kept.data());
      std::vector<std::uint8_t> where(kept.size()), mask(layer.weight.size());
      spatial_mask(kept.data(), layer.groups, n, m, 0, where.data());
      nm_mask(layer.weight.data(), layer.groups, n, m, mask.data());
      result[i]["patterns"].push_back(
          {{"pattern", format_sparsity({n, m})},
           {"layer_wise", numbers(kept, layer)},
           {"global", numbers(kept_above(layer.weight.data(), layer.groups, threshold), layer)},
           {"structured", numbers(kept_by(mask.data(), layer.groups), layer)},
           {"mask", kernel_bits(where, layer.shape.back())}});
    }
  }
  return result;
}

std::string spatial_sparsity_table(const json& layers) {
  std::string table = format_table(kHeader, rows_of(layers));
  return table +
         "\nZ is the variance over kernel positions against that of weights spread at random: about 1 is "
         "noise.";
}

void add_spatial_sparsity(Report& report, const json& layers) {
  report.add(Heading{"Spatial sparsity"});
  Table table{
      .title = "Zeros over the kernel after magnitude pruning",
      .rows = rows_of(layers),
      .note =
          "std: of the share of zeros over kernel positions, layer by layer; Z: its variance against that of "
          "weights "
          "spread at random (about 1 is noise). Spatial mask: positions that keep more than the average."};
  for (std::size_t i = 0; i < kHeader.size(); ++i) table.columns.push_back({kHeader[i], i >= 3 && i < 9});
  report.add(std::move(table));
  // One row a layer; kernels of one size share a map.
  for (std::size_t p = 0; p < rates().size(); ++p) {
    std::map<std::vector<std::int64_t>, HeatMap> maps;
    for (const json& layer : layers) {
      const auto shape = layer.at("shape").get<std::vector<std::int64_t>>();
      const std::vector<std::int64_t> kernel(shape.begin() + 2, shape.end());
      const json& at = layer.at("patterns").at(p);
      HeatMap& map = maps[kernel];
      map.rows.push_back(layer.at("layer"));
      map.values.push_back(at.at("layer_wise").at("zeros").get<std::vector<double>>());
      map.title = fmt::format("Zeros by kernel position {}, layer-wise at {}", format_shape(kernel),
                              at.at("pattern").get<std::string>());
    }
    for (auto& [kernel, map] : maps) {
      for (std::size_t i = 0; i < map.values[0].size(); ++i) {
        std::string position;
        auto rest = static_cast<std::int64_t>(i);
        for (std::size_t d = kernel.size(); d-- > 0; rest /= kernel[d])
          position = std::to_string(rest % kernel[d]) + (position.empty() ? "" : ",") + position;
        map.columns.push_back(position);
      }
      report.add(std::move(map));
    }
  }
}

}  // namespace lithe::cli
