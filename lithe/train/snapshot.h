// The constants of a model at one time, to come back to.
#pragma once

#include <ATen/ATen.h>

#include <set>
#include <string>
#include <utility>
#include <vector>

#include "lithe/engine/executor.h"

namespace lithe {

class Snapshot {
 public:
  /// Copies every constant of the executor, those of Constant nodes too.
  explicit Snapshot(const Executor& executor);

  /// Puts the values back: in place for those named in `learnt`, whose tensors others hold, and only where
  /// something changed for the rest.
  void restore(Executor& executor, const std::set<std::string>& learnt) const;

 private:
  std::vector<std::pair<std::string, at::Tensor>> values_;
};

}  // namespace lithe
