// MaskedSoftmax, TokenReduceSoft, TokenMean and TokenMacs of domain "lithe", which exist while rates are
// learnt.
#include "lithe/ops/token_soft.h"

#include <algorithm>
#include <cmath>

#include "lithe/graph/token_function.h"
#include "lithe/ops/support.h"
#include "lithe/ops/token_reduce.h"

namespace lithe {
namespace {

constexpr double kMaskEpsilon = 1e-6;
constexpr double kCeilSlack = 1e-9;  // what rounding adds to an expectation that is whole

/// x + (value - x), with the gradient of x.
at::Tensor with_gradient_of(const at::Tensor& x, const at::Tensor& value) {
  return x + (value - x).detach();
}

std::vector<at::Tensor> masked_softmax_operator(const OpCall& call) {
  return {masked_softmax(call.input(0), call.input(1))};
}

std::vector<at::Tensor> token_reduce_soft(const OpCall& call) {
  const SoftReduction reduction{.specials = call.node.attr("specials", std::int64_t{1}),
                                .rows = call.node.attr("rows", std::int64_t{1}),
                                .granularity = call.node.attr("granularity", std::int64_t{1}),
                                .scaled = call.node.attr("scaled", 1.0f) != 0,
                                .weighted = call.node.attr("weighted", 0.0f) != 0};
  SoftTokens result = reduce_tokens_soft(call.input(0), call.input(1), call.input(2), call.input(3),
                                         call.input(4), call.input(5), reduction);
  return {result.x, result.size, result.mask, result.pruned, result.merged};
}

/// x [n, tokens, c], sizes and masks of all tokens: the mean over the tokens behind the first `from`, each as
/// often as its size says if it is not masked. The sum of these weights gets no gradient.
std::vector<at::Tensor> token_mean(const OpCall& call) {
  const at::Tensor& x = call.input(0);
  const std::int64_t from = call.node.attr("from", std::int64_t{0});
  const at::Tensor weights = (call.input(1).detach() * call.input(2)).slice(1, from);
  if (x.dim() != 3 || weights.size(1) != x.size(1))
    fail("{}: weights of {} tokens do not fit {}", describe(call.node), weights.size(1),
         format_shape(shape_of(x)));
  const bool keep = call.node.attr("keepdims", std::int64_t{1}) != 0;
  const at::Tensor total = weights.detach().sum({1}, /*keepdim=*/true);
  const at::Tensor mean = (x * weights.unsqueeze(-1)).sum({1}) / total;
  return {keep ? mean.unsqueeze(1) : mean};
}

/// pruned and merged counts of each step in turn, then coefficients [steps, 3] (float64) of 1, n and n^2 in
/// the cost behind each step and the count before the first: the sum.
std::vector<at::Tensor> token_macs(const OpCall& call) {
  const std::size_t steps = (call.inputs.size() - 2) / 2;
  const at::Tensor coefficients = call.input(2 * steps);
  if (coefficients.dim() != 2 || coefficients.size(0) != static_cast<std::int64_t>(steps) ||
      coefficients.size(1) != 3)
    fail("{}: coefficients of {} steps must be [{}, 3], not {}", describe(call.node), steps, steps,
         format_shape(shape_of(coefficients)));
  at::Tensor count = call.input(2 * steps + 1).to(at::kDouble), sum;
  for (std::size_t i = 0; i < steps; ++i) {
    count = least_count(count, call.input(2 * i).to(at::kDouble), call.input(2 * i + 1).to(at::kDouble));
    const at::Tensor row = coefficients.select(0, static_cast<std::int64_t>(i));
    const at::Tensor cost = row.select(0, 0) + count * (row.select(0, 1) + count * row.select(0, 2));
    sum = sum.defined() ? sum + cost : cost;
  }
  return {sum.to(at::kFloat)};
}

}  // namespace

TokenRate token_rate(const at::Tensor& theta, std::int64_t patches, std::int64_t granularity,
                     std::int64_t specials) {
  const std::int64_t candidates = (patches + granularity - 1) / granularity;
  if (theta.dim() != 1 || theta.size(0) != candidates)
    fail("a rate over {} patches in steps of {} has {} candidates, not {}", patches, granularity, candidates,
         theta.numel());
  const auto options = theta.options().dtype(at::kDouble);
  const at::Tensor counts = patches - granularity * at::arange(candidates, options);
  const at::Tensor shares = at::softmax(theta.to(at::kDouble), 0);
  const at::Tensor expected = (counts * shares).sum();
  const at::Tensor whole = at::ceil(expected.detach() - kCeilSlack);
  const at::Tensor ranks = at::arange(1, patches + 1, options);
  const at::Tensor reach = (counts.unsqueeze(1) >= ranks.unsqueeze(0)).to(at::kDouble);
  return {(with_gradient_of(expected, whole) + specials).to(at::kFloat),
          at::cat({at::ones({specials}, options), shares.matmul(reach)}).to(at::kFloat)};
}

at::Tensor token_mask(const TokenRate& rate, std::int64_t kept, std::int64_t alive) {
  at::Tensor hard = at::ones_like(rate.probability).detach();
  if (kept < alive) hard.slice(0, kept, alive).zero_();
  return with_gradient_of(rate.probability, hard);
}

at::Tensor masked_softmax(const at::Tensor& z, const at::Tensor& mask) {
  const at::Tensor logits = z.to(at::kFloat);
  const std::int64_t tokens = logits.size(-1);
  const at::Tensor column = mask.to(at::kFloat).reshape({mask.size(0), 1, 1, tokens});
  const at::Tensor present = column + (1 - column) * at::eye(tokens, column.options());
  const at::Tensor e = at::exp(logits - std::get<0>(logits.max(-1, /*keepdim=*/true)).detach()) * present;
  const at::Tensor a =
      (e + kMaskEpsilon / static_cast<double>(tokens)) / (e.sum({-1}, /*keepdim=*/true) + kMaskEpsilon);
  return a.to(z.scalar_type());
}

at::Tensor least_count(const at::Tensor& before, const at::Tensor& pruned, const at::Tensor& merged) {
  return at::minimum(before, at::minimum(pruned, merged)).detach() + (pruned - pruned.detach()) +
         (merged - merged.detach());
}

SoftTokens reduce_tokens_soft(const at::Tensor& x, const at::Tensor& attention, const at::Tensor& size,
                              const at::Tensor& mask, const at::Tensor& prune_theta,
                              const at::Tensor& merge_theta, const SoftReduction& reduction) {
  const std::int64_t batch = x.size(0), tokens = x.size(1), patches = tokens - reduction.specials;
  const at::Tensor full_mask = mask.expand({batch, tokens}),
                   full_size = size.detach().expand({batch, tokens});
  // What is masked goes to the end, whatever rounding makes of its importance.
  at::Tensor importance = mean_importance(attention.detach(), reduction.rows);
  if (reduction.rows >= tokens) {  // of all queries that are still there
    const at::Tensor weight = full_mask.detach().to(attention.scalar_type()).unsqueeze(1);  // [b, 1, n]
    importance = weight.matmul(attention.detach().mean(1)).squeeze(1) / weight.sum(-1);
  }
  importance = importance.masked_fill(full_mask.detach() < 0.5, -1);
  const at::Tensor order = sorted_tokens(importance, reduction.specials, tokens);
  SoftTokens out{
      gather_tokens(x, order), gather_tokens(full_size, order), gather_tokens(full_mask, order), {}, {}};
  const auto alive = static_cast<std::int64_t>(std::llround(out.mask.detach()[0].sum().item<double>()));

  const TokenRate prune = token_rate(prune_theta, patches, reduction.granularity, reduction.specials);
  out.pruned = prune.kept;
  const auto pruned = static_cast<std::int64_t>(std::llround(prune.kept.item<double>()));
  if (pruned < alive) out.mask = out.mask * token_mask(prune, pruned, alive);
  const std::int64_t middle = std::min(alive, pruned);

  const TokenRate merge = token_rate(merge_theta, patches, reduction.granularity, reduction.specials);
  out.merged = merge.kept;
  const auto merged = static_cast<std::int64_t>(std::llround(merge.kept.item<double>()));
  if (merged >= middle) return out;
  const at::Tensor targets = out.x.slice(1, 0, merged), sources = out.x.slice(1, merged, middle);
  const auto [target, cosine] = nearest_tokens(sources.detach(), targets.detach(), reduction.specials);
  at::Tensor sizes = out.size.slice(1, 0, middle);
  const at::Tensor weights = reduction.weighted ? sizes : at::ones_like(sizes);
  const at::Tensor mean =
      group_means(targets, sources, target, weights.slice(1, 0, merged), weights.slice(1, merged));
  out.x = at::cat({mean, out.x.slice(1, merged)}, 1);
  const at::Tensor shrunk = sizes.slice(1, merged);
  sizes = at::cat({sizes.slice(1, 0, merged), reduction.scaled ? shrunk * cosine : shrunk}, 1).clamp_min(1);
  const at::Tensor grown = sizes.slice(1, 0, merged).scatter_add(1, target, sizes.slice(1, merged));
  out.size = at::cat({grown, sizes.slice(1, merged), out.size.slice(1, middle)}, 1);
  out.mask = out.mask * token_mask(merge, merged, middle);
  return out;
}

void register_token_soft(OpRegistry& registry) {
  registry.add("MaskedSoftmax", masked_softmax_operator, 1, 1, "lithe");
  registry.add("TokenReduceSoft", token_reduce_soft, 1, 1, "lithe");
  registry.add("TokenMacs", token_macs, 1, 1, "lithe");
  registry.add("TokenMean", token_mean, 1, 1, "lithe");
}

}  // namespace lithe
