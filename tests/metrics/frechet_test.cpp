#include "lithe/metrics/frechet.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/base/random.h"
#include "lithe/metrics/kernel_distance.h"

namespace lithe {
namespace {

at::Tensor matrix(const std::vector<std::vector<double>>& rows) {
  std::vector<double> flat;
  for (const auto& row : rows) flat.insert(flat.end(), row.begin(), row.end());
  return at::tensor(flat, at::kDouble).view({static_cast<std::int64_t>(rows.size()), -1});
}
at::Tensor vec(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble);
}
const at::Tensor kX = matrix({{1, 2}, {3, 4}, {5, 0}, {2, 2}, {4, 7}});
const at::Tensor kY = matrix({{0, 1}, {2, 2}, {3, 5}, {1, 0}, {4, 2}, {2, 2}});

/// Independent standard normal rows.
at::Tensor normals(std::int64_t n, std::int64_t d, std::uint64_t seed) {
  Rng rng(seed);
  at::Tensor out = at::empty({n, d}, at::kDouble);
  double* data = out.data_ptr<double>();
  for (std::int64_t i = 0; i < n * d; ++i) data[i] = rng.normal();
  return out;
}

// Closed forms, and values that scipy's sqrtm gives to nine digits.
TEST(Frechet, Goldens) {
  const at::Tensor none2 = vec({0, 0}), none3 = vec({0, 0, 0});
  EXPECT_NEAR(frechet_distance(vec({0}), matrix({{1}}), vec({1}), matrix({{4}})), 2, 1e-9);
  EXPECT_NEAR(frechet_distance(none3, at::diag(vec({1, 4, 9})), vec({1, 0, -1}), at::diag(vec({4, 1, 9}))), 4,
              1e-9);
  EXPECT_NEAR(frechet_distance(none2, matrix({{2, 1}, {1, 2}}), vec({1, -1}), matrix({{1, .5}, {.5, 3}})),
              2.320270148882, 1e-9);
  EXPECT_NEAR(frechet_distance(none2, matrix({{2, 1}, {1, 2}}), none2, matrix({{5, 4}, {4, 5}})),
              1.607695154587, 1e-9);
  EXPECT_NEAR(frechet_distance(none3, at::diag(vec({1, 0, 0})), none3, at::diag(vec({0, 1, 0}))), 2, 1e-9);
  EXPECT_NEAR(frechet_distance(none2, matrix({{1, 1}, {1, 1}}), none2, matrix({{1, -1}, {-1, 1}})), 4, 1e-9);
  const at::Tensor one = matrix({{2, 1}, {1, 2}});
  EXPECT_NEAR(frechet_distance(none2, one, none2, one), 0, 1e-9);
}

TEST(Frechet, OfSamplesIsUnbiasedInTheCovariance) {
  FeatureStatistics x, y;
  x.add(kX);
  y.add(kY);
  EXPECT_TRUE(at::allclose(x.mean(), vec({3, 3})));
  EXPECT_TRUE(at::allclose(x.covariance(), matrix({{2.5, .25}, {.25, 7}})));
  EXPECT_TRUE(at::allclose(y.covariance(), matrix({{2, 1.4}, {1.4, 2.8}})));
  EXPECT_NEAR(frechet_distance(x, y), 3.457270372718, 1e-9);
  EXPECT_NEAR(frechet_distance(y, x), 3.457270372718, 1e-9);
}

TEST(Frechet, PartsMergeExactly) {
  FeatureStatistics whole, first, second;
  whole.add(kY);
  first.add(kY.narrow(0, 0, 2));
  second.add(kY.narrow(0, 2, 4));
  first.add(second);
  EXPECT_EQ(first.count(), 6);
  EXPECT_TRUE(at::equal(first.mean(), whole.mean()));
  EXPECT_TRUE(at::allclose(first.covariance(), whole.covariance(), 1e-14));
  FeatureStatistics empty;
  first.add(empty);
  EXPECT_EQ(first.count(), 6);
}

TEST(Frechet, NoiseFloorIsTheMeanOverSamples) {
  constexpr std::int64_t kFeatures = 32, kSamples = 500, kTrials = 24;
  const FrechetReference reference(at::zeros({kFeatures}, at::kDouble), at::eye(kFeatures, at::kDouble));
  EXPECT_NEAR(frechet_noise_floor(reference.covariance(), 1000), 0.296, 1e-9);
  double sum = 0;
  for (std::int64_t trial = 0; trial < kTrials; ++trial) {
    FeatureStatistics drawn;
    drawn.add(normals(kSamples, kFeatures, static_cast<std::uint64_t>(trial)));
    sum += reference.distance(drawn);
  }
  EXPECT_NEAR(sum / kTrials, 0.605, 0.03);
  EXPECT_NEAR(frechet_noise_floor(reference.covariance(), kSamples), 0.592, 1e-9);
}

TEST(Frechet, BadInput) {
  FeatureStatistics x;
  EXPECT_THROW(x.mean(), Error);
  x.add(kX.narrow(0, 0, 1));
  EXPECT_THROW(x.covariance(), Error);
  EXPECT_THROW(x.add(at::zeros({2, 3})), Error);
  x.add(matrix({{std::numeric_limits<double>::quiet_NaN(), 1}}));
  FeatureStatistics y;
  y.add(kY);
  EXPECT_TRUE(std::isinf(FrechetReference(y).distance(x)));
  EXPECT_THROW(FrechetReference{x}, Error);
}

TEST(KernelDistance, Goldens) {
  EXPECT_NEAR(kernel_distance(kX, kY), -416.9375, 1e-9);
  EXPECT_NEAR(KernelReference(kY).distance(kX), -416.9375, 1e-9);
  EXPECT_NEAR(kernel_distance(kX, kY, false), 1149.8375, 1e-9);
  EXPECT_NEAR(kernel_distance(matrix({{0}, {1}}), matrix({{0}, {2}})), -13, 1e-9);
  EXPECT_THROW(kernel_distance(kX, at::zeros({3, 5})), Error);
  EXPECT_THROW(kernel_distance(kX.narrow(0, 0, 1), kY), Error);
}

TEST(KernelDistance, SubsetsTellWhatDiffers) {
  const at::Tensor a = normals(400, 8, 1), same = normals(400, 8, 2), shifted = same + 1;
  const KernelDistance near = kernel_distance_over_subsets(a, same, 10, 200, 3);
  const KernelDistance far = kernel_distance_over_subsets(a, shifted, 10, 200, 3);
  EXPECT_LT(std::abs(near.mean), 4 * near.sd + 1e-3);
  EXPECT_GT(far.mean, near.mean + 4 * (near.sd + far.sd));
  EXPECT_EQ(kernel_distance_over_subsets(a, same, 10, 200, 3).mean, near.mean);
  // Rows are taken some at a time.
  const at::Tensor many = normals(1100, 4, 4), few = normals(30, 4, 5);
  const at::Tensor joint = at::matmul(few, many.t()) / 4.0 + 1;
  const auto mean_of_pairs = [](const at::Tensor& x) {
    const at::Tensor k = (at::matmul(x, x.t()) / 4.0 + 1).pow(3);
    const double n = static_cast<double>(x.size(0));
    return (k.sum() - k.trace()).item<double>() / (n * (n - 1));
  };
  EXPECT_NEAR(kernel_distance(few, many),
              mean_of_pairs(few) + mean_of_pairs(many) - 2 * joint.pow(3).mean().item<double>(), 1e-9);
}

}  // namespace
}  // namespace lithe
