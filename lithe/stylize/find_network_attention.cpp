// Where attention is in a network, told from the products around its softmax.
#include <algorithm>
#include <optional>
#include <set>

#include "lithe/graph/dataflow.h"
#include "lithe/graph/weights.h"
#include "lithe/stylize/cross_frame_attention.h"

namespace lithe {
namespace {

bool is_one_of(const Node& node, std::initializer_list<const char*> types) {
  return node.domain.empty() &&
         std::any_of(types.begin(), types.end(), [&](const char* type) { return node.op_type == type; });
}

bool keeps_elements(const Node& node) {
  return is_one_of(node, {"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Cast", "Identity",
                          "Dropout", "Split", "Slice"});
}

bool is_arithmetic(const Node& node) {
  return is_one_of(node, {"Add", "Sub", "Mul", "Div"});
}

class AttentionFinder {
 public:
  explicit AttentionFinder(const Graph& graph) : graph_(graph), index_(graph) {}

  std::vector<FoundAttention> find() const {
    std::vector<FoundAttention> found;
    for (const Node& node : graph_.nodes) {
      if (!node.is("Softmax")) continue;
      const Node* scores = behind_arithmetic(node.input(0));
      const Node* mix = scores ? reader_of(node.output(0)) : nullptr;
      if (mix) found.push_back(describe_attention(node, *scores, *mix));
    }
    return found;
  }

 private:
  struct Source {
    std::string value;   // that is projected
    std::string weight;  // constant of the projection
  };

  const Node* producer(const std::string& value) const {
    const int node = index_.producer(value);
    return node < 0 ? nullptr : &graph_.nodes[static_cast<std::size_t>(node)];
  }

  bool is_computed(const std::string& value) const {
    return !value.empty() && constant_behind(graph_, index_, value).empty();
  }

  bool is_product(const Node& node) const {
    if (node.is("MatMul")) return is_computed(node.input(0)) && is_computed(node.input(1));
    return node.is("Einsum") && node.inputs.size() == 2 && is_computed(node.input(0)) &&
           is_computed(node.input(1));
  }

  /// The product of two computed matrices that the value is, up to scales, masks and the like.
  const Node* behind_arithmetic(const std::string& value, int steps = 12) const {
    const Node* node = steps > 0 ? producer(value) : nullptr;
    if (!node) return nullptr;
    if (is_product(*node)) return node;
    if (is_one_of(*node, {"Cast", "Identity", "Reshape"}))
      return behind_arithmetic(node->input(0), steps - 1);
    if (!is_arithmetic(*node)) return nullptr;
    const Node* first = behind_arithmetic(node->input(0), steps - 1);
    return first ? first : behind_arithmetic(node->input(1), steps - 1);
  }

  /// The product of what a softmax gives and another computed matrix.
  const Node* reader_of(std::string value) const {
    for (int steps = 0; steps < 8; ++steps) {
      const std::vector<int>& readers = index_.consumers(value);
      if (readers.size() != 1) return nullptr;
      const Node& node = graph_.nodes[static_cast<std::size_t>(readers[0])];
      if (is_product(node)) return &node;
      if (!is_one_of(node, {"Cast", "Identity", "Dropout", "Reshape"})) return nullptr;
      value = node.output(0);
    }
    return nullptr;
  }

  /// Through casts and identities.
  std::string plain(std::string value) const {
    for (const Node* node = producer(value); node && is_one_of(*node, {"Cast", "Identity"});
         node = producer(value))
      value = node->input(0);
    return value;
  }

  /// What the value was projected from by a constant matrix; nothing if it was not.
  std::optional<Source> projection(const std::string& value, int steps = 32) const {
    const Node* node = steps > 0 ? producer(value) : nullptr;
    if (!node) return std::nullopt;
    if (is_one_of(*node, {"MatMul", "Gemm"})) {
      const std::string weight = constant_behind(graph_, index_, node->input(1));
      if (weight.empty()) return std::nullopt;
      std::string source = plain(node->input(0));
      const Node* flat = producer(source);
      if (node->is("Gemm") && flat && is_one_of(*flat, {"Reshape", "Flatten"}))
        source = plain(flat->input(0));
      return Source{source, weight};
    }
    if (keeps_elements(*node)) return projection(node->input(0), steps - 1);
    if (!is_arithmetic(*node)) return std::nullopt;
    const auto first = projection(node->input(0), steps - 1);
    return first ? first : projection(node->input(1), steps - 1);
  }

  /// The output of the projection that the context goes through.
  std::string projected(std::string value) const {
    for (int steps = 0; steps < 16; ++steps) {
      const std::vector<int>& readers = index_.consumers(value);
      // Beside the one that goes on, others may ask for the shape.
      const Node* next = nullptr;
      for (const int reader : readers) {
        const Node& node = graph_.nodes[static_cast<std::size_t>(reader)];
        if (node.is("Shape")) continue;
        if (next || node.input(0) != value) return "";
        next = &node;
      }
      if (!next) return "";
      if (next->is("MatMul") && !is_computed(next->input(1))) return next->output(0);
      if (next->is("Gemm") && !is_computed(next->input(1))) {
        const std::vector<int>& after = index_.consumers(next->output(0));
        if (after.size() != 1) return "";
        const Node& back = graph_.nodes[static_cast<std::size_t>(after[0])];
        return back.is("Reshape") ? back.output(0) : "";
      }
      if (!keeps_elements(*next) || next->is("Split") || next->is("Slice")) return "";
      value = next->output(0);
    }
    return "";
  }

  FoundAttention describe_attention(const Node& softmax, const Node& scores, const Node& mix) const {
    FoundAttention found{.name = softmax.name.empty() ? softmax.output(0) : softmax.name,
                         .context = mix.output(0)};
    // Of the two factors of the mixture one is what the softmax gave.
    const bool first = behind_softmax(mix.input(0), softmax);
    const auto queries = projection(scores.input(0)), keys = projection(scores.input(1)),
               values = projection(mix.input(first ? 1 : 0));
    if (!queries || !keys || !values) {
      found.trouble = "its queries, keys or values are no projections of tokens";
    } else if (keys->value != values->value) {
      found.trouble = "its keys and values come from different tokens";
    } else if (keys->value == queries->value) {
      found.self = true;
      found.tokens = keys->value;
      found.output = projected(found.context);
      if (found.output.empty()) found.trouble = "no projection follows it";
    }
    return found;
  }

  bool behind_softmax(std::string value, const Node& softmax) const {
    for (int steps = 0; steps < 8; ++steps) {
      if (value == softmax.output(0)) return true;
      const Node* node = producer(value);
      if (!node || node->inputs.empty()) return false;
      value = node->input(0);
    }
    return false;
  }

  const Graph& graph_;
  const GraphIndex index_;
};

}  // namespace

std::vector<FoundAttention> find_network_attention(const Graph& graph) {
  return AttentionFinder(graph).find();
}

}  // namespace lithe
