#include "lithe/tokens/find_attention.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>

#include "lithe/base/error.h"
#include "lithe/engine/executor.h"
#include "lithe/engine/random_inputs.h"
#include "lithe/graph/dataflow.h"
#include "lithe/graph/shape_inference.h"

namespace lithe {
namespace {

using Sizes = std::vector<std::int64_t>;

/// Why a softmax is not the attention of a block that can be thinned out.
struct Refusal {
  std::string reason;
};

/// The graph with concrete sizes; the batch is 2 where it is free, so that it is not mistaken for an axis of
/// 1, or 1 where the file declares it free and yet fixes it inside.
Graph with_sizes(const Graph& graph) {
  for (const std::int64_t batch : {2, 1}) {
    Graph sized = graph;
    try {
      infer_shapes(sized, concrete_input_shapes(sized, {}, batch));
      return sized;
    } catch (const Error&) {
      if (batch == 1) throw;
    }
  }
  return graph;
}

bool passes_through(const Node& node) {
  return node.is("Cast") || node.is("Identity") || node.is("Dropout");
}

class Finder {
 public:
  explicit Finder(const Graph& prepared) : sized_(with_sizes(prepared)), flow_(sized_) {}

  TokenModel find() {
    std::vector<std::pair<int, std::string>> refused;
    for (std::size_t i = 0; i < sized_.nodes.size(); ++i) {
      const Node& node = sized_.nodes[i];
      if (!node.is("Softmax")) continue;
      if (flow_.is_conditioned(static_cast<int>(i)) && sizes(node.input(0)).size() >= 3)
        model_.aside.push_back(
            fmt::format("{}: is of another input than '{}'", describe(node), flow_.main_input));
      if (!flow_.is_data(static_cast<int>(i))) continue;
      try {
        if (auto block = block_at(node)) model_.blocks.push_back(std::move(*block));
      } catch (const Refusal& refusal) {
        refused.emplace_back(static_cast<int>(i), fmt::format("{}: {}", describe(node), refusal.reason));
      }
    }
    for (const Node& node : sized_.nodes)
      if (node.domain == "lithe" &&
          (node.op_type.starts_with("Token") || node.op_type == "TomeMerge" || node.op_type == "EvitReduce"))
        fail("{}: the model is thinned out already; give the one that it was made from", describe(node));
    if (model_.blocks.empty()) {
      if (refused.empty())
        fail(
            "the model '{}' has no attention, a softmax over the product of two computed matrices; there are "
            "no "
            "tokens to thin out",
            sized_.name);
      refuse(refused.front().second);
    }
    check_alike();
    for (const auto& [node, text] : refused) {
      if (on_the_way(node)) refuse(text);
      model_.aside.push_back(text);
    }
    find_specials();
    read_tail();
    find_grid();
    return std::move(model_);
  }

 private:
  [[noreturn]] void refuse(const std::string& text) const {
    for (const Node& node : sized_.nodes)
      if (node.is("QuantizeLinear") || node.is("DynamicQuantizeLinear"))
        fail("{}: the model is quantised; thin it out first, and quantise what comes out", describe(node));
    fail("{}", text);
  }

  Sizes sizes(const std::string& value) const { return value_sizes(sized_, value); }
  bool known(const std::string& value) const {
    const Sizes all = sizes(value);
    return !all.empty() && std::all_of(all.begin(), all.end(), [](std::int64_t size) { return size >= 0; });
  }
  const Node* producer(const std::string& value) const {
    const int node = flow_.index.producer(value);
    return node < 0 ? nullptr : &sized_.nodes[static_cast<std::size_t>(node)];
  }
  /// Readers on the data path: not those that ask for sizes.
  std::vector<const Node*> consumers(const std::string& value) const {
    std::vector<const Node*> result;
    for (const int node : flow_.data_consumers(value))
      result.push_back(&sized_.nodes[static_cast<std::size_t>(node)]);
    return result;
  }
  bool data(const std::string& value) const { return flow_.is_data_value(value); }
  /// The one computed input of a node of two inputs; "" if both or none are.
  std::string computed_side(const Node& node, std::string* other = nullptr) const {
    const bool first = data(node.input(0)), second = data(node.input(1));
    if (first == second) return "";
    if (other) *other = node.input(first ? 1 : 0);
    return node.input(first ? 0 : 1);
  }

  /// Follows Cast, Identity and Dropout to the one reader.
  std::pair<const Node*, std::string> reader(std::string value) const {
    for (;;) {
      const auto all = consumers(value);
      if (all.size() != 1) return {nullptr, value};
      if (!passes_through(*all[0])) return {all[0], value};
      value = all[0]->output(0);
    }
  }

  std::optional<AttentionBlock> block_at(const Node& softmax) const {
    const Sizes scores = sizes(softmax.input(0));
    if (scores.size() < 3) return std::nullopt;
    const auto rank = static_cast<std::int64_t>(scores.size());
    const std::int64_t axis = softmax.attr("axis", std::int64_t{sized_.opset() < 13 ? 1 : -1});
    if (axis != -1 && axis != rank - 1) return std::nullopt;
    AttentionBlock block{.logits = softmax.input(0), .probabilities = softmax.output(0)};
    const auto [mix, weights] = reader(softmax.output(0));
    if (!mix || !mix->is("MatMul") || mix->input(0) != weights || !data(mix->input(1)))
      throw Refusal{fmt::format("{} reads it, where the product (MatMul) with values was expected",
                                mix ? describe(*mix) : "no single node")};
    block.context = mix->output(0);
    block.name =
        common_name(sized_, {flow_.index.producer(block.context), flow_.index.producer(softmax.output(0))},
                    softmax.name.empty() ? softmax.output(0) : softmax.name);
    const Node* product = scores_of(softmax.input(0));
    if (!product)
      throw Refusal{fmt::format(
          "its scores are not seen to be a product (MatMul) of queries and keys: {} "
          "makes them",
          producer(softmax.input(0)) ? describe(*producer(softmax.input(0))) : "an input of the model")};
    block.queries = product->input(0);
    block.keys = product->input(1);
    if (!known(softmax.input(0)) || (rank != 3 && rank != 4))
      throw Refusal{fmt::format("its scores have the shape {}, which is not [batch, heads, tokens, tokens]",
                                format_shape(scores))};
    if (scores[scores.size() - 1] != scores[scores.size() - 2])
      throw Refusal{fmt::format(
          "{} queries meet {} keys; attention to other tokens, or to fewer of them, is not thinned "
          "out",
          scores[scores.size() - 2], scores.back())};
    block.flat = rank == 3;
    find_residual(block, scores.back());
    check_stream(block);
    return block;
  }

  /// The product of queries and keys behind the scores; nullptr if there is none.
  const Node* scores_of(std::string value) const {
    for (int steps = 0; steps < 16; ++steps) {
      const Node* node = producer(value);
      if (!node) return nullptr;
      if (node->is("MatMul")) return data(node->input(0)) && data(node->input(1)) ? node : nullptr;
      if (passes_through(*node)) {
        value = node->input(0);
      } else if (node->is("Mul") || node->is("Div") || node->is("Add") || node->is("Sub")) {
        std::string other;
        const std::string next = computed_side(*node, &other);
        const Sizes added = sizes(other);
        const bool wide =
            next.empty() || std::any_of(added.begin(), added.end(), [](auto size) { return size != 1; });
        if (wide && (leads_to_scores(node->input(0)) || leads_to_scores(node->input(1))))
          throw Refusal{
              node->is("Add") || node->is("Sub")
                  ? "something is added to its scores: relative position bias or a mask, whose rows and "
                    "columns would have to follow the tokens"
                  : "its scores are multiplied token by token, which would have to follow the tokens"};
        if (next.empty()) return nullptr;
        value = next;
      } else if (node->is("Where")) {
        if (leads_to_scores(node->input(1)) || leads_to_scores(node->input(2)))
          throw Refusal{"its scores are masked; such tokens have an order that must stay"};
        return nullptr;
      } else if (node->is("Reshape")) {
        if (!leads_to_scores(node->input(0))) return nullptr;
        throw Refusal{
            "its scores are reshaped before the softmax, as windows with a bias are; relative position bias "
            "is not carried along"};
      } else {
        return nullptr;
      }
    }
    return nullptr;
  }

  /// Whether a product of two computed matrices stands behind the value, with nothing but sums, scales and
  /// masks between.
  bool leads_to_scores(const std::string& value, int steps = 12) const {
    const Node* node = steps > 0 ? producer(value) : nullptr;
    if (!node) return false;
    if (node->is("MatMul")) return data(node->input(0)) && data(node->input(1));
    if (!passes_through(*node) && !node->is("Mul") && !node->is("Div") && !node->is("Add") &&
        !node->is("Sub") && !node->is("Where") && !node->is("Reshape"))
      return false;
    return std::any_of(node->inputs.begin(), node->inputs.end(),
                       [&](const std::string& input) { return leads_to_scores(input, steps - 1); });
  }

  /// From the context through the projection to the sum that it joins.
  void find_residual(AttentionBlock& block, std::int64_t tokens) const {
    std::string value = block.context;
    bool projected = false;
    for (int steps = 0; steps < 32; ++steps) {
      const auto all = consumers(value);
      if (all.size() != 1)
        throw Refusal{fmt::format("what attention makes, '{}', is read by {} nodes; one sum was expected",
                                  value, all.size())};
      const Node& node = *all[0];
      if (passes_through(node) || node.is("Transpose") || node.is("Reshape") || node.is("Flatten") ||
          node.is("Squeeze") || node.is("Unsqueeze")) {
        value = node.output(0);
        continue;
      }
      if (node.is("MatMul") || node.is("Gemm")) {
        if (node.input(0) != value || data(node.input(1)))
          throw Refusal{fmt::format("{} was met where a projection was expected", describe(node))};
        projected = true;
        value = node.output(0);
        continue;
      }
      if (node.is("Mul") || node.is("Add")) {
        if (!computed_side(node).empty()) {
          value = node.output(0);
          continue;
        }
        if (node.is("Mul")) throw Refusal{fmt::format("{} gates what attention makes", describe(node))};
        block.entry = node.input(0) == value ? node.input(1) : node.input(0);
        block.residual = node.output(0);
        break;
      }
      if (node.is("LayerNormalization") || node.is("ReduceMean"))
        throw Refusal{"its result is normalised before it is added; such blocks are not known"};
      throw Refusal{fmt::format("{} follows its result; the sum of a residual was expected", describe(node))};
    }
    if (block.residual.empty() || !projected) throw Refusal{"no residual sum was found behind it"};
    const Sizes entry = sizes(block.entry), sum = sizes(block.residual);
    if (entry != sum || sum.size() != 3)
      throw Refusal{fmt::format("it joins {} with {}; tokens [batch, tokens, channels] were expected",
                                format_shape(entry), format_shape(sum))};
    if (sum[1] != tokens)
      throw Refusal{fmt::format(
          "it looks at {} of {} tokens at a time: windows, whose tokens have fixed places", tokens, sum[1])};
    if (sized_.info(block.residual)->dtype != DType::Float32)
      throw Refusal{fmt::format("its tokens are {}; float32 is needed",
                                dtype_name(sized_.info(block.residual)->dtype))};
  }

  std::set<std::string> ancestors(const std::vector<std::string>& values) const {
    std::set<std::string> seen;
    std::vector<std::string> open(values);
    while (!open.empty()) {
      const std::string value = open.back();
      open.pop_back();
      if (!seen.insert(value).second) continue;
      if (const Node* node = producer(value))
        for (const std::string& input : all_reads(*node))
          if (data(input)) open.push_back(input);
    }
    return seen;
  }

  /// Pre-norm: queries, keys and the sum come from the same tokens, and the sum goes on into a norm and a
  /// second sum.
  void check_stream(const AttentionBlock& block) const {
    for (const std::string* side : {&block.queries, &block.keys})
      if (!ancestors({*side}).contains(block.entry))
        throw Refusal{
            "its queries or keys are not made of the tokens that it is added to (cross-attention, or a norm "
            "around the whole block)"};
    bool joined = false, parallel = false;
    std::string sum = block.residual;
    for (const Node* node : consumers(sum)) {
      if (passes_through(*node)) continue;
      if (!node->is("Add") || !data(node->input(0)) || !data(node->input(1))) continue;
      const std::string& other = node->input(node->input(0) == sum ? 1 : 0);
      (ancestors({other}).contains(sum) ? joined : parallel) = true;
    }
    if (joined) return;
    if (parallel)
      throw Refusal{
          "the MLP runs beside attention (a parallel block), so that there is no place between them"};
    throw Refusal{
        "the sum behind it is normalised before it goes on (post-norm); tokens are thinned out in pre-norm "
        "blocks, whose "
        "sum goes on unchanged"};
  }

  void check_alike() {
    const Sizes first = sizes(model_.blocks[0].residual);
    const auto heads_of = [&](const AttentionBlock& block) {
      const Sizes scores = sizes(block.logits);
      return block.flat ? scores[0] / first[0] : scores[1];
    };
    model_.tokens = first[1];
    model_.width = first[2];
    model_.heads = heads_of(model_.blocks[0]);
    std::set<std::string> names;
    for (AttentionBlock& block : model_.blocks) {
      const Sizes own = sizes(block.residual);
      if (own != first)
        fail(
            "block '{}' has tokens {}, the first one {}; models whose tokens change in number or width "
            "between blocks "
            "are not thinned out",
            block.name, format_shape(own), format_shape(first));
      if (heads_of(block) != model_.heads)
        fail("block '{}' has {} heads, the first one {}", block.name, heads_of(block), model_.heads);
      if (const auto above = ancestors({block.entry});
          &block != &model_.blocks[0] && !above.contains(model_.blocks[0].residual))
        fail("block '{}' does not follow block '{}'; models with several towers are not thinned out",
             block.name, model_.blocks[0].name);
      for (int n = 2; !names.insert(block.name).second; ++n) block.name = fmt::format("{}#{}", block.name, n);
    }
  }

  /// Whether the node depends on the blocks, or they on it.
  bool on_the_way(int node) const {
    const std::string& value = sized_.nodes[static_cast<std::size_t>(node)].output(0);
    return ancestors({value}).contains(model_.blocks[0].entry) ||
           ancestors({model_.blocks.back().residual}).contains(value);
  }

  /// Special tokens do not depend on the image.
  void find_specials() {
    const at::NoGradGuard no_grad;
    const std::string& entry = model_.blocks[0].entry;
    Executor executor(sized_);
    const auto tokens = [&](std::uint64_t seed) {
      return executor.run(random_inputs(sized_, seed, {}, 2), {entry}).at(entry)[0];
    };
    const at::Tensor moved = (tokens(1) - tokens(2)).abs().amax(1) > 0;
    const at::Tensor kept = moved.contiguous();
    const auto* flags = kept.data_ptr<bool>();
    const std::int64_t count = kept.numel();
    while (model_.specials < count && !flags[model_.specials]) ++model_.specials;
    for (std::int64_t i = model_.specials; i < count; ++i)
      if (!flags[i])
        fail(
            "token {} of '{}' does not depend on the image, but tokens before it do; special tokens are "
            "expected in "
            "front",
            i, entry);
    if (count - model_.specials < 2)
      fail("the model '{}' has {} tokens beside its {} special ones; there is nothing to thin out",
           sized_.name, count - model_.specials, model_.specials);
  }

  /// The last of the sums that go on from the last block's attention.
  std::string last_sum() const {
    std::string sum = model_.blocks.back().residual;
    for (bool any = true; any;) {
      any = false;
      std::vector<std::string> same{sum};
      for (std::size_t i = 0; i < same.size() && !any; ++i)
        for (const Node* node : consumers(same[i])) {
          if (passes_through(*node)) same.push_back(node->output(0));
          if (!node->is("Add") || !data(node->input(0)) || !data(node->input(1))) continue;
          if (!ancestors({node->input(node->input(0) == same[i] ? 1 : 0)}).contains(sum)) continue;
          sum = node->output(0);
          any = true;
          break;
        }
    }
    return sum;
  }

  void read_tail() {
    FollowedTokens followed =
        follow_tokens(sized_, model_.blocks, model_.tokens, model_.specials, last_sum());
    model_.places = std::move(followed.places);
    if (!followed.mean.empty()) {
      model_.tail = TokenTail::Mean;
      model_.mean = followed.mean;
      model_.mean_from = followed.mean_from;
    }
    if (!followed.places_read.empty())
      model_.rows = *followed.places_read.rbegin() + 1;
    else
      model_.rows = model_.specials == 1 ? 1 : 0;
  }

  /// Of the last convolution in front of the blocks that has a position for each patch.
  void find_grid() {
    const auto above = ancestors({model_.blocks[0].entry});
    for (const Node& node : sized_.nodes) {
      if (!node.is("Conv") || !above.contains(node.output(0))) continue;
      const Sizes shape = sizes(node.output(0));
      if (shape.size() != 4 || shape[2] * shape[3] != model_.tokens - model_.specials) continue;
      model_.grid_rows = shape[2];
      model_.grid_columns = shape[3];
    }
  }

  const Graph sized_;
  const DataFlow flow_;
  TokenModel model_;
};

}  // namespace

TokenModel find_attention(const Graph& prepared) {
  return Finder(prepared).find();
}

}  // namespace lithe
