#include "lithe/base/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>

#include "lithe/base/clock.h"

namespace lithe {
namespace {

volatile std::sig_atomic_t interrupt_flag = 0;

void on_interrupt(int signal) {
  interrupt_flag = 1;
  std::signal(signal, SIG_DFL);
}

}  // namespace

void catch_interrupts() {
  std::signal(SIGINT, on_interrupt);
  std::signal(SIGTERM, on_interrupt);
}

bool interrupted() {
  return interrupt_flag != 0;
}

std::string format_seconds(double seconds) {
  if (seconds < 60) return fmt::format("{:.1f} s", seconds);
  const std::int64_t whole = std::llround(seconds);
  if (whole < 3600) return fmt::format("{} min {:02} s", whole / 60, whole % 60);
  return fmt::format("{} h {:02} min", whole / 3600, whole % 3600 / 60);
}

double Progress::State::seconds() const {
  return seconds_since(started);
}

double Progress::State::remaining_seconds() const {
  const std::int64_t own = done - skipped;
  return own > 0 && total >= done ? seconds() / static_cast<double>(own) * static_cast<double>(total - done)
                                  : -1.0;
}

void Progress::start(std::string_view task, std::int64_t total) {
  state_ = {.task = std::string(task), .note = {}, .total = total, .started = Clock::now()};
  show(state_, false);
}

void Progress::advance(std::int64_t steps, std::string_view note) {
  if (interrupted()) throw Interrupted{};
  state_.done += steps;
  state_.note = note;
  show(state_, false);
}

void Progress::skip(std::int64_t steps) {
  state_.skipped += steps;
  advance(steps);
}

void Progress::finish() {
  show(state_, true);
}

ConsoleProgress::ConsoleProgress() : terminal_(::isatty(STDERR_FILENO) != 0) {}

void ConsoleProgress::show(const State& state, bool finished) {
  const auto now = Clock::now();
  const bool first = state.done == 0 && !finished;
  const auto pause = terminal_ ? std::chrono::milliseconds(100) : std::chrono::milliseconds(5000);
  if (!finished && !first && now - last_ < pause) return;
  if (first && !terminal_) {
    last_ = now;
    return;
  }
  last_ = now;
  std::string line;
  if (finished) {
    line = fmt::format("{}: done in {}", state.task, format_seconds(state.seconds()));
  } else {
    const double share =
        state.total > 0 ? static_cast<double>(state.done) / static_cast<double>(state.total) : 0.0;
    if (terminal_) {
      const int filled = static_cast<int>(std::clamp(share, 0.0, 1.0) * 24);
      line = fmt::format("{} [{:=<{}}{:<{}}] ", state.task, "", filled, "", 24 - filled);
    } else {
      line = state.task + ": ";
    }
    line += fmt::format("{}/{} ({:.0f} %)", state.done, state.total, share * 100);
    if (const double left = state.remaining_seconds(); left >= 0)
      line += ", " + format_seconds(left) + " left";
    if (!state.note.empty()) line += ", " + state.note;
  }
  if (terminal_)
    fmt::print(stderr, "\r\033[K{}{}", line, finished ? "\n" : "");
  else
    fmt::print(stderr, "{}\n", line);
  std::fflush(stderr);
}

}  // namespace lithe
