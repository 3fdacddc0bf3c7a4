#include "cli/model_errors.h"

#include <filesystem>
#include <string_view>
#include <system_error>

#include "lithe/base/error.h"

namespace lithe::cli {
namespace {

/// "photos/a.png: ...", "--batch 0: ...", "quantize needs ..." or the model anywhere. What does not fit the
/// model of a --shape is about the model too.
bool says_where(std::string_view text, const std::string& verb, const std::string& model) {
  if (text.find(model) != std::string_view::npos) return true;
  if (text.starts_with("--shape ")) return false;
  if (text.starts_with("-") || text.starts_with(verb + " ")) return true;
  const std::string_view first = text.substr(0, text.find(": "));
  if (first.size() == text.size()) return false;
  std::error_code none;
  return std::filesystem::exists(first, none) ||
         (first.find('/') != std::string_view::npos && first.find_first_of(" '") == std::string_view::npos);
}

}  // namespace

void naming_model(const std::string& verb, const std::string& model, const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::Input || says_where(error.what(), verb, model)) throw;
    throw Error(error.kind(), model + ": " + error.what());
  }
}

}  // namespace lithe::cli
