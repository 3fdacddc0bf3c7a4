// Reading JSON that may be hostile.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

namespace lithe {

/// Values are copied and printed by recursion, which deeper nesting than this could make overflow the stack.
inline constexpr int kDeepestJson = 64;

/// Throws Error(Input) "ORIGIN: not valid JSON: REASON" if `text` is not JSON or is nested deeper than
/// kDeepestJson.
nlohmann::json parse_json(std::string_view text, const std::string& origin);

/// The same; nothing in place of an error.
std::optional<nlohmann::json> try_parse_json(std::string_view text);

}  // namespace lithe
