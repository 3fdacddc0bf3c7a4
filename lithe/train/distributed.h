// Several processes that train one model, over PyTorch's c10d.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "lithe/ops/collective.h"

namespace lithe {

/// Which process of how many this is, and where they meet.
struct ProcessGroupAddress {
  std::int64_t rank = 0, size = 1;
  std::int64_t local_rank = 0;  // among those of this machine: the number of its GPU
  std::string host = "127.0.0.1";
  std::uint16_t port = 29500;
};

/// What torchrun (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT) or else Slurm's srun (SLURM_PROCID,
/// SLURM_NTASKS, SLURM_LOCALID; the host is MASTER_ADDR, else the first of SLURM_STEP_NODELIST or
/// SLURM_JOB_NODELIST; the port is MASTER_PORT, else derived from SLURM_JOB_ID) put into the environment;
/// nothing for a process alone. Throws Error(Input) that names the variable if the values make no sense.
std::optional<ProcessGroupAddress> process_group_from_environment();

/// Meets the other processes and stays connected while it lives: Gloo for the CPU, NCCL for CUDA where this
/// build has it. Waits at most `timeout_seconds` for the others. Throws Error(System) if they do not come,
/// Error(Input) if this build lacks what is needed.
std::unique_ptr<Collective> join_process_group(const ProcessGroupAddress& address, at::Device device,
                                               double timeout_seconds = 300);

/// The first host of a list as Slurm writes it: "node[003-007,9],other" -> "node003".
std::string first_host(const std::string& list);

}  // namespace lithe
