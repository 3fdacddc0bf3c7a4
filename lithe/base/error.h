// Errors that carry who can mend them.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

namespace lithe {

enum class ErrorKind {
  Input,   // the user can mend it: bad flag, malformed file, shape mismatch (exit status 2)
  System,  // the surroundings failed: full disk, missing program, out of memory (exit status 1)
};

/// One line that names the file, node or value, the reason, and what to do.
class Error : public std::runtime_error {
 public:
  /// Control characters, which names in hostile files may hold, become "?".
  Error(ErrorKind kind, const std::string& message);
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

/// Throws an Error of kind Input.
template <typename... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(ErrorKind::Input, fmt::format(format, std::forward<Args>(args)...));
}

/// Throws an Error of kind System.
template <typename... Args>
[[noreturn]] void fail_system(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(ErrorKind::System, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace lithe
