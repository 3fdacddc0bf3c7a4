// Shape rules of operators that work element by element, and of norms, which keep the shape.
#include "lithe/graph/shape_rules.h"

namespace lithe {
namespace {

std::optional<Shape> broadcast_all(const ShapeCall& call) {
  std::optional<Shape> shape = call.type(0).shape;
  for (std::size_t i = 1; i < call.input_count(); ++i) shape = broadcast(call, shape, call.type(i).shape);
  return shape;
}

DType first_known_dtype(const ShapeCall& call, std::size_t from = 0) {
  for (std::size_t i = from; i < call.input_count(); ++i)
    if (call.dtype(i) != DType::Undefined) return call.dtype(i);
  return DType::Undefined;
}

void broadcast_same(ShapeCall& call) {
  call.set(0, first_known_dtype(call), broadcast_all(call));
}
void broadcast_bool(ShapeCall& call) {
  call.set(0, DType::Bool, broadcast_all(call));
}
void power(ShapeCall& call) {
  call.set(0, call.dtype(0), broadcast_all(call));
}
void unary_bool(ShapeCall& call) {
  call.set(0, DType::Bool, call.type(0).shape);
}

void select(ShapeCall& call) {
  call.set(0, first_known_dtype(call, 1), broadcast_all(call));
}

void cast(ShapeCall& call) {
  call.set(0, static_cast<DType>(call.node.attr("to", std::int64_t{0})), call.type(0).shape);
}

void cast_like(ShapeCall& call) {
  call.set(0, call.dtype(1), call.type(0).shape);
}

void random_like(ShapeCall& call) {
  const std::int64_t dtype = call.node.attr("dtype", std::int64_t{0});
  call.set(0, dtype ? static_cast<DType>(dtype) : call.dtype(0), call.type(0).shape);
}

void prelu(ShapeCall& call) {
  broadcast(call, call.type(0).shape, call.type(1).shape);
  same_as_first(call);
}

void batch_normalization(ShapeCall& call) {
  same_as_first(call);
  const Shape* x = call.shape(0);
  for (std::size_t i = 1; i < 5; ++i) {
    const Shape* parameter = call.shape(i);
    if (!x || x->size() < 2 || !parameter || parameter->size() != 1) continue;
    const Quantity &have = parameter->front(), &want = (*x)[1];
    if (have.is_integer() && want.is_integer() && have.integer() != want.integer())
      call.contradiction("'{}' has {} elements for {} channels", call.node.input(i), have.integer(),
                         want.integer());
  }
  for (std::size_t i = 1; i < 5; ++i) {
    const std::size_t source = i <= 2 ? i + 2 : i;
    call.set(i, call.dtype(source), call.type(source).shape);
  }
}

void layer_normalization(ShapeCall& call) {
  same_as_first(call);
  const Shape* x = call.shape(0);
  if (!x) return;
  const std::size_t axis = call.axis(call.node.attr("axis", std::int64_t{-1}), x->size());
  broadcast(call, call.type(0).shape, call.type(1).shape);
  Shape statistics = *x;
  for (std::size_t i = axis; i < statistics.size(); ++i) statistics[i] = 1;
  const DType dtype = static_cast<DType>(call.node.attr("stash_type", std::int64_t{1}));
  call.set(1, dtype, statistics);
  call.set(2, dtype, statistics);
}

void dropout(ShapeCall& call) {
  same_as_first(call);
  call.set(1, DType::Bool, call.type(0).shape);
}

}  // namespace

void add_elementwise_rules(ShapeRules& rules) {
  for (const char* name : {"Abs",
                           "Acos",
                           "Acosh",
                           "Asin",
                           "Asinh",
                           "Atan",
                           "Atanh",
                           "BitwiseNot",
                           "Ceil",
                           "Celu",
                           "Clip",
                           "Cos",
                           "Cosh",
                           "CumSum",
                           "Elu",
                           "Erf",
                           "Exp",
                           "Floor",
                           "Gelu",
                           "Hardmax",
                           "HardSigmoid",
                           "HardSwish",
                           "Identity",
                           "InstanceNormalization",
                           "LRN",
                           "LeakyRelu",
                           "Log",
                           "LogSoftmax",
                           "LpNormalization",
                           "MeanVarianceNormalization",
                           "Mish",
                           "Neg",
                           "Reciprocal",
                           "Relu",
                           "ReverseSequence",
                           "Round",
                           "RMSNormalization",
                           "Scatter",
                           "ScatterElements",
                           "ScatterND",
                           "Selu",
                           "Shrink",
                           "Sigmoid",
                           "Sign",
                           "Sin",
                           "Sinh",
                           "Softmax",
                           "Softplus",
                           "Softsign",
                           "Sqrt",
                           "Swish",
                           "Tan",
                           "Tanh",
                           "ThresholdedRelu",
                           "Trilu",
                           "GroupNormalization"})
    rules[name] = same_as_first;
  for (const char* name : {"Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Sum", "Mean", "BitShift",
                           "BitwiseAnd", "BitwiseOr", "BitwiseXor"})
    rules[name] = broadcast_same;
  for (const char* name : {"And", "Or", "Xor", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"})
    rules[name] = broadcast_bool;
  for (const char* name : {"Not", "IsNaN", "IsInf"}) rules[name] = unary_bool;
  for (const char* name : {"RandomNormalLike", "RandomUniformLike", "Bernoulli", "EyeLike"})
    rules[name] = random_like;
  rules["Pow"] = power;
  rules["Where"] = select;
  rules["Cast"] = cast;
  rules["CastLike"] = cast_like;
  rules["PRelu"] = prelu;
  rules["BatchNormalization"] = batch_normalization;
  rules["LayerNormalization"] = layer_normalization;
  rules["Dropout"] = dropout;
}

}  // namespace lithe
