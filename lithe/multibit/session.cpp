#include "lithe/multibit/session.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <limits>

#include "lithe/base/clock.h"
#include "lithe/base/error.h"
#include "lithe/multibit/session_path.h"

namespace lithe {

struct MultibitSession::Impl {
  std::vector<int> bits;
  std::vector<SessionPath> paths;
  std::array<int, kMostBits + 1> path_of{};  // by bits; -1: none
  const SessionPath* now = nullptr;
  SessionConstants constants;
  TwoBitTarget target = TwoBitTarget::Portable;
  std::vector<float> floats, image;
  std::vector<std::uint8_t> codes, patches;
  std::vector<std::int32_t> sums;
  std::vector<std::int8_t> weights;

  void convolve(const Step& step, const float* x, float* y) {
    const std::int64_t positions = step.from.height * step.from.width, stride = step.conv.input_stride();
    const std::uint8_t* input = step.coded ? reinterpret_cast<const std::uint8_t*>(x) : codes.data();
    if (step.coded) {
      // The convolution before has left them so.
    } else if (stride == step.from.channels) {
      bound_codes(x, codes.data(), positions * stride, step.bounds);
    } else {
      for (std::int64_t p = 0; p < positions; ++p) {
        std::uint8_t* to = codes.data() + p * stride;
        bound_codes(x + p * step.from.channels, to, step.from.channels, step.bounds);
        std::fill(to + step.from.channels, to + stride, std::uint8_t{0});
      }
    }
    if (step.depthwise)
      two_bit_depthwise(step.conv, input, sums.data(), weights.data());
    else
      two_bit_conv(step.conv, input, sums.data(), patches.data(), weights.data(), target);
    if (const ThresholdTable* table = step.thresholds) {
      const std::int64_t to_stride = (table->channels + kPlaneInputs - 1) / kPlaneInputs * kPlaneInputs;
      return threshold_codes(*table, sums.data(), step.conv.output_stride(),
                             reinterpret_cast<std::uint8_t*>(y), to_stride, step.to.height * step.to.width);
    }
    plain_affine(sums.data(), step.conv.output_stride(), step.scale.data(), step.shift.data(), y, step.to);
  }

  static void divide(const Step& step, const float* x, float* y) {
    if (step.scale.size() == 1) return plain_divide(x, step.scale[0], y, step.to.count());
    const std::int64_t channels = step.to.channels;
    for (std::int64_t i = 0; i < step.to.count(); ++i)
      y[i] = x[i] / step.scale[static_cast<std::size_t>(i % channels)];
  }

  void run(const Step& step) {
    const float* x = floats.data() + step.input;
    float* y = floats.data() + step.output;
    const float* bias = step.shift.empty() ? nullptr : step.shift.data();
    const std::int64_t count = step.to.count();
    switch (step.kind) {
      case StepKind::IntegerConv:
        return convolve(step, x, y);
      case StepKind::FloatConv:
        return plain_conv(x, step.from, step.window, step.groups, step.weights.data(), bias, y, step.to);
      case StepKind::Affine:
        return plain_affine(x, step.scale.data(), step.shift.data(), y, step.to);
      case StepKind::Clip:
        return plain_clip(x, step.low, step.high, y, count);
      case StepKind::Add:
        return plain_add(x, floats.data() + step.other, y, count);
      case StepKind::Divide:
        return divide(step, x, y);
      case StepKind::Channels:
        return plain_channels(x, step.from, step.taken, step.front, y, step.to.channels);
      case StepKind::Pick:
        return plain_pick(x, step.from, step.first_y, step.first_x, step.window.stride_y,
                          step.window.stride_x, y, step.to);
      case StepKind::MaxPool:
        return plain_max_pool(x, step.from, step.window, y, step.to);
      case StepKind::AveragePool:
        return plain_average_pool(x, step.from, step.window, step.count_padding, y, step.to);
      case StepKind::GlobalAverage:
        return plain_global_average(x, step.from, y);
      case StepKind::Linear:
        return plain_linear(x, step.taken, step.weights.data(), bias, step.to.channels, y);
      case StepKind::Flatten:
        return from_channels_last(x, step.from, y);
    }
  }

  void run(std::size_t first, std::size_t last) {
    for (std::size_t i = first; i < last; ++i) run(now->steps[i]);
  }
};

MultibitSession::MultibitSession(const Graph& graph, TwoBitTarget target) : impl_(std::make_unique<Impl>()) {
  if (!two_bit_target_supported(target)) fail("this processor does not have {}", two_bit_target_name(target));
  const MultibitInfo info = multibit_info(graph);
  impl_->bits = info.bits;
  impl_->target = target;
  impl_->path_of.fill(-1);
  Scratch scratch;
  for (const BitPath& path : info.paths) {
    impl_->path_of[static_cast<std::size_t>(path.bits)] = static_cast<int>(impl_->paths.size());
    impl_->paths.push_back(compile_path(graph, path, info.entry, impl_->constants, scratch));
  }
  impl_->floats.resize(static_cast<std::size_t>(scratch.floats));
  impl_->codes.resize(static_cast<std::size_t>(scratch.codes));
  impl_->sums.resize(static_cast<std::size_t>(scratch.sums));
  impl_->patches.resize(static_cast<std::size_t>(scratch.patches));
  impl_->weights.resize(static_cast<std::size_t>(scratch.weights));
  impl_->image.resize(static_cast<std::size_t>(impl_->paths[0].input_shape.count()));
  impl_->now = &impl_->paths.back();
}

MultibitSession::~MultibitSession() = default;
MultibitSession::MultibitSession(MultibitSession&&) noexcept = default;
MultibitSession& MultibitSession::operator=(MultibitSession&&) noexcept = default;

void MultibitSession::set_bits(int bits) {
  const int path = bits >= 0 && bits <= kMostBits ? impl_->path_of[static_cast<std::size_t>(bits)] : -1;
  if (path < 0) fail("the model was not trained for {} bits; it has {}", bits, fmt::join(impl_->bits, ","));
  impl_->now = &impl_->paths[static_cast<std::size_t>(path)];
}

int MultibitSession::bits() const {
  return impl_->bits[static_cast<std::size_t>(impl_->now - impl_->paths.data())];
}
const std::vector<int>& MultibitSession::all_bits() const {
  return impl_->bits;
}
std::int64_t MultibitSession::classes() const {
  return impl_->now->classes;
}
std::int64_t MultibitSession::input_count() const {
  return impl_->now->input_shape.count();
}
std::int64_t MultibitSession::entry_count() const {
  return impl_->now->entry_shape.count();
}
std::int64_t MultibitSession::exit_count() const {
  return impl_->now->exit_shape.count();
}
TwoBitTarget MultibitSession::target() const {
  return impl_->target;
}

void MultibitSession::run(const float* image, float* scores) {
  const SessionPath& path = *impl_->now;
  to_channels_last(image, path.input_shape, impl_->floats.data() + path.input);
  impl_->run(0, path.steps.size());
  std::copy_n(impl_->floats.data() + path.output, path.classes, scores);
}

void MultibitSession::run_body(const float* entry, float* exit) {
  const SessionPath& path = *impl_->now;
  to_channels_last(entry, path.entry_shape, impl_->floats.data() + path.entry);
  impl_->run(path.body, path.head);
  from_channels_last(impl_->floats.data() + path.exit, path.exit_shape, exit);
}

double MultibitSession::seconds_an_image(std::int64_t repeats) {
  if (repeats < 1) fail("{} runs have no time; give 1 or more", repeats);
  std::vector<float> scores(static_cast<std::size_t>(classes()));
  run(impl_->image.data(), scores.data());  // warms up
  double least = std::numeric_limits<double>::infinity();
  for (std::int64_t i = 0; i < repeats; ++i) {
    const auto start = Clock::now();
    run(impl_->image.data(), scores.data());
    least = std::min(least, seconds_since(start));
  }
  return least;
}

std::int64_t MultibitSession::packed_weight_bytes() const {
  std::int64_t bytes = 0;
  for (const auto& [name, plane] : impl_->constants.planes)
    bytes += static_cast<std::int64_t>(plane.bytes.size());
  return bytes;
}

std::int64_t MultibitSession::float_bytes() const {
  std::int64_t bytes = 0;
  for (const auto& [name, values] : impl_->constants.floats)
    bytes += static_cast<std::int64_t>(values.size() * sizeof(float));
  return bytes;
}

}  // namespace lithe
