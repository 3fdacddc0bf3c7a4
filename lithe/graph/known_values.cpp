// Follows the elements of small tensors through the operators that exporters build shapes with.
#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>

#include "lithe/base/math.h"
#include "lithe/graph/shape_rules.h"

namespace lithe {
namespace {

using Sizes = std::vector<std::int64_t>;

/// The sizes of an output, if they are numbers and the tensor is small enough to follow.
std::optional<Sizes> small_output(const ShapeCall& call, std::size_t output = 0) {
  const ValueType* type = call.scope.find_type(call.node.output(output));
  if (!type || !type->shape) return std::nullopt;
  auto sizes = concrete(*type->shape);
  if (!sizes) return std::nullopt;
  const auto count = element_count(*sizes);
  if (!count || *count > KnownTensor::kLimit) return std::nullopt;
  return sizes;
}

DType output_dtype(const ShapeCall& call) {
  const ValueType* type = call.scope.find_type(call.node.output(0));
  return type ? type->dtype : DType::Undefined;
}

/// Visits every index of a tensor in row-major order.
template <typename F>
void for_each_index(const Sizes& sizes, F&& visit) {
  const std::int64_t count = *element_count(sizes);
  Sizes index(sizes.size(), 0);
  for (std::int64_t i = 0; i < count; ++i) {
    visit(index);
    for (std::size_t axis = sizes.size(); axis-- > 0;) {
      if (++index[axis] < sizes[axis]) break;
      index[axis] = 0;
    }
  }
}

std::size_t position(const Sizes& sizes, const Sizes& index) {
  std::int64_t at = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) at = at * sizes[i] + index[i];
  return static_cast<std::size_t>(at);
}

/// The element that stands at `index` after broadcasting.
const Quantity& broadcast_at(const KnownTensor& tensor, const Sizes& index) {
  const std::size_t skip = index.size() - tensor.shape.size();
  std::int64_t at = 0;
  for (std::size_t i = 0; i < tensor.shape.size(); ++i)
    at = at * tensor.shape[i] + (tensor.shape[i] == 1 ? 0 : index[skip + i]);
  return tensor.elements[static_cast<std::size_t>(at)];
}

/// Results are rounded to the type's precision, as the operator itself would.
Quantity rounded(const Quantity& value, DType dtype) {
  if (!value.is_real()) return value;
  if (dtype == DType::Float32) return Quantity::real(static_cast<float>(value.number()));
  return dtype == DType::Float64 ? value : Quantity();
}

// --- elements change -------------------------------------------------------------------------------------

using Binary = Quantity (*)(const Quantity&, const Quantity&);
using Unary = Quantity (*)(const Quantity&);

Quantity truth(bool value) {
  return value ? 1 : 0;
}

Quantity modulo(const Quantity& a, const Quantity& b) {
  if (!a.is_integer() || !b.is_integer() || b.integer() == 0 || b.integer() == -1) return {};
  const std::int64_t rest = a.integer() % b.integer();  // ONNX: the sign of the divisor
  return rest != 0 && (rest < 0) != (b.integer() < 0) ? rest + b.integer() : rest;
}

Quantity equal(const Quantity& a, const Quantity& b) {
  if (a.is_number() && b.is_number()) return truth(a.number() == b.number());
  if (a.same(b)) return 1;
  // A dimension is never negative.
  if (a.is_symbolic() && b.is_number() && b.number() < 0) return 0;
  if (b.is_symbolic() && a.is_number() && a.number() < 0) return 0;
  return {};
}

template <typename Compare>
Quantity compare(const Quantity& a, const Quantity& b) {
  if (!a.is_number() || !b.is_number()) return {};
  return truth(Compare()(a.number(), b.number()));
}

Quantity smaller(const Quantity& a, const Quantity& b) {
  if (a.same(b)) return a;
  if (!a.is_number() || !b.is_number()) return {};
  return b.number() < a.number() ? b : a;
}

Quantity larger(const Quantity& a, const Quantity& b) {
  if (a.same(b)) return a;
  if (!a.is_number() || !b.is_number()) return {};
  return b.number() > a.number() ? b : a;
}

Quantity both(const Quantity& a, const Quantity& b) {
  if (!a.is_integer() || !b.is_integer()) return {};
  return truth(a.integer() != 0 && b.integer() != 0);
}

Quantity either(const Quantity& a, const Quantity& b) {
  if (!a.is_integer() || !b.is_integer()) return {};
  return truth(a.integer() != 0 || b.integer() != 0);
}

template <double (*F)(double)>
Quantity real_function(const Quantity& a) {
  if (a.is_real()) return Quantity::real(F(a.number()));
  return {};
}

/// Floor and its kin leave integers, symbolic ones too, as they are.
template <double (*F)(double)>
Quantity rounding(const Quantity& a) {
  return a.is_real() ? Quantity::real(F(a.number())) : a;
}

Quantity negate(const Quantity& a) {
  return a * Quantity(-1);
}
Quantity magnitude(const Quantity& a) {
  return a.is_number() && a.number() < 0 ? negate(a) : a;
}
Quantity invert(const Quantity& a) {
  return a.is_integer() ? truth(a.integer() == 0) : Quantity();
}

const std::unordered_map<std::string_view, Binary>& binaries() {
  static const std::unordered_map<std::string_view, Binary> table{
      {"Add", [](const Quantity& a, const Quantity& b) { return a + b; }},
      {"Sub", [](const Quantity& a, const Quantity& b) { return a - b; }},
      {"Mul", [](const Quantity& a, const Quantity& b) { return a * b; }},
      {"Div", [](const Quantity& a, const Quantity& b) { return a / b; }},
      {"Mod", modulo},
      {"Equal", equal},
      {"Less", compare<std::less<>>},
      {"LessOrEqual", compare<std::less_equal<>>},
      {"Greater", compare<std::greater<>>},
      {"GreaterOrEqual", compare<std::greater_equal<>>},
      {"Min", smaller},
      {"Max", larger},
      {"And", both},
      {"Or", either}};
  return table;
}

const std::unordered_map<std::string_view, Unary>& unaries() {
  static const std::unordered_map<std::string_view, Unary> table{{"Neg", negate},
                                                                 {"Abs", magnitude},
                                                                 {"Not", invert},
                                                                 {"Sqrt", real_function<std::sqrt>},
                                                                 {"Floor", rounding<std::floor>},
                                                                 {"Ceil", rounding<std::ceil>},
                                                                 {"Round", rounding<std::nearbyint>}};
  return table;
}

void apply_binary(ShapeCall& call, Binary function) {
  const auto sizes = small_output(call);
  if (!sizes || call.input_count() == 0) return;
  if (call.node.op_type == "Mod" && call.node.attr("fmod", std::int64_t{0}) != 0) return;
  const KnownTensor* first = call.known(0);
  if (!first) return;
  const DType dtype = output_dtype(call);
  KnownTensor result{*sizes, {}};
  for_each_index(*sizes, [&](const Sizes& index) { result.elements.push_back(broadcast_at(*first, index)); });
  for (std::size_t i = 1; i < call.input_count(); ++i) {
    const KnownTensor* other = call.known(i);
    if (!other) return;
    std::size_t at = 0;
    for_each_index(*sizes, [&](const Sizes& index) {
      Quantity& element = result.elements[at++];
      element = rounded(function(element, broadcast_at(*other, index)), dtype);
    });
  }
  call.set_known(0, std::move(result));
}

void apply_unary(ShapeCall& call, Unary function) {
  const KnownTensor* x = call.known(0);
  if (!x) return;
  KnownTensor result = *x;
  const DType dtype = output_dtype(call);
  for (Quantity& element : result.elements) element = rounded(function(element), dtype);
  call.set_known(0, std::move(result));
}

Quantity converted(const Quantity& value, DType dtype) {
  if (!value.known()) return {};
  switch (dtype) {
    case DType::Bool:
      return value.is_number() ? truth(value.number() != 0) : Quantity();
    case DType::Float32:
    case DType::Float64:
      if (value.is_symbolic()) return value;
      return rounded(Quantity::real(value.number()), dtype);
    case DType::Int32:
    case DType::Int64: {
      if (value.is_symbolic()) return value;
      const double limit = dtype == DType::Int32 ? 2147483648.0 : 9.2e18;
      if (value.is_real() || dtype == DType::Int32)
        return std::abs(value.number()) < limit ? Quantity(static_cast<std::int64_t>(value.number()))
                                                : Quantity();
      return value;
    }
    default:
      return {};
  }
}

void convert(ShapeCall& call) {
  const KnownTensor* x = call.known(0);
  const DType dtype = output_dtype(call);
  if (!x) return;
  KnownTensor result = *x;
  for (Quantity& element : result.elements) element = converted(element, dtype);
  call.set_known(0, std::move(result));
}

void select(ShapeCall& call) {
  const auto sizes = small_output(call);
  const KnownTensor *condition = call.known(0), *yes = call.known(1), *no = call.known(2);
  if (!sizes || !condition || !yes || !no) return;
  KnownTensor result{*sizes, {}};
  for_each_index(*sizes, [&](const Sizes& index) {
    const Quantity& c = broadcast_at(*condition, index);
    const Quantity &a = broadcast_at(*yes, index), &b = broadcast_at(*no, index);
    result.elements.push_back(c.is_integer() ? (c.integer() != 0 ? a : b) : a.same(b) ? a : Quantity());
  });
  call.set_known(0, std::move(result));
}

void reduce(ShapeCall& call) {
  const KnownTensor* x = call.known(0);
  const auto axes = call.ints(1, "axes", {});
  const auto sizes = small_output(call);
  if (!x || !axes || !sizes || x->elements.empty()) return;
  const bool noop = axes->empty() && call.node.attr("noop_with_empty_axes", std::int64_t{0}) != 0;
  if (noop) return call.set_known(0, *x);
  std::vector<bool> gone(x->shape.size(), axes->empty());
  for (const std::int64_t value : *axes) gone[call.axis(value, x->shape.size())] = true;
  const std::string& type = call.node.op_type;
  const Binary function = type == "ReduceProd"  ? binaries().at("Mul")
                          : type == "ReduceSum" ? binaries().at("Add")
                          : type == "ReduceMax" ? larger
                                                : smaller;
  Sizes kept;
  for (std::size_t i = 0; i < x->shape.size(); ++i) kept.push_back(gone[i] ? 1 : x->shape[i]);
  std::vector<std::optional<Quantity>> results(static_cast<std::size_t>(*element_count(kept)));
  const DType dtype = output_dtype(call);
  std::size_t at = 0;
  for_each_index(x->shape, [&](const Sizes& index) {
    Sizes target = index;
    for (std::size_t i = 0; i < target.size(); ++i)
      if (gone[i]) target[i] = 0;
    std::optional<Quantity>& result = results[position(kept, target)];
    const Quantity& element = x->elements[at++];
    result = result ? rounded(function(*result, element), dtype) : element;
  });
  KnownTensor tensor{*sizes, {}};
  for (const auto& result : results) tensor.elements.push_back(result.value_or(Quantity()));
  call.set_known(0, std::move(tensor));
}

// --- elements move ---------------------------------------------------------------------------------------

void same_elements(ShapeCall& call) {
  const KnownTensor* x = call.known(0);
  const auto sizes = small_output(call);
  if (!x || !sizes || *element_count(*sizes) != static_cast<std::int64_t>(x->elements.size())) return;
  call.set_known(0, {*sizes, x->elements});
}

void transpose(ShapeCall& call) {
  const KnownTensor* x = call.known(0);
  const auto sizes = small_output(call);
  if (!x || !sizes) return;
  const std::size_t rank = sizes->size();
  std::vector<std::size_t> order(rank);
  const auto given = call.node.attr("perm", std::vector<std::int64_t>{});
  for (std::size_t i = 0; i < rank; ++i) order[i] = given.empty() ? rank - 1 - i : call.axis(given[i], rank);
  KnownTensor result{*sizes, {}};
  for_each_index(*sizes, [&](const Sizes& index) {
    Sizes source(rank);
    for (std::size_t i = 0; i < rank; ++i) source[order[i]] = index[i];
    result.elements.push_back(x->elements[position(x->shape, source)]);
  });
  call.set_known(0, std::move(result));
}

void concat(ShapeCall& call) {
  const auto sizes = small_output(call);
  if (!sizes) return;
  const std::size_t axis = call.axis(call.node.attr("axis", std::int64_t{0}), sizes->size());
  KnownTensor result{*sizes, std::vector<Quantity>(static_cast<std::size_t>(*element_count(*sizes)))};
  std::int64_t start = 0;
  for (std::size_t i = 0; i < call.input_count(); ++i) {
    const auto part = call.shape(i) ? concrete(*call.shape(i)) : std::nullopt;
    if (!part) return;
    const KnownTensor* tensor = call.known(i);
    std::size_t at = 0;
    if (tensor)
      for_each_index(*part, [&](Sizes index) {
        index[axis] += start;
        result.elements[position(*sizes, index)] = tensor->elements[at++];
      });
    start += (*part)[axis];
  }
  call.set_known(0, std::move(result));
}

void gather(ShapeCall& call) {
  const KnownTensor *x = call.known(0), *indices = call.known(1);
  const auto sizes = small_output(call);
  if (!x || !indices || !sizes) return;
  const std::size_t axis = call.axis(call.node.attr("axis", std::int64_t{0}), x->shape.size());
  const std::size_t span = indices->shape.size();
  KnownTensor result{*sizes, {}};
  for_each_index(*sizes, [&](const Sizes& index) {
    const auto first = index.begin() + static_cast<std::ptrdiff_t>(axis);
    const Sizes inner(first, first + static_cast<std::ptrdiff_t>(span));
    const Quantity& chosen = indices->elements[position(indices->shape, inner)];
    const std::int64_t length = x->shape[axis];
    if (!chosen.is_integer()) return result.elements.push_back({});
    if (chosen.integer() < -length || chosen.integer() >= length)
      call.contradiction("index {} of {} elements", chosen.integer(), length);
    Sizes source(index.begin(), first);
    source.push_back(chosen.integer() < 0 ? chosen.integer() + length : chosen.integer());
    source.insert(source.end(), first + static_cast<std::ptrdiff_t>(span), index.end());
    result.elements.push_back(x->elements[position(x->shape, source)]);
  });
  call.set_known(0, std::move(result));
}

void slice(ShapeCall& call) {
  const KnownTensor* x = call.known(0);
  const auto sizes = small_output(call);
  const auto starts = call.ints(1, "starts", {}), axes = call.ints(3, "axes", {}),
             steps = call.ints(4, "steps", {});
  if (!x || !sizes || !starts || !axes || !steps) return;
  const std::size_t rank = sizes->size();
  Sizes first(rank, 0), stride(rank, 1);
  for (std::size_t i = 0; i < starts->size(); ++i) {
    const std::size_t axis = i < axes->size() ? call.axis((*axes)[i], rank) : i;
    const std::int64_t n = x->shape[axis];
    stride[axis] = i < steps->size() ? (*steps)[i] : 1;
    std::int64_t start = std::clamp<std::int64_t>((*starts)[i], -n - 1, n);
    if (start < 0) start += n;
    first[axis] =
        stride[axis] > 0 ? std::clamp<std::int64_t>(start, 0, n) : std::clamp<std::int64_t>(start, -1, n - 1);
  }
  KnownTensor result{*sizes, {}};
  for_each_index(*sizes, [&](const Sizes& index) {
    Sizes source(rank);
    for (std::size_t i = 0; i < rank; ++i)
      source[i] = index[i] == 0 ? first[i] : first[i] + index[i] * stride[i];
    result.elements.push_back(x->elements[position(x->shape, source)]);
  });
  call.set_known(0, std::move(result));
}

void split(ShapeCall& call) {
  const KnownTensor* x = call.known(0);
  if (!x || x->shape.empty()) return;
  const std::size_t axis = call.axis(call.node.attr("axis", std::int64_t{0}), x->shape.size());
  std::int64_t start = 0;
  for (std::size_t i = 0; i < call.node.outputs.size(); ++i) {
    const auto sizes = small_output(call, i);
    if (!sizes) return;
    KnownTensor part{*sizes, {}};
    for_each_index(*sizes, [&](Sizes index) {
      index[axis] += start;
      part.elements.push_back(x->elements[position(x->shape, index)]);
    });
    start += (*sizes)[axis];
    call.set_known(i, std::move(part));
  }
}

void expand(ShapeCall& call) {
  const KnownTensor* x = call.known(0);
  const auto sizes = small_output(call);
  if (!x || !sizes) return;
  KnownTensor result{*sizes, {}};
  for_each_index(*sizes, [&](const Sizes& index) { result.elements.push_back(broadcast_at(*x, index)); });
  call.set_known(0, std::move(result));
}

void tile(ShapeCall& call) {
  const KnownTensor* x = call.known(0);
  const auto sizes = small_output(call);
  if (!x || !sizes) return;
  KnownTensor result{*sizes, {}};
  for_each_index(*sizes, [&](Sizes index) {
    for (std::size_t i = 0; i < index.size(); ++i) index[i] %= x->shape[i];
    result.elements.push_back(x->elements[position(x->shape, index)]);
  });
  call.set_known(0, std::move(result));
}

// --- elements appear -------------------------------------------------------------------------------------

void constant_of_shape(ShapeCall& call) {
  const auto sizes = small_output(call);
  if (!sizes) return;
  Quantity fill = Quantity::real(0);
  if (const auto* value = call.node.find<TensorData>("value")) {
    const auto tensor = known_tensor(*value);
    if (!tensor || tensor->elements.size() != 1) return;
    fill = tensor->elements[0];
  }
  call.set_known(0, {*sizes, std::vector<Quantity>(static_cast<std::size_t>(*element_count(*sizes)), fill)});
}

void range(ShapeCall& call) {
  const auto sizes = small_output(call);
  const KnownTensor *start = call.known(0), *delta = call.known(2);
  if (!sizes || !start || !delta || start->elements.size() != 1 || delta->elements.size() != 1) return;
  const DType dtype = output_dtype(call);
  KnownTensor result{*sizes, {}};
  for (std::int64_t i = 0; i < sizes->front(); ++i)
    result.elements.push_back(rounded(start->elements[0] + Quantity(i) * delta->elements[0], dtype));
  call.set_known(0, std::move(result));
}

void non_zero(ShapeCall& call) {
  const KnownTensor* x = call.known(0);
  if (!x) return;
  const Sizes sizes = x->shape.empty() ? Sizes{1} : x->shape;
  std::vector<Sizes> found;
  for (const Quantity& element : x->elements)
    if (!element.is_number()) return;
  std::size_t at = 0;
  for_each_index(sizes, [&](const Sizes& index) {
    if (x->elements[at++].number() != 0) found.push_back(index);
  });
  const auto count = static_cast<std::int64_t>(found.size()), rank = static_cast<std::int64_t>(sizes.size());
  call.set(0, DType::Int64, Shape{rank, count});
  if (count * rank > KnownTensor::kLimit) return;
  KnownTensor result{{rank, count}, {}};
  for (std::size_t axis = 0; axis < sizes.size(); ++axis)
    for (const Sizes& index : found) result.elements.emplace_back(index[axis]);
  call.set_known(0, std::move(result));
}

const std::unordered_map<std::string_view, ShapeRule>& movers() {
  static const std::unordered_map<std::string_view, ShapeRule> table{{"Identity", same_elements},
                                                                     {"Reshape", same_elements},
                                                                     {"Flatten", same_elements},
                                                                     {"Squeeze", same_elements},
                                                                     {"Unsqueeze", same_elements},
                                                                     {"Cast", convert},
                                                                     {"CastLike", convert},
                                                                     {"Where", select},
                                                                     {"ReduceProd", reduce},
                                                                     {"ReduceSum", reduce},
                                                                     {"ReduceMax", reduce},
                                                                     {"ReduceMin", reduce},
                                                                     {"Transpose", transpose},
                                                                     {"Concat", concat},
                                                                     {"Gather", gather},
                                                                     {"Slice", slice},
                                                                     {"Split", split},
                                                                     {"Expand", expand},
                                                                     {"Tile", tile},
                                                                     {"ConstantOfShape", constant_of_shape},
                                                                     {"Range", range},
                                                                     {"NonZero", non_zero}};
  return table;
}

}  // namespace

void propagate_known(ShapeCall& call) {
  const std::string& type = call.node.op_type;
  if (const auto mover = movers().find(type); mover != movers().end()) return mover->second(call);
  if (const auto binary = binaries().find(type); binary != binaries().end())
    return apply_binary(call, binary->second);
  if (const auto unary = unaries().find(type); unary != unaries().end())
    return apply_unary(call, unary->second);
}

}  // namespace lithe
