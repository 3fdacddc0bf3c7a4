#include "lithe/kernels/patch_vote.h"

#include <algorithm>
#include <array>
#include <cstddef>

// This file is compiled once for each instruction set; the best one is chosen when a kernel is first called.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lithe/kernels/patch_vote.cpp"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace lithe {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR  // single lanes hold no pixel
void vote_target(const VoteImage& style, const Place* places, int height, int width, int patch,
                 std::int16_t* out, std::int64_t pixel_step, std::int64_t row_step, VoteWorkspace&) {
  patch_vote_reference(style, places, height, width, patch, out, pixel_step, row_step);
}
#else
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using Sums = hn::ScalableTag<std::int32_t>;
using Pixel = hn::FixedTag<std::int32_t, 4>;  // sums of R, G, B and the number of votes

std::int64_t lanes() {
  return static_cast<std::int64_t>(hn::Lanes(Sums()));
}

/// For each column that a run of `length` pixels reaches, from `left` columns before it on, `count` in all:
/// how many members of the run it sees; then zeros.
void fill_ramp(std::int64_t length, std::int64_t left, std::int64_t count, int r, std::int32_t* ramp) {
  const Pixel d;
  for (std::int64_t x = -left; x < count - left; ++x, ramp += 4) {
    const std::int64_t members = std::min(x + r, length - 1) - std::max<std::int64_t>(x - r, 0) + 1;
    hn::StoreU(hn::Set(d, static_cast<std::int32_t>(members)), d, ramp);
  }
  const Sums wide;
  hn::StoreU(hn::Zero(wide), wide, ramp);
}

HWY_INLINE void add_votes(const std::int16_t* HWY_RESTRICT style, const std::int32_t* HWY_RESTRICT ramp,
                          std::int64_t numbers, std::int32_t* HWY_RESTRICT sums) {
  const Sums d;
  const hn::Rebind<std::int16_t, Sums> narrow;
  for (std::int64_t i = 0; i < numbers; i += lanes()) {
    const auto votes = hn::Mul(hn::PromoteTo(d, hn::LoadU(narrow, style + i)), hn::LoadU(d, ramp + i));
    hn::StoreU(hn::Add(hn::LoadU(d, sums + i), votes), d, sums + i);
  }
}

/// Means of a row of sums, which become zeros.
void finish_row(std::int32_t* sums, std::int64_t width, std::int16_t* out, std::int64_t pixel_step) {
  const Pixel d;
  const hn::Rebind<float, Pixel> floats;
  HWY_ALIGN std::int32_t mean[4];
  for (std::int64_t x = 0; x < width; ++x, sums += 4, out += pixel_step) {
    const auto votes = hn::ConvertTo(floats, hn::LoadU(d, sums));
    const auto half = hn::Set(floats, 0.5f);
    hn::Store(hn::ConvertTo(d, hn::Add(hn::Div(votes, hn::Broadcast<3>(votes)), half)), d, mean);
    hn::StoreU(hn::Zero(d), d, sums);
    for (int c = 0; c < 3; ++c) out[c] = static_cast<std::int16_t>(mean[c]);
  }
}

}  // namespace

void vote_target(const VoteImage& style, const Place* places, int height, int width, int patch,
                 std::int16_t* out, std::int64_t pixel_step, std::int64_t row_step, VoteWorkspace& work) {
  const int r = patch / 2;
  const std::int64_t stride = (static_cast<std::int64_t>(width) + kPatchSlack) * 4;
  work.sums.assign(static_cast<std::size_t>(stride * patch), 0);  // row y at y modulo patch
  work.ramp.resize(static_cast<std::size_t>(stride));
  const auto sums_of = [&](int y) { return work.sums.data() + y % patch * stride; };
  std::array<std::int64_t, 3> filled{};  // the ramp is that of the run before, often
  for (int y = 0; y < height; ++y) {
    const Place* row = places + static_cast<std::int64_t>(y) * width;
    const int top = std::max(0, y - r), bottom = std::min(height - 1, y + r);
    for (std::int64_t x = 0; x < width;) {
      std::int64_t end = x + 1;
      while (end < width && row[end] == row[end - 1] + 1) ++end;
      const std::int64_t first = std::max<std::int64_t>(0, x - r),
                         last = std::min<std::int64_t>(width - 1, end - 1 + r);
      const std::array<std::int64_t, 3> shape{end - x, x - first, last - first + 1};
      if (shape != filled) fill_ramp(shape[0], shape[1], shape[2], r, work.ramp.data());
      filled = shape;
      const std::int64_t down = place_row(row[x]) - y, right = place_column(row[x]) - x;
      for (int to = top; to <= bottom; ++to)
        add_votes(style.at(to + down, first + right), work.ramp.data(), (last - first + 1) * 4,
                  sums_of(to) + first * 4);
      x = end;
    }
    if (y >= r) finish_row(sums_of(y - r), width, out + (y - r) * row_step, pixel_step);
  }
  for (int y = std::max(0, height - r); y < height; ++y)
    finish_row(sums_of(y), width, out + y * row_step, pixel_step);
}

#endif
}  // namespace HWY_NAMESPACE
}  // namespace lithe
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lithe {

HWY_EXPORT(vote_target);

void patch_vote(const VoteImage& style, const Place* places, int height, int width, int patch,
                std::int16_t* out, std::int64_t pixel_step, std::int64_t row_step, VoteWorkspace& workspace) {
  HWY_DYNAMIC_DISPATCH(vote_target)
  (style, places, height, width, patch, out, pixel_step, row_step, workspace);
}

void patch_vote_reference(const VoteImage& style, const Place* places, int height, int width, int patch,
                          std::int16_t* out, std::int64_t pixel_step, std::int64_t row_step) {
  const int r = patch / 2;
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      std::int32_t sums[4] = {};
      for (int dy = std::max(-r, -y); dy <= std::min(r, height - 1 - y); ++dy)
        for (int dx = std::max(-r, -x); dx <= std::min(r, width - 1 - x); ++dx) {
          const Place match = places[static_cast<std::int64_t>(y + dy) * width + x + dx];
          const std::int16_t* voted = style.at(place_row(match) - dy, place_column(match) - dx);
          for (int c = 0; c < 4; ++c) sums[c] += voted[c];
        }
      for (int c = 0; c < 3; ++c)
        out[y * row_step + x * pixel_step + c] =
            static_cast<std::int16_t>(static_cast<float>(sums[c]) / static_cast<float>(sums[3]) + 0.5f);
    }
}

}  // namespace lithe
#endif
