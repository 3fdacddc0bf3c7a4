#include "lithe/stylize/cross_frame_attention.h"

#include <algorithm>
#include <set>

#include "lithe/base/error.h"
#include "lithe/graph/adopt_constants.h"
#include "lithe/graph/shape_inference.h"

namespace lithe {
namespace {

class Joiner {
 public:
  Joiner(Graph& graph, std::int64_t frames) : graph_(graph), frames_(frames) {}

  /// A copy of what lies between tokens and output, on joined tokens.
  void join(const FoundAttention& attention) {
    const ValueInfo* tokens = graph_.info(attention.tokens);
    if (tokens && tokens->shape && tokens->shape->size() != 3)
      fail("cross-frame attention: '{}' projects {}; tokens [batch, n, c] were expected", attention.name,
           format_type(*tokens));
    batch_ = size_of(tokens, 0);
    count_ = size_of(tokens, 1);

    const std::vector<std::size_t> region = between(attention.tokens, attention.output);
    std::vector<Node> made;
    copies_.clear();
    copies_[attention.tokens] = reshape_tokens(attention.tokens, attention.name, true, made);
    for (const std::size_t i : region) {
      Node copy = graph_.nodes[i];
      if (!copy.name.empty()) copy.name += "/frames";
      if (copy.is("Reshape")) widen_constant_shape(copy);
      if (copy.is("Add") || copy.is("Sub") || copy.is("Mul") || copy.is("Div")) shrink_constant_scores(copy);
      for (std::string& input : copy.inputs)
        if (const auto found = copies_.find(input); found != copies_.end()) input = found->second;
      for (std::string& output : copy.outputs)
        if (!output.empty()) output = copies_[output] = fresh(output + "/frames");
      made.push_back(std::move(copy));
    }
    const std::string parted =
        part_tokens(copies_.at(attention.output), attention.tokens, attention.name, made);
    const std::size_t place = region.back() + 1;
    graph_.replace_uses(attention.output, parted);
    for (ValueInfo& output : graph_.outputs)
      if (output.name == attention.output)
        fail("cross-frame attention: what '{}' gives is an output of the network", attention.name);
    graph_.nodes.insert(graph_.nodes.begin() + static_cast<std::ptrdiff_t>(place),
                        std::make_move_iterator(made.begin()), std::make_move_iterator(made.end()));
  }

 private:
  static std::int64_t size_of(const ValueInfo* value, std::size_t axis) {
    return value && value->shape && axis < value->shape->size() && (*value->shape)[axis].known()
               ? (*value->shape)[axis].value
               : -1;
  }

  /// Names that no value has; those of nodes not yet in the graph count too.
  std::string fresh(const std::string& base) {
    std::string name = graph_.unique_name(base);
    for (int n = 2; !taken_.insert(name).second; ++n)
      name = graph_.unique_name(fmt::format("{}_{}", base, n));
    return name;
  }

  /// Indices of nodes that depend on `from` and that `to` depends on, ascending.
  std::vector<std::size_t> between(const std::string& from, const std::string& to) const {
    std::set<std::string> reached{from}, needed{to};
    for (const Node& node : graph_.nodes)
      if (std::any_of(node.inputs.begin(), node.inputs.end(),
                      [&](const std::string& input) { return reached.contains(input); }))
        reached.insert(node.outputs.begin(), node.outputs.end());
    std::vector<std::size_t> nodes;
    for (std::size_t i = graph_.nodes.size(); i-- > 0;) {
      const Node& node = graph_.nodes[i];
      const bool wanted =
          std::any_of(node.outputs.begin(), node.outputs.end(), [&](const std::string& output) {
            return needed.contains(output) && reached.contains(output) && output != from;
          });
      if (!wanted) continue;
      needed.insert(node.inputs.begin(), node.inputs.end());
      nodes.push_back(i);
    }
    std::reverse(nodes.begin(), nodes.end());
    return nodes;
  }

  std::string add(std::vector<Node>& made, const char* type, const std::string& name,
                  std::vector<std::string> inputs,
                  std::map<std::string, Attribute, std::less<>> attributes = {}) {
    std::string output = fresh(name);
    made.push_back({.name = output,
                    .op_type = type,
                    .inputs = std::move(inputs),
                    .outputs = {output},
                    .attributes = std::move(attributes)});
    return output;
  }

  std::string ints(const std::string& name, std::vector<std::int64_t> values) {
    const auto size = static_cast<std::int64_t>(values.size());
    return graph_.add_constant(fresh(name), TensorData::from<std::int64_t>({size}, std::move(values)));
  }

  /// [-1, tokens of `tokens` (times frames), 0]: the last size stays.
  std::string shape_of(const std::string& tokens, const std::string& name, bool joined,
                       std::vector<Node>& made) {
    const std::map<std::string, Attribute, std::less<>> first{{"axis", std::int64_t{0}}};
    std::string count = add(made, "Gather", name + "/count",
                            {add(made, "Shape", name + "/size", {tokens}), ints(name + "/axis", {1})}, first);
    if (joined) count = add(made, "Mul", name + "/joined_count", {count, ints(name + "/set", {frames_})});
    return add(made, "Concat", name + "/shape", {ints(name + "/any", {-1}), count, ints(name + "/same", {0})},
               first);
  }

  std::string reshape_tokens(const std::string& tokens, const std::string& name, bool joined,
                             std::vector<Node>& made) {
    return add(made, "Reshape", name + "/joined", {tokens, shape_of(tokens, name, joined, made)});
  }
  std::string part_tokens(const std::string& value, const std::string& tokens, const std::string& name,
                          std::vector<Node>& made) {
    return add(made, "Reshape", name + "/parted", {value, shape_of(tokens, name + "/parting", false, made)});
  }

  /// Exporters of fixed sizes write them into the shapes of the region.
  void widen_constant_shape(Node& reshape) {
    const TensorData* shape = graph_.constant(reshape.input(1));
    if (!shape) return;
    std::vector<std::int64_t> sizes = shape->to_ints();
    const std::vector<std::int64_t> old = sizes;
    const auto tokens = std::count(sizes.begin(), sizes.end(), count_);
    if (count_ > 1 && tokens > 1)
      fail(
          "cross-frame attention: which size of {} in the shape {} of {} counts tokens cannot be told; "
          "export "
          "the model with free sizes",
          count_, format_shape(old), describe(reshape));
    if (batch_ > 0 && !sizes.empty() && sizes[0] > 0 && sizes[0] != count_ && sizes[0] % batch_ == 0)
      sizes[0] /= frames_;
    if (count_ > 1) std::replace(sizes.begin(), sizes.end(), count_, count_ * frames_);
    if (sizes != old) reshape.inputs[1] = ints(reshape.input(1) + "/frames", std::move(sizes));
  }

  /// Exporters of fixed sizes leave zeros as large as the scores behind (of PyTorch's baddbmm). Anything else
  /// of that size speaks of pairs of tokens of one picture.
  void shrink_constant_scores(Node& node) {
    for (std::string& input : node.inputs) {
      const TensorData* data = graph_.constant(input);
      const std::size_t rank = data ? data->shape().size() : 0;
      if (rank < 2 || count_ < 2 || data->shape()[rank - 1] != count_ || data->shape()[rank - 2] != count_)
        continue;
      const std::vector<float> values = data->to_floats();
      const bool zeros = std::all_of(values.begin(), values.end(), [](float value) { return value == 0; });
      if (!zeros || node.is("Mul") || node.is("Div"))
        fail(
            "cross-frame attention: {} changes the scores of single pairs of tokens; such attention is not "
            "known",
            describe(node));
      input = graph_.add_constant(fresh(input + "/frames"), TensorData::scalar<float>(0));
    }
  }

  Graph& graph_;
  const std::int64_t frames_;
  std::int64_t batch_ = -1, count_ = -1;  // of the tokens at hand; -1: free
  std::map<std::string, std::string> copies_;
  std::set<std::string> taken_;
};

}  // namespace

Graph with_cross_frame_attention(const Graph& model, std::int64_t frames) {
  if (frames < 2) fail("cross-frame attention over {} frames: it needs 2 or more", frames);
  Graph graph = model;
  adopt_constants(graph);
  infer_shapes(graph);
  for (const ValueInfo* input : graph.required_inputs())
    if (input->shape && (input->shape->size() == 3 || input->shape->size() == 4) &&
        (*input->shape)[0].known() && (*input->shape)[0].value % frames != 0)
      fail(
          "cross-frame attention over {} frames: the input '{}' is {}, whose batch is no multiple of that; "
          "export "
          "the model with a free batch",
          frames, input->name, format_type(*input));

  const std::vector<FoundAttention> found = find_network_attention(graph);
  const auto recognised = std::count_if(found.begin(), found.end(),
                                        [](const FoundAttention& one) { return one.trouble.empty(); });
  const auto own =
      std::count_if(found.begin(), found.end(), [](const FoundAttention& one) { return one.self; });
  const auto odd = std::find_if(found.begin(), found.end(),
                                [](const FoundAttention& one) { return !one.trouble.empty(); });
  if (odd != found.end())
    fail(
        "cross-frame attention: {} of {} attentions of the network '{}' were recognised, but '{}' was not: "
        "{}; "
        "do without it, or export the model from PyTorch without fused operators",
        recognised, found.size(), graph.name, odd->name, odd->trouble);
  if (own == 0)
    fail(
        "cross-frame attention: {} of {} attentions of the network '{}' were recognised, none of them "
        "self-attention; do without it, or export the model from PyTorch without fused operators",
        recognised, found.size(), graph.name);
  Joiner joiner(graph, frames);
  for (const FoundAttention& one : found)
    if (one.self) joiner.join(one);
  graph.values.clear();  // inner shapes have changed
  graph.sort();
  graph.remove_dead();
  graph.validate();
  return graph;
}

}  // namespace lithe
