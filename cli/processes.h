// One process among those that torchrun or Slurm started to train one model.
#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <optional>

#include "cli/verb.h"
#include "lithe/train/agreement.h"
#include "lithe/train/distributed.h"

namespace lithe::cli {

class Processes {
 public:
  /// Sets LibTorch up; under --device cuda every process of a machine takes a GPU of its own. All but the
  /// first are quiet.
  explicit Processes(Invocation& call);

  at::Device device() const { return device_; }
  /// Whether this is the one that speaks and writes.
  bool first() const { return !address_ || address_->rank == 0; }
  /// Meets the others; nothing where this process is alone. They stay connected while this object lives.
  Collective* join();

  /// Calls `work` in every process; if it throws in one, all stop.
  template <typename Work>
  void together(Work&& work) const {
    Agreement(group_.get(), device_).together(work);
  }
  /// Calls `check` in the first process; if it throws, all stop.
  template <typename Check>
  void check_in_first(Check&& check) const {
    together([&] {
      if (first()) check();
    });
  }

 private:
  std::optional<ProcessGroupAddress> address_;
  at::Device device_;
  std::unique_ptr<Collective> group_;
};

}  // namespace lithe::cli
