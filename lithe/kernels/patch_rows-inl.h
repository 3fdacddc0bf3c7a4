// Sums of squared differences over patches, shared by kernels that Highway compiles once for each instruction
// set: included again for each, hence the odd guard.
#if defined(LITHE_KERNELS_PATCH_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LITHE_KERNELS_PATCH_ROWS_INL_H_
#undef LITHE_KERNELS_PATCH_ROWS_INL_H_
#else
#define LITHE_KERNELS_PATCH_ROWS_INL_H_
#endif

#include "hwy/highway.h"
#include "lithe/kernels/patch_error.h"

HWY_BEFORE_NAMESPACE();
namespace lithe {
namespace HWY_NAMESPACE {

#if HWY_TARGET != HWY_SCALAR  // single lanes hold no pixel
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using Values = hn::ScalableTag<std::int16_t>;
using Sums = hn::RepartitionToWide<Values>;
using Pixel = hn::FixedTag<std::int32_t, 4>;  // sums of one pixel: two of the guide, two of the style
using Vector = hn::Vec<Sums>;

inline std::int64_t lanes() {
  return static_cast<std::int64_t>(hn::Lanes(Values()));
}

HWY_INLINE Vector add_squares(hn::Vec<Values> v, Vector sum) {
#if HWY_ARCH_X86 && HWY_TARGET != HWY_EMU128
  auto unused = hn::Zero(Sums());
  return hn::ReorderWidenMulAccumulate(Sums(), v, v, sum, unused);  // of neighbours, in their order
#else
  const auto pairs = hn::BitCast(Sums(), v);
  const auto odd = hn::ShiftRight<16>(pairs), even = hn::ShiftRight<16>(hn::ShiftLeft<16>(pairs));
  return hn::Add(sum, hn::Add(hn::Mul(odd, odd), hn::Mul(even, even)));
#endif
}

HWY_INLINE hn::Vec<Values> difference(const std::int16_t* a, const std::int16_t* b) {
  const Values d;
  return hn::Sub(hn::LoadU(d, a), hn::LoadU(d, b));
}

struct Totals {
  std::int64_t guide, style;
};

/// Lanes hold sums modulo 2^32, which do not reach it.
HWY_INLINE Totals totals_of(const std::int32_t* sums) {
  const auto lane = [&](int i) { return static_cast<std::int64_t>(static_cast<std::uint32_t>(sums[i])); };
  return {lane(0) + lane(1), lane(2) + lane(3)};
}

HWY_INLINE std::int64_t weighted(Totals totals, std::int64_t guide_weight) {
  return guide_weight * totals.guide + 256 * totals.style;
}

template <class D>
HWY_INLINE hn::Vec<Pixel> fold(D d, hn::Vec<D> v) {
  if constexpr (hn::MaxLanes(D()) > 4) {
    const hn::Half<D> half;
    return fold(half, hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  } else {
    return v;
  }
}

HWY_INLINE Totals totals_of(Vector v) {
  HWY_ALIGN std::int32_t sums[4];
  hn::Store(fold(Sums(), v), Pixel(), sums);
  return totals_of(sums);
}

/// The patches at two pointers to their first pixels. kBlocks: vectors that hold a row of a patch, or 0 for
/// any number.
template <int kBlocks>
struct Patches {
  explicit Patches(const PatchTask& task)
      : patch(task.patch),
        source_row(task.source.stride * 8),
        target_row(task.target.stride * 8),
        blocks((task.patch * 8 + lanes() - 1) / lanes()),
        last(hn::VecFromMask(Values(), hn::FirstN(Values(), static_cast<std::size_t>(
                                                                task.patch * 8 - (blocks - 1) * lanes())))) {}

  HWY_INLINE Vector add_row(const std::int16_t* a, const std::int16_t* b, Vector sum) const {
    const std::int64_t count = kBlocks ? kBlocks : blocks, step = lanes();
    for (std::int64_t i = 0; i + 1 < count; ++i)
      sum = add_squares(difference(a + i * step, b + i * step), sum);
    const std::int64_t end = (count - 1) * step;
    return add_squares(hn::And(difference(a + end, b + end), last), sum);
  }

  Totals sums(const std::int16_t* a, const std::int16_t* b) const {
    auto even = hn::Zero(Sums()), odd = even;
    int y = 0;
    for (; y + 1 < patch; y += 2) {
      even = add_row(a, b, even);
      odd = add_row(a + source_row, b + target_row, odd);
      a += 2 * source_row;
      b += 2 * target_row;
    }
    if (y < patch) even = add_row(a, b, even);
    return totals_of(hn::Add(even, odd));
  }

  /// Adds rows to four lanes: of stage 0 the middle one, of stage k the two that lie k - 1 rows from the
  /// upper and the lower edge, which are the least alike of what came before.
  HWY_INLINE void add_stage(int stage, const std::int16_t* a, const std::int16_t* b,
                            std::int32_t* sums) const {
    const Pixel d;
    const std::int64_t y = stage == 0 ? patch / 2 : stage - 1, mirrored = patch - 1 - y;
    auto sum = add_row(a + y * source_row, b + y * target_row, hn::Zero(Sums()));
    if (stage == 0) return hn::StoreU(fold(Sums(), sum), d, sums);
    sum = hn::Add(sum, add_row(a + mirrored * source_row, b + mirrored * target_row, hn::Zero(Sums())));
    hn::StoreU(hn::Add(hn::LoadU(d, sums), fold(Sums(), sum)), d, sums);
  }

  int patch;
  std::int64_t source_row, target_row, blocks;
  hn::Vec<Values> last;
};

/// Sums of a run of patches that lie side by side, four lanes a patch, in workspace.columns.
inline const std::int32_t* run_sums(const PatchTask& task, const std::int16_t* a, const std::int16_t* b,
                                    std::int64_t length, PatchWorkspace& workspace) {
  const std::int64_t pixels = length + task.patch - 1, step = lanes();
  auto& columns = workspace.columns;
  if (const auto size = static_cast<std::size_t>((pixels + kPatchSlack) * 4); columns.size() < size)
    columns.resize(size);
  const std::int64_t source_row = task.source.stride * 8, target_row = task.target.stride * 8;
  for (std::int64_t i = 0; i < pixels * 8; i += step) {
    auto even = hn::Zero(Sums()), odd = even;
    const std::int16_t *p = a + i, *q = b + i;
    int y = 0;
    for (; y + 1 < task.patch; y += 2) {
      even = add_squares(difference(p, q), even);
      odd = add_squares(difference(p + source_row, q + target_row), odd);
      p += 2 * source_row;
      q += 2 * target_row;
    }
    if (y < task.patch) even = add_squares(difference(p, q), even);
    hn::StoreU(hn::Add(even, odd), Sums(), columns.data() + i / 2);
  }
  const Pixel d;
  std::int32_t* at = columns.data();
  auto sum = hn::Zero(d);
  for (int x = 0; x < task.patch; ++x) sum = hn::Add(sum, hn::LoadU(d, at + 4 * x));
  for (std::int64_t x = 0; x < length; ++x, at += 4) {
    const auto first = hn::LoadU(d, at);
    hn::StoreU(sum, d, at);
    sum = hn::Add(hn::Sub(sum, first), hn::LoadU(d, at + 4 * task.patch));
  }
  return columns.data();
}

inline const std::int16_t* corner(const PatchImage& image, Place place, int patch) {
  return image.at(place_row(place) - patch / 2, place_column(place) - patch / 2);
}

}  // namespace
#endif

}  // namespace HWY_NAMESPACE
}  // namespace lithe
HWY_AFTER_NAMESPACE();

#endif
