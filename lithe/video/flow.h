// Dense motion between two frames of a video.
#pragma once

#include <filesystem>
#include <opencv2/core/mat.hpp>
#include <vector>

#include "lithe/video/frame.h"

namespace lithe {

/// Pixel p of frame `from` is seen at p + displacement(p) in frame `to`. Copies share their pixels.
struct Flow {
  cv::Mat displacement;  // CV_32FC2 [height][width]: columns, rows, in pixels
  cv::Mat valid;         // CV_8U [height][width]: 255 where the pixel is seen in both frames, else 0
};

enum class FlowPreset { Ultrafast, Fast, Medium };

/// Optical flow by dense inverse search (Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV
/// 2016) on the brightness. Valid wherever it stays inside the frame. The same for any number of threads.
/// Throws Error(Input) if sizes differ or a side is shorter than 16 pixels.
Flow dis_flow(const Frame& from, const Frame& to, FlowPreset preset = FlowPreset::Medium);

/// `dis_flow` both ways: not valid where going there and back leads elsewhere (see `agreeing`).
Flow checked_flow(const Frame& from, const Frame& to, FlowPreset preset = FlowPreset::Medium);

/// Where |f + b|^2 <= 0.01 (|f|^2 + |b|^2) + 0.5, b being `backward` at the end of f = `forward`: the
/// criterion of Sundaram et al., "Dense Point Trajectories by GPU-accelerated Large Displacement Optical
/// Flow", ECCV 2010. CV_8U, 255 or 0.
cv::Mat agreeing(const Flow& forward, const Flow& backward);

enum class Interpolation { Linear, Cubic };

/// `picture` of frame `to`, seen from frame `from`: any of CV_32F or CV_32FC3, the border being repeated.
/// Positions are not rounded to fractions of a pixel, as cv::remap does.
cv::Mat warp(const cv::Mat& picture, const cv::Mat& displacement,
             Interpolation interpolation = Interpolation::Linear);

/// A picture at any positions (CV_32FC2: column, row), what is beyond the border being mirrored; otherwise as
/// `warp`.
cv::Mat sample_mirrored(const cv::Mat& picture, const cv::Mat& positions);

/// Middlebury's .flo: "PIEH", width, height, then pairs of float32. Unknown flow (beyond 1e9, or not a
/// number) is not valid. Throws Error(Input) naming the file if it is not of that kind, its size is not what
/// its header promises, or a side is above 16,384.
Flow read_flow(const std::filesystem::path& path);

/// Appears whole or not at all; what is not valid is written as 1e10, which is "unknown".
void write_flow(const Flow& flow, const std::filesystem::path& path);

/// The .flo files of a folder in the order of their names, where numbers count as numbers; hidden files are
/// left out. Throws Error(Input) if there are none.
std::vector<std::filesystem::path> flow_files(const std::filesystem::path& folder);

}  // namespace lithe
