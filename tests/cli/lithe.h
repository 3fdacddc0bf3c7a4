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
#include <regex>
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
    for (int i = 0; i < 2400 && read_text_file(log).find(text) == std::string::npos; ++i) usleep(50000);
  };
  wait_for("epoch");
  kill(process, SIGINT);
  wait_for("lithe: ");
  pclose(pipe);
  return read_text_file(log);
}

/// Without the lines of progress, "task: 12/50 (24 %), ...", that slow machines get to see.
inline std::string without_progress(const std::string& err) {
  static const std::regex progress("^[^\n]*: [0-9]+/[0-9]+ \\([0-9]+ %\\)[^\n]*\n",
                                   std::regex::ECMAScript | std::regex::multiline);
  return std::regex_replace(err, progress, "");
}

/// The user made a mistake: status 2, nothing on standard output, one line that starts with "lithe: " and
/// holds `text`.
inline void expect_user_error(const Outcome& outcome, const std::string& text) {
  const std::string said = without_progress(outcome.err);
  EXPECT_EQ(outcome.status, 2) << said;
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  EXPECT_TRUE(said.starts_with("lithe: ")) << said;
  EXPECT_NE(said.find(text), std::string::npos) << said;
}

inline const std::filesystem::path kExamples = LITHE_EXAMPLES;
inline const std::string kDigits = (kExamples / "models/digits.onnx").string();

}  // namespace lithe
