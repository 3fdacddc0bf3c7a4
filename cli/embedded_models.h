// Models that the program carries with it, so that every verb of diffusion can be tried without a file.
#pragma once

#include <cstddef>
#include <span>

#include "lithe/graph/graph.h"

namespace lithe::cli {

inline constexpr const char* kEmbeddedName = "digits (embedded)";

/// A noise predictor for handwritten digits, 8x8 gray (examples/models/digits_unet.onnx).
Graph embedded_denoiser();
std::span<const std::byte> embedded_denoiser_bytes();
/// Classifiers of such digits, trained apart, whose features tell images apart: 0 for a search, 1 for its
/// verdict (examples/models/digits_features_a.onnx, digits_features_b.onnx).
Graph embedded_features(int which);

}  // namespace lithe::cli
