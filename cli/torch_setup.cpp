#include "cli/torch_setup.h"

#include <ATen/Context.h>

#include "lithe/base/error.h"
#include "lithe/engine/threads.h"

namespace lithe::cli {

at::Device set_up_torch(const Invocation& call) {
  set_threads(call.threads());
  if (call.options.device == "cpu") return at::kCPU;
  if (!at::hasCUDA())
    fail("--device cuda: this build of LibTorch has no CUDA, or no device is there; use --device cpu");
  return at::kCUDA;
}

}  // namespace lithe::cli
