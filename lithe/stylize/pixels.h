// Frames as tensors and back, their size, contrast and sharpness.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "lithe/video/frame.h"

namespace lithe {

/// float32 [n, 3, h, w] from `low` (black) to `high`. Throws Error(Input) if frames differ in size or there
/// are none.
at::Tensor pixels_of(const std::vector<Frame>& frames, double low = -1, double high = 1);

/// Pictures [n, 3, h, w] of -1..1 as frames, clamped and rounded to quarter grey levels. Throws Error(Input)
/// for NaN, which half-precision decoders give, and for other shapes.
std::vector<Frame> frames_of(const at::Tensor& pixels);

/// Cut centrally to the ratio of height and width and resized: by area where it shrinks, by Lanczos' kernel
/// where it grows. Throws Error(Input) for sizes below 1 and an empty frame.
Frame fit_frame(const Frame& frame, int height, int width);

/// The largest multiple of `unit` that is no larger than `size`, but one at least.
int floor_to_multiple(int size, int unit);

/// Distance from the mean grey (a whole level) times `ratio`, clipped: the contrast of the Python Imaging
/// Library, but with quarter levels where that has whole ones.
void adjust_contrast(Frame& frame, double ratio);

/// Distance from a blur by [1 1 1; 1 5 1; 1 1 1] / 13, whose border is that of the frame, times `ratio`,
/// clipped: likewise its sharpness. 1 changes nothing.
void adjust_sharpness(Frame& frame, double ratio);

}  // namespace lithe
