// The Frechet distance between feature distributions, and what is known of its error.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace lithe {

/// Count, sum and sum of outer products of feature vectors, in float64: parts that were gathered apart merge
/// without loss.
class FeatureStatistics {
 public:
  /// Adds the rows of `features` [n, d]. Throws Error(Input) if d differs from that of earlier rows.
  void add(const at::Tensor& features);
  void add(const FeatureStatistics& other);

  std::int64_t count() const { return count_; }
  std::int64_t dimensions() const { return sum_.defined() ? sum_.size(0) : 0; }
  at::Tensor mean() const;        // [d]
  at::Tensor covariance() const;  // [d, d], unbiased (divided by n - 1); throws Error(Input) below two rows
  /// Whether no feature was NaN or infinite.
  bool finite() const;

 private:
  std::int64_t count_ = 0;
  at::Tensor sum_, products_;
};

/// |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2), the squared Frechet distance of two Gaussians (Heusel et
/// al., NeurIPS 2017, section 2), by symmetric eigenvalues, which stay real where a covariance is singular.
/// `mean` [d], `covariance` [d, d]. With 2048 features of Inception this is FID.
double frechet_distance(const at::Tensor& mean1, const at::Tensor& covariance1, const at::Tensor& mean2,
                        const at::Tensor& covariance2);
double frechet_distance(const FeatureStatistics& a, const FeatureStatistics& b);

/// One side that many are compared with: the root of its covariance is taken once.
class FrechetReference {
 public:
  explicit FrechetReference(const FeatureStatistics& statistics);
  FrechetReference(const at::Tensor& mean, const at::Tensor& covariance);
  /// Infinite if the other side is not finite.
  double distance(const FeatureStatistics& other) const;
  double distance(const at::Tensor& mean, const at::Tensor& covariance) const;
  const at::Tensor& mean() const { return mean_; }
  const at::Tensor& covariance() const { return covariance_; }

 private:
  at::Tensor mean_, covariance_, root_;
};

/// What the distance is on average when the other side are `count` samples of the very same Gaussian, with
/// covariance [d, d]: sum l_i / n + 1/(2n) sum l_i l_j (1 + [i = j]) / (l_i + l_j) over its eigenvalues.
/// Distances of this size mean nothing.
double frechet_noise_floor(const at::Tensor& covariance, std::int64_t count);

}  // namespace lithe
