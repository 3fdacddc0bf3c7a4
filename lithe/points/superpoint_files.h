// Superpoints for eyes and for other programs.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "lithe/points/superpoints.h"

namespace lithe {

/// One bright colour for each superpoint, always the same for an id.
std::vector<std::array<std::uint8_t, 3>> superpoint_colours(const Superpoints& superpoints);

/// Writes ScanNet's segs.json: params (kThresh, segMinVerts), sceneId and segIndices, the id of each point.
/// Throws Error as AtomicFile does.
void write_segments(const std::filesystem::path& path, const std::string& scene,
                    const SuperpointOptions& options, const Superpoints& superpoints);

/// The name that ScanNet gives such a file beside a mesh: room.ply becomes room.0.010000.segs.json.
std::filesystem::path segments_path(const std::filesystem::path& mesh, float threshold);

}  // namespace lithe
