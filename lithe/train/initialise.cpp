#include "lithe/train/initialise.h"

#include <cmath>
#include <set>

#include "lithe/base/hash.h"
#include "lithe/base/random.h"
#include "lithe/train/trainable.h"

namespace lithe {
namespace {

TensorData* find_constant(Graph& graph, const std::string& name) {
  if (const auto found = graph.constants.find(name); found != graph.constants.end()) return &found->second;
  for (Node& node : graph.nodes)
    if (node.is("Constant") && node.output(0) == name)
      return std::get_if<TensorData>(&node.attributes.at("value"));
  return nullptr;
}

template <typename Function>
void fill(TensorData& data, Function&& value) {
  const auto count = static_cast<std::size_t>(data.count());
  if (data.dtype() == DType::Float64) {
    std::vector<double> values(count);
    for (double& one : values) one = value();
    data = TensorData::from<double>(data.shape(), std::move(values));
  } else {
    std::vector<float> values(count);
    for (float& one : values) one = static_cast<float>(value());
    data = TensorData::from<float>(data.shape(), std::move(values));
  }
}

double deviation(const Node& node, const TensorData& weight) {
  const auto& shape = weight.shape();
  const auto product = [&](std::size_t from, std::size_t to) {
    double count = 1;
    for (std::size_t i = from; i < to && i < shape.size(); ++i) count *= static_cast<double>(shape[i]);
    return std::max(count, 1.0);
  };
  if (node.is("Conv") || node.is("DeformConv")) return std::sqrt(2 / product(1, shape.size()));
  if (node.is("ConvTranspose"))  // [in, out / groups, k...]
    return std::sqrt(2 * static_cast<double>(node.attr("group", std::int64_t{1})) /
                     (product(0, 1) * product(2, shape.size())));
  if (shape.size() < 2) return std::sqrt(1 / product(0, shape.size()));
  const bool rows = (node.is("Gemm") && node.attr("transB", std::int64_t{0}) != 0) || node.is("LSTM") ||
                    node.is("GRU") || node.is("RNN");
  return std::sqrt(1 / static_cast<double>(rows ? shape[shape.size() - 1] : shape[shape.size() - 2]));
}

constexpr double kBranchScale = 0.1;

/// Whether what the node makes is added to another computed value as it is.
bool ends_branch(const Graph& graph, const GraphIndex& index, const Node& node) {
  for (const int consumer : index.consumers(node.output(0))) {
    const Node& sum = graph.nodes[static_cast<std::size_t>(consumer)];
    const std::string& other = sum.input(0) == node.output(0) ? sum.input(1) : sum.input(0);
    if (sum.is("Add") && !graph.is_constant(other)) return true;
  }
  return false;
}

}  // namespace

void initialise(Graph& graph, std::uint64_t seed) {
  const GraphIndex index(graph);
  for (const Trainable& one : trainable_constants(graph)) {
    TensorData& data = *find_constant(graph, one.name);
    Rng rng(seed, fnv1a(std::as_bytes(std::span(one.name))));
    switch (one.kind) {
      case TrainableKind::Weight: {
        const Node& node = graph.nodes[static_cast<std::size_t>(one.node)];
        double scale = deviation(node, data);
        if (node.is("Conv") && ends_branch(graph, index, node)) scale *= kBranchScale;
        fill(data, [&] { return scale * rng.normal(); });
        break;
      }
      case TrainableKind::Embedding:
        fill(data, [&] { return 0.02 * rng.normal(); });
        break;
      case TrainableKind::NormScale:
        fill(data, [] { return 1.0; });
        break;
      case TrainableKind::Bias:
      case TrainableKind::NormBias:
        fill(data, [] { return 0.0; });
        break;
    }
  }
  std::set<std::string> variances;
  for (const Node& node : graph.nodes)
    if (node.is("BatchNormalization")) variances.insert(node.input(4));
  for (const std::string& name : running_statistics(graph))
    if (TensorData* data = find_constant(graph, name))
      fill(*data, [one = variances.contains(name)] { return one ? 1.0 : 0.0; });
}

}  // namespace lithe
