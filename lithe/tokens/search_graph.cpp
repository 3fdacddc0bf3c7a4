#include "lithe/tokens/search_graph.h"

#include <algorithm>
#include <cmath>

#include "lithe/base/error.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/ops/registry.h"
#include "lithe/ops/token_soft.h"
#include "lithe/tokens/node_writer.h"

namespace lithe {
namespace {

using Sizes = std::vector<std::int64_t>;

constexpr float kCertain = 60;  // a logit beside zeros: e^-60 of the rest

class Inserter {
 public:
  Inserter(const Graph& prepared, const TokenModel& model, const SearchOptions& options)
      : model_(model), options_(options) {
    search_.graph = prepared;
    search_.patches = model.tokens - model.specials;
    search_.specials = model.specials;
    search_.granularity = options.granularity;
  }

  SearchGraph run(const TokenCost& cost, const TokenLimits& limits) {
    if (options_.granularity < 1 || options_.granularity > search_.patches)
      fail("counts cannot be {} tokens apart in a model of {}", options_.granularity, search_.patches);
    sizes_ = mask_ = graph().add_constant(
        "token_ones",
        TensorData::from<float>({1, model_.tokens},
                                std::vector<float>(static_cast<std::size_t>(model_.tokens), 1.0f)));
    for (std::size_t l = 0; l < model_.blocks.size(); ++l) {
      mask_softmax(model_.blocks[l], !search_.blocks.empty());
      if (l >= limits.first && l < limits.end) reduce(l);
    }
    if (search_.blocks.empty()) fail("no block of the model may remove tokens; there is nothing to learn");
    if (model_.tail == TokenTail::Mean) weigh_mean();
    add_macs(cost, limits);
    for (const LearntBlock& block : search_.blocks)
      for (const std::string& name : {block.pruned, block.merged})
        graph().outputs.push_back({.name = name, .dtype = DType::Float32, .shape = DimVector{}});
    graph().header.opsets.emplace("lithe", 1);
    graph().values.clear();
    graph().sort();
    graph().remove_dead();
    infer_shapes(graph());
    graph().validate();
    return std::move(search_);
  }

 private:
  Graph& graph() { return search_.graph; }
  std::string reshaped(const std::string& name, const std::string& x, Sizes shape) {
    return write_.op(name, "Reshape", {x, write_.ints(name + ".shape", std::move(shape))});
  }

  /// Softmax over the tokens that the mask leaves, of scores to which the logarithms of sizes are added.
  void mask_softmax(const AttentionBlock& block, bool sized) {
    const std::int64_t n = model_.tokens;
    std::string logits = block.logits;
    if (block.flat) logits = reshaped(block.logits + ".heads", logits, {-1, model_.heads, n, n});
    if (sized) {
      const std::string log = write_.op(block.logits + ".log_size", "Log", {sizes_});
      logits = write_.op(block.logits + ".weighed", "Add",
                         {logits, reshaped(block.logits + ".bias", log, {-1, 1, 1, n})});
    }
    const std::string name =
        block.flat ? graph().unique_name(block.probabilities + ".heads") : block.probabilities;
    std::erase_if(graph().nodes, [&](const Node& node) { return node.output(0) == block.probabilities; });
    graph().nodes.push_back({.name = name,
                             .op_type = "MaskedSoftmax",
                             .domain = "lithe",
                             .inputs = {logits, mask_},
                             .outputs = {name}});
    attention_ = name;
    if (block.flat)
      graph().nodes.push_back({.name = block.probabilities,
                               .op_type = "Reshape",
                               .inputs = {name, write_.ints(block.probabilities + ".flat", {-1, n, n})},
                               .outputs = {block.probabilities}});
  }

  std::string theta(const std::string& name, bool learns) {
    const std::int64_t count = (search_.patches + options_.granularity - 1) / options_.granularity;
    std::vector<float> values(static_cast<std::size_t>(count), 0.0f);
    if (!learns) values[0] = kCertain;
    std::string constant = graph().add_constant(name, TensorData::from<float>({count}, std::move(values)));
    if (learns) search_.thetas.push_back(constant);
    return constant;
  }

  void reduce(std::size_t l) {
    const AttentionBlock& block = model_.blocks[l];
    LearntBlock learnt{.block = l};
    learnt.prune_theta = theta(fmt::format("token_rates.{}.prune", l), options_.kind != TokenKind::Merge);
    learnt.merge_theta = theta(fmt::format("token_rates.{}.merge", l), options_.kind != TokenKind::Prune);
    const bool weighted = options_.sizes == TokenSizes::Weighted;
    const std::string name =
        write_.op(block.residual + ".reduced", "TokenReduceSoft",
                  {block.residual, attention_, sizes_, mask_, learnt.prune_theta, learnt.merge_theta},
                  {{"specials", model_.specials},
                   {"rows", model_.rows == 0 ? model_.tokens : model_.rows},
                   {"granularity", options_.granularity},
                   {"scaled", weighted ? 0.0f : 1.0f},
                   {"weighted", weighted ? 1.0f : 0.0f}},
                  "lithe", {".sizes", ".mask", ".pruned", ".merged"});
    for (Node& reader : graph().nodes)
      if (reader.output(0) != name)
        std::replace(reader.inputs.begin(), reader.inputs.end(), block.residual, name);
    const Node& made = graph().nodes.back();
    sizes_ = made.output(1);
    mask_ = made.output(2);
    learnt.pruned = made.output(3);
    learnt.merged = made.output(4);
    search_.blocks.push_back(std::move(learnt));
  }

  void weigh_mean() {
    const auto found = std::find_if(graph().nodes.begin(), graph().nodes.end(),
                                    [&](const Node& node) { return node.output(0) == model_.mean; });
    const std::int64_t keep = found->attr("keepdims", std::int64_t{1});
    *found = {.name = found->name,
              .op_type = "TokenMean",
              .domain = "lithe",
              .inputs = {found->input(0), sizes_, mask_},
              .outputs = {model_.mean},
              .attributes = {{"from", model_.mean_from}, {"keepdims", keep}}};
  }

  /// Costs of what lies behind blocks that learn nothing go to the block before them.
  void add_macs(const TokenCost& cost, const TokenLimits& limits) {
    const auto dense = static_cast<double>(cost.dense), n = static_cast<double>(cost.tokens);
    double fixed = cost.fixed;
    std::vector<double> coefficients;
    for (std::size_t l = 0; l < cost.behind.size(); ++l) {
      const auto& one = cost.behind[l];
      if (l < limits.first) {
        fixed += one[0] + n * (one[1] + n * one[2]);
      } else if (l < limits.end) {
        coefficients.insert(coefficients.end(), one.begin(), one.end());
      } else {
        for (std::size_t i = 0; i < 3; ++i) coefficients[coefficients.size() - 3 + i] += one[i];
      }
    }
    coefficients[0] += fixed;
    for (double& one : coefficients) one /= dense;
    std::vector<std::string> inputs;
    for (const LearntBlock& block : search_.blocks) inputs.insert(inputs.end(), {block.pruned, block.merged});
    const auto steps = static_cast<std::int64_t>(search_.blocks.size());
    inputs.push_back(graph().add_constant("token_macs.factors",
                                          TensorData::from<double>({steps, 3}, std::move(coefficients))));
    inputs.push_back(graph().add_constant("token_macs.tokens", TensorData::scalar(n)));
    search_.macs = write_.op("token_macs", "TokenMacs", std::move(inputs), {}, "lithe");
    graph().outputs.push_back({.name = search_.macs, .dtype = DType::Float32, .shape = DimVector{}});
  }

  const TokenModel& model_;
  const SearchOptions options_;
  SearchGraph search_;
  NodeWriter write_{search_.graph};
  std::string sizes_, mask_, attention_;
};

}  // namespace

SearchGraph insert_search(const Graph& prepared, const TokenModel& model, const TokenCost& cost,
                          const TokenLimits& limits, const SearchOptions& options) {
  return Inserter(prepared, model, options).run(cost, limits);
}

TokenSchedule learnt_schedule(const Graph& graph, const SearchGraph& search, const TokenModel& model) {
  const at::NoGradGuard no_grad;
  TokenSchedule schedule = dense_schedule(model.blocks.size(), model.tokens);
  const auto count = [&](const std::string& name) {
    const TokenRate rate =
        token_rate(to_tensor(graph.constants.at(name)), search.patches, search.granularity, search.specials);
    return static_cast<std::int64_t>(std::llround(rate.kept.item<double>()));
  };
  for (const LearntBlock& block : search.blocks) {
    schedule.prune[block.block] = count(block.prune_theta);
    schedule.merge[block.block] = count(block.merge_theta);
  }
  return effective(schedule, model.tokens);
}

}  // namespace lithe
