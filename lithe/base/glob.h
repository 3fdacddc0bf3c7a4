// Name patterns as on the command line.
#pragma once

#include <string_view>

namespace lithe {

/// Whether the whole name matches: '*' stands for any characters ('/' included), '?' for one.
bool glob_match(std::string_view pattern, std::string_view name);

}  // namespace lithe
