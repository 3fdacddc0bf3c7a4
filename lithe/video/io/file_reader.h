// The two kinds of readers that VideoReader::open chooses from.
#pragma once

#include <filesystem>
#include <memory>

#include "lithe/video/io/reader.h"

namespace lithe {

std::unique_ptr<VideoReader> open_video_file(const std::filesystem::path& path, const ReadOptions& options);
std::unique_ptr<VideoReader> open_picture_folder(const std::filesystem::path& folder,
                                                 const ReadOptions& options);

}  // namespace lithe
