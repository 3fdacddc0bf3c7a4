#include "lithe/kernels/patch_accept.h"

#include <cstddef>

// This file is compiled once for each instruction set; the best one is chosen when a kernel is first called.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lithe/kernels/patch_accept.cpp"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"
#include "lithe/kernels/patch_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lithe {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR
void accept_target(const PatchTask& task, Place first, const Place* candidates, std::int64_t count,
                   Place* places, std::int64_t* errors, Place*, PatchWorkspace&) {
  patch_accept_reference(task, first, candidates, count, places, errors);
}
#else
namespace {

/// Runs of at least so many candidates are worth sums of columns, though none of them can be given up early.
constexpr std::int64_t kRun = 4;

template <int kBlocks>
void accept_with(const PatchTask& task, Place first, const Place* candidates, std::int64_t count,
                 Place* places, std::int64_t* errors, Place* lost, PatchWorkspace& workspace) {
  const Patches<kBlocks> patches(task);
  const auto offer = [&](std::int64_t x, std::int64_t error) {
    if (error < errors[x]) {
      lost[x] = places[x];
      places[x] = candidates[x];
      errors[x] = error;
    } else {
      lost[x] = candidates[x];
    }
  };
  const auto open = [&](std::int64_t x) {
    return candidates[x] != places[x] && candidates[x] != lost[x] && errors[x] != 0;
  };
  const std::int16_t* const source = corner(task.source, 0, task.patch);
  const std::int16_t* const target = corner(task.target, first, task.patch);
  const auto source_at = [&](std::int64_t x) {
    return source + (place_row(candidates[x]) * task.source.stride + place_column(candidates[x])) * 8;
  };
  const auto target_at = [&](std::int64_t x) { return target + 8 * x; };
  workspace.open.resize(static_cast<std::size_t>(count));
  workspace.partial.resize(static_cast<std::size_t>(count) * 4);
  std::int64_t* const single = workspace.open.data();
  std::int64_t singles = 0;
  for (std::int64_t x = 0; x < count;) {
    if (!open(x)) {
      ++x;
      continue;
    }
    std::int64_t end = x + 1;
    while (end < count && candidates[end] == candidates[end - 1] + 1 && open(end)) ++end;
    if (end - x < kRun) {
      while (x < end) single[singles++] = x++;
      continue;
    }
    const std::int32_t* sums = run_sums(task, source_at(x), target_at(x), end - x, workspace);
    for (; x < end; ++x, sums += 4) offer(x, weighted(totals_of(sums), task.guide_weight));
  }

  // Most single candidates fail by a few rows. Testing all of them before any goes on keeps the processor
  // from guessing at each.
  std::int32_t* const partial = workspace.partial.data();
  const auto error_of = [&](std::int64_t i) {
    return weighted(totals_of(partial + 4 * i), task.guide_weight);
  };
  for (int stage = 0; stage <= task.patch / 2; ++stage) {
    for (std::int64_t i = 0; i < singles; ++i)
      patches.add_stage(stage, source_at(single[i]), target_at(single[i]), partial + 4 * i);
    std::int64_t left = 0;
    for (std::int64_t i = 0; i < singles; ++i) {
      const std::int64_t x = single[i];
      const bool open_still = error_of(i) < errors[x];
      lost[x] = open_still ? lost[x] : candidates[x];
      single[left] = x;
      hn::StoreU(hn::LoadU(Pixel(), partial + 4 * i), Pixel(), partial + 4 * left);
      left += open_still;
    }
    singles = left;
  }
  for (std::int64_t i = 0; i < singles; ++i) offer(single[i], error_of(i));
}

int blocks_of(int patch) {
  return static_cast<int>((patch * 8 + lanes() - 1) / lanes());
}

}  // namespace

void accept_target(const PatchTask& task, Place first, const Place* candidates, std::int64_t count,
                   Place* places, std::int64_t* errors, Place* lost, PatchWorkspace& workspace) {
  const auto with = [&](auto accept) {
    accept(task, first, candidates, count, places, errors, lost, workspace);
  };
  switch (blocks_of(task.patch)) {
    case 2:
      return with(accept_with<2>);
    case 3:
      return with(accept_with<3>);
    case 4:
      return with(accept_with<4>);
    default:
      return with(accept_with<0>);
  }
}

#endif
}  // namespace HWY_NAMESPACE
}  // namespace lithe
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lithe {

HWY_EXPORT(accept_target);

void patch_accept(const PatchTask& task, Place first, const Place* candidates, std::int64_t count,
                  Place* places, std::int64_t* errors, Place* lost, PatchWorkspace& workspace) {
  HWY_DYNAMIC_DISPATCH(accept_target)(task, first, candidates, count, places, errors, lost, workspace);
}

void patch_accept_reference(const PatchTask& task, Place first, const Place* candidates, std::int64_t count,
                            Place* places, std::int64_t* errors) {
  for (std::int64_t x = 0; x < count; ++x) {
    std::int64_t guide = 0, style = 0;
    const Place here = first + static_cast<Place>(x);
    patch_sums_reference(task, candidates + x, &here, 1, &guide, &style);
    const std::int64_t error = task.guide_weight * guide + 256 * style;
    if (error < errors[x]) {
      places[x] = candidates[x];
      errors[x] = error;
    }
  }
}

}  // namespace lithe
#endif
