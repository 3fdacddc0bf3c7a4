// Shape rules of matrix products and recurrent networks.
#include <algorithm>

#include "lithe/graph/einsum.h"
#include "lithe/graph/shape_rules.h"

namespace lithe {
namespace {

void require_equal(const ShapeCall& call, const Quantity& a, const Quantity& b, std::size_t left,
                   std::size_t right) {
  if (a.is_integer() && b.is_integer() && a.integer() != b.integer())
    call.contradiction("the inner sizes of {} and {} disagree: {} and {}", format_shape(*call.shape(left)),
                       format_shape(*call.shape(right)), a.integer(), b.integer());
}

void gemm(ShapeCall& call) {
  call.require_rank(0, 2);
  call.require_rank(1, 2);
  const Shape *a = call.shape(0), *b = call.shape(1);
  const bool transpose_a = call.node.attr("transA", std::int64_t{0}) != 0;
  const bool transpose_b = call.node.attr("transB", std::int64_t{0}) != 0;
  if (a && b) require_equal(call, (*a)[transpose_a ? 0 : 1], (*b)[transpose_b ? 1 : 0], 0, 1);
  Shape out(2);
  if (a) out[0] = (*a)[transpose_a ? 1 : 0];
  if (b) out[1] = (*b)[transpose_b ? 0 : 1];
  if (call.has(2)) {
    const auto with_bias = broadcast(call, out, call.type(2).shape);
    if (with_bias && with_bias->size() > 2)
      call.contradiction("the bias {} is too wide", format_shape(*call.shape(2)));
  }
  call.set(0, call.dtype(0), std::move(out));
}

void matrix_product(ShapeCall& call, std::size_t left, std::size_t right, DType dtype) {
  const Shape *a = call.shape(left), *b = call.shape(right);
  if (!a || !b) return call.set(0, dtype);
  if (a->empty() || b->empty()) call.contradiction("a scalar has no matrix product");
  Shape wide_a = *a, wide_b = *b;
  if (a->size() == 1) wide_a.insert(wide_a.begin(), 1);
  if (b->size() == 1) wide_b.push_back(1);
  require_equal(call, wide_a.back(), wide_b[wide_b.size() - 2], left, right);
  Shape out =
      *broadcast(call, Shape(wide_a.begin(), wide_a.end() - 2), Shape(wide_b.begin(), wide_b.end() - 2));
  if (a->size() > 1) out.push_back(wide_a[wide_a.size() - 2]);
  if (b->size() > 1) out.push_back(wide_b.back());
  call.set(0, dtype, std::move(out));
}

void matmul(ShapeCall& call) {
  matrix_product(call, 0, 1, call.dtype(0));
}
void matmul_integer(ShapeCall& call) {
  matrix_product(call, 0, 1, DType::Int32);
}
void qlinear_matmul(ShapeCall& call) {
  matrix_product(call, 0, 3, call.dtype(7));
}

/// Attention of opset 23: [batch, heads, tokens, size], or [batch, tokens, heads * size] with the numbers of
/// heads as attributes. The sizes of caches and scores stay unknown.
void attention(ShapeCall& call) {
  const Shape *q = call.shape(0), *v = call.shape(2);
  for (std::size_t output = 1; output < call.node.outputs.size(); ++output) call.set(output, call.dtype(0));
  if (!q || !v) return call.set(0, call.dtype(0));
  if ((q->size() != 3 && q->size() != 4) || v->size() != q->size())
    call.contradiction("queries {} and values {} must both have 3 or 4 axes", format_shape(*q),
                       format_shape(*v));
  Shape out = *q;
  out.back() = v->back();
  if (q->size() == 3) {
    const std::int64_t heads = call.node.attr("q_num_heads", std::int64_t{0});
    const std::int64_t values = call.node.attr("kv_num_heads", heads);
    if (heads < 1 || values < 1) call.contradiction("3 axes need q_num_heads and kv_num_heads of 1 or more");
    out.back() = v->back() / Quantity(values) * Quantity(heads);
  }
  call.set(0, call.dtype(0), std::move(out));
}

void einsum(ShapeCall& call) {
  std::vector<std::size_t> ranks;
  for (std::size_t i = 0; i < call.input_count(); ++i) {
    if (!call.shape(i)) return call.set(0, call.dtype(0));
    ranks.push_back(call.shape(i)->size());
  }
  const EinsumPlan plan = parse_einsum(call.node, ranks);
  std::vector<Quantity> sizes(plan.labels, Quantity(1));
  for (std::size_t i = 0; i < ranks.size(); ++i)
    for (std::size_t j = 0; j < ranks[i]; ++j) {
      Quantity& size = sizes[plan.inputs[i][j]];
      const Quantity& here = (*call.shape(i))[j];
      if (size.is_integer() && here.is_integer() && size.integer() != here.integer() && size.integer() != 1 &&
          here.integer() != 1)
        call.contradiction("one index has sizes {} and {}", size.integer(), here.integer());
      if (size.is_integer() && size.integer() == 1) size = here;
      if (!size.is_integer() && here.is_integer() && here.integer() != 1) size = here;
    }
  Shape out;
  for (const std::size_t label : plan.output) out.push_back(sizes[label]);
  call.set(0, call.dtype(0), std::move(out));
}

void recurrent(ShapeCall& call) {
  const Shape* x = call.shape(0);
  const DType dtype = call.dtype(0);
  Quantity hidden =
      call.node.has("hidden_size") ? Quantity(call.node.attr("hidden_size", std::int64_t{0})) : Quantity();
  if (!hidden.known() && call.shape(2) && call.shape(2)->size() == 3) hidden = call.shape(2)->back();
  const Quantity directions = call.node.attr("direction", "forward") == "bidirectional" ? 2 : 1;
  const bool batch_first = call.node.attr("layout", std::int64_t{0}) != 0;
  Quantity length, batch;
  if (x && x->size() == 3) {
    length = (*x)[batch_first ? 1 : 0];
    batch = (*x)[batch_first ? 0 : 1];
  }
  const Shape all =
      batch_first ? Shape{batch, length, directions, hidden} : Shape{length, directions, batch, hidden};
  const Shape last = batch_first ? Shape{batch, directions, hidden} : Shape{directions, batch, hidden};
  call.set(0, dtype, all);
  call.set(1, dtype, last);
  call.set(2, dtype, last);
}

void determinant(ShapeCall& call) {
  const Shape* x = call.shape(0);
  if (!x || x->size() < 2) return call.set(0, call.dtype(0));
  call.set(0, call.dtype(0), Shape(x->begin(), x->end() - 2));
}

void loss(ShapeCall& call) {
  const bool none = call.node.attr("reduction", "mean") == "none";
  call.set(0, call.dtype(0), none ? call.type(1).shape : std::optional<Shape>(Shape{}));
  call.set(1, call.dtype(0), call.type(0).shape);
}

}  // namespace

void add_linear_rules(ShapeRules& rules) {
  rules["Gemm"] = gemm;
  rules["MatMul"] = matmul;
  rules["MatMulInteger"] = matmul_integer;
  rules["QLinearMatMul"] = qlinear_matmul;
  rules["Attention"] = attention;
  rules["Einsum"] = einsum;
  for (const char* name : {"LSTM", "GRU", "RNN"}) rules[name] = recurrent;
  rules["Det"] = determinant;
  for (const char* name : {"NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"}) rules[name] = loss;
}

}  // namespace lithe
