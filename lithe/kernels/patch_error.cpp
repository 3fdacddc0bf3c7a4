#include "lithe/kernels/patch_error.h"

#include <cstddef>

// This file is compiled once for each instruction set; the best one is chosen when a kernel is first called.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lithe/kernels/patch_error.cpp"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"
#include "lithe/kernels/patch_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lithe {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR
void sums_target(const PatchTask& task, const Place* sources, const Place* targets, std::int64_t count,
                 std::int64_t* guide, std::int64_t* style, PatchWorkspace&) {
  patch_sums_reference(task, sources, targets, count, guide, style);
}
#else
namespace {

/// Runs of at least so many pixels are worth sums of columns.
constexpr std::int64_t kRun = 2;

void sums(const PatchTask& task, const Place* sources, const Place* targets, std::int64_t count,
          std::int64_t* guide, std::int64_t* style, PatchWorkspace& workspace) {
  const Patches<0> patches(task);
  for (std::int64_t x = 0; x < count;) {
    std::int64_t end = x + 1;
    while (end < count && sources[end] == sources[end - 1] + 1 && targets[end] == targets[end - 1] + 1) ++end;
    const std::int16_t *a = corner(task.source, sources[x], task.patch),
                       *b = corner(task.target, targets[x], task.patch);
    if (end - x >= kRun) {
      const std::int32_t* sums = run_sums(task, a, b, end - x, workspace);
      for (; x < end; ++x, sums += 4) {
        const Totals totals = totals_of(sums);
        guide[x] = totals.guide;
        style[x] = totals.style;
      }
    } else {
      const Totals totals = patches.sums(a, b);
      guide[x] = totals.guide;
      style[x] = totals.style;
      ++x;
    }
  }
}

}  // namespace

void sums_target(const PatchTask& task, const Place* sources, const Place* targets, std::int64_t count,
                 std::int64_t* guide, std::int64_t* style, PatchWorkspace& workspace) {
  sums(task, sources, targets, count, guide, style, workspace);
}

#endif
}  // namespace HWY_NAMESPACE
}  // namespace lithe
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lithe {

HWY_EXPORT(sums_target);

void patch_sums(const PatchTask& task, const Place* sources, const Place* targets, std::int64_t count,
                std::int64_t* guide, std::int64_t* style, PatchWorkspace& workspace) {
  HWY_DYNAMIC_DISPATCH(sums_target)(task, sources, targets, count, guide, style, workspace);
}

void patch_sums_reference(const PatchTask& task, const Place* sources, const Place* targets,
                          std::int64_t count, std::int64_t* guide, std::int64_t* style) {
  const int r = task.patch / 2;
  for (std::int64_t x = 0; x < count; ++x) {
    guide[x] = style[x] = 0;
    for (int dy = -r; dy <= r; ++dy)
      for (int dx = -r; dx <= r; ++dx) {
        const std::int16_t *a = task.source.at(place_row(sources[x]) + dy, place_column(sources[x]) + dx),
                           *b = task.target.at(place_row(targets[x]) + dy, place_column(targets[x]) + dx);
        for (int c = 0; c < 8; ++c) {
          const std::int64_t difference = a[c] - b[c];
          (c < 4 ? guide : style)[x] += difference * difference;
        }
      }
  }
}

}  // namespace lithe
#endif
