#include "lithe/quantize/dfsq/statistics.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "lithe/base/error.h"
#include "lithe/kernels/subset_lookup.h"
#include "lithe/quantize/batches.h"

namespace lithe {
namespace {

/// The value as dense float32 [n, c, h, w] on the CPU.
at::Tensor as_image(const at::Tensor& value, const std::string& name) {
  if (value.dim() != 4 || !at::isFloatingType(value.scalar_type()))
    fail("'{}' is no image [n, c, h, w] of floats: leave its layers in float with --exclude", name);
  return value.to(at::kCPU, at::kFloat).contiguous();
}

/// Runs the data batch by batch, in their own size, and shows the values as dense images, one after the other
/// as they are made.
template <typename Use>
void for_each_value(Executor& executor, const DatasetPtr& data, const std::vector<ObservedValue>& values,
                    const ObserveOptions& options, const char* task, Progress& progress, const Use& use) {
  const at::NoGradGuard no_grad;
  std::map<std::string, const ObservedValue*, std::less<>> wanted;
  for (const ObservedValue& value : values) wanted.emplace(value.name, &value);
  progress.start(task, data->size());
  for_each_batch(executor.graph(), data, {.batch = options.batch, .threads = options.threads},
                 [&](const Feeds& feeds, std::int64_t samples) {
                   Feeds moved;
                   for (const auto& [name, tensor] : feeds)
                     moved[name] = tensor.to(executor.options().device);
                   std::size_t seen = 0;
                   executor.run(moved, {}, [&](const std::string& name, const at::Tensor& value) {
                     const auto found = wanted.find(name);
                     if (found == wanted.end()) return;
                     ++seen;
                     use(*found->second, as_image(value, name));
                   });
                   if (seen != wanted.size())
                     fail(
                         "{} of the {} values to round are not needed for the outputs; leave their layers "
                         "in float with --exclude",
                         wanted.size() - seen, wanted.size());
                   progress.advance(samples);
                 });
  progress.finish();
}

[[noreturn]] void refuse(const std::string& name) {
  fail("'{}' is NaN or infinite on the calibration data; check the data, the preprocessing and the weights",
       name);
}

}  // namespace

float ChannelRange::mean(bool centre) const {
  return centre && count > 0 ? static_cast<float>(sum / static_cast<double>(count)) : 0.0f;
}

float ChannelRange::scale(bool centre) const {
  const float middle = mean(centre);
  return std::max(std::abs(high - middle), std::abs(low - middle)) + kSubsetEpsilon;
}

ChannelRanges observe_ranges(Executor& executor, const DatasetPtr& data,
                             const std::vector<ObservedValue>& values, const ObserveOptions& options,
                             Progress& progress) {
  ChannelRanges ranges;
  for_each_value(executor, data, values, options, "observe channels", progress,
                 [&](const ObservedValue& value, const at::Tensor& image) {
                   std::vector<ChannelRange>& channels = ranges[value.name];
                   const std::int64_t count = image.size(1), plane = image.size(2) * image.size(3);
                   channels.resize(static_cast<std::size_t>(count));
                   const float* first = image.data_ptr<float>();
                   at::parallel_for(0, count, 4, [&](std::int64_t begin, std::int64_t end) {
                     for (std::int64_t c = begin; c < end; ++c) {
                       ChannelRange& channel = channels[static_cast<std::size_t>(c)];
                       for (std::int64_t n = 0; n < image.size(0); ++n) {
                         const float* numbers = first + (n * count + c) * plane;
                         if (channel.count == 0 && plane > 0) channel.low = channel.high = numbers[0];
                         double sum = 0;
                         float low = channel.low, high = channel.high;
                         for (std::int64_t i = 0; i < plane; ++i) {
                           sum += numbers[i];
                           low = std::min(low, numbers[i]);
                           high = std::max(high, numbers[i]);
                         }
                         channel.low = low;
                         channel.high = high;
                         channel.sum += sum;
                         channel.count += plane;
                       }
                     }
                   });
                   for (const ChannelRange& channel : channels)
                     if (!std::isfinite(channel.sum)) refuse(value.name);
                 });
  return ranges;
}

void visit_normalised(Executor& executor, const DatasetPtr& data, const std::vector<ObservedValue>& values,
                      const ChannelRanges* ranges, const ObserveOptions& options, const VisitChannel& visit,
                      Progress& progress) {
  for_each_value(executor, data, values, options, "observe normalised channels", progress,
                 [&](const ObservedValue& value, const at::Tensor& image) {
                   const std::int64_t count = image.size(1), plane = image.size(2) * image.size(3);
                   if (plane == 0) return;
                   if (!at::isfinite(image.sum(at::kDouble)).item<bool>()) refuse(value.name);
                   const float* first = image.data_ptr<float>();
                   const std::int64_t last = value.end < 0 ? count : value.end;
                   at::parallel_for(value.begin, last, 4, [&](std::int64_t begin, std::int64_t end) {
                     std::vector<float> normal(static_cast<std::size_t>(plane));
                     for (std::int64_t c = begin; c < end; ++c)
                       for (std::int64_t n = 0; n < image.size(0); ++n) {
                         const float* numbers = first + (n * count + c) * plane;
                         float mean = 0, scale = 1;
                         if (ranges) {
                           const ChannelRange& channel = ranges->at(value.name)[static_cast<std::size_t>(c)];
                           mean = channel.mean(value.centre);
                           scale = channel.scale(value.centre);
                         } else {
                           const PlaneStatistics seen = plane_statistics(numbers, plane, value.centre);
                           mean = seen.mean;
                           scale = seen.scale;
                         }
                         for (std::int64_t i = 0; i < plane; ++i)
                           normal[static_cast<std::size_t>(i)] = (numbers[i] - mean) / scale;
                         visit(value.name, c, normal.data(), plane);
                       }
                   });
                 });
}

}  // namespace lithe
