// Which branches run at which bit-width: amortised branch selection.
#pragma once

#include <vector>

namespace lithe {

/// The branches, counted from 1, that run at one bit-width.
struct BranchSelection {
  std::vector<int> full;  // consecutive
  int partial = 0;        // of which a part runs besides, at odd bit-widths; 0: none
};

/// Bit-widths that can be trained.
inline constexpr int kLeastBits = 2, kMostBits = 8;

/// Branches that a model for up to `most_bits` bits has: every branch has weights of 2 bits.
int branch_count(int most_bits);

/// The selection at `bits` in a model of `branches` branches: bits / 2 full ones and, for odd bits, part of
/// the next. `amortise`: branch 1 is left to the lowest bit-widths; the others start with branch 2 where
/// enough branches are left. For four branches this is the table of Zhong et al., "MBQuant", Pattern
/// Recognition 2025 (as their code has it): 2: 1; 3: 1 and part of 2; 4: 2,3; 5: 2,3 and part of 4; 6: 2,3,4;
/// 7: 1,2,3 and part of 4; 8: all. Else the selection starts with branch 1 always.
BranchSelection select_branches(int bits, int branches, bool amortise);

/// Throws Error(Input) unless the list is not empty, ascending, and from 2 to 8.
void check_bits(const std::vector<int>& bits);

}  // namespace lithe
