// FFmpeg's pictures as planes of samples, whatever their pixel format.
#pragma once

#include <string>

#include "lithe/video/io/av.h"
#include "lithe/video/io/sample_planes.h"

namespace lithe::av {

/// How samples of the format are laid out. What `colour` leaves open is taken as players take it: limited
/// range unless the format is RGB or grey, BT.709 for high definition (more than 576 rows or 1024 columns,
/// upright or not) and else BT.601, chroma at the left. Throws Error(Input) naming `name` if the format or
/// the matrix is not one of those that are converted.
SampleLayout sample_layout(AVPixelFormat format, int height, int width, const VideoColour& colour,
                           const std::string& name);

/// Whether values of that format can be made from frames.
bool is_writable(AVPixelFormat format);

/// What is not known of the enumerations of ITU-T H.273 counts as unspecified.
VideoColour colour_of(const AVFrame* picture);
VideoColour colour_of(const AVCodecParameters* parameters);

/// Without alpha.
void unpack(const AVFrame* picture, SamplePlanes& samples);

/// `picture` has the layout's format, and buffers of its own that are zero.
void pack(const SamplePlanes& samples, AVFrame* picture);

/// Whether alpha, if the format has it, is full everywhere.
bool is_opaque(const AVFrame* picture);

}  // namespace lithe::av
