// The order in which people number files.
#pragma once

#include <string_view>

namespace lithe {

/// Whether `a` comes before `b` where runs of digits count as numbers: f2 before f10. Names that differ only
/// in leading zeros are ordered byte by byte, so that the order is total.
bool natural_less(std::string_view a, std::string_view b);

}  // namespace lithe
