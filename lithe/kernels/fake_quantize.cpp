#include "lithe/kernels/fake_quantize.h"

#include <algorithm>
#include <cmath>

// This file is compiled once for each instruction set; the best one is chosen when a kernel is first called.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lithe/kernels/fake_quantize.cpp"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"
#include "lithe/kernels/double_sum-inl.h"

#ifndef LITHE_KERNELS_FAKE_QUANTIZE_ELEMENT
#define LITHE_KERNELS_FAKE_QUANTIZE_ELEMENT
namespace lithe {
namespace {

constexpr std::int64_t kBlock = 64;  // elements that one word of bits serves

/// What the references compute with, and the kernels at the ends of their arrays.
struct Element {
  float quotient, code;
  bool inside;

  Element(float x, const FakeQuantizeSpec& spec) : quotient(x / spec.scale) {
    const float unclipped = std::nearbyint(quotient) + spec.zero_point;
    inside = unclipped >= spec.low && unclipped <= spec.high;
    code = unclipped < spec.low ? spec.low : unclipped;  // NaN stays
    code = code > spec.high ? spec.high : code;
  }
  float value(const FakeQuantizeSpec& spec) const { return (code - spec.zero_point) * spec.scale; }
  float slope(const FakeQuantizeSpec& spec) const {
    return (code - spec.zero_point) - (inside ? quotient : 0.0f);
  }
};

/// Elements before the first whole block.
inline std::int64_t head(std::int64_t count, std::int64_t offset) {
  return std::min(count, (kBlock - offset % kBlock) % kBlock);
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
using Words = hn::RebindToUnsigned<Floats>;
using Vector = hn::Vec<Floats>;
using Lanes = hn::Mask<Floats>;

// The choices of DropMask for the lanes from the j-th element of a block on; `start` is called before.

struct KeepAll {
  static constexpr bool kAll = true;
  HWY_INLINE void start(std::uint64_t block) {}
};

struct KeepHalf {
  static constexpr bool kAll = false;
  std::uint64_t seed, bits = 0;

  HWY_INLINE void start(std::uint64_t block) { bits = drop::hash(seed, block); }
  HWY_INLINE Lanes kept(std::size_t j) const {
    const Words words;
    const auto bit_of_lane = hn::Shl(hn::Set(words, 1u), hn::Iota(words, 0u));
    return hn::RebindMask(Floats(),
                          hn::TestBit(hn::Set(words, static_cast<std::uint32_t>(bits >> j)), bit_of_lane));
  }
};

struct KeepSome {
  static constexpr bool kAll = false;
  std::uint64_t seed;
  std::int32_t threshold;
  alignas(64) std::uint16_t draws[kBlock] = {};

  HWY_INLINE void start(std::uint64_t block) {
    for (std::uint64_t k = 0; k < kBlock / 4; ++k) {
      const std::uint64_t bits = drop::hash(seed, block * (kBlock / 4) + k);
      for (std::uint64_t i = 0; i < 4; ++i) draws[4 * k + i] = static_cast<std::uint16_t>(bits >> (16 * i));
    }
  }
  HWY_INLINE Lanes kept(std::size_t j) const {
    const hn::RebindToSigned<Floats> integers;
    const auto drawn = hn::PromoteTo(integers, hn::Load(hn::Rebind<std::uint16_t, Floats>(), draws + j));
    return hn::RebindMask(Floats(), hn::Lt(drawn, hn::Set(integers, threshold)));
  }
};

/// Calls `function` with the way of choosing that the mask needs.
template <class Function>
HWY_INLINE auto with_choice(const DropMask& mask, const Function& function) {
  const std::uint32_t threshold = drop::threshold(mask);
  if (threshold == drop::kAll) {
    KeepAll choice;
    return function(choice);
  }
  const std::uint64_t seed = drop::mix64(mask.key);
  if (threshold == drop::kHalf) {
    KeepHalf choice{seed};
    return function(choice);
  }
  KeepSome choice{seed, static_cast<std::int32_t>(threshold)};
  return function(choice);
}

/// clip(round(quotient) + zero_point) and where nothing was clipped. Comparisons, since minima lose NaN.
struct Codes {
  Vector code;
  Lanes inside;

  HWY_INLINE Codes(Vector quotient, const FakeQuantizeSpec& spec) {
    const Floats d;
    const auto low = hn::Set(d, spec.low), high = hn::Set(d, spec.high);
    const auto unclipped = hn::Add(hn::Round(quotient), hn::Set(d, spec.zero_point));
    inside = hn::And(hn::Ge(unclipped, low), hn::Le(unclipped, high));
    code = hn::IfThenElse(hn::Lt(unclipped, low), low, unclipped);
    code = hn::IfThenElse(hn::Gt(unclipped, high), high, code);
  }
};

template <class Choice>
void forward(const float* x, float* y, std::int64_t count, const FakeQuantizeSpec& spec, const DropMask& mask,
             std::int64_t offset, Choice& choice) {
  const Floats d;
  const std::int64_t first = head(count, offset), last = first + (count - first) / kBlock * kBlock;
  fake_quantize_reference(x, y, first, spec, mask, offset);
  const auto scale = hn::Set(d, spec.scale), zero_point = hn::Set(d, spec.zero_point);
  for (std::int64_t i = first; i < last; i += kBlock) {
    choice.start(static_cast<std::uint64_t>(offset + i) / kBlock);
    for (std::size_t j = 0; j < kBlock; j += hn::Lanes(d)) {
      const auto full = hn::LoadU(d, x + i + j);
      auto value = hn::Mul(hn::Sub(Codes(hn::Div(full, scale), spec).code, zero_point), scale);
      if constexpr (!Choice::kAll) value = hn::IfThenElse(choice.kept(j), value, full);
      hn::StoreU(value, d, y + i + j);
    }
  }
  fake_quantize_reference(x + last, y + last, count - last, spec, mask, offset + last);
}

template <class Choice>
double backward(const float* x, const float* grad_y, float* grad_x, std::int64_t count,
                const FakeQuantizeSpec& spec, const DropMask& mask, std::int64_t offset, Choice& choice) {
  const Floats d;
  const std::int64_t first = head(count, offset), last = first + (count - first) / kBlock * kBlock;
  double sum = fake_quantize_backward_reference(x, grad_y, grad_x, first, spec, mask, offset);
  const auto scale = hn::Set(d, spec.scale), zero_point = hn::Set(d, spec.zero_point);
  DoubleSum<Floats> terms;
  for (std::int64_t i = first; i < last; i += kBlock) {
    choice.start(static_cast<std::uint64_t>(offset + i) / kBlock);
    for (std::size_t j = 0; j < kBlock; j += hn::Lanes(d)) {
      const auto gradient = hn::LoadU(d, grad_y + i + j);
      const auto quotient = hn::Div(hn::LoadU(d, x + i + j), scale);
      const Codes codes(quotient, spec);
      const auto slope = hn::Sub(hn::Sub(codes.code, zero_point), hn::IfThenElseZero(codes.inside, quotient));
      auto result = hn::IfThenElseZero(codes.inside, gradient), term = hn::Mul(gradient, slope);
      if constexpr (!Choice::kAll) {
        const auto kept = choice.kept(j);
        result = hn::IfThenElse(kept, result, gradient);
        term = hn::IfThenElseZero(kept, term);
      }
      hn::StoreU(result, d, grad_x + i + j);
      terms.add(term);
    }
  }
  sum += terms.total();
  return sum + fake_quantize_backward_reference(x + last, grad_y + last, grad_x + last, count - last, spec,
                                                mask, offset + last);
}

template <class Choice>
void mixture(const float* quantised, const float* full, float* y, std::int64_t count, const DropMask& mask,
             std::int64_t offset, Choice& choice) {
  const Floats d;
  const std::int64_t first = head(count, offset), last = first + (count - first) / kBlock * kBlock;
  mix_reference(quantised, full, y, first, mask, offset);
  for (std::int64_t i = first; i < last; i += kBlock) {
    choice.start(static_cast<std::uint64_t>(offset + i) / kBlock);
    for (std::size_t j = 0; j < kBlock; j += hn::Lanes(d)) {
      auto value = hn::LoadU(d, quantised + i + j);
      if constexpr (!Choice::kAll) value = hn::IfThenElse(choice.kept(j), value, hn::LoadU(d, full + i + j));
      hn::StoreU(value, d, y + i + j);
    }
  }
  mix_reference(quantised + last, full + last, y + last, count - last, mask, offset + last);
}

}  // namespace

void fake_quantize_target(const float* x, float* y, std::int64_t count, const FakeQuantizeSpec& spec,
                          const DropMask& mask, std::int64_t offset) {
  with_choice(mask, [&](auto& choice) { forward(x, y, count, spec, mask, offset, choice); });
}

double backward_target(const float* x, const float* grad_y, float* grad_x, std::int64_t count,
                       const FakeQuantizeSpec& spec, const DropMask& mask, std::int64_t offset) {
  return with_choice(
      mask, [&](auto& choice) { return backward(x, grad_y, grad_x, count, spec, mask, offset, choice); });
}

void mix_target(const float* quantised, const float* full, float* y, std::int64_t count, const DropMask& mask,
                std::int64_t offset) {
  with_choice(mask, [&](auto& choice) { mixture(quantised, full, y, count, mask, offset, choice); });
}

}  // namespace HWY_NAMESPACE
}  // namespace lithe
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lithe {

HWY_EXPORT(fake_quantize_target);
HWY_EXPORT(backward_target);
HWY_EXPORT(mix_target);

void fake_quantize(const float* x, float* y, std::int64_t count, const FakeQuantizeSpec& spec,
                   const DropMask& mask, std::int64_t offset) {
  HWY_DYNAMIC_DISPATCH(fake_quantize_target)(x, y, count, spec, mask, offset);
}

double fake_quantize_backward(const float* x, const float* grad_y, float* grad_x, std::int64_t count,
                              const FakeQuantizeSpec& spec, const DropMask& mask, std::int64_t offset) {
  return HWY_DYNAMIC_DISPATCH(backward_target)(x, grad_y, grad_x, count, spec, mask, offset);
}

void mix(const float* quantised, const float* full, float* y, std::int64_t count, const DropMask& mask,
         std::int64_t offset) {
  HWY_DYNAMIC_DISPATCH(mix_target)(quantised, full, y, count, mask, offset);
}

void fake_quantize_reference(const float* x, float* y, std::int64_t count, const FakeQuantizeSpec& spec,
                             const DropMask& mask, std::int64_t offset) {
  for (std::int64_t i = 0; i < count; ++i)
    y[i] = kept(mask, offset + i) ? Element(x[i], spec).value(spec) : x[i];
}

double fake_quantize_backward_reference(const float* x, const float* grad_y, float* grad_x,
                                        std::int64_t count, const FakeQuantizeSpec& spec,
                                        const DropMask& mask, std::int64_t offset) {
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const float gradient = grad_y[i];
    const bool is_kept = kept(mask, offset + i);
    const Element element(x[i], spec);
    grad_x[i] = !is_kept || element.inside ? gradient : 0.0f;
    const float term = is_kept ? gradient * element.slope(spec) : 0.0f;
    sum += static_cast<double>(term);
  }
  return sum;
}

void mix_reference(const float* quantised, const float* full, float* y, std::int64_t count,
                   const DropMask& mask, std::int64_t offset) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = kept(mask, offset + i) ? quantised[i] : full[i];
}

}  // namespace lithe
#endif
