// Which prediction answers for which target.
#pragma once

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

namespace lithe {

/// The pairs (row, column) of a cost matrix [rows][columns] with the smallest total cost; every row, or every
/// column where there are fewer of them, has a partner of its own. Sorted by row. Of equally cheap
/// assignments the same one is found each time. Costs must be finite; throws Error(Input) otherwise, and if
/// `costs` does not hold rows x columns numbers. O(least^2 most) by shortest augmenting paths: Kuhn, "The
/// Hungarian method for the assignment problem", 1955; Crouse, "On implementing 2D rectangular assignment
/// algorithms", 2016.
std::vector<std::pair<std::int64_t, std::int64_t>> optimal_assignment(std::span<const double> costs,
                                                                      std::int64_t rows,
                                                                      std::int64_t columns);

}  // namespace lithe
