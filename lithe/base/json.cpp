#include "lithe/base/json.h"

#include <algorithm>

#include "lithe/base/error.h"

namespace lithe {
namespace {

/// Whether brackets outside of strings are open more than kDeepestJson at a time.
bool too_deep(std::string_view text) {
  int depth = 0;
  bool quoted = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (quoted) {
      if (c == '\\')
        ++i;
      else if (c == '"')
        quoted = false;
    } else if (c == '"') {
      quoted = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kDeepestJson) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

}  // namespace

nlohmann::json parse_json(std::string_view text, const std::string& origin) {
  if (too_deep(text)) fail("{}: not valid JSON: nested deeper than {} levels", origin, kDeepestJson);
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    constexpr std::size_t kLongest = 200;  // the reason repeats what it stumbled over
    fail("{}: not valid JSON: {}", origin, std::string(error.what()).substr(0, kLongest));
  }
}

std::optional<nlohmann::json> try_parse_json(std::string_view text) {
  if (too_deep(text)) return std::nullopt;
  nlohmann::json value = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) return std::nullopt;
  return value;
}

}  // namespace lithe
