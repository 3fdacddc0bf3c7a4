// Medians of repeated runs; means and intervals of paired ones.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <map>
#include <numeric>
#include <vector>

namespace lithe::bench {

inline double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Two-sided 95 % quantile of Student's t.
inline double t_quantile(std::size_t freedom) {
  static constexpr std::array<double, 20> kTable{12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365,
                                                 2.306,  2.262, 2.228, 2.201, 2.179, 2.160, 2.145,
                                                 2.131,  2.120, 2.110, 2.101, 2.093, 2.086};
  return freedom == 0 ? 0 : freedom <= kTable.size() ? kTable[freedom - 1] : 1.96;
}

struct Moments {
  std::size_t n = 0;
  double mean = 0, deviation = 0;  // of the sample
  /// Half of the 95 % interval of the mean; 0 for fewer than two values.
  double interval() const {
    return n < 2 ? 0 : t_quantile(n - 1) * deviation / std::sqrt(static_cast<double>(n));
  }
};

inline Moments moments(const std::vector<double>& values) {
  Moments m{.n = values.size()};
  if (values.empty()) return m;
  m.mean = std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(m.n);
  for (const double v : values) m.deviation += (v - m.mean) * (v - m.mean);
  m.deviation = m.n < 2 ? 0 : std::sqrt(m.deviation / static_cast<double>(m.n - 1));
  return m;
}

using BySeed = std::map<int, double>;

inline std::vector<double> values_of(const BySeed& by_seed) {
  std::vector<double> values;
  for (const auto& [seed, value] : by_seed) values.push_back(value);
  return values;
}

/// a - b over the seeds that both have.
inline std::vector<double> paired(const BySeed& a, const BySeed& b) {
  std::vector<double> differences;
  for (const auto& [seed, value] : a)
    if (const auto other = b.find(seed); other != b.end()) differences.push_back(value - other->second);
  return differences;
}

}  // namespace lithe::bench
