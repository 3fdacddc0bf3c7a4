#include "lithe/tokens/compress.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "lithe/base/error.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/graph/token_function.h"
#include "lithe/tokens/node_writer.h"

namespace lithe {
namespace {

using Sizes = std::vector<std::int64_t>;
using Attributes = std::map<std::string, Attribute, std::less<>>;

class Rewriter : NodeWriter {
 public:
  Rewriter(const Graph& prepared, const TokenModel& model, const CompressOptions& options)
      : NodeWriter(graph_), model_(model), options_(options), graph_(prepared) {}

  Compressed run(const std::vector<TokenStep>& steps) {
    Compressed result;
    std::int64_t tokens = model_.tokens;
    for (const TokenStep& step : steps) result.tokens.push_back(tokens = tokens_after(step, tokens));
    const std::size_t last = model_.blocks.size() - 1;
    if (options_.class_rows) {
      require_class_rows();
      result.tokens.back() = model_.specials;
    }
    const bool own = options_.own_mass > 0;
    if (own) require_own_counts(steps);
    free_token_count(graph_, model_, result.tokens, options_.class_rows, !own);
    std::string sizes;  // "": all are 1
    tokens = model_.tokens;
    for (std::size_t l = 0; l < model_.blocks.size(); ++l) {
      if (!sizes.empty()) weigh(model_.blocks[l], sizes);
      if (options_.class_rows && l == last) keep_class_rows(model_.blocks[l]);
      result.reduced.push_back(model_.blocks[l].residual);
      result.assignments.emplace_back();
      if (steps[l].kind != TokenStep::Kind::None && !(options_.class_rows && l == last))
        insert(steps[l], l, tokens, sizes, result);
      tokens = result.tokens[l];
    }
    if (model_.tail == TokenTail::Mean && !sizes.empty()) weigh_mean(sizes);
    add_token_functions(graph_);
    graph_.header.opsets.emplace("lithe", 1);
    finish();
    result.graph = std::move(graph_);
    return result;
  }

 private:
  std::string unsqueeze(const std::string& name, const std::string& x, Sizes axes) {
    if (graph_.opset() < 13) return op(name, "Unsqueeze", {x}, {{"axes", std::move(axes)}});
    return op(name, "Unsqueeze", {x, ints(name + ".axes", std::move(axes))});
  }
  std::string sum(const std::string& name, const std::string& x, Sizes axes, std::int64_t keep) {
    if (graph_.opset() < 13)
      return op(name, "ReduceSum", {x}, {{"axes", std::move(axes)}, {"keepdims", keep}});
    return op(name, "ReduceSum", {x, ints(name + ".axes", std::move(axes))}, {{"keepdims", keep}});
  }
  std::string slice(const std::string& name, const std::string& x, std::int64_t from, std::int64_t to,
                    std::int64_t axis) {
    return op(name, "Slice",
              {x, ints(name + ".from", {from}), ints(name + ".to", {to}), ints(name + ".axis", {axis})});
  }
  Node& maker(const std::string& value) {
    for (Node& node : graph_.nodes)
      for (const std::string& output : node.outputs)
        if (output == value) return node;
    throw std::logic_error("no node makes " + value);
  }

  void require_own_counts(const std::vector<TokenStep>& steps) const {
    for (const TokenStep& step : steps)
      if (step.kind == TokenStep::Kind::Tome || step.kind == TokenStep::Kind::Evit)
        fail("images keep counts of their own with the operators of DiffRate alone");
  }

  void require_class_rows() const {
    if (model_.tail != TokenTail::Specials)
      fail(
          "only the class token's row can be left in the last block of a model that reads no other; this one "
          "takes the "
          "mean over its tokens");
  }

  /// Queries and the sum of the last block for the special tokens alone.
  void keep_class_rows(const AttentionBlock& block) {
    const std::string queries =
        slice(block.context + ".class_queries", block.queries, 0, model_.specials, -2);
    for (Node& node : graph_.nodes)
      if (node.is("MatMul") && node.input(0) == block.queries && node.input(1) == block.keys)
        node.inputs[0] = queries;
    std::string entry = block.entry;  // reduced meanwhile if it is the sum of the block before
    for (const auto& [from, to] : renamed_)
      if (from == entry) entry = to;
    const std::string rows = slice(block.residual + ".class_rows", entry, 0, model_.specials, 1);
    Node& sum = maker(block.residual);
    std::replace(sum.inputs.begin(), sum.inputs.end(), entry, rows);
  }

  void weigh(const AttentionBlock& block, const std::string& sizes) {
    const std::string log = op(block.logits + ".log_size", "Log", {sizes});
    std::string bias = unsqueeze(block.logits + ".bias", log, {1, 2});
    if (block.flat) {
      const std::string shape = op(block.logits + ".shape", "Shape", {block.logits});
      bias = op(block.logits + ".bias_heads", "Expand",
                {bias, ints(block.logits + ".heads", {1, model_.heads, 1, 1})});
      const std::string last = slice(block.logits + ".tokens", shape, 2, 3, 0);
      const std::string flat = op(block.logits + ".bias_shape", "Concat",
                                  {ints(block.logits + ".flat", {-1, 1}), last}, {{"axis", std::int64_t{0}}});
      bias = op(block.logits + ".bias_flat", "Reshape", {bias, flat});
    }
    const std::string weighed = op(block.logits + ".weighed", "Add", {block.logits, bias});
    for (Node& node : graph_.nodes)
      if (node.is("Softmax") && node.input(0) == block.logits) node.inputs[0] = weighed;
  }

  /// attention [b, heads, n, n] where batch and heads share an axis.
  std::string attention(const AttentionBlock& block, std::int64_t tokens) {
    const std::string& value = block.probabilities;
    if (!block.flat || options_.own_mass == 0) return unflat(value, block.flat, {tokens, tokens});
    const std::string shape = op(value + ".shape", "Shape", {value});
    return op(value + ".heads", "Reshape",
              {value,
               op(value + ".heads_shape", "Concat",
                  {ints(value + ".some_heads", {-1, model_.heads}), slice(value + ".tokens", shape, 1, 3, 0)},
                  {{"axis", std::int64_t{0}}})});
  }

  /// [b, heads, ...] of a value whose batch and heads share an axis.
  std::string unflat(const std::string& value, bool flat, Sizes tail) {
    if (!flat) return value;
    Sizes shape{-1, model_.heads};
    shape.insert(shape.end(), tail.begin(), tail.end());
    return op(value + ".heads", "Reshape", {value, ints(value + ".heads_shape", std::move(shape))});
  }

  void insert(const TokenStep& step, std::size_t l, std::int64_t tokens, std::string& sizes,
              Compressed& result) {
    const std::int64_t after = result.tokens[l];
    if (after == tokens) return;
    const AttentionBlock& block = model_.blocks[l];
    const std::string given = sizes.empty() ? ones(tokens) : sizes;
    const std::string name = block.residual + ".reduced";
    std::string x;
    Attributes common{{"specials", model_.specials}, {"rows", model_.rows == 0 ? tokens : model_.rows}};
    std::vector<const char*> outputs{".sizes"};
    if (options_.trace) outputs.push_back(".assignment");
    if (step.kind == TokenStep::Kind::Evit) {
      common["kept"] = step.kept;
      x = op(name, kEvitReduce, {block.residual, attention(block, tokens)}, common, "lithe");
      sizes.clear();
    } else if (step.kind == TokenStep::Kind::Tome) {
      const std::int64_t channels = model_.width / model_.heads;
      x = op(name, kTomeMerge, {block.residual, unflat(block.keys, block.flat, {channels, tokens}), given},
             {{"removed", step.removed},
              {"specials", model_.specials},
              {"order", tome_order(tokens, step.removed)}},
             "lithe", {".sizes"});
      sizes = graph_.nodes.back().output(1);
    } else if (step.merge == step.prune && options_.own_mass == 0) {
      common["kept"] = step.prune;
      x = op(name, kTokenPrune, {block.residual, attention(block, tokens), given}, common, "lithe", outputs);
      if (!sizes.empty()) sizes = graph_.nodes.back().output(1);
    } else {
      common["prune"] = step.prune;
      common["merge"] = step.merge;
      common["scaled"] = options_.sizes == TokenSizes::Weighted ? 0.0f : 1.0f;
      common["weighted"] = options_.sizes == TokenSizes::Weighted ? 1.0f : 0.0f;
      common["least"] =
          options_.sizes == TokenSizes::Consistent ? 1.0f : std::numeric_limits<float>::lowest();
      if (options_.own_mass > 0) common["mass"] = static_cast<float>(options_.own_mass);
      x = op(name, options_.own_mass > 0 ? kTokenReduceOwn : kTokenReduce,
             {block.residual, attention(block, tokens), given}, common, "lithe", outputs);
      sizes = graph_.nodes.back().output(1);
    }
    if (graph_.nodes.back().outputs.size() > 2) result.assignments[l] = graph_.nodes.back().output(2);
    result.reduced[l] = x;
    for (Node& node : graph_.nodes)
      if (node.output(0) != x) std::replace(node.inputs.begin(), node.inputs.end(), block.residual, x);
    renamed_.emplace_back(block.residual, x);
  }

  std::string ones(std::int64_t tokens) {
    return graph_.add_constant(
        "token_sizes",
        TensorData::from<float>({1, tokens}, std::vector<float>(static_cast<std::size_t>(tokens), 1.0f)));
  }

  /// Special tokens first, then those of even index that stay, then those of odd index.
  Sizes tome_order(std::int64_t tokens, std::int64_t removed) const {
    const std::int64_t even = (tokens + 1) / 2 - removed, odd = tokens / 2, t = model_.specials;
    Sizes order;
    for (std::int64_t i = 0; i < t; ++i) order.push_back(i % 2 == 0 ? i / 2 : even + i / 2);
    for (std::int64_t i = (t + 1) / 2; i < even; ++i) order.push_back(i);
    for (std::int64_t i = t / 2; i < odd; ++i) order.push_back(even + i);
    return order;
  }

  /// The mean over the tokens by sizes.
  void weigh_mean(std::string sizes) {
    if (model_.mean_from > 0)
      sizes =
          slice(model_.mean + ".from", sizes, model_.mean_from, std::numeric_limits<std::int64_t>::max(), 1);
    Node old = maker(model_.mean);
    const std::int64_t keep = old.attr("keepdims", std::int64_t{1});
    const std::string x = old.input(0);
    const std::string weights = unsqueeze(model_.mean + ".sizes", sizes, {2});
    const std::string top =
        sum(model_.mean + ".sum", op(model_.mean + ".weighed", "Mul", {x, weights}), {1}, keep);
    const std::string bottom = sum(model_.mean + ".total", weights, {1}, keep);
    std::erase_if(graph_.nodes, [&](const Node& node) { return node.output(0) == model_.mean; });
    graph_.nodes.push_back({.name = old.name.empty() ? model_.mean : old.name,
                            .op_type = "Div",
                            .inputs = {top, bottom},
                            .outputs = {model_.mean}});
  }

  void finish() {
    graph_.values.clear();
    graph_.sort();
    graph_.remove_dead();
    try {
      infer_shapes(graph_);
    } catch (const Error& error) {
      fail(
          "with fewer tokens the model's sizes do not fit together, because a table of its {} tokens is "
          "used: {}",
          model_.tokens, error.what());
    }
    graph_.validate();
  }

  const TokenModel& model_;
  const CompressOptions options_;
  Graph graph_;
  std::vector<std::pair<std::string, std::string>> renamed_;
};

}  // namespace

std::int64_t tokens_after(const TokenStep& step, std::int64_t tokens) {
  switch (step.kind) {
    case TokenStep::Kind::Reduce:
      return std::min(tokens, step.merge);
    case TokenStep::Kind::Tome:
      return tokens - step.removed;
    case TokenStep::Kind::Evit:
      return std::min(tokens, step.kept + 1);
    case TokenStep::Kind::None:
      break;
  }
  return tokens;
}

std::vector<TokenStep> reduce_steps(const TokenSchedule& schedule, std::int64_t tokens) {
  const TokenSchedule real = effective(schedule, tokens);
  std::vector<TokenStep> steps;
  for (std::size_t l = 0; l < real.blocks(); ++l) {
    const std::int64_t before = l == 0 ? tokens : real.merge[l - 1];
    TokenStep step;
    if (real.merge[l] < before)
      step = {.kind = TokenStep::Kind::Reduce, .prune = real.prune[l], .merge = real.merge[l]};
    steps.push_back(step);
  }
  return steps;
}

Compressed compress_tokens(const Graph& prepared, const TokenModel& model,
                           const std::vector<TokenStep>& steps, const CompressOptions& options) {
  if (steps.size() != model.blocks.size())
    fail("steps for {} blocks are given, but the model has {}", steps.size(), model.blocks.size());
  return Rewriter(prepared, model, options).run(steps);
}

}  // namespace lithe
