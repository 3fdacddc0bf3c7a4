#include "lithe/train/batch_norm.h"

#include <algorithm>

#include "lithe/base/random.h"
#include "lithe/data/loader.h"
#include "lithe/train/agreement.h"
#include "lithe/train/samples.h"
#include "lithe/train/trainable.h"

namespace lithe {
namespace {

constexpr std::uint64_t kOrder = 0x626e0000;

/// The graph with batch norms that report the statistics of each batch alone, and without dropout: in
/// training mode it then differs from evaluation in the batch norms only.
Graph reporting_statistics(const Graph& graph) {
  Graph out = graph;
  const GraphIndex index(graph);
  for (Node& node : out.nodes) {
    if (node.is("BatchNormalization")) node.attributes["momentum"] = 0.0f;
    if (node.is("Dropout") && (node.outputs.size() == 1 || index.consumers(node.outputs[1]).empty())) {
      node.op_type = "Identity";
      node.inputs.resize(1);
      node.outputs.resize(1);
      node.attributes.clear();
    }
  }
  return out;
}

}  // namespace

void reestimate_batch_norm(Executor& executor, const DatasetPtr& data, const ReestimateOptions& options) {
  const Graph& graph = executor.graph();
  const std::vector<std::string> names = running_statistics(graph);
  if (names.empty()) return;
  const at::NoGradGuard no_grad;
  ExecutorOptions how = executor.options();
  how.training = true;
  how.collective = options.collective;
  Executor probe(reporting_statistics(graph), how);
  for (const auto& [name, value] : graph.constants)
    probe.set_constant(name, executor.constant(name).detach());
  for (const Node& node : graph.nodes)
    if (node.is("Constant") && node.find<TensorData>("value"))
      probe.set_constant(node.output(0), executor.constant(node.output(0)).detach());

  const std::int64_t processes = options.collective ? options.collective->size() : 1;
  const std::int64_t rank = options.collective ? options.collective->rank() : 0;
  const std::int64_t batch = std::max<std::int64_t>(1, std::min(options.batch, data->size() / processes));
  const std::int64_t batches =
      std::clamp<std::int64_t>(data->size() / (batch * processes), 1, options.batches);
  const std::vector<std::int64_t> order = Rng(seed_for(options.seed, kOrder)).permutation(data->size());
  std::vector<std::int64_t> own;
  for (std::int64_t i = 0; i < batches; ++i)
    for (std::int64_t k = 0; k < batch; ++k)
      own.push_back(order[static_cast<std::size_t>((i * processes + rank) * batch + k)]);

  std::vector<at::Tensor> sums(names.size());
  std::int64_t count = 0;
  Loader loader(subset(data, std::move(own)), {.batch = batch, .threads = options.threads});
  const Agreement agreement(options.collective, how.device);
  Batch one;
  for (bool more = true; more; ++count) {
    agreement.together([&] { more = loader.next(one); });
    if (!more) break;
    probe.run(bind_inputs(graph, one.inputs));
    for (std::size_t i = 0; i < names.size(); ++i) {
      const at::Tensor value = probe.constant(names[i]).to(at::kDouble);
      sums[i] = sums[i].defined() ? sums[i] + value : value;
    }
  }
  for (std::size_t i = 0; i < names.size(); ++i)
    executor.set_constant(
        names[i], (sums[i] / static_cast<double>(count)).to(executor.constant(names[i]).scalar_type()));
}

}  // namespace lithe
