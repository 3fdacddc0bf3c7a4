// Products of matrices: Gemm, MatMul, Einsum, Det, and fused attention.
#include <cctype>
#include <cmath>
#include <map>
#include <set>

#include "lithe/ops/support.h"

namespace lithe {
namespace {

using Ints = std::vector<std::int64_t>;

/// LibTorch multiplies no half-precision matrices on the CPU everywhere, and no unsigned integers at all.
at::Tensor product(const at::Tensor& a, const at::Tensor& b) {
  if (is_half(a) && a.device().is_cpu())
    return at::matmul(a.to(at::kFloat), b.to(at::kFloat)).to(a.scalar_type());
  return at::matmul(a, b);
}

std::vector<at::Tensor> matmul(const OpCall& call) {
  const at::Tensor &a = call.input(0), &b = call.input(1);
  if (a.dim() == 0 || b.dim() == 0) fail("{}: scalars cannot be multiplied as matrices", describe(call.node));
  return {product(a, b)};
}

std::vector<at::Tensor> gemm(const OpCall& call) {
  const Node& node = call.node;
  const double alpha = node.attr("alpha", 1.0f), beta = node.attr("beta", 1.0f);
  at::Tensor a = call.input(0), b = call.input(1);
  if (a.dim() != 2 || b.dim() != 2)
    fail("{}: the operands {} and {} are not matrices", describe(node), format_shape(shape_of(a)),
         format_shape(shape_of(b)));
  if (node.attr("transA", std::int64_t{0}) != 0) a = a.t();
  if (node.attr("transB", std::int64_t{0}) != 0) b = b.t();
  if (is_floating(a) && !(is_half(a) && a.device().is_cpu())) {
    if (call.has(2)) return {at::addmm(call.inputs[2], a, b, beta, alpha)};
    const at::Tensor y = at::mm(a, b);
    return {alpha == 1 ? y : y * alpha};
  }
  const bool whole = !is_floating(a);  // integer matrices with factors that are whole in practice
  at::Tensor y = product(a, b);
  const auto scaled = [&](const at::Tensor& value, double factor) {
    if (factor == 1) return value;
    return whole ? value * static_cast<std::int64_t>(factor) : value * factor;
  };
  y = scaled(y, alpha);
  if (call.has(2) && beta != 0) y = y + scaled(call.inputs[2], beta);
  return {y};
}

/// ONNX's equations differ from LibTorch's in allowing spaces and repeated labels are theirs too: labels are
/// renamed to letters that LibTorch accepts in any case, and an absent right side is spelt out.
std::vector<at::Tensor> einsum(const OpCall& call) {
  std::string equation;
  for (const char c : call.node.attr("equation", ""))
    if (!std::isspace(static_cast<unsigned char>(c))) equation += c;
  if (equation.empty()) fail("{}: the equation is missing", describe(call.node));
  const std::vector<at::Tensor> operands(call.inputs.begin(), call.inputs.end());
  if (operands.empty()) fail("{}: there are no operands", describe(call.node));
  if (is_half(operands[0]) && operands[0].device().is_cpu()) {
    std::vector<at::Tensor> wide;
    for (const at::Tensor& operand : operands) wide.push_back(operand.to(at::kFloat));
    return {at::einsum(equation, wide).to(operands[0].scalar_type())};
  }
  return {at::einsum(equation, operands)};
}

std::vector<at::Tensor> det(const OpCall& call) {
  const at::Tensor& x = call.input(0);
  if (x.dim() < 2 || x.size(-1) != x.size(-2))
    fail("{}: the input {} is not a stack of square matrices", describe(call.node),
         format_shape(shape_of(x)));
  return {at::linalg_det(x)};
}

/// com.microsoft: alpha * op(A) op(B).
std::vector<at::Tensor> fused_matmul(const OpCall& call) {
  const Node& node = call.node;
  at::Tensor a = call.input(0), b = call.input(1);
  if (node.attr("transBatchA", std::int64_t{0}) != 0 || node.attr("transBatchB", std::int64_t{0}) != 0)
    fail("{}: transBatchA and transBatchB are not supported", describe(node));
  if (node.attr("transA", std::int64_t{0}) != 0) a = a.transpose(-1, -2);
  if (node.attr("transB", std::int64_t{0}) != 0) b = b.transpose(-1, -2);
  const double alpha = node.attr("alpha", 1.0f);
  const at::Tensor y = product(a, b);
  return {alpha == 1 ? y : y * alpha};
}

/// What is added to attention scores [.., tokens, keys]: 0 where a token may look, -inf where not; undefined
/// where there is no mask. Past keys lie before the first token; a mask that is too short hides the keys
/// beyond it.
at::Tensor attention_bias(const OpCall& call, const at::Tensor& q, std::int64_t keys) {
  const double hidden = -std::numeric_limits<double>::infinity();
  at::Tensor bias;
  if (call.has(3)) {
    const at::Tensor& mask = call.inputs[3];
    bias = mask.scalar_type() == at::kBool
               ? at::zeros(mask.sizes(), q.options()).masked_fill(mask.logical_not(), hidden)
               : mask.to(q.scalar_type());
    if (bias.size(-1) < keys) bias = at::constant_pad_nd(bias, {0, keys - bias.size(-1)}, hidden);
  }
  if (call.node.attr("is_causal", std::int64_t{0}) != 0) {
    const std::int64_t past = call.has(4) ? call.inputs[4].size(2) : 0;
    const at::Tensor later = at::ones({q.size(2), keys}, q.options().dtype(at::kBool)).triu(past + 1);
    const at::Tensor causal = at::zeros({q.size(2), keys}, q.options()).masked_fill(later, hidden);
    bias = bias.defined() ? bias + causal : causal;
  }
  return bias;
}

/// Attention (ONNX opset 23): softmax(Q K^T scale + mask) V with grouped-query heads, soft capping and
/// key/value caches. Q, K, V are [batch, heads, tokens, size] or [batch, tokens, heads * size].
std::vector<at::Tensor> attention(const OpCall& call) {
  const Node& node = call.node;
  at::Tensor q = call.input(0), k = call.input(1), v = call.input(2);
  const bool packed = q.dim() == 3;
  if ((q.dim() != 3 && q.dim() != 4) || k.dim() != q.dim() || v.dim() != q.dim())
    fail("{}: queries {}, keys {} and values {} must all have 3 or 4 axes", describe(node),
         format_shape(shape_of(q)), format_shape(shape_of(k)), format_shape(shape_of(v)));
  const std::int64_t mode = node.attr("qk_matmul_output_mode", std::int64_t{0});
  if (mode < 0 || mode > 3) fail("{}: qk_matmul_output_mode {} is not 0, 1, 2 or 3", describe(node), mode);
  if (packed) {
    const std::int64_t heads = node.attr("q_num_heads", std::int64_t{0}),
                       kv = node.attr("kv_num_heads", heads);
    if (heads < 1 || kv < 1 || q.size(2) % heads != 0 || k.size(2) % kv != 0 || v.size(2) % kv != 0)
      fail("{}: q_num_heads = {} and kv_num_heads = {} do not divide the inputs", describe(node), heads, kv);
    const auto split = [](const at::Tensor& x, std::int64_t count) {
      return x.reshape({x.size(0), x.size(1), count, x.size(2) / count}).transpose(1, 2);
    };
    q = split(q, heads);
    k = split(k, kv);
    v = split(v, kv);
  }
  if (call.has(4)) k = at::cat({call.inputs[4], k}, 2);
  if (call.has(5)) v = at::cat({call.inputs[5], v}, 2);
  const at::Tensor present_k = k, present_v = v;
  if (q.size(1) != k.size(1)) {
    if (k.size(1) < 1 || q.size(1) % k.size(1) != 0)
      fail("{}: {} query heads cannot share {} key heads", describe(node), q.size(1), k.size(1));
    k = k.repeat_interleave(q.size(1) / k.size(1), 1);
    v = v.repeat_interleave(q.size(1) / v.size(1), 1);
  }
  const double scale = node.has("scale") ? static_cast<double>(node.attr("scale", 1.0f))
                                         : 1.0 / std::sqrt(static_cast<double>(q.size(3)));
  // The fourth output is the scores at one of four stages: as they come, capped, masked, or as probabilities.
  at::Tensor stages[4];
  stages[0] = product(q * std::sqrt(scale), (k * std::sqrt(scale)).transpose(-1, -2));
  const double cap = node.attr("softcap", 0.0f);
  stages[1] = cap > 0 ? (stages[0] / cap).tanh() * cap : stages[0];
  const at::Tensor bias = attention_bias(call, q, k.size(2));
  stages[2] = bias.defined() ? stages[1] + bias : stages[1];
  stages[3] = in_float(stages[2], [](const at::Tensor& x) { return at::softmax(x, -1); });
  if (bias.defined()) {
    // A token that may look at nothing gets 0, not the NaN of an empty softmax.
    const at::Tensor blind = at::isneginf(bias.amax(-1, /*keepdim=*/true));
    stages[3] = stages[3].masked_fill(blind, 0);
  }
  at::Tensor y = product(stages[3], v);
  if (packed) y = y.transpose(1, 2).flatten(2);
  return {y, present_k, present_v, stages[mode]};
}

/// com.microsoft: attention over [batch, tokens, heads * size], with an optional projection bias and additive
/// mask of the scores.
std::vector<at::Tensor> multi_head_attention(const OpCall& call) {
  const Node& node = call.node;
  const std::int64_t heads = node.attr("num_heads", std::int64_t{0});
  if (!call.has(1) || !call.has(2) || call.input(0).dim() != 3 || call.input(1).dim() != 3 || call.has(4) ||
      call.has(6) || call.has(7) || heads < 1 || call.input(0).size(2) % heads != 0)
    fail("{}: only separate queries, keys and values of 3 axes without padding mask or cache are supported",
         describe(node));
  const std::array<std::int64_t, 3> widths{call.inputs[0].size(2), call.inputs[1].size(2),
                                           call.inputs[2].size(2)};
  std::int64_t offset = 0;
  std::array<at::Tensor, 3> split;
  for (std::size_t i = 0; i < 3; ++i) {
    at::Tensor x = call.inputs[i];
    if (call.has(3)) x = x + call.inputs[3].narrow(0, offset, widths[i]);
    offset += widths[i];
    split[i] = x.reshape({x.size(0), x.size(1), heads, -1}).transpose(1, 2);
  }
  const double fallback = 1.0 / std::sqrt(static_cast<double>(split[0].size(3)));
  const double scale = node.has("scale") ? static_cast<double>(node.attr("scale", 0.0f)) : fallback;
  at::Tensor scores = product(split[0] * (scale == 0 ? fallback : scale), split[1].transpose(-1, -2));
  if (call.has(5)) scores = scores + call.inputs[5];
  return {product(at::softmax(scores, -1), split[2]).transpose(1, 2).flatten(2)};
}

}  // namespace

void register_linear(OpRegistry& registry) {
  registry.add("MatMul", matmul, 1, 24);
  registry.add("Gemm", gemm, 7, 24);
  registry.add("Einsum", einsum, 12, 24);
  registry.add("Det", det, 11, 24);
  registry.add("Attention", attention, 23, 23);
  registry.add("FusedMatMul", fused_matmul, 1, 1, "com.microsoft");
  registry.add("MultiHeadAttention", multi_head_attention, 1, 1, "com.microsoft");
}

}  // namespace lithe
