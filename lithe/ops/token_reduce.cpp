// TokenPrune, TokenReduce and TokenReduceOwn of domain "lithe".
#include "lithe/ops/token_reduce.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <limits>

#include "lithe/graph/token_function.h"
#include "lithe/ops/support.h"

namespace lithe {
namespace {

void check_shapes(const at::Tensor& x, const at::Tensor& attention, const at::Tensor& size,
                  const std::string& what) {
  if (x.dim() != 3) fail("{}: tokens must be [n, tokens, channels], not {}", what, format_shape(shape_of(x)));
  if (attention.dim() != 4 || attention.size(0) != x.size(0) || attention.size(3) != x.size(1))
    fail("{}: the attention {} does not fit the tokens {}", what, format_shape(shape_of(attention)),
         format_shape(shape_of(x)));
  if (size.dim() != 2 || size.size(1) != x.size(1) || (size.size(0) != 1 && size.size(0) != x.size(0)))
    fail("{}: the sizes {} do not fit the tokens {}", what, format_shape(shape_of(size)),
         format_shape(shape_of(x)));
}

void check(const at::Tensor& x, const at::Tensor& attention, const at::Tensor& size, const TokenReduction& r,
           std::int64_t rows, const std::string& what) {
  check_shapes(x, attention, size, what);
  if (r.specials < 0 || r.prune > x.size(1) || r.merge > r.prune || r.merge <= r.specials || rows < 1)
    fail("{}: from {} tokens, {} of them special, {} cannot be kept and then {}", what, x.size(1), r.specials,
         r.prune, r.merge);
}

/// The assignment from the order of tokens and the target of each that is folded in.
at::Tensor assignment_of(const at::Tensor& order, const at::Tensor& targets, std::int64_t tokens,
                         std::int64_t merge) {
  at::Tensor assignment = at::full({order.size(0), tokens}, -1, order.options());
  const at::Tensor own = at::arange(merge, order.options()).expand({order.size(0), merge});
  return assignment.scatter(1, order, targets.defined() ? at::cat({own, targets}, 1) : own);
}

TokenReduction reduction_of(const OpCall& call, std::string_view prune, std::string_view merge) {
  TokenReduction r;
  r.prune = call.node.attr(prune, std::int64_t{0});
  r.merge = call.node.attr(merge, std::int64_t{0});
  r.specials = call.node.attr("specials", std::int64_t{1});
  r.scaled = call.node.attr("scaled", 1.0f) != 0;
  r.weighted = call.node.attr("weighted", 0.0f) != 0;
  r.least = call.node.attr("least", std::numeric_limits<float>::lowest());
  return r;
}

std::vector<at::Tensor> run(const OpCall& call, const TokenReduction& reduction) {
  const bool traced = !call.node.output(2).empty();
  ReducedTokens result = reduce_tokens(call.input(0), call.input(1), call.input(2), reduction,
                                       call.node.attr("rows", std::int64_t{1}), traced, describe(call.node));
  return {result.x, result.size, result.assignment};
}

/// x, attention, size -> x', size'[, assignment]; attributes kept, specials, rows.
std::vector<at::Tensor> token_prune(const OpCall& call) {
  return run(call, reduction_of(call, "kept", "kept"));
}

/// x, attention, size -> x', size'[, assignment]; attributes prune, merge, specials, rows, scaled, weighted,
/// least.
std::vector<at::Tensor> token_reduce(const OpCall& call) {
  return run(call, reduction_of(call, "prune", "merge"));
}

/// The same inputs and outputs; attributes of token_reduce and mass.
std::vector<at::Tensor> token_reduce_own(const OpCall& call) {
  const bool traced = !call.node.output(2).empty();
  ReducedTokens result = reduce_own_tokens(
      call.input(0), call.input(1), call.input(2), reduction_of(call, "prune", "merge"),
      call.node.attr("rows", std::int64_t{1}), call.node.attr("mass", 1.0f), traced, describe(call.node));
  return {result.x, result.size, result.assignment};
}

}  // namespace

ReducedTokens reduce_own_tokens(const at::Tensor& x, const at::Tensor& attention, const at::Tensor& size,
                                const TokenReduction& reduction, std::int64_t rows, double mass,
                                bool want_assignment, const std::string& what) {
  check_shapes(x, attention, size, what);
  const std::int64_t batch = x.size(0), tokens = x.size(1), s = reduction.specials;
  const at::Tensor sizes = size.expand({batch, tokens}),
                   present = (sizes.detach() > 0).sum({1}).to(at::kCPU, at::kLong);
  std::vector<ReducedTokens> parts;
  std::int64_t width = 0;
  for (std::int64_t b = 0; b < batch; ++b) {
    const auto there = present[b].item<std::int64_t>();
    const auto own = [&](const at::Tensor& of, std::int64_t axis) {
      return of.slice(0, b, b + 1).slice(axis, 0, there);
    };
    const at::Tensor votes = own(attention, 3).slice(2, 0, std::min(rows, there));
    const at::Tensor importance =
        std::get<0>(mean_importance(votes.detach(), rows)[0].slice(0, s).sort(0, /*descending=*/true));
    const at::Tensor sums = importance.cumsum(0);
    const auto before = (sums < importance.sum() * mass).sum().item<std::int64_t>();
    TokenReduction counts = reduction;
    counts.prune = std::min({reduction.prune, there, s + before + 1});
    counts.merge = std::min(reduction.merge, counts.prune);
    parts.push_back(reduce_tokens(own(x, 1), votes, own(sizes, 1), counts, rows, want_assignment, what));
    width = std::max(width, counts.merge);
  }
  std::vector<at::Tensor> all_x, all_sizes, all_assignments;
  for (const ReducedTokens& one : parts) {
    const std::int64_t rest = width - one.x.size(1);
    all_x.push_back(at::constant_pad_nd(one.x, {0, 0, 0, rest}));
    all_sizes.push_back(at::constant_pad_nd(one.size, {0, rest}));
    if (one.assignment.defined())
      all_assignments.push_back(
          at::constant_pad_nd(one.assignment, {0, tokens - one.assignment.size(1)}, -1));
  }
  return {at::cat(all_x), at::cat(all_sizes),
          all_assignments.empty() ? at::Tensor() : at::cat(all_assignments)};
}

at::Tensor mean_importance(const at::Tensor& attention, std::int64_t rows) {
  return attention.slice(2, 0, std::min(rows, attention.size(2))).mean({1, 2});
}

at::Tensor sorted_tokens(const at::Tensor& importance, std::int64_t specials, std::int64_t count) {
  at::Tensor key = importance.detach().to(at::kFloat).clone();
  key = at::where(key.isnan(), at::full({}, -std::numeric_limits<float>::infinity(), key.options()), key);
  if (specials > 0)
    key.slice(1, 0, specials)
        .copy_(at::arange(specials + 1, 1, -1, key.options()).expand({key.size(0), specials}));
  const at::Tensor order = std::get<1>(at::sort(key, /*stable=*/true, 1, /*descending=*/true));
  return order.slice(1, 0, count);
}

at::Tensor gather_tokens(const at::Tensor& x, const at::Tensor& index) {
  if (x.dim() == 2) return x.gather(1, index);
  return x.gather(1, index.unsqueeze(-1).expand({index.size(0), index.size(1), x.size(2)}));
}

std::pair<at::Tensor, at::Tensor> nearest_tokens(const at::Tensor& sources, const at::Tensor& targets,
                                                 std::int64_t specials) {
  const auto unit = [](const at::Tensor& x) {
    return x / x.norm(2, {-1}, /*keepdim=*/true).clamp_min(kSmallestTokenLength);
  };
  const at::Tensor similarity = unit(sources).matmul(unit(targets.slice(1, specials)).transpose(1, 2));
  const auto [cosine, index] = similarity.max(-1);
  return {index + specials, cosine};
}

at::Tensor group_means(const at::Tensor& targets, const at::Tensor& sources, const at::Tensor& index,
                       const at::Tensor& target_weights, const at::Tensor& source_weights) {
  const at::Tensor sum =
      (targets * target_weights.unsqueeze(-1))
          .scatter_add(1, index.unsqueeze(-1).expand_as(sources), sources * source_weights.unsqueeze(-1));
  return sum / target_weights.scatter_add(1, index, source_weights).unsqueeze(-1);
}

ReducedTokens reduce_tokens_composed(const at::Tensor& x, const at::Tensor& attention, const at::Tensor& size,
                                     const TokenReduction& r, std::int64_t rows) {
  const at::Tensor order = sorted_tokens(mean_importance(attention.detach(), rows), r.specials, r.prune);
  const at::Tensor tokens = gather_tokens(x, order);
  const at::Tensor sizes = gather_tokens(size.detach().expand({x.size(0), x.size(1)}), order);
  if (r.merge == r.prune) return {tokens, sizes, assignment_of(order, {}, x.size(1), r.merge)};
  const at::Tensor kept = tokens.slice(1, 0, r.merge), sources = tokens.slice(1, r.merge);
  const auto [target, cosine] = nearest_tokens(sources.detach(), kept.detach(), r.specials);
  const at::Tensor own = sizes.slice(1, 0, r.merge), given = sizes.slice(1, r.merge);
  const at::Tensor mean = r.weighted
                              ? group_means(kept, sources, target, own, given)
                              : group_means(kept, sources, target, at::ones_like(own), at::ones_like(given));
  const at::Tensor shrunk = (r.scaled ? given * cosine.to(given.scalar_type()) : given).clamp_min(r.least);
  const at::Tensor new_size =
      own.clamp_min(r.least).scatter_add(1, target, shrunk).clamp_min(kSmallestTokenSize);
  return {mean, new_size, assignment_of(order, target, x.size(1), r.merge)};
}

ReducedTokens reduce_tokens(const at::Tensor& x, const at::Tensor& attention, const at::Tensor& size,
                            TokenReduction r, std::int64_t rows, bool want_assignment,
                            const std::string& what) {
  check(x, attention, size, r, rows, what);
  const bool gradient = at::GradMode::is_enabled() && x.requires_grad();
  const auto plain = [](const at::Tensor& t) { return t.device().is_cpu() && t.scalar_type() == at::kFloat; };
  if (gradient || !plain(x) || !plain(attention) || !plain(size))
    return reduce_tokens_composed(x, attention, size, r, rows);
  r.tokens = x.size(1);
  r.channels = x.size(2);
  const std::int64_t batch = x.size(0), heads = attention.size(1), queries = attention.size(2);
  const at::Tensor from = x.contiguous(), scores = attention.contiguous(),
                   sizes = size.expand({batch, r.tokens}).contiguous();
  ReducedTokens result{
      at::empty({batch, r.merge, r.channels}, x.options()), at::empty({batch, r.merge}, x.options()), {}};
  if (want_assignment) result.assignment = at::empty({batch, r.tokens}, x.options().dtype(at::kLong));
  const float *x_data = from.data_ptr<float>(), *score_data = scores.data_ptr<float>(),
              *size_data = sizes.data_ptr<float>();
  float *out = result.x.data_ptr<float>(), *out_size = result.size.data_ptr<float>();
  std::int64_t* assigned = want_assignment ? result.assignment.data_ptr<std::int64_t>() : nullptr;
  at::parallel_for(0, batch, 1, [&](std::int64_t begin, std::int64_t end) {
    TokenWorkspace workspace;
    std::vector<float> importance(static_cast<std::size_t>(r.tokens));
    std::vector<std::int64_t> order(static_cast<std::size_t>(r.prune));
    for (std::int64_t b = begin; b < end; ++b) {
      token_importance(score_data + b * heads * queries * r.tokens, heads, queries, r.tokens, rows,
                       importance.data());
      token_order(importance, r.specials, r.prune, order.data());
      lithe::reduce_tokens(x_data + b * r.tokens * r.channels, size_data + b * r.tokens, order.data(), r,
                           out + b * r.merge * r.channels, out_size + b * r.merge,
                           assigned ? assigned + b * r.tokens : nullptr, workspace);
    }
  });
  return result;
}

void register_token_reduce(OpRegistry& registry) {
  registry.add(kTokenPrune, token_prune, 1, 1, "lithe");
  registry.add(kTokenReduce, token_reduce, 1, 1, "lithe");
  registry.add(kTokenReduceOwn, token_reduce_own, 1, 1, "lithe");
}

}  // namespace lithe
