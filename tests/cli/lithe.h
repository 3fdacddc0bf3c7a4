// Runs the built tool as a user would.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
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

/// Presses Ctrl-C once `arguments` report an epoch; what was printed until the program ended.
inline std::string interrupt_in_epoch(const std::string& arguments) {
  const TemporaryFolder folder;
  const auto log = folder.path() / "log";
  write_file(log, "");  // it is read before the program has begun
  const std::string command =
      std::string(LITHE_PROGRAM) + " " + arguments + " > " + log.string() + " 2>&1 & echo $!";
  FILE* pipe = popen(command.c_str(), "r");
  int process = 0;
  EXPECT_EQ(fscanf(pipe, "%d", &process), 1);
  if (process <= 0) return "";  // signals to other numbers reach more than the program
  const auto wait_for = [&](const char* text) {
    for (int i = 0; i < 600 && read_text_file(log).find(text) == std::string::npos; ++i) usleep(50000);
  };
  wait_for("epoch");
  kill(process, SIGINT);
  wait_for("lithe: ");
  pclose(pipe);
  return read_text_file(log);
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
