#include "lithe/metrics/frechet.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "lithe/base/error.h"

namespace lithe {
namespace {

constexpr double kRoundOff = 1e-6;  // of the traces, that a distance may be below zero

at::Tensor symmetric(const at::Tensor& matrix) {
  return (matrix + matrix.t()) / 2;
}

at::Tensor root_of(const at::Tensor& covariance) {
  const auto [values, vectors] = at::linalg_eigh(symmetric(covariance));
  return at::matmul(vectors * values.clamp_min(0).sqrt(), vectors.t());
}

}  // namespace

void FeatureStatistics::add(const at::Tensor& features) {
  if (features.dim() != 2) fail("features must be [n, d], these have {} dimensions", features.dim());
  if (sum_.defined() && features.size(1) != sum_.size(0))
    fail("{} features a sample where {} came before", features.size(1), sum_.size(0));
  const at::NoGradGuard no_grad;
  const at::Tensor rows = features.to(at::kCPU, at::kDouble);
  const at::Tensor sum = rows.sum(0), products = at::matmul(rows.t(), rows);
  count_ += rows.size(0);
  sum_ = sum_.defined() ? sum_ + sum : sum;
  products_ = products_.defined() ? products_ + products : products;
}

void FeatureStatistics::add(const FeatureStatistics& other) {
  if (other.count_ == 0) return;
  if (count_ > 0 && other.dimensions() != dimensions())
    fail("{} features a sample where {} came before", other.dimensions(), dimensions());
  count_ += other.count_;
  sum_ = sum_.defined() ? sum_ + other.sum_ : other.sum_;
  products_ = products_.defined() ? products_ + other.products_ : other.products_;
}

at::Tensor FeatureStatistics::mean() const {
  if (count_ == 0) fail("there are no features to average");
  return sum_ / static_cast<double>(count_);
}

at::Tensor FeatureStatistics::covariance() const {
  if (count_ < 2) fail("a covariance needs two samples at least, here are {}", count_);
  const at::Tensor center = mean();
  const double n = static_cast<double>(count_);
  return (products_ - n * at::outer(center, center)) / (n - 1);
}

bool FeatureStatistics::finite() const {
  return count_ == 0 || (sum_.isfinite().all().item<bool>() && products_.isfinite().all().item<bool>());
}

FrechetReference::FrechetReference(const FeatureStatistics& statistics)
    : FrechetReference(statistics.mean(), statistics.covariance()) {}

FrechetReference::FrechetReference(const at::Tensor& mean, const at::Tensor& covariance)
    : mean_(mean.to(at::kDouble)), covariance_(covariance.to(at::kDouble)) {
  if (!mean_.isfinite().all().item<bool>() || !covariance_.isfinite().all().item<bool>())
    fail("the features of the reference are not finite");
  root_ = root_of(covariance_);
}

double FrechetReference::distance(const FeatureStatistics& other) const {
  if (!other.finite()) return std::numeric_limits<double>::infinity();
  return distance(other.mean(), other.covariance());
}

double FrechetReference::distance(const at::Tensor& mean, const at::Tensor& covariance) const {
  if (mean.sizes() != mean_.sizes())
    fail("the reference has {} features, these samples have {}", mean_.size(0), mean.size(0));
  const at::Tensor inner = symmetric(at::matmul(at::matmul(root_, covariance.to(at::kDouble)), root_));
  const double root_trace = at::linalg_eigvalsh(inner).clamp_min(0).sqrt().sum().item<double>();
  const double traces = covariance_.trace().item<double>() + covariance.trace().item<double>();
  const double distance = (mean_ - mean).square().sum().item<double>() + traces - 2 * root_trace;
  if (!(distance > -kRoundOff * traces - std::numeric_limits<double>::min()))
    fail_system("the Frechet distance came out as {}: the covariances are not positive", distance);
  return std::max(distance, 0.0);
}

double frechet_distance(const at::Tensor& mean1, const at::Tensor& covariance1, const at::Tensor& mean2,
                        const at::Tensor& covariance2) {
  return FrechetReference(mean1, covariance1).distance(mean2, covariance2);
}

double frechet_distance(const FeatureStatistics& a, const FeatureStatistics& b) {
  return FrechetReference(a).distance(b);
}

double frechet_noise_floor(const at::Tensor& covariance, std::int64_t count) {
  const at::Tensor values = at::linalg_eigvalsh(symmetric(covariance.to(at::kDouble))).clamp_min(0);
  const at::Tensor sums = values.unsqueeze(0) + values.unsqueeze(1);
  const at::Tensor pairs =
      at::outer(values, values) * (1 + at::eye(values.size(0), values.options())) / sums.clamp_min(1e-300);
  const double n = static_cast<double>(count);
  return values.sum().item<double>() / n + pairs.sum().item<double>() / (2 * n);
}

}  // namespace lithe
