#include "lithe/diffusion/layer_costs.h"

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <unordered_map>

#include "lithe/base/clock.h"
#include "lithe/engine/executor.h"
#include "lithe/engine/random_inputs.h"
#include "lithe/engine/threads.h"
#include "lithe/graph/cost.h"

namespace lithe {
namespace {

constexpr double kMilliseconds = 1e3;

/// Which layers have to be skipped so that a node is not needed any more; nothing in `always`.
struct Need {
  bool always = false;
  std::set<int> layers;
};

/// By node: the layers whose branches alone lead from it to an output.
std::vector<Need> needs_of(const Graph& graph, const std::vector<SkippableLayer>& layers) {
  std::unordered_map<std::string, int> joins;
  for (int number = 0; number < std::ssize(layers); ++number)
    joins[layers[static_cast<std::size_t>(number)].output] = number;
  std::unordered_map<std::string, Need> values;
  for (const ValueInfo& output : graph.outputs) values[output.name].always = true;
  std::vector<Need> needs(graph.nodes.size());
  for (std::size_t i = graph.nodes.size(); i-- > 0;) {
    const Node& node = graph.nodes[i];
    for (const std::string& output : node.outputs) {
      const Need& need = values[output];
      needs[i].always = needs[i].always || need.always;
      needs[i].layers.insert(need.layers.begin(), need.layers.end());
    }
    const auto join = joins.find(node.output(0));
    for (const std::string& name : all_reads(node)) {
      Need& need = values[name];
      if (join != joins.end() && name == layers[static_cast<std::size_t>(join->second)].branch) {
        need.layers.insert(join->second);
        continue;
      }
      need.always = need.always || needs[i].always;
      need.layers.insert(needs[i].layers.begin(), needs[i].layers.end());
    }
  }
  return needs;
}

double median(std::vector<double> values) {
  const auto middle = values.begin() + std::ssize(values) / 2;
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

double time_run(Executor& executor, const Feeds& feeds) {
  const auto start = Clock::now();
  executor.run(feeds);
  return kMilliseconds * seconds_since(start);
}

}  // namespace

std::int64_t LayerMacs::without(const std::vector<int>& skipped) const {
  std::int64_t macs = full;
  for (const int layer : skipped) macs -= saved.at(static_cast<std::size_t>(layer));
  for (const auto& [layers, count] : shared)
    if (std::includes(skipped.begin(), skipped.end(), layers.begin(), layers.end())) macs -= count;
  return macs;
}

LayerMacs measure_layer_macs(const Graph& graph, const std::vector<SkippableLayer>& layers,
                             const InputShapes& shapes) {
  Graph sized = graph;
  infer_shapes(sized, concrete_input_shapes(graph, shapes));
  const Cost cost = measure_cost(sized);
  LayerMacs macs{.full = cost.macs, .saved = std::vector<std::int64_t>(layers.size())};
  std::map<std::vector<int>, std::int64_t> shared;
  const std::vector<Need> needs = needs_of(sized, layers);
  for (std::size_t i = 0; i < needs.size(); ++i) {
    if (needs[i].always || needs[i].layers.empty() || cost.node_macs[i] == 0) continue;
    if (needs[i].layers.size() == 1)
      macs.saved[static_cast<std::size_t>(*needs[i].layers.begin())] += cost.node_macs[i];
    else
      shared[{needs[i].layers.begin(), needs[i].layers.end()}] += cost.node_macs[i];
  }
  macs.shared.assign(shared.begin(), shared.end());
  return macs;
}

LayerTimes measure_layer_times(const Graph& graph, const std::vector<SkippableLayer>& layers,
                               const LayerTimeOptions& options) {
  const at::NoGradGuard no_grad;
  set_threads(options.threads);
  const Feeds feeds = random_inputs(graph, 1, {}, options.batch);
  Executor full(graph);
  time_run(full, feeds);  // what is prepared once
  LayerTimes times;
  std::vector<double> all;
  for (int number = 0; number < std::ssize(layers); ++number) {
    Executor reduced(without_layers(graph, layers, {number}));
    time_run(reduced, feeds);
    std::vector<double> with, without;
    for (int i = 0; i < options.repeats; ++i) {
      with.push_back(time_run(full, feeds));
      without.push_back(time_run(reduced, feeds));
    }
    times.saved.push_back(median(with) - median(without));
    all.insert(all.end(), with.begin(), with.end());
  }
  while (std::ssize(all) < options.repeats) all.push_back(time_run(full, feeds));
  times.full = median(all);
  return times;
}

}  // namespace lithe
