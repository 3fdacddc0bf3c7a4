#include "lithe/tokens/account.h"

#include <algorithm>
#include <cmath>

#include "lithe/base/error.h"
#include "lithe/graph/cost.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/tokens/segments.h"

namespace lithe {
namespace {

/// Multiply-accumulates by segment (the part before the first reduction in front) at `tokens` behind the
/// first block.
std::vector<double> probe(const Graph& prepared, const TokenModel& model, std::int64_t tokens,
                          bool class_rows) {
  std::vector<TokenStep> steps(model.blocks.size());
  if (tokens < model.tokens) steps[0] = {.kind = TokenStep::Kind::Reduce, .prune = tokens, .merge = tokens};
  Compressed compressed = compress_tokens(prepared, model, steps, {.class_rows = class_rows});
  Graph& graph = compressed.graph;
  const InputShapes one = concrete_input_shapes(graph, {}, 1);
  infer_shapes(graph, one);
  const Cost cost = measure_cost(graph);
  const std::vector<int> segments = token_segments(graph, model, compressed.reduced, class_rows);
  std::int64_t batch = 1;  // that the file fixes
  for (const auto& [name, shape] : one)
    if (!shape.empty()) batch = std::max(batch, shape.front());
  std::vector<double> sums(model.blocks.size() + 1);
  for (std::size_t i = 0; i < graph.nodes.size(); ++i)
    sums[static_cast<std::size_t>(std::int64_t{segments[i]} + 1)] +=
        static_cast<double>(cost.node_macs[i]) / static_cast<double>(batch);
  return sums;
}

}  // namespace

double TokenCost::network(const std::vector<std::int64_t>& after) const {
  double sum = fixed;
  for (std::size_t l = 0; l < behind.size(); ++l) {
    const auto n = static_cast<double>(after[l]);
    sum += behind[l][0] + n * (behind[l][1] + n * behind[l][2]);
  }
  return sum;
}

std::int64_t step_macs(const TokenStep& step, std::int64_t tokens, const TokenCost& cost) {
  if (tokens_after(step, tokens) == tokens) return 0;
  switch (step.kind) {
    case TokenStep::Kind::Reduce: {
      const std::int64_t sources = step.prune - step.merge;
      return sources * ((step.merge - cost.specials) * cost.width + step.merge * (cost.width + 2));
    }
    case TokenStep::Kind::Tome: {
      const std::int64_t even = (tokens + 1) / 2 - (cost.specials + 1) / 2, odd = tokens / 2;
      return even * (odd - cost.specials / 2) * cost.head_width + step.removed * odd * (cost.width + 1);
    }
    case TokenStep::Kind::Evit:
      return (tokens - step.kept) * cost.width;
    case TokenStep::Kind::None:
      break;
  }
  return 0;
}

std::int64_t TokenCost::total(const std::vector<TokenStep>& steps) const {
  std::int64_t n = tokens, added = 0;
  std::vector<std::int64_t> after;
  for (const TokenStep& step : steps) {
    added += step_macs(step, n, *this);
    after.push_back(n = tokens_after(step, n));
  }
  return static_cast<std::int64_t>(std::llround(network(after))) + added;
}

std::int64_t TokenCost::total(const TokenSchedule& schedule) const {
  return total(reduce_steps(schedule, tokens));
}

TokenCost token_cost(const Graph& prepared, const TokenModel& model, bool class_rows) {
  TokenCost cost{.tokens = model.tokens,
                 .specials = model.specials,
                 .width = model.width,
                 .head_width = model.width / model.heads};
  {
    Graph graph = prepared;
    const InputShapes one = concrete_input_shapes(graph, {}, 1);
    infer_shapes(graph, one);
    std::int64_t batch = 1;
    for (const auto& [name, shape] : one)
      if (!shape.empty()) batch = std::max(batch, shape.front());
    cost.dense = measure_cost(graph).macs / batch;
  }
  const std::int64_t low = model.specials + 1;
  const std::int64_t step = (model.tokens - low) / 2;
  if (step < 1) fail("{} tokens are too few to thin out", model.tokens);
  const std::int64_t counts[3] = {model.tokens, model.tokens - step, model.tokens - 2 * step};
  const auto first = probe(prepared, model, counts[0], class_rows),
             second = probe(prepared, model, counts[1], class_rows),
             third = probe(prepared, model, counts[2], class_rows);
  cost.fixed = first[0];
  const auto h = static_cast<double>(step), n = static_cast<double>(counts[0]);
  for (std::size_t l = 1; l < first.size(); ++l) {
    const double square = (first[l] - 2 * second[l] + third[l]) / (2 * h * h);
    const double slope = (first[l] - second[l]) / h - square * (2 * n - h);
    cost.behind.push_back({first[l] - n * (slope + n * square), slope, square});
  }
  return cost;
}

std::int64_t published_macs(const PublishedVit& vit, const TokenSchedule& schedule) {
  const std::int64_t c = vit.width;
  std::int64_t n = vit.tokens;
  std::int64_t sum = n * c * 3 * vit.patch * vit.patch + c * vit.classes;
  const TokenSchedule real = effective(schedule, n);
  for (std::size_t l = 0; l < real.blocks(); ++l) {
    sum += 4 * n * c * c + 2 * n * n * c + 8 * real.merge[l] * c * c;
    n = real.merge[l];
  }
  return sum;
}

}  // namespace lithe
