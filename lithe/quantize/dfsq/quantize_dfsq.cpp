#include "lithe/quantize/dfsq/quantize_dfsq.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <set>

#include "lithe/base/error.h"
#include "lithe/base/hash.h"
#include "lithe/data/usable_batch.h"
#include "lithe/ops/registry.h"
#include "lithe/quantize/dfsq/choose_layers.h"
#include "lithe/quantize/dfsq/normalised_graph.h"
#include "lithe/quantize/dfsq/statistics.h"
#include "lithe/quantize/dfsq/subset_weights.h"
#include "lithe/quantize/fidelity.h"
#include "lithe/quantize/reconstruct/reconstruct.h"

namespace lithe {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void check(const QuantizeOptions& options) {
  if (options.budget)
    fail("--budget is not for method dfsq: give --weight-bits, or --bits-for single layers");
  if (options.profile == Profile::Int8)
    fail("method dfsq rounds to points that are no integers of one scale: profile int8 does not apply");
  if (options.placement == PlacementStyle::Deploy)
    fail("method dfsq quantises the inputs of layers only: leave --placement deploy out");
  if (options.correct_bias) fail("--correct-bias is not for method dfsq; leave it out");
  if (options.target != Target::OnnxRuntime)
    fail("method dfsq writes functions of standard operators, which --target ort runs; leave --target out");
}

/// The prepared graph and the bits of its layers.
struct Ground {
  Graph graph;
  std::vector<Layer> layers;
};

Ground lay_ground(const Graph& model, const DatasetPtr& data, const QuantizeOptions& options,
                  std::vector<std::string>& notes) {
  check(options);
  QuantizeOptions preparing = options;
  preparing.reparameterise_norms = options.reparameterise_norms.value_or(false);
  Ground ground{.graph = prepare_for_quantization(model, data, preparing, notes)};
  ground.layers = find_layers(ground.graph, &notes);
  const std::vector<bool> body = choose_body_layers(ground.graph, ground.layers);
  std::vector<Layer> others = ground.layers;
  assign_bits(ground.layers, options.weight_bits, options.activation_bits, FirstLast::Same, options.bits_for,
              options.exclude);
  assign_bits(others, kFloatBits, kFloatBits, FirstLast::Same, options.bits_for, options.exclude);
  std::int64_t quantised = 0;
  for (std::size_t i = 0; i < ground.layers.size(); ++i) {
    Layer& layer = ground.layers[i];
    if (!body[i]) layer = others[i];
    const bool image = layer.op == "Conv" && ground.graph.constants.at(layer.weight).rank() == 4;
    if (!image && layer.activation_bits != kFloatBits) {
      notes.push_back(fmt::format("{} layer '{}': its input stays in float, points are for images", layer.op,
                                  layer.name));
      layer.activation_bits = kFloatBits;
    }
    quantised += layer.weight_bits != kFloatBits || layer.activation_bits != kFloatBits;
  }
  if (quantised == 0)
    fail(
        "no layer is left to quantise: the structure shows no body of convolutions; name layers with "
        "--bits-for '*=w4a4'");
  notes.push_back(
      fmt::format("{} of {} layers are quantised: the body of the network; --bits-for and "
                  "--exclude change that",
                  quantised, ground.layers.size()));
  return ground;
}

std::int64_t input_channels(const Graph& graph, const Layer& layer) {
  const Node& node = graph.nodes[layer.node];
  return graph.constants.at(layer.weight).shape()[1] * node.attr("group", std::int64_t{1});
}

/// Points of all channels of one value for one number of bits.
struct Table {
  TensorData points;
  double distinct = 0, loss = 0, squares = 0;
  std::vector<double> energy;  // mean square by channel
};
using TableKey = std::pair<std::string, int>;

/// Observes values and chooses their points, as many values at a time as memory allows.
class Selector {
 public:
  Selector(const Ground& ground, const DatasetPtr& data, const QuantizeOptions& options, Progress& progress,
           DfsqReport& report)
      : data_(data),
        options_(*options.dfsq),
        observing_{.batch = options.batch, .threads = options.threads},
        progress_(progress),
        report_(report),
        executor_(ground.graph, {.device = options.device}) {
    const GraphIndex index(ground.graph);
    for (const Layer& layer : ground.layers) {
      if (layer.activation_bits == kFloatBits) continue;
      keys_[layer.input].insert(layer.activation_bits);
      if (channels_.emplace(layer.input, input_channels(ground.graph, layer)).second)
        values_.push_back({layer.input, !is_rectified(ground.graph, index, layer.input)});
    }
  }

  std::map<TableKey, Table> run() {
    if (values_.empty()) return {};
    const auto started = Clock::now();
    const bool fixed = options_.statistics == SubsetStatistics::Static;
    const bool means = options_.points == PointMethod::KMeans;
    if (fixed || means) ranges_ = observe_ranges(executor_, data_, values_, observing_, progress_);
    double selecting = 0;
    std::map<TableKey, Table> tables;
    for (std::size_t begin = 0; begin < values_.size();) {
      std::size_t end = begin;
      for (std::int64_t bytes = 0; end < values_.size(); ++end) {
        bytes += bytes_of(values_[end].name);
        if (end > begin && bytes > options_.memory) break;
      }
      const std::vector<ObservedValue> group(values_.begin() + static_cast<std::ptrdiff_t>(begin),
                                             values_.begin() + static_cast<std::ptrdiff_t>(end));
      if (means)
        collect_numbers(group, fixed);
      else
        collect_histograms(group, fixed);
      const auto chosen = Clock::now();
      for (const ObservedValue& value : group)
        for (const int bits : keys_.at(value.name))
          tables.emplace(TableKey{value.name, bits}, choose(value.name, bits));
      selecting += seconds_since(chosen);
      histograms_.clear();
      numbers_.clear();
      begin = end;
    }
    report_.select_seconds = selecting;
    report_.observe_seconds = seconds_since(started) - selecting;
    return tables;
  }

  const ChannelRanges& ranges() const { return ranges_; }
  bool centred(const std::string& value) const {
    const auto found = std::find_if(values_.begin(), values_.end(),
                                    [&](const ObservedValue& one) { return one.name == value; });
    return found->centre;
  }

 private:
  std::int64_t bytes_of(const std::string& value) const {
    const std::int64_t channels = channels_.at(value);
    if (options_.points != PointMethod::KMeans)
      return channels * SubsetHistogram::kBins * 2 * static_cast<std::int64_t>(sizeof(double));
    return channels * ranges_.at(value)[0].count * static_cast<std::int64_t>(sizeof(float));
  }

  void collect_histograms(const std::vector<ObservedValue>& group, bool fixed) {
    for (const ObservedValue& value : group)
      histograms_[value.name].resize(static_cast<std::size_t>(channels_.at(value.name)));
    visit_normalised(
        executor_, data_, group, fixed ? &ranges_ : nullptr, observing_,
        [&](const std::string& value, std::int64_t channel, const float* first, std::int64_t count) {
          histograms_.at(value)
              .at(static_cast<std::size_t>(channel))
              .add(std::span<const float>(first, static_cast<std::size_t>(count)));
        },
        progress_);
  }

  void collect_numbers(const std::vector<ObservedValue>& group, bool fixed) {
    for (const ObservedValue& value : group)
      numbers_[value.name].resize(static_cast<std::size_t>(channels_.at(value.name)));
    visit_normalised(
        executor_, data_, group, fixed ? &ranges_ : nullptr, observing_,
        [&](const std::string& value, std::int64_t channel, const float* first, std::int64_t count) {
          std::vector<float>& all = numbers_.at(value).at(static_cast<std::size_t>(channel));
          all.insert(all.end(), first, first + count);
        },
        progress_);
  }

  PointSelection choose_channel(const std::string& value, std::int64_t channel, int count, double& squares,
                                std::int64_t& numbers) const {
    const auto c = static_cast<std::size_t>(channel);
    if (options_.points != PointMethod::KMeans) {
      const SubsetHistogram& histogram = histograms_.at(value)[c];
      squares = histogram.squares();
      numbers = histogram.count();
      return options_.points == PointMethod::Exact ? select_points_exactly(histogram, count)
                                                   : select_uniform_points(histogram, count);
    }
    const std::vector<float>& all = numbers_.at(value)[c];
    squares = 0;
    for (const float number : all) squares += static_cast<double>(number) * number;
    numbers = static_cast<std::int64_t>(all.size());
    const auto bytes = std::as_bytes(std::span<const char>(value.data(), value.size()));
    const std::uint64_t seed =
        options_.seed ^ (fnv1a(bytes) + 0x9e3779b97f4a7c15u * static_cast<std::uint64_t>(channel + 1));
    return select_points_by_kmeans(SortedValues(all), count, seed, options_.restarts);
  }

  Table choose(const std::string& value, int bits) {
    const int count = 1 << bits;
    const std::int64_t channels = channels_.at(value);
    std::vector<std::int16_t> points(static_cast<std::size_t>(channels * count));
    std::vector<PointSelection> selections(static_cast<std::size_t>(channels));
    std::vector<double> squares(static_cast<std::size_t>(channels));
    std::vector<std::int64_t> numbers(static_cast<std::size_t>(channels));
    at::parallel_for(0, channels, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t c = begin; c < end; ++c) {
        const auto i = static_cast<std::size_t>(c);
        selections[i] = choose_channel(value, c, count, squares[i], numbers[i]);
        std::copy(selections[i].points.begin(), selections[i].points.end(), points.begin() + c * count);
      }
    });
    Table table{.points = TensorData::from<std::int16_t>({channels, count}, std::move(points))};
    for (std::size_t c = 0; c < selections.size(); ++c) {
      table.distinct += selections[c].distinct / static_cast<double>(channels);
      table.loss += selections[c].loss;
      table.squares += squares[c];
      table.energy.push_back(numbers[c] > 0 ? squares[c] / static_cast<double>(numbers[c]) : 0);
      report_.numbers += numbers[c];
    }
    return table;
  }

  DatasetPtr data_;
  const DfsqOptions& options_;
  ObserveOptions observing_;
  Progress& progress_;
  DfsqReport& report_;
  Executor executor_;
  std::vector<ObservedValue> values_;
  std::map<std::string, std::set<int>> keys_;
  std::map<std::string, std::int64_t> channels_;
  ChannelRanges ranges_;
  std::map<std::string, std::vector<SubsetHistogram>> histograms_;
  std::map<std::string, std::vector<std::vector<float>>> numbers_;
};

/// Means or scales of all channels, [c, 1, 1].
TensorData channel_numbers(const std::vector<ChannelRange>& channels, bool centre,
                           float (ChannelRange::*number)(bool) const) {
  std::vector<float> numbers;
  for (const ChannelRange& channel : channels) numbers.push_back((channel.*number)(centre));
  return TensorData::from<float>({static_cast<std::int64_t>(channels.size()), 1, 1}, std::move(numbers));
}

std::vector<SubsetLayer> subset_layers(const Ground& ground, const Selector& selector,
                                       const std::map<TableKey, Table>& tables, DfsqReport& report) {
  std::vector<SubsetLayer> subsets;
  for (const Layer& layer : ground.layers) {
    if (layer.activation_bits == kFloatBits) continue;
    const Table& table = tables.at({layer.input, layer.activation_bits});
    const bool centre = selector.centred(layer.input);
    SubsetLayer one{.layer = layer.name, .input = layer.input};
    one.weight_bits = layer.weight_bits;
    one.energy = table.energy;
    one.quantizer.points = table.points;
    one.quantizer.centre = centre;
    one.quantizer.dynamic = report.options.statistics == SubsetStatistics::Dynamic;
    if (!one.quantizer.dynamic) {
      const std::vector<ChannelRange>& seen = selector.ranges().at(layer.input);
      one.quantizer.mean = channel_numbers(seen, centre, &ChannelRange::mean);
      one.quantizer.scale = channel_numbers(seen, centre, &ChannelRange::scale);
    }
    report.layers.push_back({.name = layer.name,
                             .input = layer.input,
                             .bits = layer.activation_bits,
                             .channels = table.points.shape()[0],
                             .centred = centre,
                             .distinct = table.distinct,
                             .noise = table.squares > 0 ? table.loss / table.squares : 0});
    subsets.push_back(std::move(one));
  }
  return subsets;
}

/// The layers of the normalised graph with the bits of those that they were.
std::vector<Layer> with_bits_of(const Graph& graph, const std::vector<Layer>& given) {
  std::map<std::string, const Layer*> by_name;
  for (const Layer& layer : given) by_name.emplace(layer.name, &layer);
  std::vector<Layer> layers = find_layers(graph);
  for (Layer& layer : layers) {
    const auto found = by_name.find(layer.name);
    if (found == by_name.end()) continue;
    layer.weight_bits = found->second->weight_bits;
    layer.activation_bits = found->second->activation_bits;
  }
  return layers;
}

std::vector<LayerResult> describe_layers(const Graph& graph, const std::vector<Layer>& layers) {
  std::vector<LayerResult> results;
  for (const Layer& layer : layers) {
    const TensorData& weight = graph.constants.at(layer.weight);
    const std::int64_t bias =
        layer.bias.empty() ? 0 : static_cast<std::int64_t>(graph.constants.at(layer.bias).bytes().size());
    LayerResult result{.name = layer.name,
                       .op = layer.op,
                       .weight_bits = layer.weight_bits,
                       .activation_bits = layer.activation_bits};
    result.float_bytes = static_cast<std::int64_t>(weight.bytes().size()) + bias;
    result.bytes =
        layer.weight_bits == kFloatBits
            ? result.float_bytes
            : stored_bytes(layer.weight_bits, weight.count(), scales_of(layer), graph.opset()) + bias;
    if (layer.activation_bits != kFloatBits)  // points of 16 bits
      result.bytes += 2 * input_channels(graph, layer) * (std::int64_t{1} << layer.activation_bits);
    const at::Tensor values = to_tensor(weight);
    result.weight_low = values.min().item<float>();
    result.weight_high = values.max().item<float>();
    results.push_back(std::move(result));
  }
  return results;
}

/// Roundings learnt on the network whose activations are rounded to points.
Reconstruction learn(const NormalisedGraph& normalised, QdqPlan& plan, const DatasetPtr& calibration,
                     const QuantizeOptions& options, Progress& progress) {
  for (const SubsetLayer& layer : normalised.layers)
    plan.activations.push_back(
        {.value = layer.normal,
         .bits = static_cast<int>(std::lround(std::log2(layer.quantizer.points.shape()[1]))),
         .quantizer = {.scale = at::ones({}), .zero_point = at::zeros({})},
         .subset = quantizer_of_normal(layer)});
  ReconstructOptions learning = *options.reconstruct;
  learning.scales = ScaleLearning::Off;  // points have none
  learning.threads = options.threads;
  learning.device = options.device;
  return reconstruct(normalised.graph, plan, calibration, learning, progress);
}

}  // namespace

QuantizeOptions uniform_counterpart(const QuantizeOptions& options, const std::vector<LayerResult>& layers,
                                    QuantizeMethod method) {
  QuantizeOptions plain = options;
  plain.dfsq.reset();
  plain.reconstruct.reset();
  plain.method = method;
  plain.first_last = FirstLast::Same;
  plain.profile = Profile::Exact;
  plain.reduce_range = ReduceRange::Off;
  plain.report_samples = 0;
  plain.reparameterise_norms = options.reparameterise_norms.value_or(false);
  plain.bits_for.clear();
  plain.exclude.clear();
  for (const LayerResult& layer : layers)
    plain.bits_for.push_back(
        {.pattern = layer.name, .weight_bits = layer.weight_bits, .activation_bits = layer.activation_bits});
  return plain;
}

QuantizationPlan plan_dfsq(const Graph& model, const QuantizeOptions& options) {
  const at::NoGradGuard no_grad;
  QuantizationPlan plan;
  Ground ground = lay_ground(model, nullptr, options, plan.notes);
  plan.layers = describe_layers(ground.graph, ground.layers);
  plan.graph = std::move(ground.graph);
  return plan;
}

Quantized quantize_dfsq(const Graph& model, const DatasetPtr& calibration, const QuantizeOptions& wanted,
                        Progress& progress) {
  const at::NoGradGuard no_grad;
  const bool has_data = calibration && calibration->size() > 0;
  if (!has_data && (calibration || needs_calibration(wanted))) fail("the calibration data hold no sample");
  Quantized result;
  QuantizeOptions options = wanted;
  if (has_data) options.batch = usable_batch(model, calibration, wanted.batch);
  result.batch = options.batch;
  const Ground ground = lay_ground(model, calibration, options, result.notes);
  if (has_data) result.samples = calibration->size();
  DfsqReport report{.options = *options.dfsq};
  NormalisedGraph normalised{.graph = ground.graph};
  if (std::any_of(ground.layers.begin(), ground.layers.end(),
                  [](const Layer& layer) { return layer.activation_bits != kFloatBits; })) {
    Selector selector(ground, calibration, options, progress, report);
    const std::map<TableKey, Table> tables = selector.run();
    normalised = normalise_channels(ground.graph, subset_layers(ground, selector, tables, report));
  }
  QdqPlan plan{.layers = with_bits_of(normalised.graph, ground.layers)};
  plan.weights = options.dfsq->weights == SubsetWeights::MinMax
                     ? published_weights(normalised.graph, plan.layers)
                     : quantize_weights(normalised.graph, plan.layers,
                                        {.method = RangeMethod::Mse,
                                         .search = options.search,
                                         .scheme = options.weight_scheme.value_or(Scheme::Asymmetric)});
  const QdqPlan nearest = plan;
  if (options.reconstruct) {
    result.reconstruction = learn(normalised, plan, calibration, options, progress);
    result.notes.insert(result.notes.end(), result.reconstruction->notes.begin(),
                        result.reconstruction->notes.end());
  }
  result.reference = ground.graph;
  result.graph = export_subsets(normalised, plan);
  result.layers = describe_layers(ground.graph, ground.layers);
  for (const DfsqLayer& layer : report.layers)
    if (layer.distinct < std::min(1 << layer.bits, 1 << 7) * 0.5)
      result.notes.push_back(
          fmt::format("layer '{}': only {:.1f} of {} points differ in the mean; --points "
                      "exact uses all",
                      layer.name, layer.distinct, 1 << layer.bits));
  result.dfsq = std::move(report);
  if (!has_data || options.report_samples == 0) return result;

  const SqnrOptions measured{.samples = options.report_samples,
                             .batch = std::min<std::int64_t>(8, options.batch),
                             .threads = options.threads,
                             .device = options.device};
  std::vector<std::string> outputs;
  for (const Layer& layer : ground.layers) outputs.push_back(layer.output);
  const std::string last = result.graph.outputs.at(0).name;
  outputs.push_back(last);
  const auto sqnr = measure_sqnr(result.reference, result.graph, outputs, calibration, measured, progress);
  for (std::size_t i = 0; i < result.layers.size(); ++i)
    result.layers[i].sqnr_db = sqnr.at(ground.layers[i].output);
  result.output_sqnr_db = sqnr.at(last);
  Progress silent;  // a line of its own would look like the one above again
  const auto sqnr_of = [&](const Graph& graph) {
    return measure_sqnr(result.reference, graph, {last}, calibration, measured, silent).at(last);
  };
  if (options.reconstruct) result.nearest_sqnr_db = sqnr_of(export_subsets(normalised, nearest));
  result.minmax_graph = quantize(model, calibration,
                                 uniform_counterpart(options, result.layers, QuantizeMethod::MinMax), silent)
                            .graph;
  result.minmax_sqnr_db = sqnr_of(*result.minmax_graph);
  return result;
}

}  // namespace lithe
