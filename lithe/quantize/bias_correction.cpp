#include "lithe/quantize/bias_correction.h"

#include <map>
#include <set>
#include <unordered_map>

#include "lithe/engine/executor.h"
#include "lithe/ops/registry.h"
#include "lithe/quantize/batches.h"
#include "lithe/quantize/prepare.h"

namespace lithe {
namespace {

/// Sums of each channel; Conv counts channels along axis 1, matrices along the last.
struct ChannelMean {
  at::Tensor sum;
  std::int64_t count = 0;

  void add(const at::Tensor& y, std::int64_t axis) {
    const at::Tensor rows = y.transpose(0, axis).reshape({y.size(axis), -1}).to(at::kDouble);
    const at::Tensor total = rows.sum(1);
    sum = sum.defined() ? sum + total : total;
    count += rows.size(1);
  }
  at::Tensor mean() const { return sum / static_cast<double>(count); }
};

std::int64_t channel_axis_of_output(const Layer& layer, const at::Tensor& y) {
  return layer.op == "Conv" || layer.op == "ConvTranspose" ? 1 : y.dim() - 1;
}

/// Values made (or fed) up to node `position` that later nodes read.
std::set<std::string> frontier(const Graph& graph, std::size_t position) {
  std::set<std::string> made;
  for (const ValueInfo* input : graph.required_inputs()) made.insert(input->name);
  for (std::size_t i = 0; i <= position; ++i)
    for (const std::string& value : graph.nodes[i].outputs)
      if (!value.empty()) made.insert(value);
  std::set<std::string> live;
  for (std::size_t i = position + 1; i < graph.nodes.size(); ++i)
    for (const std::string& value : all_reads(graph.nodes[i]))
      if (made.contains(value)) live.insert(value);
  return live;
}

}  // namespace

int correct_biases(Graph& graph, QdqPlan& plan, const DatasetPtr& calibration,
                   const BiasCorrectionOptions& options, Progress& progress) {
  std::vector<Layer*> layers;
  std::map<std::string, const Layer*> by_output;
  for (Layer& layer : plan.layers) {
    if (layer.weight_bits == kFloatBits && layer.activation_bits == kFloatBits) continue;
    if (layer.bias.empty()) {
      // A bias that is not one number a channel stays as it is, and a MatMul has no place for one.
      if (layer.op == "MatMul" || !graph.nodes[layer.node].input(2).empty()) continue;
      std::int64_t channels = layer.channels;
      if (layer.axis < 0) {
        const auto& shape = graph.constants.at(layer.weight).shape();
        channels = shape.at(1) * graph.nodes[layer.node].attr("group", std::int64_t{1});
      }
      ensure_bias(graph, layer.node, channels);
    }
    layer.bias = own_constant(graph, layer.bias_node, layer.bias_index);
    layers.push_back(&layer);
    by_output.emplace(layer.output, &layer);
  }
  if (layers.empty()) return 0;

  const Graph quantized = export_qdq(graph, plan);
  Executor reference(graph, {.device = options.device}), simulator(quantized, {.device = options.device});
  std::map<std::string, ChannelMean> wanted;
  std::vector<Feeds> batches;
  for_each_batch(graph, calibration,
                 {.batch = options.batch, .threads = options.threads, .limit = options.samples},
                 [&](const Feeds& feeds, std::int64_t) {
                   reference.run(feeds, {}, [&](const std::string& name, const at::Tensor& y) {
                     const auto found = by_output.find(name);
                     if (found != by_output.end())
                       wanted[name].add(y, channel_axis_of_output(*found->second, y));
                   });
                   batches.push_back(feeds);
                 });

  std::unordered_map<std::string, std::size_t> maker;
  for (std::size_t i = 0; i < quantized.nodes.size(); ++i)
    for (const std::string& value : quantized.nodes[i].outputs) maker.emplace(value, i);
  progress.start("correct biases", static_cast<std::int64_t>(layers.size()));
  for (Layer* layer : layers) {
    // The state of each batch moves on to just behind this layer.
    const std::set<std::string> live = frontier(quantized, maker.at(layer->output));
    std::vector<std::string> fetch(live.begin(), live.end());
    if (!live.contains(layer->output)) fetch.push_back(layer->output);
    ChannelMean measured;
    for (Feeds& state : batches) {
      state = simulator.run(state, fetch);
      const at::Tensor& y = state.at(layer->output);
      measured.add(y, channel_axis_of_output(*layer, y));
    }
    const at::Tensor shift = (wanted.at(layer->output).mean() - measured.mean()).to(at::kFloat);
    for (Feeds& state : batches) {
      at::Tensor& y = state.at(layer->output);
      y = y + along_axis(shift, channel_axis_of_output(*layer, y), y.dim());
    }
    const TensorData old = graph.constants.at(layer->bias);
    graph.constants[layer->bias] =
        to_tensor_data((to_tensor(old).reshape({-1}) + shift.cpu()).reshape(old.shape()).contiguous());
    progress.advance(1, layer->name);
  }
  progress.finish();
  return static_cast<int>(layers.size());
}

}  // namespace lithe
