// Sums of squared differences between patches.
//
// The error of Duan et al., "FastBlend: a Powerful Model-Free Toolkit Making Video Stylization Easier", 2023,
// over square patches with an odd side. All in whole numbers, so results do not depend on the order of
// summation: runs of pixels whose patches lie side by side in both pictures share the sums of their columns.
#pragma once

#include <cstdint>
#include <vector>

#include "lithe/kernels/patch_image.h"

namespace lithe {

/// Errors are guide_weight * guide + 256 * style, of sums of squared quarter grey levels.
struct PatchTask {
  PatchImage source, target;
  int patch = 5;                    // odd, 1..kLargestPatch
  std::int64_t guide_weight = 256;  // in 256ths
};

struct PatchWorkspace {
  std::vector<std::int32_t> columns, partial;
  std::vector<std::int64_t> open;
};

/// For `count` pairs of patches around a place of the source and one of the target, the sums over guide and
/// style.
void patch_sums(const PatchTask& task, const Place* sources, const Place* targets, std::int64_t count,
                std::int64_t* guide, std::int64_t* style, PatchWorkspace& workspace);
void patch_sums_reference(const PatchTask& task, const Place* sources, const Place* targets,
                          std::int64_t count, std::int64_t* guide, std::int64_t* style);

}  // namespace lithe
