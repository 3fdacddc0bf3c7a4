// Layers of float32 images for run times without tensors: one image, channels last, plain loops.
#pragma once

#include <cstdint>

namespace lithe {

/// [height, width, channels], channels next to one another.
struct ImageShape {
  std::int64_t height = 1, width = 1, channels = 1;
  std::int64_t count() const { return height * width * channels; }
};

struct WindowShape {
  std::int64_t height = 1, width = 1, stride_y = 1, stride_x = 1, pad_top = 0, pad_left = 0;
  std::int64_t dilation_y = 1, dilation_x = 1;
};

// Every result is one rounding of each operation in the order written, without fused multiply-add, so that it
// equals what other runtimes give that follow ONNX node by node.

/// y = x * scale[c] + shift[c]; in place if y is x.
void plain_affine(const float* x, const float* scale, const float* shift, float* y, const ImageShape& shape);
/// y = sums * scale[c] + shift[c], with `stride` sums a position.
void plain_affine(const std::int32_t* sums, std::int64_t stride, const float* scale, const float* shift,
                  float* y, const ImageShape& shape);
void plain_clip(const float* x, float low, float high, float* y, std::int64_t count);
void plain_add(const float* a, const float* b, float* y, std::int64_t count);
void plain_divide(const float* x, float by, float* y, std::int64_t count);

/// The first `taken` channels of x behind `front` zeros; zeros behind them up to the channels of y.
void plain_channels(const float* x, const ImageShape& from, std::int64_t taken, std::int64_t front, float* y,
                    std::int64_t channels);
/// Every step-th row and column from the first ones on.
void plain_pick(const float* x, const ImageShape& from, std::int64_t first_y, std::int64_t first_x,
                std::int64_t step_y, std::int64_t step_x, float* y, const ImageShape& to);

/// Weights [kernel height, kernel width, inputs / groups, outputs]; the bias may be missing.
void plain_conv(const float* x, const ImageShape& from, const WindowShape& window, std::int64_t groups,
                const float* weights, const float* bias, float* y, const ImageShape& to);
/// Padding never wins, or counts where `count_padding`.
void plain_max_pool(const float* x, const ImageShape& from, const WindowShape& window, float* y,
                    const ImageShape& to);
void plain_average_pool(const float* x, const ImageShape& from, const WindowShape& window, bool count_padding,
                        float* y, const ImageShape& to);
/// The mean of every channel.
void plain_global_average(const float* x, const ImageShape& from, float* y);
/// y [outputs] = x [inputs] times weights [inputs, outputs], plus a bias that may be missing.
void plain_linear(const float* x, std::int64_t inputs, const float* weights, const float* bias,
                  std::int64_t outputs, float* y);

/// Between [channels, height, width] and channels last.
void to_channels_last(const float* x, const ImageShape& shape, float* y);
void from_channels_last(const float* x, const ImageShape& shape, float* y);

}  // namespace lithe
