// Shape rules of operators that move elements without changing them.
#include <algorithm>

#include "lithe/base/math.h"
#include "lithe/graph/shape_rules.h"

namespace lithe {
namespace {

/// What -1 stands for in a Reshape: the quotient of the sizes that the two shapes do not share.
Quantity remaining_size(const ShapeCall& call, Shape source, Shape target) {
  for (auto size = target.begin(); size != target.end();) {
    const auto twin =
        std::find_if(source.begin(), source.end(), [&](const Quantity& s) { return s.same(*size); });
    if (twin == source.end()) {
      ++size;
      continue;
    }
    source.erase(twin);
    size = target.erase(size);
  }
  const Quantity all = product(source, 0, source.size()), rest = product(target, 0, target.size());
  if (all.is_integer() && rest.is_integer()) {
    if (rest.integer() == 0) return all.integer() == 0 ? Quantity(0) : Quantity();
    if (all.integer() % rest.integer() != 0)
      call.contradiction("the input {} cannot be divided into {} equal parts", format_shape(*call.shape(0)),
                         rest.integer());
  }
  return Quantity::divide_exactly(all, rest).value_or(Quantity());
}

void reshape(ShapeCall& call) {
  std::optional<Shape> target;
  if (const KnownTensor* tensor = call.known(1)) {
    target = tensor->elements;
  } else if (call.shape(1) && call.shape(1)->size() == 1 && call.shape(1)->front().is_integer()) {
    const std::int64_t rank = call.shape(1)->front().integer();
    if (rank <= 64) target = Shape(static_cast<std::size_t>(rank));
  } else if (!call.has(1) && call.node.has("shape")) {
    const auto sizes = call.node.attr("shape", std::vector<std::int64_t>{});
    target = Shape(sizes.begin(), sizes.end());
  }
  const Shape* x = call.shape(0);
  if (!target) return call.set(0, call.dtype(0));
  const bool keep_zero = call.node.attr("allowzero", std::int64_t{0}) != 0;
  std::optional<std::size_t> open;
  bool certain = true;  // that no unknown size is really -1
  for (std::size_t i = 0; i < target->size(); ++i) {
    Quantity& size = (*target)[i];
    if (!size.known()) certain = false;
    if (!size.is_integer()) continue;
    if (size.integer() == 0 && !keep_zero) {
      if (x && i >= x->size()) call.contradiction("size 0 at axis {} of an input {}", i, format_shape(*x));
      size = x ? (*x)[i] : Quantity();
    } else if (size.integer() == -1) {
      if (open) call.contradiction("the new shape has more than one -1");
      open = i;
    } else if (size.integer() < -1) {
      call.contradiction("the new shape has a size of {}", size.integer());
    }
  }
  if (open) {
    Shape others = *target;
    others.erase(others.begin() + static_cast<std::ptrdiff_t>(*open));
    (*target)[*open] = x && certain ? remaining_size(call, *x, std::move(others)) : Quantity();
  } else if (x) {
    const Quantity have = product(*x, 0, x->size()), want = product(*target, 0, target->size());
    if (have.is_integer() && want.is_integer() && have.integer() != want.integer())
      call.contradiction("the input {} does not have the elements of {}", format_shape(*x),
                         format_shape(*target));
    // One size that could not be computed follows from the others.
    const auto unknown =
        std::count_if(target->begin(), target->end(), [](const Quantity& s) { return !s.known(); });
    if (unknown == 1 && have.known()) {
      const auto hole =
          std::find_if(target->begin(), target->end(), [](const Quantity& s) { return !s.known(); });
      Shape others = *target;
      others.erase(others.begin() + (hole - target->begin()));
      const Quantity rest = product(others, 0, others.size());
      if (rest.is_integer() && rest.integer() != 0)
        *hole = Quantity::divide_exactly(have, rest).value_or(Quantity());
    }
  }
  call.set(0, call.dtype(0), std::move(target));
}

void flatten(ShapeCall& call) {
  const Shape* x = call.shape(0);
  if (!x) return call.set(0, call.dtype(0), Shape(2));
  const std::int64_t wanted = call.node.attr("axis", std::int64_t{1});
  const std::size_t axis = wanted == static_cast<std::int64_t>(x->size())
                               ? x->size()
                               : call.axis(wanted, std::max<std::size_t>(1, x->size()));
  call.set(0, call.dtype(0), Shape{product(*x, 0, std::min(axis, x->size())), product(*x, axis, x->size())});
}

void squeeze(ShapeCall& call) {
  const Shape* x = call.shape(0);
  const bool all = !call.has(1) && !call.node.has("axes");
  const auto axes = call.ints(1, "axes", {});
  if (!x || !axes) return call.set(0, call.dtype(0));
  std::vector<bool> drop(x->size(), false);
  if (all) {
    for (std::size_t i = 0; i < x->size(); ++i) {
      if (!(*x)[i].is_integer()) return call.set(0, call.dtype(0));  // a symbol may turn out to be 1
      drop[i] = (*x)[i].integer() == 1;
    }
  }
  for (const std::int64_t value : *axes) {
    const std::size_t axis = call.axis(value, x->size());
    if ((*x)[axis].is_integer() && (*x)[axis].integer() != 1)
      call.contradiction("axis {} of {} is not 1", value, format_shape(*x));
    drop[axis] = true;
  }
  Shape out;
  for (std::size_t i = 0; i < x->size(); ++i)
    if (!drop[i]) out.push_back((*x)[i]);
  call.set(0, call.dtype(0), std::move(out));
}

void unsqueeze(ShapeCall& call) {
  const Shape* x = call.shape(0);
  const auto axes = call.ints(1, "axes", {});
  if (!x || !axes) return call.set(0, call.dtype(0));
  const std::size_t rank = x->size() + axes->size();
  std::vector<bool> added(rank, false);
  for (const std::int64_t value : *axes) {
    const std::size_t axis = call.axis(value, rank);
    if (added[axis]) call.contradiction("axis {} is given twice", value);
    added[axis] = true;
  }
  Shape out;
  for (std::size_t i = 0, next = 0; i < rank; ++i) out.push_back(added[i] ? Quantity(1) : (*x)[next++]);
  call.set(0, call.dtype(0), std::move(out));
}

void transpose(ShapeCall& call) {
  const Shape* x = call.shape(0);
  if (!x) return call.set(0, call.dtype(0));
  const auto order = call.node.attr("perm", std::vector<std::int64_t>{});
  Shape out(x->rbegin(), x->rend());
  if (!order.empty()) {
    if (order.size() != x->size())
      call.contradiction("'perm' {} does not fit the input {}", lithe::format_shape(order), format_shape(*x));
    std::vector<bool> seen(x->size(), false);
    for (std::size_t i = 0; i < order.size(); ++i) {
      const std::size_t source = call.axis(order[i], x->size());
      if (seen[source]) call.contradiction("'perm' {} names an axis twice", lithe::format_shape(order));
      seen[source] = true;
      out[i] = (*x)[source];
    }
  }
  call.set(0, call.dtype(0), std::move(out));
}

void concat(ShapeCall& call) {
  DType dtype = DType::Undefined;
  std::optional<std::size_t> rank;
  bool complete = call.input_count() > 0;
  for (std::size_t i = 0; i < call.input_count(); ++i) {
    if (dtype == DType::Undefined) dtype = call.dtype(i);
    const Shape* s = call.shape(i);
    if (!s) {
      complete = false;
      continue;
    }
    if (rank && *rank != s->size())
      call.contradiction("the inputs have {} and {} dimensions", *rank, s->size());
    rank = s->size();
  }
  if (!rank) return call.set(0, dtype);
  const std::size_t axis = call.axis(call.node.attr("axis", std::int64_t{0}), *rank);
  Shape out(*rank);
  Quantity total(0);
  for (std::size_t i = 0; i < call.input_count(); ++i) {
    const Shape* s = call.shape(i);
    if (!s) continue;
    total = total + (*s)[axis];
    for (std::size_t j = 0; j < *rank; ++j) {
      if (j == axis) continue;
      const Quantity& size = (*s)[j];
      if (out[j].is_integer() && size.is_integer() && out[j].integer() != size.integer())
        call.contradiction("the inputs disagree in dimension {}: {} and {}", j, out[j].integer(),
                           size.integer());
      if (!out[j].known() || (size.is_integer() && !out[j].is_integer())) out[j] = size;
    }
  }
  out[axis] = complete ? total : Quantity();
  call.set(0, dtype, std::move(out));
}

void split(ShapeCall& call) {
  const Shape* x = call.shape(0);
  const std::size_t count = call.node.outputs.size();
  if (!x) {
    for (std::size_t i = 0; i < count; ++i) call.set(i, call.dtype(0));
    return;
  }
  const std::size_t axis = call.axis(call.node.attr("axis", std::int64_t{0}), x->size());
  const bool given = call.has(1) || call.node.has("split");
  const auto sizes = call.ints(1, "split", {});
  const auto parts = call.node.attr("num_outputs", static_cast<std::int64_t>(count));
  if (parts < 1) call.contradiction("it cannot be split into {} parts", parts);
  if (given && sizes && sizes->size() != count)
    call.contradiction("{} sizes are given for {} outputs", sizes->size(), count);
  const Quantity& length = (*x)[axis];
  if (given && sizes && length.is_integer()) {
    Quantity sum(0);
    for (const std::int64_t size : *sizes) sum = sum + Quantity(size);
    if (!sum.same(length)) call.contradiction("the parts do not sum to {}", length.integer());
  }
  for (std::size_t i = 0; i < count; ++i) {
    Shape out = *x;
    if (given) {
      out[axis] = sizes ? Quantity((*sizes)[i]) : Quantity();
    } else if (length.is_integer()) {
      const std::int64_t chunk = ceil_div(length.integer(), parts);
      const std::int64_t left = length.integer() - chunk * static_cast<std::int64_t>(i);
      out[axis] = std::clamp<std::int64_t>(left, 0, chunk);
    } else {
      out[axis] = Quantity::divide_exactly(length, parts).value_or(Quantity());
    }
    call.set(i, call.dtype(0), std::move(out));
  }
}

/// The number of elements that [start, end) with step takes out of `size`.
Quantity slice_size(const ShapeCall& call, const Quantity& size, const Quantity& start, const Quantity& end,
                    const Quantity& step) {
  constexpr std::int64_t kFar = std::int64_t{1} << 31;
  if (!step.is_integer()) return {};
  if (step.integer() == 0) call.contradiction("a step of a slice is 0");
  const bool from_begin = start.is_integer() && start.integer() == 0 && step.integer() == 1;
  if (!size.is_integer()) {
    if (!from_begin) return {};
    const bool to_end = (end.is_integer() && end.integer() >= kFar - 1) || end.same(size);
    return to_end ? size : Quantity();
  }
  if (!start.is_integer() || !end.is_integer()) return {};
  const std::int64_t n = size.integer(), s = step.integer();
  const auto place = [&](std::int64_t at) {
    if (at < 0) at = std::max<std::int64_t>(at, -n - 1) + n;  // also INT64_MIN
    return s > 0 ? std::clamp<std::int64_t>(at, 0, n) : std::clamp<std::int64_t>(at, -1, n - 1);
  };
  const std::int64_t a = place(start.integer());
  const std::int64_t b = s < 0 && end.integer() < -n ? -1 : place(end.integer());
  if (s > 0) return b > a ? (b - a - 1) / s + 1 : 0;
  // -s of INT64_MIN overflows; such a step takes one element.
  return a > b ? (s < -kFar ? 0 : (a - b - 1) / -s) + 1 : 0;
}

void slice(ShapeCall& call) {
  const Shape* x = call.shape(0);
  if (!x) return call.set(0, call.dtype(0));
  const auto quantities = [&](std::size_t i, std::string_view attribute) -> std::optional<Shape> {
    if (call.has(i)) return call.known(i) ? std::optional<Shape>(call.known(i)->elements) : std::nullopt;
    const auto values = call.node.attr(attribute, std::vector<std::int64_t>{});
    return Shape(values.begin(), values.end());
  };
  const auto starts = quantities(1, "starts"), ends = quantities(2, "ends");
  const bool axes_given = call.has(3) || call.node.has("axes");
  const auto axes = call.ints(3, "axes", {});
  const auto steps = quantities(4, "steps");
  if (axes_given && !axes) return call.set(0, call.dtype(0), Shape(x->size()));
  Shape out = *x;
  const Shape* count_shape = call.has(1) ? call.shape(1) : nullptr;
  const std::size_t count = axes_given ? axes->size()
                            : starts   ? starts->size()
                            : count_shape && concrete(*count_shape) && !count_shape->empty()
                                ? static_cast<std::size_t>(count_shape->front().integer())
                                : x->size();
  if ((starts && starts->size() != count) || (ends && ends->size() != count) || count > x->size())
    call.contradiction("starts, ends and axes have different lengths");
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t axis = axes_given ? call.axis((*axes)[i], x->size()) : i;
    const Quantity step = !steps ? Quantity() : i < steps->size() ? (*steps)[i] : Quantity(1);
    out[axis] = slice_size(call, (*x)[axis], starts ? (*starts)[i] : Quantity(),
                           ends ? (*ends)[i] : Quantity(), step);
  }
  call.set(0, call.dtype(0), std::move(out));
}

void pad(ShapeCall& call) {
  const Shape* x = call.shape(0);
  if (!x) return call.set(0, call.dtype(0));
  Shape pads;
  if (const KnownTensor* tensor = call.known(1)) {
    pads = tensor->elements;
  } else if (!call.has(1)) {
    const auto values = call.node.attr("pads", std::vector<std::int64_t>{});
    pads.assign(values.begin(), values.end());
  } else {
    return call.set(0, call.dtype(0), Shape(x->size()));
  }
  std::vector<std::size_t> axes;
  if (call.has(3)) {
    const auto given = call.ints(3);
    if (!given) return call.set(0, call.dtype(0), Shape(x->size()));
    for (const std::int64_t value : *given) axes.push_back(call.axis(value, x->size()));
  } else {
    for (std::size_t i = 0; i < x->size(); ++i) axes.push_back(i);
  }
  if (pads.size() != 2 * axes.size())
    call.contradiction("{} pads are given for {} axes", pads.size(), axes.size());
  Shape out = *x;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    Quantity& size = out[axes[i]];
    size = size + pads[i] + pads[i + axes.size()];
    if (size.is_integer() && size.integer() < 0) call.contradiction("negative pads leave less than nothing");
  }
  call.set(0, call.dtype(0), std::move(out));
}

void expand(ShapeCall& call) {
  const KnownTensor* target = call.known(1);
  if (!target) return call.set(0, call.dtype(0));
  call.set(0, call.dtype(0), broadcast(call, call.type(0).shape, Shape(target->elements)));
}

void tile(ShapeCall& call) {
  const Shape* x = call.shape(0);
  if (!x) return call.set(0, call.dtype(0));
  Shape out(x->size());
  if (const KnownTensor* repeats = call.known(1)) {
    if (repeats->elements.size() != x->size())
      call.contradiction("{} repeats are given for {} axes", repeats->elements.size(), x->size());
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = (*x)[i] * repeats->elements[i];
  }
  call.set(0, call.dtype(0), std::move(out));
}

void depth_to_space(ShapeCall& call) {
  call.require_rank(0, 4);
  const Shape* x = call.shape(0);
  if (!x) return call.set(0, call.dtype(0), Shape(4));
  const std::int64_t block = call.node.attr("blocksize", std::int64_t{1});
  if (block < 1 || block > (1 << 15)) call.contradiction("blocksize {} is out of range", block);
  const Quantity channels = Quantity::divide_exactly((*x)[1], block * block).value_or(Quantity());
  if ((*x)[1].is_integer() && !channels.known())
    call.contradiction("{} channels are no multiple of {} squared", (*x)[1].integer(), block);
  call.set(0, call.dtype(0), Shape{(*x)[0], channels, (*x)[2] * block, (*x)[3] * block});
}

void space_to_depth(ShapeCall& call) {
  call.require_rank(0, 4);
  const Shape* x = call.shape(0);
  if (!x) return call.set(0, call.dtype(0), Shape(4));
  const std::int64_t block = call.node.attr("blocksize", std::int64_t{1});
  if (block < 1 || block > (1 << 15)) call.contradiction("blocksize {} is out of range", block);
  const auto shrink = [&](const Quantity& size) {
    return Quantity::divide_exactly(size, block).value_or(Quantity());
  };
  call.set(0, call.dtype(0), Shape{(*x)[0], (*x)[1] * (block * block), shrink((*x)[2]), shrink((*x)[3])});
}

}  // namespace

void add_layout_rules(ShapeRules& rules) {
  rules["Reshape"] = reshape;
  rules["Flatten"] = flatten;
  rules["Squeeze"] = squeeze;
  rules["Unsqueeze"] = unsqueeze;
  rules["Transpose"] = transpose;
  rules["Concat"] = concat;
  rules["Split"] = split;
  rules["Slice"] = slice;
  rules["Pad"] = pad;
  rules["Expand"] = expand;
  rules["Tile"] = tile;
  rules["DepthToSpace"] = depth_to_space;
  rules["SpaceToDepth"] = space_to_depth;
}

}  // namespace lithe
