// The values that a quantiser's points are chosen from.
#pragma once

#include <cstdint>
#include <vector>

namespace lithe {

/// The universal set of DFSQ (Zhong et al., arXiv 2305.05888): plus and minus the mean of one value from each
/// of four words {1, 2^-1, 2^-5, 0}, {1, 2^-2, 2^-6, 0}, {1, 2^-3, 2^-7, 0}, {1, 2^-4, 2^-8, 0}. In units of
/// 1/1024, ascending, each once: 377 values. `values` < 4 takes only the first so many of every word.
std::vector<std::int16_t> universal_set(int values = 4);

/// The set of Subset Quantization (Oh et al., ECCV 2022), which is for weights: the mean of one value from
/// each of {1, 2^-1, 2^-3, 0}, {1, 2^-2, 2^-4, 0}, in units of 1/32; 15 values that are not negative.
std::vector<std::int16_t> subset_quantization_set();

}  // namespace lithe
