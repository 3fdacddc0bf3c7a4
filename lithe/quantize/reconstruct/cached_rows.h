// Parts of a step that read the rows of caches in place.
#pragma once

#include <ATen/ATen.h>

#include <optional>

#include "lithe/kernels/fake_quantize.h"
#include "lithe/quantize/reconstruct/reconstruction_loss.h"
#include "lithe/quantize/reconstruct/sample_cache.h"

namespace lithe {

/// What `mix` makes of the samples `indices` of both caches, without gathering them first; undefined where
/// the caches hold anything but float32 rows of one size.
at::Tensor gather_mixed(const SampleCache& quantized, const SampleCache& full, const at::Tensor& indices,
                        const DropMask& mask);

/// `scale` times the squared error of `output` against the samples `indices`, and its gradient, in one pass
/// over output and cache; nothing where `reconstruction_loss` must do it.
std::optional<ReconstructionLoss> fused_loss(const at::Tensor& output, const SampleCache& wanted,
                                             const at::Tensor& indices, double scale);

}  // namespace lithe
