// Small files for the tests of readers.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <string>
#include <string_view>

#include "lithe/base/file.h"
#include "message_of.h"

namespace lithe::test {

inline void write_bytes(const std::filesystem::path& path, std::string_view bytes) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

/// A picture of one colour (RGB).
inline void write_picture(const std::filesystem::path& path, int height, int width, cv::Scalar rgb) {
  std::filesystem::create_directories(path.parent_path());
  cv::imwrite(path.string(), cv::Mat(height, width, CV_8UC3, cv::Scalar(rgb[2], rgb[1], rgb[0])));
}

}  // namespace lithe::test
