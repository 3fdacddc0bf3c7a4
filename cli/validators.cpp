#include "cli/validators.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <string>
#include <system_error>

namespace lithe::cli {
namespace {

template <typename Accepts>
CLI::Validator number(const std::string& allowed, Accepts&& accepts) {
  return CLI::Validator(
      [allowed, accepts](std::string& text) {
        double value = 0;
        const char* const end = text.data() + text.size();
        const auto [stop, error] = std::from_chars(text.data(), end, value);
        if (error != std::errc() || stop != end)
          return fmt::format("'{}' is no number; give {}", text, allowed);
        if (!std::isfinite(value) || !accepts(value))
          return fmt::format("{} is not allowed; give {}", text, allowed);
        return std::string();
      },
      allowed);
}

}  // namespace

CLI::Validator in_range(double low, double high) {
  return number(fmt::format("{} to {}", low, high),
                [=](double value) { return value >= low && value <= high; });
}

CLI::Validator at_least(double low) {
  return number(fmt::format("{} or more", low), [=](double value) { return value >= low; });
}

CLI::Validator positive() {
  return number("more than 0", [](double value) { return value > 0; });
}

CLI::Validator positive_up_to(double high) {
  return number(fmt::format("more than 0, at most {}", high),
                [=](double value) { return value > 0 && value <= high; });
}

}  // namespace lithe::cli
