#include "lithe/multibit/branches.h"

#include <fmt/ranges.h>

#include "lithe/base/error.h"

namespace lithe {

int branch_count(int most_bits) {
  return (most_bits + 1) / 2;
}

BranchSelection select_branches(int bits, int branches, bool amortise) {
  const int full = bits / 2, wanted = full + bits % 2;
  const int first = amortise && full > 1 && wanted < branches ? 2 : 1;
  BranchSelection selection;
  for (int i = 0; i < full; ++i) selection.full.push_back(first + i);
  if (bits % 2 != 0) selection.partial = first + full;
  return selection;
}

void check_bits(const std::vector<int>& bits) {
  if (bits.empty()) fail("no bit-width is given; list some of {} to {}", kLeastBits, kMostBits);
  for (std::size_t i = 0; i < bits.size(); ++i) {
    if (bits[i] < kLeastBits || bits[i] > kMostBits)
      fail("bit-widths {}: {} is not from {} to {}", fmt::join(bits, ","), bits[i], kLeastBits, kMostBits);
    if (i > 0 && bits[i] <= bits[i - 1])
      fail("bit-widths {} are not ascending; list each once, from low to high", fmt::join(bits, ","));
  }
}

}  // namespace lithe
