// The networks that Lithe can build, by name.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

struct NetworkOptions {
  std::int64_t classes = 10;
  std::int64_t image_size = 32;  // height and width; free for networks from image to image
  std::int64_t image_channels = 3;
  std::int64_t scale = 2;  // of super-resolution
  bool labels = false;     // a denoiser is told the label, one of `classes`
  std::uint64_t seed = 0;  // of the random weights
};

/// What a network is for.
enum class NetworkKind {
  Classifier,  // from an image to scores of classes
  Upscaler,    // from an image to a larger one
  Denoiser,    // from an image with noise, and how much of it, to the noise; of diffusion models
};

struct NetworkInfo {
  const char* name;
  const char* summary;
  NetworkKind kind;
  bool widens;  // takes a factor on its channels as name_x0.5
};

const std::vector<NetworkInfo>& networks();

/// The entry that "resnet20" or "mobilenet_v2_x0.5" names, or nothing.
std::optional<NetworkInfo> find_network(std::string_view name);

/// Builds it with a free batch size. Throws Error(Input) that lists the names if there is none of that name,
/// or if the options do not fit the network.
Graph build_network(std::string_view name, const NetworkOptions& options = {});

}  // namespace lithe
