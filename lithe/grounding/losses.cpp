// The terms of the criterion.
#include "lithe/grounding/criterion.h"
#include "lithe/metrics/box3.h"

namespace lithe {
namespace {

// Of main, modify, pronoun and relation.
constexpr double kDistributionShares[] = {0.6, 0.2, 0.2, 0.1};
constexpr double kAlignmentShares[] = {1, 0.2, 0.2, 0.1};
constexpr double kSizeShare = 0.2;
constexpr double kSmall = 1e-6;
constexpr double kFocalAlpha = 0.25;

/// The first `width` columns, with zeros where there are fewer.
at::Tensor fitted(const at::Tensor& rows, std::int64_t width) {
  const at::Tensor own = rows.slice(1, 0, width).to(at::kFloat);
  return own.size(1) == width ? own : at::constant_pad_nd(own, {0, width - own.size(1)});
}

std::vector<at::Tensor> matched_roles(const TokenRoles& roles, const QueryMatch& match, std::int64_t width) {
  std::vector<at::Tensor> rows;
  for (const at::Tensor& role : {roles.main, roles.modify, roles.pronoun, roles.relation, roles.other})
    rows.push_back(fitted(role.index_select(0, match.target), width));
  return rows;
}

at::Tensor flat_index(const QueryMatch& match, std::int64_t queries) {
  return match.sample * queries + match.query;
}

}  // namespace

std::pair<at::Tensor, at::Tensor> box_losses(const at::Tensor& boxes, const at::Tensor& wanted) {
  const at::Tensor difference = (boxes - wanted).abs();
  return {difference.slice(1, 0, 3).sum() + kSizeShare * difference.slice(1, 3, 6).sum(),
          (1 - box_overlap(boxes, wanted).giou()).sum()};
}

at::Tensor token_loss(const at::Tensor& logits, const QueryMatch& match, const TokenRoles& roles,
                      double unmatched) {
  const std::int64_t queries = logits.size(1), classes = logits.size(2), rows = logits.size(0) * queries;
  const std::vector<at::Tensor> parts = matched_roles(roles, match, classes);
  at::Tensor named = at::zeros_like(parts[0]);
  for (std::size_t i = 0; i < std::size(kDistributionShares); ++i)
    named = named + parts[i] * kDistributionShares[i];
  at::Tensor wanted = at::zeros({rows, classes}, logits.options());
  wanted.select(1, classes - 1).fill_(1);
  at::Tensor weights = at::full({rows}, unmatched, logits.options());
  const at::Tensor at_rows = flat_index(match, queries);
  wanted.index_copy_(0, at_rows, named);
  weights.index_fill_(0, at_rows, 1);
  const at::Tensor divergence =
      (wanted * ((wanted + kSmall).log() - logits.flatten(0, 1).log_softmax(-1))).sum(-1);
  return (divergence * weights).sum();
}

at::Tensor alignment_loss(const at::Tensor& queries, const at::Tensor& tokens, const QueryMatch& match,
                          const TokenRoles& roles, const at::Tensor& token_counts,
                          const CriterionOptions& options) {
  const at::Tensor logits = at::matmul(queries, tokens.transpose(1, 2)) / options.temperature;
  const std::int64_t batch = logits.size(0), count = logits.size(1), width = logits.size(2);
  const auto plain = logits.options().requires_grad(false);
  const at::Tensor at_rows = flat_index(match, count);
  const std::vector<at::Tensor> parts = matched_roles(roles, match, width);
  const at::Tensor place = at::arange(width, token_counts.options()), ends = token_counts.unsqueeze(1);
  const at::Tensor last = place.unsqueeze(0) == ends - 1, before_last = place.unsqueeze(0) == ends - 2;

  std::vector<at::Tensor> positive;  // [batch, queries, tokens] of 0 and 1, for each role
  for (std::size_t i = 0; i < std::size(kAlignmentShares); ++i) {
    at::Tensor map = i == 0 ? last.logical_or(before_last)
                                  .to(plain.dtype())
                                  .unsqueeze(1)
                                  .expand({batch, count, width})
                                  .reshape({-1, width})
                                  .clone()
                            : at::zeros({batch * count, width}, plain);
    map.index_copy_(0, at_rows, (parts[i] > 0).to(map.scalar_type()));
    positive.push_back(map.view({batch, count, width}));
  }
  at::Tensor others = at::zeros({batch * count, width}, plain);
  others.index_copy_(0, at_rows, (parts[4] > 0).to(others.scalar_type()));
  at::Tensor query_weights = at::full({batch * count}, options.unmatched, plain);
  query_weights.index_fill_(0, at_rows, 1);

  at::Tensor to_tokens = (logits * (1 + others.view({batch, count, width}))).logsumexp(2);
  at::Tensor named = at::zeros_like(logits), relations = at::zeros({batch, width}, plain);
  at::Tensor token_weights = at::full({batch, width}, options.unmatched, plain);
  for (std::size_t i = 0; i < positive.size(); ++i) {
    const at::Tensor& map = positive[i];
    named = named + logits * map;
    to_tokens = to_tokens - kAlignmentShares[i] * (logits * map).sum(2) / (map.sum(2) + kSmall);
    relations = relations + map.sum(1);
    token_weights = at::where(map.sum(1) > 0, at::full({}, kAlignmentShares[i], plain), token_weights);
  }
  token_weights = at::where(before_last, at::full({}, options.unmatched, plain), token_weights);
  const at::Tensor used = relations > 0, n = relations + kSmall;
  const at::Tensor to_queries = logits.logsumexp(1) - named.sum(1) / n - n.log() / n;
  const at::Tensor from_tokens = at::where(used, to_queries * token_weights, at::zeros({}, plain));
  return ((to_tokens * query_weights.view({batch, count})).sum() + from_tokens.sum()) / 2;
}

at::Tensor focal_loss(const at::Tensor& logits, const at::Tensor& wanted) {
  const at::Tensor p = logits.sigmoid();
  const at::Tensor entropy =
      at::binary_cross_entropy_with_logits(logits, wanted, {}, {}, at::Reduction::None);
  const at::Tensor miss = p * (1 - wanted) + (1 - p) * wanted;
  return (kFocalAlpha * wanted + (1 - kFocalAlpha) * (1 - wanted)) * miss.square() * entropy;
}

std::pair<at::Tensor, at::Tensor> mask_losses(const at::Tensor& logits, const at::Tensor& wanted,
                                              const at::Tensor& counts) {
  const at::Tensor there = (at::arange(logits.size(1), counts.options()).unsqueeze(0) < counts.unsqueeze(1))
                               .to(logits.scalar_type());
  const at::Tensor focal = (focal_loss(logits, wanted) * there).sum(1) / counts.clamp_min(1);
  const at::Tensor p = logits.sigmoid() * there, t = wanted * there;
  const at::Tensor dice = 1 - (2 * (p * t).sum(1) + 1) / (p.sum(1) + t.sum(1) + 1);
  return {focal.sum(), dice.sum()};
}

at::Tensor seed_loss(const at::Tensor& logits, const at::Tensor& positions, const GroundingTargets& targets,
                     std::int64_t per_target) {
  at::Tensor wanted = at::zeros_like(logits, at::MemoryFormat::Contiguous).detach();
  {
    const at::NoGradGuard no_grad;
    const at::Tensor centres = targets.boxes.slice(1, 0, 3).unsqueeze(1),
                     sizes = targets.boxes.slice(1, 3, 6).unsqueeze(1) + kSmall;
    const at::Tensor offsets = (positions.index_select(0, targets.sample) - centres) / sizes;
    at::Tensor distance = (offsets.square().sum(-1) + kSmall).sqrt();
    distance = distance.masked_fill(targets.on_seeds.logical_not(), std::numeric_limits<double>::infinity());
    const auto [nearest, index] = distance.topk(std::min(per_target, distance.size(1)), 1, /*largest=*/false);
    const at::Tensor flat =
        (targets.sample.unsqueeze(1) * logits.size(1) + index).masked_select(nearest.isfinite());
    wanted.view({-1}).index_fill_(0, flat, 1);
  }
  return focal_loss(logits, wanted).mean();
}

}  // namespace lithe
