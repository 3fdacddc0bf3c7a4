#include "lithe/quantize/fidelity.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "lithe/base/error.h"
#include "lithe/quantize/batches.h"

namespace lithe {
namespace {

constexpr std::int64_t kLargeSample = 3 * 256 * 256;  // numbers

}  // namespace

RewriteGuard::RewriteGuard(const Graph& original, const DatasetPtr& data, std::int64_t samples) {
  if (!data) return;
  // One large picture shows as much as several small ones, and takes less memory than several large ones.
  std::int64_t numbers = 0;
  for (const auto& [name, input] : data->get(0).inputs) numbers += input.numel();
  if (numbers > kLargeSample) samples = 1;
  for_each_batch(original, data, {.batch = samples, .limit = samples},
                 [&](const Feeds& feeds, std::int64_t) { feeds_ = feeds_.empty() ? feeds : feeds_; });
  Executor executor(original);
  wanted_ = executor.run(feeds_);
  for (const auto& [name, value] : wanted_)
    if (at::isFloatingType(value.scalar_type()) && !at::isfinite(value).all().item<bool>())
      fail(
          "output '{}' is NaN or infinite on the calibration data; check the data, the preprocessing and the "
          "weights",
          name);
}

void RewriteGuard::check(const Graph& rewritten, const std::string& pass, double tolerance) const {
  if (feeds_.empty()) return;
  Executor executor(rewritten);
  const Feeds outputs = executor.run(feeds_);
  for (const auto& [name, wanted] : wanted_) {
    const at::Tensor& value = outputs.at(name);
    if (!at::isFloatingType(wanted.scalar_type()) || wanted.numel() == 0) continue;
    if (value.sizes() != wanted.sizes())
      fail("{} changed the shape of output '{}'; please report the model", pass, name);
    const double gap = (value - wanted).abs().max().item<double>(), reach = wanted.abs().max().item<double>();
    if (!(gap <= tolerance * std::max(reach, 1e-6)))
      fail("{} changed output '{}' by {:.3g} (largest value {:.3g}); please report the model", pass, name,
           gap, reach);
  }
}

std::map<std::string, double> measure_sqnr(const Graph& reference, const Graph& quantized,
                                           const std::vector<std::string>& values, const DatasetPtr& data,
                                           const SqnrOptions& options, Progress& progress) {
  struct Sums {
    double signal = 0, noise = 0;
  };
  std::map<std::string, Sums> sums;
  Executor first(reference, {.device = options.device}), second(quantized, {.device = options.device});
  progress.start("compare with float", std::min(options.samples, data->size()));
  for_each_batch(reference, data,
                 {.batch = options.batch, .threads = options.threads, .limit = options.samples},
                 [&](const Feeds& feeds, std::int64_t samples) {
                   const Feeds wanted = first.run(feeds, values);
                   second.run(feeds, {}, [&](const std::string& name, const at::Tensor& value) {
                     const auto found = wanted.find(name);
                     if (found == wanted.end()) return;
                     Sums& sum = sums[name];
                     sum.signal += found->second.to(at::kDouble).square().sum().item<double>();
                     sum.noise += (found->second - value).to(at::kDouble).square().sum().item<double>();
                   });
                   progress.advance(samples);
                 });
  progress.finish();
  std::map<std::string, double> result;
  for (const std::string& value : values) {
    const Sums& sum = sums[value];
    result[value] =
        sum.noise > 0 ? 10 * std::log10(sum.signal / sum.noise) : std::numeric_limits<double>::infinity();
  }
  return result;
}

}  // namespace lithe
