#include "lithe/quantize/sensitivity.h"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_set>
#include <utility>

#include "lithe/base/error.h"
#include "lithe/metrics/evaluate.h"
#include "lithe/quantize/batches.h"

namespace lithe {
namespace {

/// A weight under test.
struct Probe {
  std::size_t first_reader = 0;      // node
  std::vector<std::string> outputs;  // of the graph, that depend on it
  struct Candidate {
    Quantizer quantizer;
    at::Tensor codes;  // int8
  };
  std::vector<Candidate> candidates;
};

/// Sums over the batches of one output.
struct Deviation {
  double divergence = 0, rows = 0;
  double noise = 0, signal = 0;
};

/// What one pass from a layer to the outputs needs: values that depend on the model's inputs.
class Frontiers {
 public:
  explicit Frontiers(const Graph& graph) : graph_(graph), index_(graph) {
    for (const ValueInfo* input : graph.required_inputs()) {
      dynamic_.insert(input->name);
      inputs_.push_back(input->name);
    }
    for (const Node& node : graph.nodes) {
      const std::vector<std::string> reads = all_reads(node);
      if (std::none_of(reads.begin(), reads.end(), [&](const auto& name) { return dynamic_.contains(name); }))
        continue;
      for (const std::string& name : node.outputs)
        if (!name.empty()) dynamic_.insert(name);
    }
  }

  /// Made before the node, and read by it, by a later one, or outside.
  std::vector<std::string> before(std::size_t node) const {
    std::vector<std::string> live;
    const auto consider = [&](const std::string& name) {
      const auto& readers = index_.consumers(name);
      if (index_.is_output(name) || (!readers.empty() && readers.back() >= static_cast<int>(node)))
        live.push_back(name);
    };
    for (const std::string& name : inputs_) consider(name);
    for (std::size_t i = 0; i < node; ++i)
      for (const std::string& name : graph_.nodes[i].outputs)
        if (dynamic_.contains(name)) consider(name);
    return live;
  }

  std::size_t first_reader(const std::string& constant) const {
    return static_cast<std::size_t>(index_.consumers(constant).front());
  }

  /// Graph outputs that depend on the constant.
  std::vector<std::string> outputs_behind(const std::string& constant) const {
    std::unordered_set<std::string> reached{constant};
    for (std::size_t i = first_reader(constant); i < graph_.nodes.size(); ++i) {
      const std::vector<std::string> reads = all_reads(graph_.nodes[i]);
      if (std::any_of(reads.begin(), reads.end(), [&](const auto& name) { return reached.contains(name); }))
        reached.insert(graph_.nodes[i].outputs.begin(), graph_.nodes[i].outputs.end());
    }
    std::vector<std::string> outputs;
    for (const ValueInfo& output : graph_.outputs)
      if (reached.contains(output.name)) outputs.push_back(output.name);
    return outputs;
  }

 private:
  const Graph& graph_;
  const GraphIndex index_;
  std::unordered_set<std::string> dynamic_;
  std::vector<std::string> inputs_;
};

bool is_float(const at::Tensor& x) {
  return at::isFloatingType(x.scalar_type());
}

bool has_classes(const at::Tensor& x, SensitivityMetric metric) {
  if (metric == SensitivityMetric::Error) return false;
  const bool classes = x.dim() >= 2 && x.size(1) > 1;
  if (metric == SensitivityMetric::Divergence) {
    if (!classes)
      fail("an output of shape {} has no classes along axis 1; measure its error instead",
           fmt::join(x.sizes(), "x"));
    return true;
  }
  return classes && x.dim() == 2;
}

/// Logarithms of class probabilities along axis 1.
at::Tensor log_probabilities(const at::Tensor& x, bool probabilities) {
  const at::Tensor wide = x.to(at::kDouble);
  return probabilities ? wide.clamp_min(1e-30).log() : at::log_softmax(wide, 1);
}

void add(Deviation& sum, const at::Tensor& wanted, const at::Tensor& value, bool probabilities,
         SensitivityMetric metric) {
  if (has_classes(wanted, metric)) {
    const at::Tensor p = log_probabilities(wanted, probabilities),
                     q = log_probabilities(value, probabilities);
    sum.divergence += (p.exp() * (p - q)).sum().item<double>();
    const std::int64_t rows = wanted.numel() / wanted.size(1);
    sum.rows += static_cast<double>(rows);
    return;
  }
  const at::Tensor wide = wanted.to(at::kDouble);
  sum.noise += (wide - value.to(at::kDouble)).square().sum().item<double>();
  sum.signal += wide.square().sum().item<double>();
}

double mean_loss(const std::map<std::string, Deviation>& deviations) {
  double total = 0;
  for (const auto& [name, sum] : deviations) {
    if (sum.rows > 0)
      total += std::max(sum.divergence, 0.0) / sum.rows;  // rounding may leave it below 0
    else
      total += sum.signal > 0 ? sum.noise / sum.signal : (sum.noise > 0 ? 1 : 0);
  }
  return deviations.empty() ? 0 : total / static_cast<double>(deviations.size());
}

bool is_finite(const at::Tensor& x) {
  return !is_float(x) || at::isfinite(x).all().item<bool>();
}

/// All weights with all candidates, on a graph.
class Prober {
 public:
  Prober(const Graph& graph, const std::vector<Layer>& layers, const SensitivityOptions& options)
      : graph_(graph), options_(options), frontiers_(graph) {
    for (const QuantizedWeight& weight : assign_weights(layers, ReduceRange::Off)) add_probe(layers, weight);
    order_.resize(probes_.size());
    for (std::size_t i = 0; i < order_.size(); ++i) order_[i] = i;
    std::stable_sort(order_.begin(), order_.end(), [&](std::size_t a, std::size_t b) {
      return probes_[a].first_reader < probes_[b].first_reader;
    });
  }

  std::size_t size() const { return probes_.size(); }

  /// Walks through the graph once, holding what lives between two layers.
  void measure(Executor& executor, const Feeds& feeds, std::int64_t samples, Progress& progress) {
    const Feeds wanted = executor.run(feeds);
    for (const auto& [name, value] : wanted)
      if (!is_finite(value))
        fail(
            "output '{}' is NaN or infinite on the calibration data; check the data, the preprocessing and "
            "the weights",
            name);
    Feeds live;
    for (const auto& [name, value] : feeds) live[name] = value.to(options_.device);
    for (const std::size_t at : order_) {
      advance(executor, live, probes_[at].first_reader);
      for (std::size_t c = 0; c < probes_[at].candidates.size(); ++c) compare(executor, live, wanted, at, c);
      progress.advance(samples, results_[at].choices.name);
    }
  }

  std::vector<WeightSensitivity> finish() {
    for (std::size_t i = 0; i < probes_.size(); ++i)
      for (std::size_t c = 0; c < probes_[i].candidates.size(); ++c)
        results_[i].choices.choices[c].loss = mean_loss(sums_[i][c]);
    return std::move(results_);
  }

 private:
  void add_probe(const std::vector<Layer>& layers, const QuantizedWeight& weight) {
    Probe probe{.first_reader = frontiers_.first_reader(weight.constant),
                .outputs = frontiers_.outputs_behind(weight.constant)};
    const std::int64_t count = graph_.constants.at(weight.constant).count();
    WeightSensitivity result{.constant = weight.constant, .layers = weight.layers};
    result.choices.name = layers[weight.layers.front()].name;
    result.choices.weights = count;
    std::vector<Layer> own;
    for (const std::size_t layer : weight.layers) own.push_back(layers[layer]);
    for (const int bits : options_.bits) {
      for (Layer& layer : own) layer.weight_bits = bits;
      QuantizedWeight quantized = std::move(quantize_weights(graph_, own, options_.weights).front());
      result.choices.choices.push_back(
          {.weight_bits = bits,
           .bytes = packed_weight_bytes(bits, count, quantized.quantizer.scale.numel())});
      probe.candidates.push_back({std::move(quantized.quantizer), quantized.codes.to(at::kChar)});
    }
    sums_.emplace_back(options_.bits.size());
    probes_.push_back(std::move(probe));
    results_.push_back(std::move(result));
  }

  /// Replaces the live values by those in front of the node.
  void advance(Executor& executor, Feeds& live, std::size_t node) const {
    const std::vector<std::string> names = frontiers_.before(node);
    std::vector<std::string> missing;
    for (const std::string& name : names)
      if (live.find(name) == live.end()) missing.push_back(name);
    Feeds made;
    if (!missing.empty()) made = executor.run(live, missing);
    Feeds next;
    for (const std::string& name : names) {
      const auto found = live.find(name);
      next[name] = found != live.end() ? found->second : made.at(name);
    }
    live = std::move(next);
  }

  void compare(Executor& executor, const Feeds& live, const Feeds& wanted, std::size_t at, std::size_t c) {
    const Probe& probe = probes_[at];
    const auto& candidate = probe.candidates[c];
    if (probe.outputs.empty()) return;
    Feeds feeds = live;
    feeds[results_[at].constant] = decode(candidate.quantizer, candidate.codes.to(at::kFloat));
    const Feeds outputs = executor.run(feeds, probe.outputs);
    for (const auto& [name, value] : outputs) {
      const at::Tensor& target = wanted.at(name);
      if (!is_float(target)) continue;
      if (!is_finite(value))
        fail(
            "output '{}' is NaN or infinite when the weight of layer '{}' has {} bits; keep that layer in "
            "float",
            name, results_[at].choices.name, options_.bits[c]);
      if (value.sizes() != target.sizes())
        fail(
            "output '{}' changes its shape when the weight of layer '{}' has {} bits; keep that layer in "
            "float",
            name, results_[at].choices.name, options_.bits[c]);
      add(sums_[at][c][name], target, value, is_probability(graph_, name), options_.metric);
    }
  }

  const Graph& graph_;
  const SensitivityOptions& options_;
  const Frontiers frontiers_;
  std::vector<Probe> probes_;
  std::vector<std::size_t> order_;                                   // of the probes, along the graph
  std::vector<std::vector<std::map<std::string, Deviation>>> sums_;  // by probe, candidate, output
  std::vector<WeightSensitivity> results_;
};

}  // namespace

std::int64_t packed_weight_bytes(int bits, std::int64_t elements, std::int64_t scales) {
  return (elements * bits + 7) / 8 + scales * 5;
}

std::vector<WeightSensitivity> measure_sensitivity(const Graph& graph, const std::vector<Layer>& layers,
                                                   const DatasetPtr& calibration,
                                                   const SensitivityOptions& options, Progress& progress) {
  if (options.bits.empty()) fail("there are no numbers of bits to choose from");
  for (const int bits : options.bits)
    if (bits < 2 || bits > 8) fail("weights cannot have {} bits; offer 2 to 8", bits);
  if (!calibration || calibration->size() == 0)
    fail("the sensitivity of layers is measured on data; give --calib");
  if (options.samples < 1) fail("the sensitivity of layers needs at least 1 sample, not {}", options.samples);
  const at::NoGradGuard no_grad;
  Prober prober(graph, layers, options);
  if (prober.size() == 0) fail("no layer has weights to choose bits for");
  Executor executor(graph, {.device = options.device});
  const std::int64_t samples = std::min(options.samples, calibration->size());
  progress.start("measure sensitivity", samples * static_cast<std::int64_t>(prober.size()));
  for_each_batch(
      graph, calibration, {.batch = options.batch, .threads = options.threads, .limit = options.samples},
      [&](const Feeds& feeds, std::int64_t size) { prober.measure(executor, feeds, size, progress); });
  progress.finish();
  return prober.finish();
}

}  // namespace lithe
