// Telling whether a video is still the one that work began with.
#pragma once

#include <filesystem>
#include <string>

namespace lithe {

/// Size and a hash of the first and last mebibyte of a file; of a folder, names and sizes of the files in it.
std::string file_identity(const std::filesystem::path& path);

}  // namespace lithe
