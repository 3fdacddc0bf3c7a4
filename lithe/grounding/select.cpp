#include "lithe/grounding/select.h"

#include "lithe/base/error.h"

namespace lithe {
namespace {

at::Tensor weighed(const at::Tensor& shares, const TokenRoles& roles) {
  const at::Tensor named = (roles.main > 0).to(shares.scalar_type());
  const at::Tensor weights = named + roles.modify + roles.pronoun + roles.relation - roles.other;
  const std::int64_t width = std::min(weights.size(1), shares.size(2));
  return at::matmul(shares.slice(2, 0, width), weights.slice(1, 0, width).unsqueeze(-1)).squeeze(-1);
}

}  // namespace

at::Tensor position_scores(const at::Tensor& token_logits, const TokenRoles& roles) {
  return weighed(token_logits.softmax(-1), roles);
}

at::Tensor semantic_scores(const at::Tensor& queries, const at::Tensor& tokens, const TokenRoles& roles,
                           double temperature) {
  return weighed((at::matmul(queries, tokens.transpose(1, 2)) / temperature).softmax(-1), roles);
}

at::Tensor point_masks(const at::Tensor& mask_logits, const at::Tensor& ids) {
  const std::int64_t superpoints = mask_logits.size(-1);
  if (ids.numel() > 0 &&
      (ids.min().item<std::int64_t>() < 0 || ids.max().item<std::int64_t>() >= superpoints))
    fail("a superpoint id lies outside the {} superpoints of the mask", superpoints);
  return (mask_logits > 0).index_select(-1, ids);
}

}  // namespace lithe
