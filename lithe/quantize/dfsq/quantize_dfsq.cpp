#include "lithe/quantize/dfsq/quantize_dfsq.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>

#include "lithe/base/clock.h"
#include "lithe/base/error.h"
#include "lithe/base/hash.h"
#include "lithe/data/patches.h"
#include "lithe/data/usable_batch.h"
#include "lithe/ops/registry.h"
#include "lithe/quantize/dfsq/choose_layers.h"
#include "lithe/quantize/dfsq/normalised_graph.h"
#include "lithe/quantize/dfsq/statistics.h"
#include "lithe/quantize/dfsq/subset_weights.h"
#include "lithe/quantize/dfsq/value_sizes.h"
#include "lithe/quantize/fidelity.h"
#include "lithe/quantize/groundwork.h"
#include "lithe/quantize/reconstruct/reconstruct.h"

namespace lithe {
namespace {

/// Of larger pictures the middle is enough to compare networks on.
constexpr std::int64_t kComparedSide = 256;

void check(const QuantizeOptions& options) {
  if (options.budget)
    fail("--budget is not for method dfsq: give --weight-bits, or --bits-for single layers");
  if (options.profile == Profile::Int8)
    fail("method dfsq rounds to points that are no integers of one scale: profile int8 does not apply");
  if (options.placement == PlacementStyle::Deploy)
    fail("method dfsq quantises the inputs of layers only: leave --placement deploy out");
  if (options.attention_bits != kFloatBits) fail("--attention-bits is not for method dfsq; leave it out");
  if (options.correct_bias) fail("--correct-bias is not for method dfsq; leave it out");
  if (options.target != Target::OnnxRuntime)
    fail("method dfsq writes functions of standard operators, which --target ort runs; leave --target out");
}

/// The prepared graph and the bits of its layers; nothing else of the groundwork applies.
Groundwork lay_dfsq_ground(const Graph& model, const DatasetPtr& data, const QuantizeOptions& options,
                           std::vector<std::string>& notes) {
  check(options);
  QuantizeOptions preparing = options;
  preparing.reparameterise_norms = options.reparameterise_norms.value_or(false);
  Groundwork ground = prepare_layers(model, data, preparing, notes);
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
  if (quantised == 0) {
    const bool any = std::find(body.begin(), body.end(), true) != body.end();
    fail("no layer is left to quantise: {}",
         !any ? "the structure shows no body of convolutions; name layers with --bits-for '*=w4a4'"
         : !options.exclude.empty()
             ? "--exclude leaves none of the body; name fewer, or others with --bits-for"
             : "none of the body gets bits; give --weight-bits or --activation-bits");
  }
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
  std::vector<std::int16_t> points;
  double used = 0, loss = 0, squares = 0;
  std::int64_t constant = 0;
  std::vector<double> energy;  // mean square by channel
};
using TableKey = std::pair<std::string, int>;

/// Observes values and chooses their points, as many channels at a time as memory allows.
class Selector {
 public:
  Selector(const Groundwork& ground, const DatasetPtr& data, const QuantizeOptions& options,
           Progress& progress, DfsqReport& report)
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
    if (is_static() || by_means()) ranges_ = observe_ranges(executor_, data_, values_, observing_, progress_);
    double selecting = 0;
    for (const std::vector<ObservedValue>& group : groups()) {
      if (by_means())
        collect_numbers(group);
      else
        collect_histograms(group);
      const auto chosen = Clock::now();
      for (const ObservedValue& value : group) choose(value);
      selecting += seconds_since(chosen);
      histograms_.clear();
      numbers_.clear();
    }
    report_.select_seconds = selecting;
    report_.observe_seconds = seconds_since(started) - selecting;
    return std::move(tables_);
  }

  const ChannelRanges& ranges() const { return ranges_; }
  std::int64_t channels(const std::string& value) const { return channels_.at(value); }
  bool centred(const std::string& value) const {
    const auto found = std::find_if(values_.begin(), values_.end(),
                                    [&](const ObservedValue& one) { return one.name == value; });
    return found->centre;
  }

 private:
  bool is_static() const { return options_.statistics == SubsetStatistics::Static; }
  bool by_means() const { return options_.points == PointMethod::KMeans; }

  /// What is kept of a channel until its points are chosen.
  std::int64_t bytes_of_channel(const std::string& value) const {
    if (!by_means()) return SubsetHistogram::kBins * 2 * static_cast<std::int64_t>(sizeof(double));
    // The numbers, and their running sums once they are sorted.
    return ranges_.at(value)[0].count * static_cast<std::int64_t>(sizeof(float) + sizeof(double));
  }

  /// All channels of all values in order, as many at a time as fit into memory, one at least.
  std::vector<std::vector<ObservedValue>> groups() const {
    std::vector<std::vector<ObservedValue>> groups(1);
    std::int64_t left = options_.memory;
    for (const ObservedValue& value : values_) {
      const std::int64_t each = std::max<std::int64_t>(1, bytes_of_channel(value.name));
      for (std::int64_t begin = 0, all = channels_.at(value.name); begin < all;) {
        std::int64_t count = std::min(all - begin, left / each);
        if (count == 0 && !groups.back().empty()) {
          groups.emplace_back();
          left = options_.memory;
          continue;
        }
        count = std::max<std::int64_t>(count, 1);
        groups.back().push_back({value.name, value.centre, begin, begin + count});
        begin += count;
        left = std::max<std::int64_t>(0, left - count * each);
      }
    }
    return groups;
  }

  void collect_histograms(const std::vector<ObservedValue>& group) {
    for (const ObservedValue& value : group)
      histograms_[value.name].resize(static_cast<std::size_t>(channels_.at(value.name)), std::nullopt);
    for (const ObservedValue& value : group)
      for (std::int64_t c = value.begin; c < value.end; ++c)
        histograms_.at(value.name)[static_cast<std::size_t>(c)].emplace();
    visit_normalised(
        executor_, data_, group, is_static() ? &ranges_ : nullptr, observing_,
        [&](const std::string& value, std::int64_t channel, const float* first, std::int64_t count) {
          histograms_.at(value)
              .at(static_cast<std::size_t>(channel))
              ->add(std::span<const float>(first, static_cast<std::size_t>(count)));
        },
        progress_);
  }

  void collect_numbers(const std::vector<ObservedValue>& group) {
    for (const ObservedValue& value : group) {
      std::vector<std::vector<float>>& all = numbers_[value.name];
      all.resize(static_cast<std::size_t>(channels_.at(value.name)));
      for (std::int64_t c = value.begin; c < value.end; ++c)
        all[static_cast<std::size_t>(c)].reserve(
            static_cast<std::size_t>(ranges_.at(value.name)[static_cast<std::size_t>(c)].count));
    }
    visit_normalised(
        executor_, data_, group, is_static() ? &ranges_ : nullptr, observing_,
        [&](const std::string& value, std::int64_t channel, const float* first, std::int64_t count) {
          std::vector<float>& all = numbers_.at(value).at(static_cast<std::size_t>(channel));
          all.insert(all.end(), first, first + count);
        },
        progress_);
  }

  /// One channel's points for each number of bits in turn.
  struct Choice {
    std::vector<PointSelection> selections;
    double squares = 0;
    std::int64_t numbers = 0;
    bool varies = false;
  };

  Choice choose_from_histogram(const SubsetHistogram& histogram, const std::set<int>& bits) const {
    Choice choice{.squares = histogram.squares(), .numbers = histogram.count(), .varies = histogram.varies()};
    for (const int one : bits)
      choice.selections.push_back(options_.points == PointMethod::Exact
                                      ? select_points_exactly(histogram, 1 << one)
                                      : select_uniform_points(histogram, 1 << one));
    return choice;
  }

  Choice choose_by_means(std::vector<float> numbers, const std::string& value, std::int64_t channel,
                         const std::set<int>& bits) const {
    Choice choice{.numbers = static_cast<std::int64_t>(numbers.size())};
    for (const float number : numbers) choice.squares += static_cast<double>(number) * number;
    const auto bytes = std::as_bytes(std::span<const char>(value.data(), value.size()));
    const std::uint64_t seed =
        options_.seed ^ (fnv1a(bytes) + 0x9e3779b97f4a7c15u * static_cast<std::uint64_t>(channel + 1));
    const SortedValues sorted(std::move(numbers));
    choice.varies = !sorted.values().empty() && sorted.values().front() < sorted.values().back();
    for (const int one : bits)
      choice.selections.push_back(select_points_by_kmeans(sorted, 1 << one, seed, options_.restarts));
    return choice;
  }

  void choose(const ObservedValue& value) {
    const std::set<int>& bits = keys_.at(value.name);
    std::vector<Choice> choices(static_cast<std::size_t>(value.end - value.begin));
    at::parallel_for(value.begin, value.end, 1, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t c = begin; c < end; ++c) {
        const auto i = static_cast<std::size_t>(c);
        choices[static_cast<std::size_t>(c - value.begin)] =
            by_means() ? choose_by_means(std::move(numbers_.at(value.name)[i]), value.name, c, bits)
                       : choose_from_histogram(*histograms_.at(value.name)[i], bits);
      }
    });
    const auto channels = static_cast<double>(channels_.at(value.name));
    std::size_t place = 0;
    for (const int one : bits) {
      Table& table = tables_[{value.name, one}];
      for (const Choice& choice : choices) {
        const PointSelection& selection = choice.selections[place];
        table.points.insert(table.points.end(), selection.points.begin(), selection.points.end());
        table.used += selection.used / channels;
        table.constant += !choice.varies;
        table.loss += selection.loss;
        table.squares += choice.squares;
        table.energy.push_back(choice.numbers > 0 ? choice.squares / static_cast<double>(choice.numbers) : 0);
        report_.numbers += choice.numbers;
      }
      ++place;
    }
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
  // By value and channel; only those of the group at hand hold anything.
  std::map<std::string, std::vector<std::optional<SubsetHistogram>>> histograms_;
  std::map<std::string, std::vector<std::vector<float>>> numbers_;
  std::map<TableKey, Table> tables_;
};

/// Means or scales of all channels, [c, 1, 1].
TensorData channel_numbers(const std::vector<ChannelRange>& channels, bool centre,
                           float (ChannelRange::*number)(bool) const) {
  std::vector<float> numbers;
  for (const ChannelRange& channel : channels) numbers.push_back((channel.*number)(centre));
  return TensorData::from<float>({static_cast<std::int64_t>(channels.size()), 1, 1}, std::move(numbers));
}

std::vector<SubsetLayer> subset_layers(const Groundwork& ground, const Selector& selector,
                                       const std::map<TableKey, Table>& tables, DfsqReport& report) {
  std::vector<SubsetLayer> subsets;
  for (const Layer& layer : ground.layers) {
    if (layer.activation_bits == kFloatBits) continue;
    const Table& table = tables.at({layer.input, layer.activation_bits});
    const bool centre = selector.centred(layer.input);
    SubsetLayer one{.layer = layer.name, .input = layer.input};
    one.weight_bits = layer.weight_bits;
    one.energy = table.energy;
    const std::int64_t channels = selector.channels(layer.input);
    one.quantizer.points =
        TensorData::from<std::int16_t>({channels, std::int64_t{1} << layer.activation_bits}, table.points);
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
                             .channels = channels,
                             .centred = centre,
                             .used = table.used,
                             .constant = table.constant,
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

/// The layers as the file will hold them, with their tables of points.
std::vector<LayerResult> describe_dfsq_layers(const Groundwork& ground, Target target) {
  std::vector<LayerResult> results;
  for (const Layer& layer : ground.layers) {
    results.push_back(describe_layer(ground.graph, layer, layer.weight_bits, target));
    if (layer.activation_bits != kFloatBits)  // points of 16 bits
      results.back().bytes +=
          2 * input_channels(ground.graph, layer) * (std::int64_t{1} << layer.activation_bits);
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
  return reconstruct(normalised.graph, plan, calibration, *options.reconstruct, progress);
}

/// Whether pictures of any size fit, channels first.
bool takes_any_size(const Graph& model) {
  const std::vector<const ValueInfo*> inputs = model.required_inputs();
  if (inputs.size() != 1 || !inputs[0]->shape || inputs[0]->shape->size() != 4) return false;
  const DimVector& shape = *inputs[0]->shape;
  return !shape[2].known() && !shape[3].known();
}

DatasetPtr parts_to_compare(const Graph& model, const DatasetPtr& data) {
  return takes_any_size(model) ? middles(data, kComparedSide) : data;
}

/// What was seen too little of.
void note_points(const DfsqReport& report, std::vector<std::string>& notes) {
  std::int64_t constant = 0, channels = 0;
  std::set<std::string> seen;
  std::string first;
  for (const DfsqLayer& layer : report.layers) {
    if (!seen.insert(layer.input).second) continue;
    channels += layer.channels;
    constant += layer.constant;
    if (layer.constant > 0 && first.empty()) first = layer.name;
  }
  if (constant > 0)
    notes.push_back(fmt::format(
        "{} of {} channels that are rounded do not vary on the calibration data (first of the input of "
        "'{}'): "
        "whatever else they hold later is cut off; calibrate on pictures that show more, unless these "
        "channels are dead",
        constant, channels, first));
  if (report.options.points == PointMethod::Exact) return;
  for (const DfsqLayer& layer : report.layers)
    if (layer.used < std::min(1 << layer.bits, 1 << 7) * 0.5)
      notes.push_back(
          fmt::format("layer '{}': only {:.1f} of {} points are of use in the mean; --points exact "
                      "wastes none where the data vary",
                      layer.name, layer.used, 1 << layer.bits));
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
  Groundwork ground = lay_dfsq_ground(model, nullptr, options, plan.notes);
  plan.layers = describe_dfsq_layers(ground, options.target);
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
  // Only parts of large pictures: more than one runs at once here.
  const DatasetPtr parts = has_data ? parts_to_compare(model, calibration) : nullptr;
  if (has_data) options.batch = usable_batch(model, parts, wanted.batch);
  if (options.batch != wanted.batch) result.notes.emplace_back(kSingleSamplesOnly);
  if (has_data)
    if (const auto sizes = value_sizes(model, calibration, {}, options.threads))
      options.batch = samples_within(options.dfsq->memory, *sizes, options.batch);
  result.batch = options.batch;
  if (options.reconstruct) {
    options.reconstruct->scales = ScaleLearning::Off;  // points have none
    prepare_learning(model, calibration, options);
  }
  const Groundwork ground = lay_dfsq_ground(model, calibration, options, result.notes);
  require_learnable(ground, calibration, options);
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
  result.layers = describe_dfsq_layers(ground, options.target);
  note_points(report, result.notes);
  result.dfsq = std::move(report);
  if (!has_data || options.report_samples == 0) return result;

  SqnrOptions measured = sqnr_options(options);
  std::vector<std::string> outputs;
  for (const Layer& layer : ground.layers) outputs.push_back(layer.output);
  const std::string last = result.graph.outputs.at(0).name;
  outputs.push_back(last);
  if (const auto sizes = value_sizes(ground.graph, parts, outputs, options.threads))
    measured.batch = samples_within(options.dfsq->memory, *sizes, measured.batch);
  const auto sqnr = measure_sqnr(result.reference, result.graph, outputs, parts, measured, progress);
  for (std::size_t i = 0; i < result.layers.size(); ++i)
    result.layers[i].sqnr_db = sqnr.at(ground.layers[i].output);
  result.output_sqnr_db = sqnr.at(last);
  Progress silent;  // a line of its own would look like the one above again
  const auto sqnr_of = [&](const Graph& graph) {
    return measure_sqnr(result.reference, graph, {last}, parts, measured, silent).at(last);
  };
  if (options.reconstruct) result.nearest_sqnr_db = sqnr_of(export_subsets(normalised, nearest));
  result.minmax_graph = quantize(model, calibration,
                                 uniform_counterpart(options, result.layers, QuantizeMethod::MinMax), silent)
                            .graph;
  result.minmax_sqnr_db = sqnr_of(*result.minmax_graph);
  return result;
}

}  // namespace lithe
