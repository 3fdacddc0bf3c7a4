// The two kinds of writers that VideoWriter::create chooses from.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>

#include "lithe/video/io/writer.h"

namespace lithe {

std::unique_ptr<VideoWriter> create_video_file(const std::filesystem::path& path, const WriteOptions& options,
                                               const VideoInfo& like,
                                               const std::optional<CopiedFile>& copied);
std::unique_ptr<VideoWriter> create_picture_folder(const std::filesystem::path& folder,
                                                   const WriteOptions& options, const VideoInfo& like);

}  // namespace lithe
