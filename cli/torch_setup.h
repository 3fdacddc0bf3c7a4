// How the common flags reach LibTorch.
#pragma once

#include <ATen/ATen.h>

#include "cli/verb.h"

namespace lithe::cli {

/// Sets the thread count of LibTorch and returns the device; throws Error(Input) if there is no such device.
at::Device set_up_torch(const Invocation& call);

}  // namespace lithe::cli
