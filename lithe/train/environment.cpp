// What launchers tell processes of one another.
#include <charconv>
#include <cstdlib>

#include "lithe/base/error.h"
#include "lithe/train/distributed.h"

namespace lithe {
namespace {

std::optional<std::string> text_of(const char* name) {
  const char* value = std::getenv(name);
  if (!value || !*value) return std::nullopt;
  return value;
}

std::optional<std::int64_t> number_of(const char* name, std::int64_t least, std::int64_t most) {
  const auto text = text_of(name);
  if (!text) return std::nullopt;
  std::int64_t value = 0;
  const auto [end, code] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (code != std::errc() || end != text->data() + text->size() || value < least || value > most)
    fail("the environment variable {}={} is no number from {} to {}; it is set by torchrun or srun", name,
         *text, least, most);
  return value;
}

constexpr std::int64_t kMostProcesses = 1 << 20;

}  // namespace

std::string first_host(const std::string& list) {
  std::size_t end = 0;
  while (end < list.size() && list[end] != ',' && list[end] != '[') ++end;
  std::string host = list.substr(0, end);
  if (end < list.size() && list[end] == '[') {
    const std::size_t stop = list.find_first_of(",-]", end);
    host += list.substr(end + 1, stop == std::string::npos ? stop : stop - end - 1);
    if (const std::size_t close = list.find(']', end); close != std::string::npos) {
      const std::size_t rest = list.find(',', close);
      host += list.substr(close + 1, rest == std::string::npos ? rest : rest - close - 1);
    }
  }
  return host;
}

std::optional<ProcessGroupAddress> process_group_from_environment() {
  ProcessGroupAddress address;
  const bool torchrun = text_of("RANK") && text_of("WORLD_SIZE");
  const char *rank = torchrun ? "RANK" : "SLURM_PROCID", *size = torchrun ? "WORLD_SIZE" : "SLURM_NTASKS",
             *local = torchrun ? "LOCAL_RANK" : "SLURM_LOCALID";
  const auto processes = number_of(size, 1, kMostProcesses);
  if (!processes || *processes == 1) return std::nullopt;
  // An interactive shell of Slurm knows the number of tasks but is none of them.
  if (!torchrun && !text_of("SLURM_STEP_ID")) return std::nullopt;
  const auto own = number_of(rank, 0, *processes - 1);
  if (!own)
    fail("{}={} processes, but {} is not set; start them by torchrun or srun", size, *processes, rank);
  address.size = *processes;
  address.rank = *own;
  address.local_rank = number_of(local, 0, kMostProcesses).value_or(0);
  if (const auto host = text_of("MASTER_ADDR")) {
    address.host = *host;
  } else if (!torchrun) {
    auto nodes = text_of("SLURM_STEP_NODELIST");
    if (!nodes) nodes = text_of("SLURM_JOB_NODELIST");
    if (nodes) address.host = first_host(*nodes);
  }
  if (const auto port = number_of("MASTER_PORT", 1, 65535))
    address.port = static_cast<std::uint16_t>(*port);
  else if (const auto job = number_of("SLURM_JOB_ID", 0, INT64_MAX); job && !torchrun)
    address.port = static_cast<std::uint16_t>(20000 + *job % 20000);
  return address;
}

}  // namespace lithe
