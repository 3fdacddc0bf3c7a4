#include "lithe/multibit/body.h"

#include <algorithm>
#include <set>

#include "lithe/base/error.h"
#include "lithe/graph/cost.h"
#include "lithe/graph/dataflow.h"

namespace lithe {
namespace {

const Node& node_at(const Graph& graph, int index) {
  return graph.nodes[static_cast<std::size_t>(index)];
}

bool pools(const Node& node) {
  return node.is("MaxPool") || node.is("AveragePool");
}

class Finder {
 public:
  explicit Finder(const Graph& graph) : graph_(graph), flow_(graph) {}

  Body find() {
    for (int i = 0; i < count(); ++i)
      if (flow_.is_data(i) && at(i).is("Conv")) convolutions_.push_back(i);
    if (convolutions_.size() < 2)
      fail("the model '{}' has {} convolution{}; one for the stem and one to quantise are needed",
           graph_.name, convolutions_.size(), convolutions_.size() == 1 ? "" : "s");
    Body body;
    body.entry = stem_end();
    body.exit = body_end();
    collect(body);
    measure(body);
    if (body.convolutions.empty())
      fail("the model '{}' has no convolution that can be quantised{}{}", graph_.name,
           body.left_out.empty() ? "" : ": ", body.left_out.empty() ? "" : body.left_out.front());
    mark_last(body);
    return body;
  }

 private:
  int count() const { return static_cast<int>(graph_.nodes.size()); }
  const Node& at(int index) const { return node_at(graph_, index); }

  /// Whether every path from nodes up to `node` to those behind it goes through the node's first output.
  bool is_cut(int node) const {
    const std::string& value = at(node).output(0);
    for (int i = 0; i <= node; ++i) {
      if (!flow_.is_data(i)) continue;
      for (const std::string& output : at(i).outputs) {
        if (output == value || output.empty()) continue;
        for (const int reader : flow_.data_consumers(output))
          if (reader > node) return false;
        if (flow_.index.is_output(output)) return false;
      }
    }
    for (const int reader : flow_.data_consumers(flow_.main_input))
      if (reader > node) return false;
    return true;
  }

  int only_reader(const std::string& value) const {
    const std::vector<int> readers = flow_.data_consumers(value);
    return readers.size() == 1 && !flow_.index.is_output(value) ? readers[0] : -1;
  }

  bool belongs_to_stem(const Node& node) const {
    return node.is("BatchNormalization") || pools(node) || node.is("Identity") || follows_elementwise(node);
  }

  std::string stem_end() const {
    int node = convolutions_[0];
    for (int next = only_reader(at(node).output(0)); next >= 0 && belongs_to_stem(at(next));
         next = only_reader(at(node).output(0)))
      node = next;
    if (!is_cut(node))
      fail("{}: other paths pass by the first convolution; a model with one stem is needed",
           describe(at(convolutions_[0])));
    return at(node).output(0);
  }

  std::string body_end() const {
    int node = convolutions_.back();
    while (node < count() && (!flow_.is_data(node) || !is_cut(node))) ++node;
    if (node == count())
      fail("{}: no single value lies behind the last convolution; a classifier with one output is needed",
           describe(at(convolutions_.back())));
    for (int next = only_reader(at(node).output(0)); next >= 0; next = only_reader(at(node).output(0))) {
      const Node& reader = at(next);
      if (!reader.is("BatchNormalization") && (!follows_elementwise(reader) || flow_.is_join(next))) break;
      node = next;
    }
    return at(node).output(0);
  }

  void collect(Body& body) const {
    const int first = flow_.index.producer(body.entry), last = flow_.index.producer(body.exit);
    // Of the data path, what the exit needs and the entry reaches.
    std::set<int> needed;
    std::vector<int> open{last};
    while (!open.empty()) {
      const int node = open.back();
      open.pop_back();
      if (node <= first || !needed.insert(node).second) continue;
      for (const std::string& value : flow_.data_inputs(node))
        if (value != body.entry) open.push_back(flow_.index.producer(value));
    }
    body.nodes = flow_.with_helpers({needed.begin(), needed.end()});
  }

  void measure(Body& body) const {
    const Cost cost = measure_cost(graph_);
    for (const int i : body.nodes) {
      const Node& node = at(i);
      if (!node.is("Conv") || !flow_.is_data(i)) continue;
      const TensorData* weight = graph_.constant(node.input(1));
      const auto leave = [&](const char* reason) {
        body.left_out.push_back(fmt::format("{}: {}", describe(node), reason));
      };
      if (!weight || weight->dtype() != DType::Float32 || weight->rank() < 3) {
        leave("its weight is no float32 constant");
        continue;
      }
      if (flow_.index.consumers(node.input(1)).size() != 1) {
        leave("it shares its weight");
        continue;
      }
      if (at_one_position(node)) {
        leave("it works on one position, as gates do");
        continue;
      }
      body.convolutions.push_back({.node = i,
                                   .name = node.name.empty() ? node.output(0) : node.name,
                                   .input = node.input(0),
                                   .weight = node.input(1),
                                   .output = node.output(0),
                                   .shape = weight->shape(),
                                   .groups = node.attr("group", std::int64_t{1}),
                                   .macs = cost.node_macs[static_cast<std::size_t>(i)]});
    }
  }

  /// Behind a global pool.
  bool at_one_position(const Node& conv) const {
    for (int node = flow_.index.producer(conv.input(0)); node >= 0;) {
      const Node& maker = at(node);
      if (maker.is("GlobalAveragePool") || maker.is("ReduceMean")) return true;
      if (!follows_elementwise(maker) && !maker.is("Conv")) return false;
      if (flow_.is_join(node) || flow_.data_inputs(node).empty()) return false;
      node = flow_.index.producer(flow_.data_inputs(node)[0]);
    }
    return false;
  }

  void mark_last(Body& body) const {
    const std::set<int> inside(body.nodes.begin(), body.nodes.end());
    std::set<int> layers;
    for (const BodyConvolution& conv : body.convolutions) layers.insert(conv.node);
    for (BodyConvolution& conv : body.convolutions) {
      std::set<int> seen;
      std::vector<int> open{conv.node};
      conv.last = true;
      while (!open.empty() && conv.last) {
        const int node = open.back();
        open.pop_back();
        for (const std::string& output : at(node).outputs)
          for (const int reader : flow_.data_consumers(output)) {
            if (!inside.contains(reader) || !seen.insert(reader).second) continue;
            if (layers.contains(reader)) conv.last = false;
            open.push_back(reader);
          }
      }
    }
  }

  const Graph& graph_;
  DataFlow flow_;
  std::vector<int> convolutions_;
};

}  // namespace

Body find_body(const Graph& graph) {
  return Finder(graph).find();
}

std::vector<std::string> convolutions_without_norm(const Graph& graph, const Body& body) {
  const GraphIndex index(graph);
  std::vector<std::string> outputs;
  for (const BodyConvolution& conv : body.convolutions) {
    const std::vector<int>& readers = index.consumers(conv.output);
    const bool normed = readers.size() == 1 && !index.is_output(conv.output) &&
                        node_at(graph, readers[0]).is("BatchNormalization") &&
                        node_at(graph, readers[0]).input(0) == conv.output;
    if (!normed) outputs.push_back(conv.output);
  }
  return outputs;
}

}  // namespace lithe
