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

constexpr std::int64_t kTile = 256;  // elements
constexpr std::int64_t kLargestLanes = 16;

/// A part of a weight, and what its elements' channels are: the loops over elements need not know how the
/// channels lie in memory.
struct Tile {
  std::int64_t start = 0, size = 0;
  // Room for a vector that begins at the last element.
  alignas(64) float scale[kTile + kLargestLanes] = {};
  alignas(64) float zero_point[kTile + kLargestLanes] = {};

  /// Calls visit(place in the tile, channel, length) for each run of elements of one channel, in order.
  template <typename Visit>
  void for_each_run(const SoftRound& round, const Visit& visit) const {
    std::int64_t channel = start / round.inner % round.channels, left = round.inner - start % round.inner;
    for (std::int64_t at = 0; at < size; left = round.inner) {
      const std::int64_t length = std::min(left, size - at);
      visit(at, channel, length);
      at += length;
      channel = channel + 1 < round.channels ? channel + 1 : 0;
    }
  }
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
constexpr auto kStretch = static_cast<float>(kSoftRoundStretch), kShift = static_cast<float>(kSoftRoundShift);

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

HWY_INLINE Vector sigmoid(Vector v) {
  const Floats d;
  const auto one = hn::Set(d, 1.0f);
  // Exp is defined up to 104 and gives 0 for NaN.
  const auto power = hn::Exp(d, hn::Min(hn::Neg(v), hn::Set(d, 100.0f)));
  return hn::IfThenElse(hn::Eq(v, v), hn::Div(one, hn::Add(one, power)), v);
}

/// h, and where it is not saturated.
struct Rounding {
  Vector value;
  Lanes is_open;

  HWY_INLINE explicit Rounding(Vector sigmoid) {
    const Floats d;
    const auto zero = hn::Zero(d), one = hn::Set(d, 1.0f);
    const auto stretched = hn::MulAdd(sigmoid, hn::Set(d, kStretch), hn::Set(d, -kShift));
    is_open = within(stretched, zero, one);
    value = clip(stretched, zero, one);
  }
};

/// |2h - 1|^beta of the regulariser and its derivative by h.
struct Power {
  Vector value, derivative;

  HWY_INLINE Power(Vector h, float beta) {
    const Floats d;
    const auto signed_base = hn::MulAdd(h, hn::Set(d, 2.0f), hn::Set(d, -1.0f));
    const auto base = hn::Abs(signed_base);
    auto lower = hn::Set(d, 1.0f);
    if (!hn::AllTrue(d, hn::Eq(base, lower))) {  // in the end nearly everything is saturated
      const auto logarithm = hn::Log(d, hn::Max(base, hn::Set(d, 1e-30f)));
      lower = hn::Exp(d, hn::Mul(hn::Set(d, beta - 1), logarithm));
    }
    value = hn::Mul(lower, base);
    derivative = hn::IfThenZeroElse(hn::Eq(base, hn::Zero(d)),
                                    hn::CopySign(hn::Mul(lower, hn::Set(d, 2 * beta)), signed_base));
  }
};

/// The numbers of a SoftRound at the lanes from one element of a tile on.
struct Codes {
  Vector base, scale, zero_point, low, high;

  HWY_INLINE Codes(const SoftRound& round, const Tile& tile, std::int64_t at) {
    const Floats d;
    base = load(round.base + tile.start + at, tile.size - at);
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

// A weight is worked on in tiles, and a tile in short loops one after the other: one loop over all would be a
// chain of dependent operations so long that the processor could not begin with the next vector before it
// ends.

/// Vector stores that reach into the next run, which then overwrites them.
HWY_INLINE void fill(float* to, float value, std::int64_t length) {
  const Floats d;
  for (std::int64_t i = 0; i < length; i += kLanes) hn::StoreU(hn::Set(d, value), d, to + i);
}

/// Walks over the tiles of a weight.
class Tiles {
 public:
  HWY_INLINE explicit Tiles(const SoftRound& round) : round_(round) {}

  /// To the next tile; false behind the last.
  HWY_INLINE bool next(Tile& tile) const {
    tile.start += tile.size;
    tile.size = std::min(kTile, round_.count() - tile.start);
    if (tile.size <= 0) return false;
    if (round_.channels == 1) {  // once for all tiles
      if (tile.start == 0) put(tile, 0, 0, tile.size);
    } else if (round_.inner == 1) {
      std::int64_t channel = tile.start % round_.channels;
      for (std::int64_t at = 0; at < tile.size; channel = 0) {
        const std::int64_t length = std::min(round_.channels - channel, tile.size - at);
        std::copy_n(round_.scale + channel, length, tile.scale + at);
        std::copy_n(round_.zero_point + channel, length, tile.zero_point + at);
        at += length;
      }
    } else {
      tile.for_each_run(round_, [&](std::int64_t at, std::int64_t channel, std::int64_t length)
                                    HWY_ATTR { put(tile, at, channel, length); });
    }
    return true;
  }

 private:
  HWY_INLINE void put(Tile& tile, std::int64_t at, std::int64_t channel, std::int64_t length) const {
    fill(tile.scale + at, round_.scale[channel], length);
    fill(tile.zero_point + at, round_.zero_point[channel], length);
  }
  const SoftRound& round_;
};

/// sigmoid(v) of a tile.
HWY_INLINE void sigmoids(const SoftRound& round, const Tile& tile, float* result) {
  for (std::int64_t at = 0; at < tile.size; at += kLanes)
    hn::Store(sigmoid(load(round.v + tile.start + at, tile.size - at)), Floats(), result + at);
}

/// The soft weights of a tile.
HWY_INLINE void weights(const SoftRound& round, const Tile& tile, const float* sigmoids, float* w) {
  for (std::int64_t at = 0; at < tile.size; at += kLanes) {
    const Rounding h(hn::Load(Floats(), sigmoids + at));
    store(Codes(round, tile, at).weight(h.value), w + tile.start + at, tile.size - at);
  }
}

/// The derivatives of |2h - 1|^beta by h in a tile; 1 - |2h - 1|^beta is added up.
HWY_INLINE void derivatives(const Tile& tile, float beta, const float* sigmoids, float* result,
                            DoubleSum<Floats>& regulariser) {
  const Floats d;
  for (std::int64_t at = 0; at < tile.size; at += kLanes) {
    const Power power(Rounding(hn::Load(d, sigmoids + at)).value, beta);
    hn::Store(power.derivative, d, result + at);
    auto term = hn::Sub(hn::Set(d, 1.0f), power.value);
    if (tile.size - at < kLanes)
      term = hn::IfThenElseZero(hn::FirstN(d, static_cast<std::size_t>(tile.size - at)), term);
    regulariser.add(term);
  }
}

/// The gradient of v; `derivative` is that of |2h - 1|^beta.
HWY_INLINE Vector gradient(const Codes& codes, const Rounding& h, Vector sigmoid, Vector grad_w, float weight,
                           Vector derivative) {
  const Floats d;
  const auto rest = hn::Sub(hn::Set(d, 1.0f), sigmoid);
  const auto slope = hn::IfThenElseZero(h.is_open, hn::Mul(hn::Mul(hn::Set(d, kStretch), sigmoid), rest));
  const auto by_loss =
      hn::IfThenElseZero(hn::And(h.is_open, codes.is_open(h.value)), hn::Mul(grad_w, codes.scale));
  return hn::Mul(hn::NegMulAdd(hn::Set(d, weight), derivative, by_loss), slope);
}

}  // namespace

void soft_weights_target(const SoftRound& round, float* w) {
  alignas(64) float sigmoid[kTile];
  const Tiles tiles(round);
  for (Tile tile; tiles.next(tile);) {
    sigmoids(round, tile, sigmoid);
    weights(round, tile, sigmoid, w);
  }
}

double regulariser_target(const SoftRound& round, float beta) {
  alignas(64) float sigmoid[kTile], unused[kTile];
  DoubleSum<Floats> sum;
  const Tiles tiles(round);
  for (Tile tile; tiles.next(tile);) {
    sigmoids(round, tile, sigmoid);
    derivatives(tile, beta, sigmoid, unused, sum);
  }
  return sum.total();
}

void gradient_target(const SoftRound& round, const float* grad_w, float weight, float beta, float* grad_v) {
  const Floats d;
  alignas(64) float sigmoid[kTile], derivative[kTile] = {};
  DoubleSum<Floats> unused;
  const Tiles tiles(round);
  for (Tile tile; tiles.next(tile);) {
    sigmoids(round, tile, sigmoid);
    if (weight != 0) derivatives(tile, beta, sigmoid, derivative, unused);
    for (std::int64_t at = 0; at < tile.size; at += kLanes) {
      const std::int64_t i = tile.start + at, size = tile.size - at;
      const auto s = hn::Load(d, sigmoid + at);
      store(gradient(Codes(round, tile, at), Rounding(s), s, load(grad_w + i, size), weight,
                     hn::Load(d, derivative + at)),
            grad_v + i, size);
    }
  }
}

double step_target(const SoftRound& round, const AdamMoments& moments, const SoftRoundStep& step,
                   const float* grad_w, float* w, double* grad_scale) {
  const Floats d;
  const AdamFactors adam(step);
  DoubleSum<Floats> regulariser;
  alignas(64) float sigmoid[kTile], derivative[kTile] = {}, scale_terms[kTile];
  const Tiles tiles(round);
  for (Tile tile; tiles.next(tile);) {
    sigmoids(round, tile, sigmoid);
    if (step.regulariser_weight != 0)
      derivatives(tile, step.regulariser_beta, sigmoid, derivative, regulariser);
    for (std::int64_t at = 0; at < tile.size; at += kLanes) {
      const std::int64_t i = tile.start + at, size = tile.size - at;
      const Codes codes(round, tile, at);
      const auto s = hn::Load(d, sigmoid + at), grad_weight = load(grad_w + i, size);
      const Rounding h(s);
      if (grad_scale) hn::Store(hn::Mul(grad_weight, codes.level(h.value)), d, scale_terms + at);
      const auto grad =
          gradient(codes, h, s, grad_weight, step.regulariser_weight, hn::Load(d, derivative + at));
      const auto first = hn::MulAdd(grad, hn::Set(d, adam.add_first),
                                    hn::Mul(load(moments.first + i, size), hn::Set(d, adam.keep_first)));
      const auto second = hn::MulAdd(hn::Mul(grad, grad), hn::Set(d, adam.add_second),
                                     hn::Mul(load(moments.second + i, size), hn::Set(d, adam.keep_second)));
      const auto root = hn::MulAdd(hn::Sqrt(second), hn::Set(d, adam.root_factor), hn::Set(d, adam.epsilon));
      store(first, moments.first + i, size);
      store(second, moments.second + i, size);
      store(hn::MulAdd(hn::Div(first, root), hn::Set(d, adam.minus_rate), load(round.v + i, size)),
            round.v + i, size);
    }
    sigmoids(round, tile, sigmoid);
    weights(round, tile, sigmoid, w);
    if (!grad_scale) continue;
    tile.for_each_run(round, [&](std::int64_t at, std::int64_t channel, std::int64_t length) {
      double sum = 0;
      for (std::int64_t k = at; k < at + length; ++k) sum += static_cast<double>(scale_terms[k]);
      grad_scale[channel] += sum;
    });
  }
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
        stretched(kSoftRoundStretch * sigmoid - kSoftRoundShift),
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
    const double slope = kSoftRoundStretch * sigmoid * (1 - sigmoid), base = 2 * h - 1;
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
  const double stretched = kSoftRoundStretch / (1 + std::exp(-static_cast<double>(v))) - kSoftRoundShift;
  return static_cast<float>(std::clamp(stretched, 0.0, 1.0));
}

float initial_v(float fraction) {
  return static_cast<float>(
      -std::log(kSoftRoundStretch / (static_cast<double>(fraction) + kSoftRoundShift) - 1));
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
