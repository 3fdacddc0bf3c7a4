#include "lithe/kernels/soft_round.h"

#include <algorithm>
#include <cmath>
#include <vector>

// This file is compiled once for each instruction set; the best one is chosen when a kernel is first called.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lithe/kernels/soft_round.cpp"
#include "hwy/foreach_target.h"

#include "hwy/contrib/math/math-inl.h"
#include "hwy/highway.h"
#include "lithe/kernels/double_sum-inl.h"

#ifndef LITHE_KERNELS_SOFT_ROUND_CHANNELS
#define LITHE_KERNELS_SOFT_ROUND_CHANNELS
namespace lithe {
namespace {

constexpr std::int64_t kTile = 256;

/// Walks over a weight in tiles and spreads the numbers of the channels over their elements, so that the
/// loops over elements need not know how the channels lie in memory.
class ChannelTile {
 public:
  explicit ChannelTile(const SoftRound& round) : round_(round) {}
  alignas(64) float scale[kTile] = {};
  alignas(64) float zero_point[kTile] = {};

  /// Fills in elements `start` ... `start + size - 1` of the weight.
  void move_to(std::int64_t start, std::int64_t size) {
    if (round_.channels == 1 && is_filled_) return;
    const std::int64_t filled = round_.channels == 1 ? kTile : size;  // one scale: once for all tiles
    for_each_run(start, filled, [&](std::int64_t at, std::int64_t channel, std::int64_t length) {
      std::fill_n(scale + at, length, round_.scale[channel]);
      std::fill_n(zero_point + at, length, round_.zero_point[channel]);
    });
    is_filled_ = true;
  }

  /// Calls visit(place in the tile, channel, length) for each run of elements of one channel.
  template <typename Visit>
  void for_each_run(std::int64_t start, std::int64_t size, const Visit& visit) const {
    std::int64_t channel = start / round_.inner % round_.channels, left = round_.inner - start % round_.inner;
    for (std::int64_t at = 0; at < size; left = round_.inner) {
      const std::int64_t length = std::min(left, size - at);
      visit(at, channel, length);
      at += length;
      channel = channel + 1 < round_.channels ? channel + 1 : 0;
    }
  }

 private:
  const SoftRound& round_;
  bool is_filled_ = false;
};

/// The numbers of Adam that change from step to step.
struct AdamFactors {
  float keep_first, add_first, keep_second, add_second, root_factor, minus_rate, epsilon;

  explicit AdamFactors(const SoftRoundStep& step)
      : keep_first(static_cast<float>(step.beta1)),
        add_first(static_cast<float>(1 - step.beta1)),
        keep_second(static_cast<float>(step.beta2)),
        add_second(static_cast<float>(1 - step.beta2)),
        root_factor(
            static_cast<float>(1 / std::sqrt(1 - std::pow(step.beta2, static_cast<double>(step.step))))),
        minus_rate(static_cast<float>(-step.lr / (1 - std::pow(step.beta1, static_cast<double>(step.step))))),
        epsilon(static_cast<float>(step.epsilon)) {}
};

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
using Lanes = hn::Mask<Floats>;
constexpr std::int64_t kLanes = hn::MaxLanes(Floats());

/// `size` elements, the missing lanes 0.
HWY_INLINE Vector load(const float* from, std::int64_t size) {
  const Floats d;
  if (size >= kLanes) return hn::LoadU(d, from);
  alignas(64) float lanes[kLanes] = {};
  for (std::int64_t i = 0; i < size; ++i) lanes[i] = from[i];
  return hn::Load(d, lanes);
}

HWY_INLINE void store(Vector values, float* to, std::int64_t size) {
  const Floats d;
  if (size >= kLanes) return hn::StoreU(values, d, to);
  alignas(64) float lanes[kLanes];
  hn::Store(values, d, lanes);
  for (std::int64_t i = 0; i < size; ++i) to[i] = lanes[i];
}

HWY_INLINE Vector clip(Vector x, Vector low, Vector high) {  // NaN stays
  return hn::IfThenElse(hn::Gt(x, high), high, hn::IfThenElse(hn::Lt(x, low), low, x));
}

HWY_INLINE Lanes within(Vector x, Vector low, Vector high) {
  return hn::And(hn::Ge(x, low), hn::Le(x, high));
}

/// h(v), where it is not saturated, and its slope there.
struct Rounding {
  Vector sigmoid, value;
  Lanes is_open;

  HWY_INLINE explicit Rounding(Vector v) {
    const Floats d;
    const auto one = hn::Set(d, 1.0f);
    // Exp is defined up to 104 and gives 0 for NaN.
    sigmoid = hn::Div(one, hn::Add(one, hn::Exp(d, hn::Min(hn::Neg(v), hn::Set(d, 100.0f)))));
    const auto stretched = hn::MulAdd(sigmoid, hn::Set(d, 1.2f), hn::Set(d, -0.1f));
    is_open = hn::And(hn::Eq(v, v), within(stretched, hn::Zero(d), one));
    value = hn::IfThenElse(hn::Eq(v, v), clip(stretched, hn::Zero(d), one), v);
  }
  HWY_INLINE Vector slope() const {
    const Floats d;
    const auto rest = hn::Sub(hn::Set(d, 1.0f), sigmoid);
    return hn::IfThenElseZero(is_open, hn::Mul(hn::Mul(hn::Set(d, 1.2f), sigmoid), rest));
  }
};

/// |2h - 1|^beta of the regulariser and its derivative by h.
struct Power {
  Vector value, derivative;

  HWY_INLINE Power(Vector h, float beta) {
    const Floats d;
    const auto signed_base = hn::MulAdd(h, hn::Set(d, 2.0f), hn::Set(d, -1.0f));
    const auto base = hn::Abs(signed_base);
    const auto logarithm = hn::Log(d, hn::Max(base, hn::Set(d, 1e-30f)));
    const auto lower = hn::Exp(d, hn::Mul(hn::Set(d, beta - 1), logarithm));
    value = hn::Mul(lower, base);
    derivative = hn::IfThenZeroElse(hn::Eq(base, hn::Zero(d)),
                                    hn::CopySign(hn::Mul(lower, hn::Set(d, 2 * beta)), signed_base));
  }
};

/// The numbers of a SoftRound at some lanes.
struct Codes {
  Vector base, scale, zero_point, low, high;

  HWY_INLINE Codes(const SoftRound& round, const ChannelTile& tile, std::int64_t start, std::int64_t at,
                   std::int64_t size) {
    const Floats d;
    base = load(round.base + start + at, size);
    scale = hn::Load(d, tile.scale + at);
    zero_point = hn::Load(d, tile.zero_point + at);
    low = hn::Set(d, round.low);
    high = hn::Set(d, round.high);
  }
  /// The soft weight without its scale.
  HWY_INLINE Vector level(Vector h) const { return hn::Sub(clip(hn::Add(base, h), low, high), zero_point); }
  HWY_INLINE Vector weight(Vector h) const { return hn::Mul(level(h), scale); }
  HWY_INLINE Lanes is_open(Vector h) const { return within(hn::Add(base, h), low, high); }
};

/// Calls body(tile, start of the tile, place in the tile, elements left in the weight) for each vector of the
/// weight, and end(tile, start, size) after each tile.
template <class Body, class End>
HWY_INLINE void for_each_vector(const SoftRound& round, const Body& body, const End& end) {
  ChannelTile tile(round);
  const std::int64_t count = round.count();
  for (std::int64_t start = 0; start < count; start += kTile) {
    const std::int64_t size = std::min(kTile, count - start);
    tile.move_to(start, size);
    std::int64_t at = 0;
    for (; at + kLanes <= size; at += kLanes) body(tile, start, at, kLanes);
    if (at < size) body(tile, start, at, size - at);
    end(tile, start, size);
  }
}

/// The gradient of v. If the regulariser has a weight, its terms 1 - |2h - 1|^beta are added to
/// `regulariser`.
HWY_INLINE Vector gradient(const Rounding& h, const Codes& codes, Vector grad_w, float weight, float beta,
                           std::int64_t size, DoubleSum<Floats>& regulariser) {
  const Floats d;
  const auto slope = h.slope();
  auto result = hn::IfThenElseZero(hn::And(h.is_open, codes.is_open(h.value)),
                                   hn::Mul(hn::Mul(grad_w, codes.scale), slope));
  if (weight != 0) {
    const Power power(h.value, beta);
    result = hn::NegMulAdd(hn::Mul(hn::Set(d, weight), power.derivative), slope, result);
    auto term = hn::Sub(hn::Set(d, 1.0f), power.value);
    if (size < kLanes) term = hn::IfThenElseZero(hn::FirstN(d, static_cast<std::size_t>(size)), term);
    regulariser.add(term);
  }
  return result;
}

}  // namespace

void soft_weights_target(const SoftRound& round, float* w) {
  for_each_vector(
      round,
      [&](const ChannelTile& tile, std::int64_t start, std::int64_t at, std::int64_t size) HWY_ATTR {
        const Codes codes(round, tile, start, at, size);
        store(codes.weight(Rounding(load(round.v + start + at, size)).value), w + start + at, size);
      },
      [](const ChannelTile& tile, std::int64_t start, std::int64_t size) {});
}

double regulariser_target(const SoftRound& round, float beta) {
  const Floats d;
  DoubleSum<Floats> sum;
  const std::int64_t count = round.count();
  for (std::int64_t i = 0; i < count; i += kLanes) {
    const std::int64_t size = std::min(kLanes, count - i);
    auto term = hn::Sub(hn::Set(d, 1.0f), Power(Rounding(load(round.v + i, size)).value, beta).value);
    if (size < kLanes) term = hn::IfThenElseZero(hn::FirstN(d, static_cast<std::size_t>(size)), term);
    sum.add(term);
  }
  return sum.total();
}

void gradient_target(const SoftRound& round, const float* grad_w, float weight, float beta, float* grad_v) {
  DoubleSum<Floats> unused;
  for_each_vector(
      round,
      [&](const ChannelTile& tile, std::int64_t start, std::int64_t at, std::int64_t size) HWY_ATTR {
        const std::int64_t i = start + at;
        const Codes codes(round, tile, start, at, size);
        const Rounding h(load(round.v + i, size));
        store(gradient(h, codes, load(grad_w + i, size), weight, beta, size, unused), grad_v + i, size);
      },
      [](const ChannelTile& tile, std::int64_t start, std::int64_t size) {});
}

double step_target(const SoftRound& round, const AdamMoments& moments, const SoftRoundStep& step,
                   const float* grad_w, float* w, double* grad_scale) {
  const Floats d;
  const AdamFactors adam(step);
  DoubleSum<Floats> regulariser;
  alignas(64) float scale_terms[kTile];
  for_each_vector(
      round,
      [&](const ChannelTile& tile, std::int64_t start, std::int64_t at, std::int64_t size) HWY_ATTR {
        const std::int64_t i = start + at;
        const Codes codes(round, tile, start, at, size);
        const auto v = load(round.v + i, size), grad_weight = load(grad_w + i, size);
        const Rounding h(v);
        if (grad_scale) hn::Store(hn::Mul(grad_weight, codes.level(h.value)), d, scale_terms + at);
        const auto grad = gradient(h, codes, grad_weight, step.regulariser_weight, step.regulariser_beta,
                                   size, regulariser);
        const auto first = hn::MulAdd(grad, hn::Set(d, adam.add_first),
                                      hn::Mul(load(moments.first + i, size), hn::Set(d, adam.keep_first)));
        const auto second = hn::MulAdd(hn::Mul(grad, grad), hn::Set(d, adam.add_second),
                                       hn::Mul(load(moments.second + i, size), hn::Set(d, adam.keep_second)));
        const auto root =
            hn::MulAdd(hn::Sqrt(second), hn::Set(d, adam.root_factor), hn::Set(d, adam.epsilon));
        const auto next = hn::MulAdd(hn::Div(first, root), hn::Set(d, adam.minus_rate), v);
        store(first, moments.first + i, size);
        store(second, moments.second + i, size);
        store(next, round.v + i, size);
        store(codes.weight(Rounding(next).value), w + i, size);
      },
      [&](const ChannelTile& tile, std::int64_t start, std::int64_t size) {
        if (!grad_scale) return;
        tile.for_each_run(start, size, [&](std::int64_t at, std::int64_t channel, std::int64_t length) {
          double sum = 0;
          for (std::int64_t k = at; k < at + length; ++k) sum += static_cast<double>(scale_terms[k]);
          grad_scale[channel] += sum;
        });
      });
  return regulariser.total();
}

}  // namespace HWY_NAMESPACE
}  // namespace lithe
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lithe {
namespace {

/// Calls visit(element, channel).
template <typename Visit>
void for_each_element(const SoftRound& round, const Visit& visit) {
  for (std::int64_t i = 0; i < round.count(); ++i) visit(i, i / round.inner % round.channels);
}

/// The formulas in double precision.
struct Reference {
  double sigmoid, stretched, h, code;
  bool is_open, code_is_open;

  Reference(const SoftRound& round, std::int64_t i)
      : sigmoid(1 / (1 + std::exp(-static_cast<double>(round.v[i])))),
        stretched(1.2 * sigmoid - 0.1),
        h(std::clamp(stretched, 0.0, 1.0)),
        code(static_cast<double>(round.base[i]) + h),
        is_open(stretched >= 0 && stretched <= 1),
        code_is_open(code >= static_cast<double>(round.low) && code <= static_cast<double>(round.high)) {
    code = std::clamp(code, static_cast<double>(round.low), static_cast<double>(round.high));
  }
  double level(const SoftRound& round, std::int64_t channel) const {
    return code - static_cast<double>(round.zero_point[channel]);
  }
  double weight(const SoftRound& round, std::int64_t channel) const {
    return level(round, channel) * static_cast<double>(round.scale[channel]);
  }
  double regulariser(double beta) const { return 1 - std::pow(std::abs(2 * h - 1), beta); }
  double gradient(double grad_w, double scale, double weight, double beta) const {
    if (!is_open) return 0;
    const double slope = 1.2 * sigmoid * (1 - sigmoid), base = 2 * h - 1;
    const double sign = base > 0 ? 1.0 : base < 0 ? -1.0 : 0.0;
    return ((code_is_open ? grad_w * scale : 0) -
            weight * beta * std::pow(std::abs(base), beta - 1) * 2 * sign) *
           slope;
  }
};

}  // namespace

HWY_EXPORT(soft_weights_target);
HWY_EXPORT(regulariser_target);
HWY_EXPORT(gradient_target);
HWY_EXPORT(step_target);

float soft_rounding(float v) {
  const double stretched = 1.2 / (1 + std::exp(-static_cast<double>(v))) - 0.1;
  return static_cast<float>(std::clamp(stretched, 0.0, 1.0));
}

float initial_v(float fraction) {
  return static_cast<float>(-std::log(1.2 / (static_cast<double>(fraction) + 0.1) - 1));
}

void soft_weights(const SoftRound& round, float* w) {
  HWY_DYNAMIC_DISPATCH(soft_weights_target)(round, w);
}

void soft_weights_reference(const SoftRound& round, float* w) {
  for_each_element(round, [&](std::int64_t i, std::int64_t channel) {
    w[i] = static_cast<float>(Reference(round, i).weight(round, channel));
  });
}

void hard_codes(const SoftRound& round, float* codes) {
  for (std::int64_t i = 0; i < round.count(); ++i)
    codes[i] = std::clamp(round.base[i] + (round.v[i] >= 0 ? 1.0f : 0.0f), round.low, round.high);
}

double rounding_regulariser(const SoftRound& round, float beta) {
  return HWY_DYNAMIC_DISPATCH(regulariser_target)(round, beta);
}

double rounding_regulariser_reference(const SoftRound& round, float beta) {
  double sum = 0;
  for (std::int64_t i = 0; i < round.count(); ++i)
    sum += Reference(round, i).regulariser(static_cast<double>(beta));
  return sum;
}

std::int64_t undecided(const SoftRound& round, float margin) {
  // h is monotonic: what lies between two values of h lies between two values of v.
  const float low = initial_v(margin), high = -low;
  std::int64_t count = 0;
  for (std::int64_t i = 0; i < round.count(); ++i) count += round.v[i] > low && round.v[i] < high ? 1 : 0;
  return count;
}

void soft_round_gradient(const SoftRound& round, const float* grad_w, float regulariser_weight,
                         float regulariser_beta, float* grad_v) {
  HWY_DYNAMIC_DISPATCH(gradient_target)(round, grad_w, regulariser_weight, regulariser_beta, grad_v);
}

void soft_round_gradient_reference(const SoftRound& round, const float* grad_w, float regulariser_weight,
                                   float regulariser_beta, float* grad_v) {
  for_each_element(round, [&](std::int64_t i, std::int64_t channel) {
    grad_v[i] = static_cast<float>(Reference(round, i).gradient(
        static_cast<double>(grad_w[i]), static_cast<double>(round.scale[channel]),
        static_cast<double>(regulariser_weight), static_cast<double>(regulariser_beta)));
  });
}

double soft_round_step(const SoftRound& round, const AdamMoments& moments, const SoftRoundStep& step,
                       const float* grad_w, float* w, float* grad_scale) {
  std::vector<double> sums(grad_scale ? static_cast<std::size_t>(round.channels) : 0);
  const double regulariser =
      HWY_DYNAMIC_DISPATCH(step_target)(round, moments, step, grad_w, w, grad_scale ? sums.data() : nullptr);
  std::transform(sums.begin(), sums.end(), grad_scale, [](double sum) { return static_cast<float>(sum); });
  return regulariser;
}

double soft_round_step_reference(const SoftRound& round, const AdamMoments& moments,
                                 const SoftRoundStep& step, const float* grad_w, float* w,
                                 float* grad_scale) {
  const double weight = static_cast<double>(step.regulariser_weight);
  const double beta = static_cast<double>(step.regulariser_beta);
  const double first_correction = 1 - std::pow(step.beta1, static_cast<double>(step.step));
  const double second_correction = 1 - std::pow(step.beta2, static_cast<double>(step.step));
  std::vector<double> sums(static_cast<std::size_t>(round.channels));
  double regulariser = 0;
  for_each_element(round, [&](std::int64_t i, std::int64_t channel) {
    const Reference before(round, i);
    const auto grad_weight = static_cast<double>(grad_w[i]);
    sums[static_cast<std::size_t>(channel)] += grad_weight * before.level(round, channel);
    if (weight != 0) regulariser += before.regulariser(beta);
    const double grad = before.gradient(grad_weight, static_cast<double>(round.scale[channel]), weight, beta);
    const double first = step.beta1 * static_cast<double>(moments.first[i]) + (1 - step.beta1) * grad;
    const double second =
        step.beta2 * static_cast<double>(moments.second[i]) + (1 - step.beta2) * grad * grad;
    const double root = std::sqrt(second) / std::sqrt(second_correction) + step.epsilon;
    moments.first[i] = static_cast<float>(first);
    moments.second[i] = static_cast<float>(second);
    round.v[i] =
        static_cast<float>(static_cast<double>(round.v[i]) - step.lr / first_correction * first / root);
    w[i] = static_cast<float>(Reference(round, i).weight(round, channel));
  });
  if (grad_scale)
    std::transform(sums.begin(), sums.end(), grad_scale, [](double sum) { return static_cast<float>(sum); });
  return regulariser;
}

}  // namespace lithe
#endif
