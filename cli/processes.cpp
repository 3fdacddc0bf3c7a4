#include "cli/processes.h"

#include "cli/torch_setup.h"

namespace lithe::cli {

Processes::Processes(Invocation& call)
    : address_(process_group_from_environment()), device_(set_up_torch(call)) {
  if (!first()) call.options.quiet = true;
  if (address_ && device_.is_cuda())
    device_ = at::Device(at::kCUDA, static_cast<at::DeviceIndex>(address_->local_rank));
}

Collective* Processes::join() {
  if (address_) group_ = join_process_group(*address_, device_);
  return group_.get();
}

}  // namespace lithe::cli
