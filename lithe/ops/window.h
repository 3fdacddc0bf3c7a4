// The geometry that convolutions and pools share: kernel, strides, dilations, padding.
#pragma once

#include <cstdint>
#include <vector>

#include "lithe/ops/registry.h"

namespace lithe {

/// All vectors have one entry a spatial axis.
struct Window {
  std::vector<std::int64_t> kernel, strides, dilations, pads_begin, pads_end;

  std::size_t rank() const { return kernel.size(); }
  bool symmetric() const { return pads_begin == pads_end; }
  bool padded() const;
  /// Reach of the dilated kernel along an axis.
  std::int64_t extent(std::size_t axis) const { return dilations[axis] * (kernel[axis] - 1) + 1; }
  /// Length of the output along an axis of length `size`, at least 0.
  std::int64_t output(std::size_t axis, std::int64_t size, bool ceil_mode) const;
};

/// Reads strides, dilations, pads and auto_pad; `kernel` comes from the weight or kernel_shape, `sizes` are
/// the input's spatial sizes. Throws Error(Input) naming the node where lengths or values make no sense.
Window read_window(const OpCall& call, std::vector<std::int64_t> kernel,
                   const std::vector<std::int64_t>& sizes, bool ceil_mode = false);

/// An attribute with one positive entry a spatial axis.
std::vector<std::int64_t> spatial_attr(const OpCall& call, std::string_view name, std::size_t rank,
                                       std::int64_t fallback);

/// at::constant_pad_nd's argument (last axis first) for a Window's pads; `extra` is added to the ends.
std::vector<std::int64_t> torch_pads(const Window& window, const std::vector<std::int64_t>& extra = {});

}  // namespace lithe
