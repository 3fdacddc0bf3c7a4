// Checks of numbers on the command line, whose messages are one short line.
#pragma once

#include <CLI/CLI.hpp>

namespace lithe::cli {

/// `low` to `high`, both included.
CLI::Validator in_range(double low, double high);
/// `low` or more.
CLI::Validator at_least(double low);
/// More than 0.
CLI::Validator positive();
/// More than 0, at most `high`.
CLI::Validator positive_up_to(double high);

}  // namespace lithe::cli
