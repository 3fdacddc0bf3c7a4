// Several processes that go on together or stop together.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <exception>
#include <string>

#include "lithe/ops/collective.h"

namespace lithe {

/// Collective calls wait until every process makes them: a process that leaves alone, because its disk is
/// full or a sample of its share cannot be read, would leave the others waiting. What can fail in one process
/// is run through `together` where the processes are about to meet.
class Agreement {
 public:
  /// `collective` may be missing: one process agrees with itself, at no cost.
  explicit Agreement(Collective* collective, at::Device device = at::kCPU)
      : collective_(collective && collective->size() > 1 ? collective : nullptr), device_(device) {}

  /// Calls `work` and waits for the others. If it throws here, the exception goes on from here; if it throws
  /// elsewhere alone, throws Error(System) that names the process.
  template <typename Work>
  void together(Work&& work) const {
    if (!collective_) return work();
    std::exception_ptr problem;
    try {
      work();
    } catch (...) {
      problem = std::current_exception();
    }
    settle(problem);
  }

  /// Whether it is true in any process.
  bool any(bool here) const;

  /// Throws Error(System) unless all processes give the same number; `what` says what it is.
  void require_equal(std::int64_t number, const std::string& what) const;

 private:
  void settle(const std::exception_ptr& problem) const;
  /// The numbers of all processes, by rank.
  at::Tensor gather(double number) const;

  Collective* collective_;
  at::Device device_;
};

}  // namespace lithe
