// Runs kernels on every instruction set that they were compiled for and that this processor has.
#pragma once

#include <gtest/gtest.h>
#include <hwy/targets.h>

namespace lithe {

template <typename Action>
void on_every_target(const Action& action) {
  const auto targets = hwy::SupportedAndGeneratedTargets();
  EXPECT_FALSE(targets.empty());
  for (const auto target : targets) {
    SCOPED_TRACE(hwy::TargetName(target));
    hwy::GetChosenTarget().Update(target);
    action();
  }
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace lithe
