#include "lithe/kernels/token_reduce.h"

#include <algorithm>
#include <cmath>
#include <numeric>

// This file is compiled once for each instruction set; the best one is chosen when a kernel is first called.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lithe/kernels/token_reduce.cpp"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"
#include "lithe/graph/token_function.h"

HWY_BEFORE_NAMESPACE();
namespace lithe {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::ScalableTag<float>;

float total(Floats d, hn::Vec<Floats> v) {
  return hn::GetLane(hn::SumOfLanes(d, v));
}

/// Products of kSources rows with two others, in one pass over the channels.
template <int kSources>
HWY_INLINE void products(const float* const* sources, const float* HWY_RESTRICT first,
                         const float* HWY_RESTRICT second, std::int64_t channels, float* out_first,
                         float* out_second) {
  const Floats d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t last = channels / lanes * lanes;
  auto a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0, b0 = a0, b1 = a0, b2 = a0, b3 = a0;
  for (std::int64_t c = 0; c < last; c += lanes) {
    const auto p = hn::LoadU(d, first + c), q = hn::LoadU(d, second + c);
    const auto s0 = hn::LoadU(d, sources[0] + c);
    a0 = hn::MulAdd(s0, p, a0);
    b0 = hn::MulAdd(s0, q, b0);
    if constexpr (kSources == 4) {
      const auto s1 = hn::LoadU(d, sources[1] + c), s2 = hn::LoadU(d, sources[2] + c),
                 s3 = hn::LoadU(d, sources[3] + c);
      a1 = hn::MulAdd(s1, p, a1);
      b1 = hn::MulAdd(s1, q, b1);
      a2 = hn::MulAdd(s2, p, a2);
      b2 = hn::MulAdd(s2, q, b2);
      a3 = hn::MulAdd(s3, p, a3);
      b3 = hn::MulAdd(s3, q, b3);
    }
  }
  out_first[0] = total(d, a0);
  out_second[0] = total(d, b0);
  if constexpr (kSources == 4) {
    out_first[1] = total(d, a1);
    out_second[1] = total(d, b1);
    out_first[2] = total(d, a2);
    out_second[2] = total(d, b2);
    out_first[3] = total(d, a3);
    out_second[3] = total(d, b3);
  }
  for (int s = 0; s < kSources; ++s)
    for (std::int64_t c = last; c < channels; ++c) {
      out_first[s] += sources[s][c] * first[c];
      out_second[s] += sources[s][c] * second[c];
    }
}

/// y += factor x.
HWY_INLINE void add_scaled(float* HWY_RESTRICT y, const float* HWY_RESTRICT x, float factor,
                           std::int64_t channels) {
  const Floats d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto f = hn::Set(d, factor);
  std::int64_t c = 0;
  for (; c + lanes <= channels; c += lanes)
    hn::StoreU(hn::MulAdd(f, hn::LoadU(d, x + c), hn::LoadU(d, y + c)), d, y + c);
  for (; c < channels; ++c) y[c] += factor * x[c];
}

HWY_INLINE void scale(float* HWY_RESTRICT y, const float* HWY_RESTRICT x, float factor,
                      std::int64_t channels) {
  const Floats d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto f = hn::Set(d, factor);
  std::int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) hn::StoreU(hn::Mul(f, hn::LoadU(d, x + c)), d, y + c);
  for (; c < channels; ++c) y[c] = factor * x[c];
}

HWY_INLINE float length(const float* x, std::int64_t channels) {
  float square = 0, again = 0;
  products<1>(&x, x, x, channels, &square, &again);
  return std::max(std::sqrt(square), kSmallestTokenLength);
}

/// For up to four sources the nearest of the targets, the first of equally near ones.
template <int kSources>
void match(const float* x, const std::int64_t* order, const TokenReduction& r, std::int64_t at,
           const float* lengths, float* cosines, std::int64_t* targets) {
  const float* sources[kSources];
  float best[kSources];
  std::int64_t where[kSources];
  for (int s = 0; s < kSources; ++s) {
    sources[s] = x + order[at + s] * r.channels;
    best[s] = -std::numeric_limits<float>::infinity();
    where[s] = r.specials;
  }
  const auto offer = [&](std::int64_t j, const float* dots) {
    for (int s = 0; s < kSources; ++s) {
      const float cosine = dots[s] / (lengths[at + s] * lengths[j]);
      if (cosine > best[s]) {
        best[s] = cosine;
        where[s] = j;
      }
    }
  };
  float first[kSources], second[kSources];
  for (std::int64_t j = r.specials; j < r.merge; j += 2) {
    const bool pair = j + 1 < r.merge;
    products<kSources>(sources, x + order[j] * r.channels, x + order[pair ? j + 1 : j] * r.channels,
                       r.channels, first, second);
    offer(j, first);
    if (pair) offer(j + 1, second);
  }
  for (int s = 0; s < kSources; ++s) {
    cosines[at + s] = best[s];
    targets[at + s] = where[s];
  }
}

}  // namespace

void reduce_target(const float* x, const float* size, const std::int64_t* order, const TokenReduction& r,
                   float* out, float* out_size, std::int64_t* assignment, TokenWorkspace& work) {
  if (assignment) {
    std::fill(assignment, assignment + r.tokens, -1);
    for (std::int64_t i = 0; i < r.merge; ++i) assignment[order[i]] = i;
  }
  if (r.merge == r.prune) {
    for (std::int64_t i = 0; i < r.prune; ++i) {
      std::copy_n(x + order[i] * r.channels, r.channels, out + i * r.channels);
      out_size[i] = size[order[i]];
    }
    return;
  }
  const auto count = static_cast<std::size_t>(r.prune);
  work.lengths.resize(count);
  work.cosines.resize(count);
  work.targets.resize(count);
  work.weights.assign(static_cast<std::size_t>(r.merge), 0.0f);
  for (std::int64_t i = r.specials; i < r.prune; ++i)
    work.lengths[static_cast<std::size_t>(i)] = length(x + order[i] * r.channels, r.channels);
  std::int64_t i = r.merge;
  for (; i + 4 <= r.prune; i += 4)
    match<4>(x, order, r, i, work.lengths.data(), work.cosines.data(), work.targets.data());
  for (; i < r.prune; ++i)
    match<1>(x, order, r, i, work.lengths.data(), work.cosines.data(), work.targets.data());

  for (std::int64_t j = 0; j < r.merge; ++j) {
    const float own = size[order[j]];
    work.weights[static_cast<std::size_t>(j)] = r.weighted ? own : 1.0f;
    scale(out + j * r.channels, x + order[j] * r.channels, r.weighted ? own : 1.0f, r.channels);
    out_size[j] = std::max(own, r.least);
  }
  for (i = r.merge; i < r.prune; ++i) {
    const std::int64_t j = work.targets[static_cast<std::size_t>(i)];
    const float own = size[order[i]], weight = r.weighted ? own : 1.0f;
    add_scaled(out + j * r.channels, x + order[i] * r.channels, weight, r.channels);
    work.weights[static_cast<std::size_t>(j)] += weight;
    out_size[j] += std::max(r.scaled ? own * work.cosines[static_cast<std::size_t>(i)] : own, r.least);
    if (assignment) assignment[order[i]] = j;
  }
  for (std::int64_t j = 0; j < r.merge; ++j) {
    const float weight = work.weights[static_cast<std::size_t>(j)];
    float* row = out + j * r.channels;
    if (weight != 1)
      for (std::int64_t c = 0; c < r.channels; ++c) row[c] /= weight;
    out_size[j] = std::max(out_size[j], kSmallestTokenSize);
  }
}

}  // namespace HWY_NAMESPACE
}  // namespace lithe
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lithe {

HWY_EXPORT(reduce_target);

void token_importance(const float* attention, std::int64_t heads, std::int64_t queries, std::int64_t tokens,
                      std::int64_t rows, float* importance) {
  std::fill(importance, importance + tokens, 0.0f);
  rows = std::min(rows, queries);
  for (std::int64_t h = 0; h < heads; ++h)
    for (std::int64_t q = 0; q < rows; ++q) {
      const float* row = attention + (h * queries + q) * tokens;
      for (std::int64_t j = 0; j < tokens; ++j) importance[j] += row[j];
    }
  const auto count = static_cast<float>(heads * rows);
  for (std::int64_t j = 0; j < tokens; ++j) importance[j] /= count;
}

void token_order(std::span<const float> importance, std::int64_t specials, std::int64_t kept,
                 std::int64_t* order) {
  std::vector<std::int64_t> rest(importance.size() - static_cast<std::size_t>(specials));
  std::iota(rest.begin(), rest.end(), specials);
  const auto key = [&](std::int64_t i) {
    const float value = importance[static_cast<std::size_t>(i)];
    return std::isnan(value) ? -std::numeric_limits<float>::infinity() : value;
  };
  std::partial_sort(rest.begin(), rest.begin() + (kept - specials), rest.end(),
                    [&](std::int64_t a, std::int64_t b) {
                      const float x = key(a), y = key(b);
                      return x > y || (x == y && a < b);
                    });
  std::iota(order, order + specials, std::int64_t{0});
  std::copy_n(rest.begin(), kept - specials, order + specials);
}

void reduce_tokens(const float* x, const float* size, const std::int64_t* order,
                   const TokenReduction& reduction, float* out, float* out_size, std::int64_t* assignment,
                   TokenWorkspace& workspace) {
  HWY_DYNAMIC_DISPATCH(reduce_target)(x, size, order, reduction, out, out_size, assignment, workspace);
}

void reduce_tokens_reference(const float* x, const float* size, const std::int64_t* order,
                             const TokenReduction& r, float* out, float* out_size, std::int64_t* assignment) {
  const std::int64_t width = r.channels;
  const auto row = [&](std::int64_t i) { return x + order[i] * width; };
  const auto dot = [&](const float* a, const float* b) {
    double sum = 0;
    for (std::int64_t c = 0; c < width; ++c) sum += static_cast<double>(a[c]) * static_cast<double>(b[c]);
    return sum;
  };
  const auto length_of = [&](std::int64_t i) {
    return std::max(std::sqrt(dot(row(i), row(i))), static_cast<double>(kSmallestTokenLength));
  };
  if (assignment) std::fill(assignment, assignment + r.tokens, -1);
  std::vector<std::vector<double>> sums(static_cast<std::size_t>(r.merge),
                                        std::vector<double>(static_cast<std::size_t>(width)));
  std::vector<double> weights(static_cast<std::size_t>(r.merge)), sizes(weights.size());
  const auto add = [&](std::int64_t i, std::int64_t j, double factor) {
    const double own = size[order[i]], weight = r.weighted ? own : 1;
    auto& sum = sums[static_cast<std::size_t>(j)];
    for (std::int64_t c = 0; c < width; ++c)
      sum[static_cast<std::size_t>(c)] += weight * static_cast<double>(row(i)[c]);
    weights[static_cast<std::size_t>(j)] += weight;
    sizes[static_cast<std::size_t>(j)] += std::max(own * factor, static_cast<double>(r.least));
    if (assignment) assignment[order[i]] = j;
  };
  for (std::int64_t j = 0; j < r.merge; ++j) add(j, j, 1);
  for (std::int64_t i = r.merge; i < r.prune; ++i) {
    double best = -std::numeric_limits<double>::infinity();
    std::int64_t target = r.specials;
    for (std::int64_t j = r.specials; j < r.merge; ++j) {
      const double cosine = dot(row(i), row(j)) / (length_of(i) * length_of(j));
      if (cosine > best) {
        best = cosine;
        target = j;
      }
    }
    add(i, target, r.scaled ? best : 1);
  }
  for (std::int64_t j = 0; j < r.merge; ++j) {
    const auto at = static_cast<std::size_t>(j);
    for (std::int64_t c = 0; c < width; ++c)
      out[j * width + c] = static_cast<float>(sums[at][static_cast<std::size_t>(c)] / weights[at]);
    out_size[j] =
        r.merge == r.prune ? size[order[j]] : std::max(static_cast<float>(sizes[at]), kSmallestTokenSize);
  }
}

}  // namespace lithe
#endif
