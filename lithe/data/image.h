// Decoding pictures and turning them into tensors.
#pragma once

#include <ATen/ATen.h>

#include <cstddef>
#include <filesystem>
#include <opencv2/core/mat.hpp>
#include <span>
#include <string>

#include "lithe/base/picture_size.h"
#include "lithe/data/preprocess.h"

namespace lithe {

enum class Channels {
  Colour,    // three, in RGB order, whatever the file has
  AsInFile,  // one or three
};

/// Decodes a picture to 8 bits a channel. Throws Error(Input) that names `name` if it is cut short or is
/// none.
cv::Mat decode_image(std::span<const std::byte> bytes, const std::string& name, Channels channels);
cv::Mat read_image(const std::filesystem::path& path, Channels channels);

/// An 8-bit picture (one channel, or three in RGB order) as float32 [c, h, w] or [h, w, c], preprocessed.
/// Throws Error(Input) that names `name` if the picture is smaller than the crop or mean and std do not fit.
at::Tensor to_tensor(const cv::Mat& picture, const Preprocess& preprocess, const std::string& name);

}  // namespace lithe
