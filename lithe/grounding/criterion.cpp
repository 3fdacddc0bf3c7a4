#include "lithe/grounding/criterion.h"

#include "lithe/base/error.h"
#include "lithe/grounding/matching.h"
#include "lithe/metrics/box3.h"

namespace lithe {
namespace {

/// Roles in the order of `kTokenShares`.
std::vector<at::Tensor> positive_roles(const TokenRoles& roles) {
  return {roles.main, roles.modify, roles.pronoun, roles.relation};
}

TokenRoles only_main(const TokenRoles& roles) {
  const at::Tensor none = at::zeros_like(roles.main);
  return {roles.main, none, none, none, none};
}

void require(bool fits, const char* what) {
  if (!fits) fail("the criterion's {} do not fit the predictions", what);
}

void check(const GroundingPrediction& prediction, const GroundingTargets& targets,
           const CriterionOptions& options) {
  require(!prediction.layers.empty(), "layers");
  const std::int64_t batch = prediction.layers[0].boxes.size(0), count = targets.targets();
  require(targets.boxes.size(0) == count && targets.boxes.size(-1) == 6, "boxes");
  for (const at::Tensor& role : positive_roles(targets.roles))
    require(role.dim() == 2 && role.size(0) == count, "token roles");
  require(targets.token_counts.size(0) == batch, "token counts");
  if (count > 0)
    require(
        targets.sample.min().item<std::int64_t>() >= 0 && targets.sample.max().item<std::int64_t>() < batch,
        "samples");
  if (options.seeds != 0)
    require(targets.on_seeds.sizes() == at::IntArrayRef({count, prediction.seed_logits.size(1)}), "seeds");
  if (prediction.mask_logits.defined()) {
    const std::int64_t superpoints = prediction.mask_logits.size(2);
    require(targets.hits.sizes() == at::IntArrayRef({count, superpoints}) &&
                targets.points.sizes() == at::IntArrayRef({batch, superpoints}) &&
                targets.superpoints.size(0) == batch,
            "superpoints");
  }
}

/// A superpoint belongs to the target if more than half of its points do.
at::Tensor wanted_masks(const GroundingTargets& targets, const QueryMatch& match) {
  const at::Tensor hits = targets.hits.index_select(0, match.target),
                   points = targets.points.index_select(0, match.sample);
  return (hits * 2 > points).to(at::kFloat);
}

at::Tensor of_queries(const at::Tensor& values, const QueryMatch& match) {
  return values.flatten(0, 1).index_select(0, match.sample * values.size(1) + match.query);
}

}  // namespace

GroundingLoss grounding_loss(const GroundingPrediction& prediction, const GroundingTargets& targets,
                             const CriterionOptions& options) {
  check(prediction, targets, options);
  GroundingTargets wanted = targets;
  if (options.main_only) wanted.roles = only_main(targets.roles);
  GroundingLoss loss{.total = at::zeros({}, prediction.layers[0].boxes.options())};
  const auto add = [&loss](const char* name, const at::Tensor& value, double factor, double share = 1) {
    loss.total = loss.total + value * (factor * share);
    loss.terms[name] += value.item<double>() * share;
  };
  const auto layers = static_cast<double>(prediction.layers.size());
  for (std::size_t i = 0; i < prediction.layers.size(); ++i) {
    const QueryPrediction& layer = prediction.layers[i];
    const bool last = i + 1 == prediction.layers.size();
    const bool masks = last && prediction.mask_logits.defined() && (options.mask != 0 || options.dice != 0);
    const QueryMatch match =
        match_queries(layer, masks ? prediction.mask_logits.detach() : at::Tensor(), wanted, options);
    const auto pairs = static_cast<double>(std::max<std::int64_t>(1, match.query.size(0)));
    if (options.box != 0 || options.giou != 0) {
      const auto [distance, giou] =
          box_losses(of_queries(layer.boxes, match), wanted.boxes.index_select(0, match.target));
      if (options.box != 0) add("box", distance / pairs, options.box, 1 / layers);
      if (options.giou != 0) add("giou", giou / pairs, options.giou, 1 / layers);
    }
    if (options.tokens != 0)
      add("tokens", token_loss(layer.tokens, match, wanted.roles, options.unmatched) / pairs, options.tokens,
          1 / layers);
    if (options.alignment != 0)
      add("alignment",
          alignment_loss(layer.projection, prediction.token_projection, match, wanted.roles,
                         wanted.token_counts, options) /
              pairs,
          options.alignment, 1 / layers);
    if (masks) {
      const auto [focal, dice] =
          mask_losses(of_queries(prediction.mask_logits, match), wanted_masks(wanted, match),
                      wanted.superpoints.index_select(0, match.sample));
      add("mask", focal / pairs, options.mask);
      add("dice", dice / pairs, options.dice);
    }
  }
  if (options.seeds != 0)
    add("seeds",
        seed_loss(prediction.seed_logits, prediction.seed_positions, wanted, options.seeds_per_target),
        options.seeds);
  return loss;
}

QueryMatch match_queries(const QueryPrediction& layer, const at::Tensor& masks,
                         const GroundingTargets& targets, const CriterionOptions& options) {
  const at::NoGradGuard no_grad;
  const at::Tensor probabilities = layer.tokens.softmax(-1).index_select(0, targets.sample);
  const std::int64_t width = std::min(probabilities.size(2), targets.roles.main.size(1));
  const at::Tensor named =
      at::matmul(probabilities.slice(2, 0, width), targets.roles.main.slice(1, 0, width).unsqueeze(-1))
          .squeeze(-1);
  at::Tensor cost = named * -options.cost_tokens;  // [targets, queries]
  if (options.cost_giou != 0)
    cost =
        cost - box_overlap(layer.boxes.index_select(0, targets.sample), targets.boxes.unsqueeze(1)).giou() *
                   options.cost_giou;
  if (masks.defined() && options.cost_mask != 0) {
    const at::Tensor points = targets.points.index_select(0, targets.sample);
    const at::Tensor inside = (masks.index_select(0, targets.sample) > 0).to(points.scalar_type());
    // Points of the query's superpoints that are not the target's, and the target's in other superpoints.
    const at::Tensor balance = (points - targets.hits * 2).unsqueeze(-1);
    const at::Tensor differing = at::matmul(inside, balance).squeeze(-1) + targets.hits.sum({1}, true);
    cost = cost + differing / points.sum({1}, true).clamp_min(1) * options.cost_mask;
  }
  cost = cost.to(at::kCPU, at::kDouble).contiguous();
  if (!at::isfinite(cost).all().item<bool>())
    fail("the network's predictions are not finite; the training has diverged, lower the learning rate");
  const at::Tensor samples = targets.sample.to(at::kCPU).contiguous();
  const std::int64_t queries = cost.size(1), count = cost.size(0);
  std::vector<std::int64_t> sample, query, target;
  for (std::int64_t from = 0; from < count;) {
    const std::int64_t s = samples.data_ptr<std::int64_t>()[from];
    std::int64_t to = from;
    while (to < count && samples.data_ptr<std::int64_t>()[to] == s) ++to;
    const std::span<const double> rows(cost.data_ptr<double>() + from * queries,
                                       static_cast<std::size_t>((to - from) * queries));
    for (const auto& [row, column] : optimal_assignment(rows, to - from, queries)) {
      sample.push_back(s);
      query.push_back(column);
      target.push_back(from + row);
    }
    from = to;
  }
  const auto indices = [&layer](const std::vector<std::int64_t>& values) {
    return at::tensor(values, at::kLong).to(layer.boxes.device());
  };
  return {indices(sample), indices(query), indices(target)};
}

}  // namespace lithe
