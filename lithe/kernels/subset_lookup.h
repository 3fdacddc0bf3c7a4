// Rounding to the nearest point of a table, with normalisation before and after in the same pass.
//
// Points are multiples of 1/1024 in [-1, 1], so that the borders between them are multiples of 1/2048: the
// nearest point of y hangs on floor(2048 y) alone (Oh et al., "Non-uniform Step Size Quantization for
// Accurate Post-Training Quantization", ECCV 2022; the universal set is that of DFSQ, arXiv 2305.05888).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lithe/graph/subset_function.h"

namespace lithe {

/// The points of one channel, ready for lookups.
class SubsetTable {
 public:
  /// `points`: 1 to 256 integers in -1024..1024, ascending (equal ones are allowed); they stand for
  /// points / 1024. Throws Error(Input) otherwise.
  explicit SubsetTable(std::span<const std::int16_t> points);

  int count() const { return static_cast<int>(values_.size()); }
  std::span<const float> values() const { return values_; }  // ascending
  /// The border between point i and i + 1; what lies on it belongs to i + 1.
  std::span<const float> borders() const { return borders_; }
  /// The nearest point by floor(2048 y) + 2048; empty for at most 16 points, which do without.
  std::span<const float> entries() const { return entries_; }
  /// The borders in the order in which a search of four steps meets them (1, 2, 4, 8 of them in rows of
  /// eight), then 16 values, for at most 16 points: missing borders are infinite.
  std::span<const float> search() const { return search_; }

  /// The nearest point; ties go up, what lies beyond -1 or 1 counts as these, NaN as -1.
  float nearest(float y) const;

 private:
  std::vector<float> values_, borders_, entries_, search_;
};

/// y = nearest((x - mean) / scale), times scale and plus mean if `restore`.
struct SubsetTransform {
  float mean = 0, scale = 1;
  bool restore = false;
};

// Outputs may be the inputs themselves, but not overlap them otherwise. The vectorised results are those of
// the reference, bit for bit, on every machine.

void subset_lookup(const float* x, float* y, std::int64_t count, const SubsetTable& table,
                   const SubsetTransform& transform);
void subset_lookup_reference(const float* x, float* y, std::int64_t count, const SubsetTable& table,
                             const SubsetTransform& transform);

/// What DFSQ normalises a channel of a sample by: the mean (0 unless `centre`), and the largest |x - mean|
/// plus 1e-8. NaN among the values makes both NaN (only the scale unless `centre`). The mean is summed in
/// double precision; its last bit depends on the width of the machine's vectors. `count` > 0.
struct PlaneStatistics {
  float mean = 0, scale = 0;
};
inline constexpr float kSubsetEpsilon = 1e-8f;
PlaneStatistics plane_statistics(const float* x, std::int64_t count, bool centre);

}  // namespace lithe
