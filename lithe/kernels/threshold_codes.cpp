#include "lithe/kernels/threshold_codes.h"

#include <cstring>
#include <type_traits>

// This file is compiled once for each instruction set; the best one is chosen when a kernel is first called.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lithe/kernels/threshold_codes.cpp"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lithe {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using Sums = hn::CappedTag<std::int32_t, kThresholdBlock>;
using Codes = hn::Rebind<std::uint8_t, Sums>;

/// Channels from `first` on, as many as a vector has and `here` at most, at all positions. Of 2 and 3 bits
/// the limits stay in registers.
template <int kLevels>
HWY_INLINE void codes_of_channels(const ThresholdTable& table, std::int64_t first, std::int64_t here,
                                  const std::int32_t* sums, std::int64_t from_stride, std::uint8_t* codes,
                                  std::int64_t to_stride, std::int64_t positions) {
  const Sums d;
  const Codes bytes;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto flip = hn::LoadU(d, table.flips.data() + first);
  const auto levels = hn::Set(d, static_cast<std::int32_t>(table.levels));
  const std::int32_t* limits = table.limits.data() + first;
  const auto limit = [&](std::int64_t level) HWY_ATTR { return hn::LoadU(d, limits + level * table.stride); };
  const auto l0 = limit(0), l1 = limit(kLevels > 1 ? 1 : 0), l2 = limit(kLevels > 2 ? 2 : 0),
             l3 = limit(kLevels > 3 ? 3 : 0), l4 = limit(kLevels > 4 ? 4 : 0),
             l5 = limit(kLevels > 5 ? 5 : 0), l6 = limit(kLevels > 6 ? 6 : 0);
  for (std::int64_t p = 0; p < positions; ++p) {
    const auto sum = hn::Sub(hn::Xor(hn::LoadU(d, sums + p * from_stride + first), flip), flip);
    // A mask is -1 where it holds.
    const auto missed = [&](hn::Vec<Sums> least) HWY_ATTR { return hn::VecFromMask(d, hn::Gt(least, sum)); };
    auto count = levels;
    if constexpr (kLevels == 0) {
      for (std::int64_t level = 0; level < table.levels; ++level)
        count = hn::Add(count, missed(limit(level)));
    } else {
      count = hn::Add(hn::Add(count, missed(l0)), hn::Add(missed(l1), missed(l2)));
      if constexpr (kLevels == 7)
        count = hn::Add(hn::Add(hn::Add(count, missed(l3)), hn::Add(missed(l4), missed(l5))), missed(l6));
    }
    const auto code = hn::DemoteTo(bytes, count);
    std::uint8_t* to = codes + p * to_stride + first;
    if (here == lanes) {
      hn::StoreU(code, bytes, to);
    } else {
      std::uint8_t all[kThresholdBlock];
      hn::StoreU(code, bytes, all);
      std::memcpy(to, all, static_cast<std::size_t>(here));
    }
  }
}

void codes_target(const ThresholdTable& table, const std::int32_t* sums, std::int64_t from_stride,
                  std::uint8_t* codes, std::int64_t to_stride, std::int64_t positions) {
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(Sums()));
  for (std::int64_t first = 0; first < to_stride; first += lanes) {
    const std::int64_t here = to_stride - first < lanes ? to_stride - first : lanes;
    const auto run = [&](auto levels) HWY_ATTR {
      codes_of_channels<decltype(levels)::value>(table, first, here, sums, from_stride, codes, to_stride,
                                                 positions);
    };
    if (table.levels == 3)
      run(std::integral_constant<int, 3>());
    else if (table.levels == 7)
      run(std::integral_constant<int, 7>());
    else
      run(std::integral_constant<int, 0>());
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace lithe
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lithe {

HWY_EXPORT(codes_target);

void threshold_codes(const ThresholdTable& table, const std::int32_t* sums, std::int64_t from_stride,
                     std::uint8_t* codes, std::int64_t to_stride, std::int64_t positions) {
  HWY_DYNAMIC_DISPATCH(codes_target)(table, sums, from_stride, codes, to_stride, positions);
}

}  // namespace lithe
#endif
