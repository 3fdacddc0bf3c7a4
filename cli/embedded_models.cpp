#include "cli/embedded_models.h"

#include <cstddef>
#include <span>
#include <string>

#include "lithe/graph/half_weights.h"
#include "lithe/graph/onnx.h"

// Placed by the assembler: see lithe_embed_files in cmake/LitheTools.cmake.
extern "C" {
extern const std::byte lithe_file_digits_unet[], lithe_file_digits_unet_end[];
extern const std::byte lithe_file_digits_features_a[], lithe_file_digits_features_a_end[];
extern const std::byte lithe_file_digits_features_b[], lithe_file_digits_features_b_end[];
}

namespace lithe::cli {
namespace {

Graph parse(const std::byte* begin, const std::byte* end, const std::string& origin) {
  Graph graph = parse_onnx({begin, end}, origin);
  widen_weights(graph);
  return graph;
}

}  // namespace

std::span<const std::byte> embedded_denoiser_bytes() {
  return {lithe_file_digits_unet, lithe_file_digits_unet_end};
}

Graph embedded_denoiser() {
  return parse(lithe_file_digits_unet, lithe_file_digits_unet_end, kEmbeddedName);
}

Graph embedded_features(int which) {
  if (which == 0)
    return parse(lithe_file_digits_features_a, lithe_file_digits_features_a_end, "features (embedded)");
  return parse(lithe_file_digits_features_b, lithe_file_digits_features_b_end, "judging features (embedded)");
}

}  // namespace lithe::cli
