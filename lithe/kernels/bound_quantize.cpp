#include "lithe/kernels/bound_quantize.h"

#include <algorithm>
#include <cmath>

// This file is compiled once for each instruction set; the best one is chosen when a kernel is first called.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lithe/kernels/bound_quantize.cpp"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"
#include "lithe/kernels/double_sum-inl.h"

#ifndef LITHE_KERNELS_BOUND_QUANTIZE_ELEMENT
#define LITHE_KERNELS_BOUND_QUANTIZE_ELEMENT
namespace lithe {
namespace {

/// What the references compute with, and the kernels at the ends of their arrays.
struct Position {
  float t;
  bool inside;

  Position(float x, const BoundQuantizeSpec& spec) : t((x - spec.low) / spec.width) {
    inside = t > 0 && t < 1;
    t = t < 0 ? 0.0f : t;  // NaN stays
    t = t > 1 ? 1.0f : t;
  }
  float code(const BoundQuantizeSpec& spec) const { return std::nearbyint(t * spec.levels); }
  float value(const BoundQuantizeSpec& spec) const {
    const float c = code(spec);
    return (spec.centred ? (c + c) - spec.levels : c) / spec.levels;
  }
};

inline float slope_of(const BoundQuantizeSpec& spec) {
  return (spec.centred ? 2.0f : 1.0f) / spec.width;
}

/// From the sums of grad_y and of grad_y t over the elements inside.
inline BoundGradients gradients_of(double plain, double weighted, const BoundQuantizeSpec& spec) {
  const double slope = (spec.centred ? 2.0 : 1.0) / static_cast<double>(spec.width);
  return {slope * (weighted - plain), -slope * weighted};
}

}  // namespace
}  // namespace lithe
#endif

HWY_BEFORE_NAMESPACE();
namespace lithe {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::CappedTag<float, 16>;
using Vector = hn::Vec<Floats>;

HWY_INLINE std::int64_t whole_vectors(std::int64_t count) {
  return count - count % static_cast<std::int64_t>(hn::Lanes(Floats()));
}

HWY_INLINE Vector raw_position(Vector x, const BoundQuantizeSpec& spec) {
  const Floats d;
  return hn::Div(hn::Sub(x, hn::Set(d, spec.low)), hn::Set(d, spec.width));
}

/// Comparisons, since minima lose NaN.
HWY_INLINE Vector clip(Vector t) {
  const Floats d;
  const auto zero = hn::Zero(d), one = hn::Set(d, 1.0f);
  t = hn::IfThenElse(hn::Lt(t, zero), zero, t);
  return hn::IfThenElse(hn::Gt(t, one), one, t);
}

HWY_INLINE Vector codes_of(Vector x, const BoundQuantizeSpec& spec) {
  return hn::Round(hn::Mul(clip(raw_position(x, spec)), hn::Set(Floats(), spec.levels)));
}

}  // namespace

void forward_target(const float* x, float* y, std::int64_t count, const BoundQuantizeSpec& spec) {
  const Floats d;
  const std::int64_t last = whole_vectors(count), step = static_cast<std::int64_t>(hn::Lanes(d));
  const auto levels = hn::Set(d, spec.levels);
  for (std::int64_t i = 0; i < last; i += step) {
    auto code = codes_of(hn::LoadU(d, x + i), spec);
    if (spec.centred) code = hn::Sub(hn::Add(code, code), levels);
    hn::StoreU(hn::Div(code, levels), d, y + i);
  }
  bound_quantize_reference(x + last, y + last, count - last, spec);
}

void codes_target(const float* x, std::uint8_t* codes, std::int64_t count, const BoundQuantizeSpec& spec) {
  const Floats d;
  const hn::RebindToSigned<Floats> integers;
  const hn::Rebind<std::uint8_t, Floats> bytes;
  const std::int64_t last = whole_vectors(count), step = static_cast<std::int64_t>(hn::Lanes(d));
  for (std::int64_t i = 0; i < last; i += step) {
    auto code = codes_of(hn::LoadU(d, x + i), spec);
    code = hn::IfThenElseZero(hn::Ge(code, hn::Zero(d)), code);  // NaN
    hn::StoreU(hn::DemoteTo(bytes, hn::ConvertTo(integers, code)), bytes, codes + i);
  }
  bound_codes_reference(x + last, codes + last, count - last, spec);
}

BoundGradients backward_target(const float* x, const float* grad_y, float* grad_x, std::int64_t count,
                               const BoundQuantizeSpec& spec) {
  const Floats d;
  const std::int64_t last = whole_vectors(count), step = static_cast<std::int64_t>(hn::Lanes(d));
  const auto slope = hn::Set(d, slope_of(spec)), one = hn::Set(d, 1.0f);
  DoubleSum<Floats> plain, weighted;
  for (std::int64_t i = 0; i < last; i += step) {
    const auto t = raw_position(hn::LoadU(d, x + i), spec);
    const auto inside = hn::And(hn::Gt(t, hn::Zero(d)), hn::Lt(t, one));
    const auto gradient = hn::IfThenElseZero(inside, hn::LoadU(d, grad_y + i));
    hn::StoreU(hn::Mul(gradient, slope), d, grad_x + i);
    plain.add(gradient);
    weighted.add(hn::IfThenElseZero(inside, hn::Mul(gradient, t)));
  }
  const BoundGradients rest =
      bound_quantize_backward_reference(x + last, grad_y + last, grad_x + last, count - last, spec);
  BoundGradients sums = gradients_of(plain.total(), weighted.total(), spec);
  sums.low += rest.low;
  sums.high += rest.high;
  return sums;
}

}  // namespace HWY_NAMESPACE
}  // namespace lithe
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lithe {

HWY_EXPORT(forward_target);
HWY_EXPORT(codes_target);
HWY_EXPORT(backward_target);

BoundQuantizeSpec bound_quantize_spec(float low, float high, std::int64_t levels, bool centred) {
  const float width = high - low;
  return {.low = low,
          .width = width >= kSmallestWidth ? width : kSmallestWidth,
          .levels = static_cast<float>(levels),
          .centred = centred};
}

void bound_quantize(const float* x, float* y, std::int64_t count, const BoundQuantizeSpec& spec) {
  HWY_DYNAMIC_DISPATCH(forward_target)(x, y, count, spec);
}

void bound_codes(const float* x, std::uint8_t* codes, std::int64_t count, const BoundQuantizeSpec& spec) {
  HWY_DYNAMIC_DISPATCH(codes_target)(x, codes, count, spec);
}

BoundGradients bound_quantize_backward(const float* x, const float* grad_y, float* grad_x, std::int64_t count,
                                       const BoundQuantizeSpec& spec) {
  return HWY_DYNAMIC_DISPATCH(backward_target)(x, grad_y, grad_x, count, spec);
}

void bound_quantize_reference(const float* x, float* y, std::int64_t count, const BoundQuantizeSpec& spec) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = Position(x[i], spec).value(spec);
}

void bound_codes_reference(const float* x, std::uint8_t* codes, std::int64_t count,
                           const BoundQuantizeSpec& spec) {
  for (std::int64_t i = 0; i < count; ++i) {
    const float code = Position(x[i], spec).code(spec);
    codes[i] = code >= 0 ? static_cast<std::uint8_t>(code) : 0;
  }
}

BoundGradients bound_quantize_backward_reference(const float* x, const float* grad_y, float* grad_x,
                                                 std::int64_t count, const BoundQuantizeSpec& spec) {
  double plain = 0, weighted = 0;
  const float slope = slope_of(spec);
  for (std::int64_t i = 0; i < count; ++i) {
    const Position position(x[i], spec);
    const float gradient = position.inside ? grad_y[i] : 0.0f;
    const float term = position.inside ? gradient * position.t : 0.0f;
    grad_x[i] = gradient * slope;
    plain += static_cast<double>(gradient);
    weighted += static_cast<double>(term);
  }
  return gradients_of(plain, weighted, spec);
}

}  // namespace lithe
#endif
