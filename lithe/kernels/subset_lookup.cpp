#include "lithe/kernels/subset_lookup.h"

#include <algorithm>
#include <cmath>
#include <limits>

// This file is compiled once for each instruction set; the best one is chosen when a kernel is first called.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lithe/kernels/subset_lookup.cpp"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"
#include "lithe/base/error.h"
#include "lithe/kernels/double_sum-inl.h"

#ifndef LITHE_KERNELS_SUBSET_LOOKUP_ONCE
#define LITHE_KERNELS_SUBSET_LOOKUP_ONCE
namespace lithe {
namespace {

constexpr int kSearched = 16;  // points that a search of four steps serves
constexpr int kLevelWidth = 8, kLevels = 4;

}  // namespace
}  // namespace lithe
#endif

HWY_BEFORE_NAMESPACE();
namespace lithe {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::CappedTag<float, 8>;
using Integers = hn::RebindToSigned<Floats>;
using Vector = hn::Vec<Floats>;

/// The nearest of at most 16 points by a search of four steps in registers of eight lanes.
struct Search {
  Vector first, second, third, fourth, low, high;

  explicit HWY_INLINE Search(const float* levels)
      : first(hn::LoadU(Floats(), levels)),
        second(hn::LoadU(Floats(), levels + kLevelWidth)),
        third(hn::LoadU(Floats(), levels + 2 * kLevelWidth)),
        fourth(hn::LoadU(Floats(), levels + 3 * kLevelWidth)),
        low(hn::LoadU(Floats(), levels + kLevels * kLevelWidth)),
        high(hn::LoadU(Floats(), levels + (kLevels + 1) * kLevelWidth)) {}

  HWY_INLINE Vector operator()(Vector y) const {
    const Floats d;
    const Integers di;
    const auto upper = hn::Ge(y, first);
    // A true mask is -1 as an integer: j becomes 2 j + 1.
    auto j = hn::Neg(hn::VecFromMask(di, hn::RebindMask(di, upper)));
    const auto descend = [&](Vector level) {
      const auto border = hn::TableLookupLanes(level, hn::IndicesFromVec(d, j));
      j = hn::Sub(hn::Add(j, j), hn::VecFromMask(di, hn::RebindMask(di, hn::Ge(y, border))));
    };
    descend(second);
    descend(third);
    descend(fourth);
    const auto lane = hn::IndicesFromVec(d, hn::And(j, hn::Set(di, kLevelWidth - 1)));
    return hn::IfThenElse(upper, hn::TableLookupLanes(high, lane), hn::TableLookupLanes(low, lane));
  }
};

/// The nearest of any points by a table of all floor(2048 y).
struct Gather {
  const float* entries;

  HWY_INLINE Vector operator()(Vector y) const {
    const Floats d;
    const Integers di;
    const auto one = hn::Set(d, 1.0f), minus = hn::Set(d, -1.0f);
    y = hn::Min(hn::IfThenElse(hn::Ge(y, minus), y, minus), one);  // NaN fails the comparison
    const auto place = hn::ConvertTo(di, hn::Floor(hn::Mul(y, hn::Set(d, 2048.0f))));
    return hn::GatherIndex(d, entries, hn::Add(place, hn::Set(di, 2048)));
  }
};

template <bool kRestore, class Lookup>
void transform_all(const float* HWY_RESTRICT x, float* y, std::int64_t count, const SubsetTable& table,
                   const SubsetTransform& transform, const Lookup& lookup) {
  const Floats d;
  const auto mean = hn::Set(d, transform.mean), scale = hn::Set(d, transform.scale);
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t last = count / lanes * lanes;
  for (std::int64_t i = 0; i < last; i += lanes) {
    auto value = lookup(hn::Div(hn::Sub(hn::LoadU(d, x + i), mean), scale));
    if constexpr (kRestore) value = hn::Add(hn::Mul(value, scale), mean);
    hn::StoreU(value, d, y + i);
  }
  subset_lookup_reference(x + last, y + last, count - last, table, transform);
}

}  // namespace

void lookup_target(const float* x, float* y, std::int64_t count, const SubsetTable& table,
                   const SubsetTransform& transform) {
  const auto run = [&](const auto& lookup) {
    if (transform.restore)
      transform_all<true>(x, y, count, table, transform, lookup);
    else
      transform_all<false>(x, y, count, table, transform, lookup);
  };
  if (!table.entries().empty()) return run(Gather{table.entries().data()});
  if constexpr (hn::MaxLanes(Floats()) == kLevelWidth) {
    run(Search(table.search().data()));
  } else {
    subset_lookup_reference(x, y, count, table, transform);
  }
}

PlaneStatistics statistics_target(const float* x, std::int64_t count, bool centre) {
  const Floats d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const std::int64_t last = count / lanes * lanes;
  DoubleSum<Floats> terms;
  for (std::int64_t i = 0; i < last; i += lanes) terms.add(hn::LoadU(d, x + i));
  double sum = terms.total();
  for (std::int64_t i = last; i < count; ++i) sum += x[i];
  const float mean = static_cast<float>(sum / static_cast<double>(count));
  if (std::isnan(mean)) return {centre ? mean : 0.0f, mean};
  PlaneStatistics statistics{.mean = centre ? mean : 0.0f};
  const auto middle = hn::Set(d, statistics.mean);
  auto largest = hn::Zero(d);
  for (std::int64_t i = 0; i < last; i += lanes)
    largest = hn::Max(largest, hn::Abs(hn::Sub(hn::LoadU(d, x + i), middle)));
  float most = hn::GetLane(hn::MaxOfLanes(d, largest));
  for (std::int64_t i = last; i < count; ++i) most = std::max(most, std::abs(x[i] - statistics.mean));
  statistics.scale = most + kSubsetEpsilon;
  return statistics;
}

}  // namespace HWY_NAMESPACE
}  // namespace lithe
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lithe {

HWY_EXPORT(lookup_target);
HWY_EXPORT(statistics_target);

SubsetTable::SubsetTable(std::span<const std::int16_t> points) {
  if (points.empty() || points.size() > 256)
    fail("a table of {} points cannot be looked up in; 1 to 256 can", points.size());
  for (std::size_t i = 0; i < points.size(); ++i)
    if (points[i] < -1024 || points[i] > 1024 || (i > 0 && points[i] < points[i - 1]))
      fail("the points of a table must ascend from -1024 to 1024 at most; point {} is {}", i, points[i]);
  for (const std::int16_t point : points) values_.push_back(static_cast<float>(point) / 1024.0f);
  for (std::size_t i = 0; i + 1 < points.size(); ++i)
    borders_.push_back(static_cast<float>(points[i] + points[i + 1]) / 2048.0f);
  if (points.size() > kSearched) {
    entries_.resize(kSubsetEntries);
    std::size_t begin = 0;
    for (std::size_t i = 0; i < points.size(); ++i) {
      const std::size_t end = i + 1 < points.size()
                                  ? static_cast<std::size_t>(points[i] + points[i + 1] + 2048)
                                  : static_cast<std::size_t>(kSubsetEntries);
      std::fill(entries_.begin() + static_cast<std::ptrdiff_t>(begin),
                entries_.begin() + static_cast<std::ptrdiff_t>(end), values_[i]);
      begin = end;
    }
    return;
  }
  search_.assign((kLevels + 2) * kLevelWidth, std::numeric_limits<float>::infinity());
  const auto border = [&](std::size_t i) { return i < borders_.size() ? borders_[i] : INFINITY; };
  for (int level = 0; level < kLevels; ++level) {
    const std::size_t half = static_cast<std::size_t>(kSearched / 2) >> level;
    for (std::size_t i = 0; i < (std::size_t{1} << level); ++i)
      search_[static_cast<std::size_t>(level * kLevelWidth) + i] = border((2 * i + 1) * half - 1);
  }
  std::fill(search_.begin(), search_.begin() + kLevelWidth, search_[0]);  // compared with every lane
  for (std::size_t i = 0; i < kSearched; ++i)
    search_[kLevels * kLevelWidth + i] = values_[std::min(i, values_.size() - 1)];
}

float SubsetTable::nearest(float y) const {
  std::size_t i = 0;
  for (std::size_t step = 128; step > 0; step /= 2)
    if (i + step <= borders_.size() && y >= borders_[i + step - 1]) i += step;
  return values_[i];
}

void subset_lookup(const float* x, float* y, std::int64_t count, const SubsetTable& table,
                   const SubsetTransform& transform) {
  HWY_DYNAMIC_DISPATCH(lookup_target)(x, y, count, table, transform);
}

void subset_lookup_reference(const float* x, float* y, std::int64_t count, const SubsetTable& table,
                             const SubsetTransform& transform) {
  for (std::int64_t i = 0; i < count; ++i) {
    const float value = table.nearest((x[i] - transform.mean) / transform.scale);
    y[i] = transform.restore ? value * transform.scale + transform.mean : value;
  }
}

PlaneStatistics plane_statistics(const float* x, std::int64_t count, bool centre) {
  return HWY_DYNAMIC_DISPATCH(statistics_target)(x, count, centre);
}

}  // namespace lithe
#endif
