// What long work tells its caller, and how the caller stops it.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

namespace lithe {

/// Receives the course of long work. This base class is silent; pass one where nobody looks.
/// `advance` throws Interrupted after Ctrl-C (see catch_interrupts), so that every loop that reports can
/// stop.
class Progress {
 public:
  virtual ~Progress() = default;
  void start(std::string_view task, std::int64_t total);
  void advance(std::int64_t steps = 1, std::string_view note = {});
  /// Steps that an earlier run has done: they count as done, but say nothing of the speed.
  void skip(std::int64_t steps);
  void finish();

 protected:
  struct State {
    std::string task, note;
    std::int64_t done = 0, total = 0, skipped = 0;  // `done` includes what was skipped
    std::chrono::steady_clock::time_point started;
    double seconds() const;
    /// Expected seconds to the end, from the mean speed of this run; negative while unknown.
    double remaining_seconds() const;
  };
  virtual void show(const State&, bool /*finished*/) {}

 private:
  State state_;
};

/// A bar with ETA on a terminal; a plain line every few seconds when standard error is a pipe or a file.
class ConsoleProgress : public Progress {
 public:
  ConsoleProgress();

 protected:
  void show(const State& state, bool finished) override;

 private:
  bool terminal_;
  std::chrono::steady_clock::time_point last_{};
};

/// Thrown by Progress::advance once the user pressed Ctrl-C.
struct Interrupted {};

/// Makes SIGINT and SIGTERM raise a flag instead of killing; a second SIGINT kills.
void catch_interrupts();
bool interrupted();

/// "2 h 05 min", "3 min 12 s", "4.2 s".
std::string format_seconds(double seconds);

}  // namespace lithe
