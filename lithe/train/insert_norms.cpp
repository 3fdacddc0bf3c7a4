#include "lithe/train/insert_norms.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "lithe/base/error.h"
#include "lithe/data/loader.h"
#include "lithe/engine/executor.h"

namespace lithe {
namespace {

constexpr float kEpsilon = 1e-5f;

/// Numbers as a constant of the given float type.
TensorData as_type(DType dtype, std::vector<std::int64_t> shape, const std::vector<double>& values) {
  if (dtype == DType::Float64) return TensorData::from(std::move(shape), values);
  return TensorData::from(std::move(shape), std::vector<float>(values.begin(), values.end()));
}

struct ChannelSums {
  std::vector<double> sum, squares;
  double count = 0;
};

/// Mean and variance of values over samples and positions, by channel (axis 1).
std::map<std::string, ChannelSums> measure_channels(const Graph& graph,
                                                    const std::vector<std::string>& values,
                                                    const DatasetPtr& data, std::int64_t samples,
                                                    std::int64_t batch) {
  const at::NoGradGuard no_grad;
  Executor run(graph, {.fuse = false});
  std::map<std::string, ChannelSums> sums;
  const std::int64_t fixed = fixed_batch(graph);
  Loader loader(seeded_subset(data, samples, 0),
                {.batch = fixed > 0 ? fixed : batch, .threads = 1, .drop_last = fixed > 0});
  for (Batch one; loader.next(one);)
    for (const auto& [name, value] : run.run(bind_inputs(graph, one.inputs), values)) {
      const at::Tensor flat = value.to(at::kDouble).transpose(0, 1).flatten(1).contiguous();
      const at::Tensor sum = flat.sum(1), squares = flat.square().sum(1);
      ChannelSums& into = sums[name];
      into.sum.resize(static_cast<std::size_t>(flat.size(0)));
      into.squares.resize(into.sum.size());
      for (std::size_t c = 0; c < into.sum.size(); ++c) {
        into.sum[c] += sum.data_ptr<double>()[c];
        into.squares[c] += squares.data_ptr<double>()[c];
      }
      into.count += static_cast<double>(flat.size(1));
    }
  for (const std::string& value : values)
    if (sums[value].count == 0)
      fail("the data hold no full batch to take the statistics of '{}' from", value);
  return sums;
}

/// Index of the node that makes the value.
std::size_t maker_of(const Graph& graph, const std::string& value) {
  const int index = GraphIndex(graph).producer(value);
  if (index < 0) fail("the model '{}' has no node that makes '{}'", graph.name, value);
  return static_cast<std::size_t>(index);
}

}  // namespace

std::vector<std::string> insert_norms(Graph& graph, const std::vector<std::string>& convolutions,
                                      const DatasetPtr& data, std::int64_t samples, std::int64_t batch) {
  if (convolutions.empty()) return {};
  const auto sums = measure_channels(graph, convolutions, data, samples, batch);
  std::vector<std::string> outputs;
  for (const std::string& convolution : convolutions) {
    const ChannelSums& one = sums.at(convolution);
    const std::size_t at = maker_of(graph, convolution), channels = one.sum.size();
    const std::string name = graph.nodes[at].name.empty() ? convolution : graph.nodes[at].name;
    const TensorData* bias_data = graph.constant(graph.nodes[at].input(2));
    const std::vector<double> bias = bias_data ? bias_data->to_doubles() : std::vector<double>(channels, 0.0);
    std::vector<double> scale(channels), shift(channels), mean(channels), var(channels);
    for (std::size_t c = 0; c < channels; ++c) {
      shift[c] = one.sum[c] / one.count;
      var[c] = std::max(0.0, one.squares[c] / one.count - shift[c] * shift[c]);
      mean[c] = shift[c] - bias[c];
      scale[c] = std::sqrt(var[c] + static_cast<double>(kEpsilon));
    }
    const auto count = static_cast<std::int64_t>(channels);
    const DType dtype = graph.constants.at(graph.nodes[at].input(1)).dtype();
    Node norm{.name = name + "/norm", .op_type = "BatchNormalization"};
    norm.attributes["epsilon"] = kEpsilon;
    norm.attributes["momentum"] = 0.9f;
    norm.outputs = {convolution};
    const std::string output = graph.unique_name(convolution + "/before_norm");
    norm.inputs = {output};
    const auto add = [&](const char* what, const std::vector<double>& values) {
      norm.inputs.push_back(graph.add_constant(norm.name + "/" + what, as_type(dtype, {count}, values)));
    };
    add("scale", scale);
    add("bias", shift);
    add("mean", mean);
    add("var", var);
    Node& conv = graph.nodes[at];
    if (conv.inputs.size() > 2) conv.inputs.resize(2);
    conv.outputs[0] = output;
    outputs.push_back(output);
    graph.nodes.insert(graph.nodes.begin() + static_cast<std::ptrdiff_t>(at) + 1, std::move(norm));
  }
  graph.remove_dead();
  graph.validate();
  return outputs;
}

}  // namespace lithe
