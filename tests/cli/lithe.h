// Runs the built tool as a user would.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "lithe/base/file.h"

namespace lithe {

struct Outcome {
  int status = -1;
  std::string out, err;
  nlohmann::json json() const { return nlohmann::json::parse(out); }
  nlohmann::json result() const { return json().at("result"); }
};

/// `arguments` as one would type them behind `lithe`.
inline Outcome run_lithe(const std::string& arguments) {
  const TemporaryFolder folder;
  const auto out = folder.path() / "out", err = folder.path() / "err";
  const std::string command = std::string(LITHE_PROGRAM) + " " + arguments + " > " + out.string() + " 2> " +
                              err.string() + " < /dev/null";
  const int status = std::system(command.c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_text_file(out), read_text_file(err)};
}

/// The user made a mistake: status 2, nothing on standard output, one line that starts with "lithe: " and
/// holds `text`.
inline void expect_user_error(const Outcome& outcome, const std::string& text) {
  EXPECT_EQ(outcome.status, 2) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  EXPECT_TRUE(outcome.err.starts_with("lithe: ")) << outcome.err;
  EXPECT_NE(outcome.err.find(text), std::string::npos) << outcome.err;
}

inline const std::filesystem::path kExamples = LITHE_EXAMPLES;
inline const std::string kDigits = (kExamples / "models/digits.onnx").string();

}  // namespace lithe
