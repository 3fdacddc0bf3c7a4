#include "lithe/kernels/plain_layers.h"

#include <algorithm>
#include <limits>

namespace lithe {
namespace {

/// Calls work(position of the output, position of the input, tap) for the taps of a window that lie in the
/// image.
template <typename Start, typename Work, typename End>
void over_windows(const ImageShape& from, const WindowShape& window, const ImageShape& to, const Start& start,
                  const Work& work, const End& end) {
  for (std::int64_t y = 0; y < to.height; ++y)
    for (std::int64_t x = 0; x < to.width; ++x) {
      const std::int64_t position = y * to.width + x;
      start(position);
      std::int64_t inside = 0;
      for (std::int64_t ky = 0; ky < window.height; ++ky) {
        const std::int64_t row = y * window.stride_y - window.pad_top + ky * window.dilation_y;
        if (row < 0 || row >= from.height) continue;
        for (std::int64_t kx = 0; kx < window.width; ++kx) {
          const std::int64_t column = x * window.stride_x - window.pad_left + kx * window.dilation_x;
          if (column < 0 || column >= from.width) continue;
          work(position, row * from.width + column, ky * window.width + kx);
          ++inside;
        }
      }
      end(position, inside);
    }
}

}  // namespace

void plain_affine(const float* x, const float* scale, const float* shift, float* y, const ImageShape& shape) {
  for (std::int64_t p = 0; p < shape.height * shape.width; ++p, x += shape.channels, y += shape.channels)
    for (std::int64_t c = 0; c < shape.channels; ++c) {
      const float product = x[c] * scale[c];
      y[c] = product + shift[c];
    }
}

void plain_affine(const std::int32_t* sums, std::int64_t stride, const float* scale, const float* shift,
                  float* y, const ImageShape& shape) {
  for (std::int64_t p = 0; p < shape.height * shape.width; ++p, sums += stride, y += shape.channels)
    for (std::int64_t c = 0; c < shape.channels; ++c) {
      const float product = static_cast<float>(sums[c]) * scale[c];
      y[c] = product + shift[c];
    }
}

void plain_clip(const float* x, float low, float high, float* y, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) {
    const float raised = x[i] < low ? low : x[i];
    y[i] = raised > high ? high : raised;
  }
}

void plain_add(const float* a, const float* b, float* y, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = a[i] + b[i];
}

void plain_divide(const float* x, float by, float* y, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) y[i] = x[i] / by;
}

void plain_channels(const float* x, const ImageShape& from, std::int64_t taken, std::int64_t front, float* y,
                    std::int64_t channels) {
  for (std::int64_t p = 0; p < from.height * from.width; ++p, x += from.channels, y += channels) {
    std::fill(y, y + front, 0.0f);
    std::copy(x, x + taken, y + front);
    std::fill(y + front + taken, y + channels, 0.0f);
  }
}

void plain_pick(const float* x, const ImageShape& from, std::int64_t first_y, std::int64_t first_x,
                std::int64_t step_y, std::int64_t step_x, float* y, const ImageShape& to) {
  for (std::int64_t row = 0; row < to.height; ++row)
    for (std::int64_t column = 0; column < to.width; ++column, y += to.channels) {
      const float* at =
          x + ((first_y + row * step_y) * from.width + first_x + column * step_x) * from.channels;
      std::copy(at, at + to.channels, y);
    }
}

void plain_conv(const float* x, const ImageShape& from, const WindowShape& window, std::int64_t groups,
                const float* weights, const float* bias, float* y, const ImageShape& to) {
  const std::int64_t inputs = from.channels / groups, outputs = to.channels / groups;
  over_windows(
      from, window, to,
      [&](std::int64_t position) {
        float* sums = y + position * to.channels;
        if (bias)
          std::copy(bias, bias + to.channels, sums);
        else
          std::fill(sums, sums + to.channels, 0.0f);
      },
      [&](std::int64_t position, std::int64_t source, std::int64_t tap) {
        for (std::int64_t group = 0; group < groups; ++group) {
          float* sums = y + position * to.channels + group * outputs;
          const float* values = x + source * from.channels + group * inputs;
          const float* factors = weights + tap * inputs * to.channels + group * outputs;
          for (std::int64_t i = 0; i < inputs; ++i, factors += to.channels)
            for (std::int64_t o = 0; o < outputs; ++o) sums[o] += values[i] * factors[o];
        }
      },
      [](std::int64_t, std::int64_t) {});
}

void plain_max_pool(const float* x, const ImageShape& from, const WindowShape& window, float* y,
                    const ImageShape& to) {
  over_windows(
      from, window, to,
      [&](std::int64_t position) {
        float* most = y + position * to.channels;
        std::fill(most, most + to.channels, -std::numeric_limits<float>::infinity());
      },
      [&](std::int64_t position, std::int64_t source, std::int64_t) {
        float* most = y + position * to.channels;
        const float* values = x + source * from.channels;
        for (std::int64_t c = 0; c < to.channels; ++c) most[c] = std::max(most[c], values[c]);
      },
      [](std::int64_t, std::int64_t) {});
}

void plain_average_pool(const float* x, const ImageShape& from, const WindowShape& window, bool count_padding,
                        float* y, const ImageShape& to) {
  const std::int64_t all = window.height * window.width;
  over_windows(
      from, window, to,
      [&](std::int64_t position) {
        float* sums = y + position * to.channels;
        std::fill(sums, sums + to.channels, 0.0f);
      },
      [&](std::int64_t position, std::int64_t source, std::int64_t) {
        plain_add(y + position * to.channels, x + source * from.channels, y + position * to.channels,
                  to.channels);
      },
      [&](std::int64_t position, std::int64_t inside) {
        float* sums = y + position * to.channels;
        plain_divide(sums, static_cast<float>(count_padding ? all : inside), sums, to.channels);
      });
}

void plain_global_average(const float* x, const ImageShape& from, float* y) {
  std::fill(y, y + from.channels, 0.0f);
  const std::int64_t positions = from.height * from.width;
  for (std::int64_t p = 0; p < positions; ++p) plain_add(y, x + p * from.channels, y, from.channels);
  plain_divide(y, static_cast<float>(positions), y, from.channels);
}

void plain_linear(const float* x, std::int64_t inputs, const float* weights, const float* bias,
                  std::int64_t outputs, float* y) {
  if (bias)
    std::copy(bias, bias + outputs, y);
  else
    std::fill(y, y + outputs, 0.0f);
  for (std::int64_t i = 0; i < inputs; ++i, weights += outputs)
    for (std::int64_t o = 0; o < outputs; ++o) y[o] += x[i] * weights[o];
}

void to_channels_last(const float* x, const ImageShape& shape, float* y) {
  const std::int64_t positions = shape.height * shape.width;
  for (std::int64_t c = 0; c < shape.channels; ++c)
    for (std::int64_t p = 0; p < positions; ++p) y[p * shape.channels + c] = x[c * positions + p];
}

void from_channels_last(const float* x, const ImageShape& shape, float* y) {
  const std::int64_t positions = shape.height * shape.width;
  for (std::int64_t c = 0; c < shape.channels; ++c)
    for (std::int64_t p = 0; p < positions; ++p) y[c * positions + p] = x[p * shape.channels + c];
}

}  // namespace lithe
