// What a user would read.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "lithe/base/error.h"

namespace lithe::test {

/// What `action` complains of, in one line that the user can act on; "" if it does not.
inline std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::Input) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
    return error.what();
  }
  return "";
}

}  // namespace lithe::test
