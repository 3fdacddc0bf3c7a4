// N:M masks of tensors on any device.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace lithe {

/// The mask of `nm_mask` (lithe/kernels/nm_mask.h) for groups of `m` along `axis`, like the weight, by a
/// stable sort: for devices that the kernel does not run on.
at::Tensor nm_mask_by_sorting(const at::Tensor& weight, std::int64_t axis, std::int64_t n, std::int64_t m);

}  // namespace lithe
