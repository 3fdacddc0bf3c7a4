#include "lithe/stylize/latent_state.h"

#include <cstring>

#include "lithe/base/error.h"
#include "lithe/data/npz.h"

namespace lithe {
namespace {

at::Tensor bytes_of(const std::string& text) {
  at::Tensor bytes = at::empty({static_cast<std::int64_t>(text.size())}, at::kByte);
  std::memcpy(bytes.data_ptr(), text.data(), text.size());
  return bytes;
}

}  // namespace

void write_latent_state(const LatentState& state, const std::string& identity,
                        const std::filesystem::path& file) {
  TensorMap tensors{{"next_step", at::scalar_tensor(state.next_step, at::kLong)},
                    {"latents", state.x},
                    {"identity", bytes_of(identity)}};
  if (state.x0_before.defined()) tensors["clean_before"] = state.x0_before;
  write_npz(tensors, file);
}

std::optional<LatentState> read_latent_state(const std::filesystem::path& file, const std::string& identity,
                                             const at::Tensor& x, std::int64_t steps) {
  if (!std::filesystem::exists(file)) return std::nullopt;
  const TensorMap tensors = read_npz(file);
  const auto find = [&](const char* name) {
    const auto found = tensors.find(name);
    return found == tensors.end() ? at::Tensor() : found->second;
  };
  const at::Tensor step = find("next_step"), latents = find("latents"), written = find("identity"),
                   before = find("clean_before");
  if (!step.defined() || step.numel() != 1 || step.scalar_type() != at::kLong || !latents.defined() ||
      !written.defined())
    fail("{}: not a state of stylisation; remove it, or do without --resume", file.string());
  if (!at::equal(written, bytes_of(identity)))
    fail("{}: belongs to work with other settings, frames or models; remove it, or do without --resume",
         file.string());
  const auto fits = [&](const at::Tensor& one) {
    return one.sizes() == x.sizes() && one.scalar_type() == x.scalar_type();
  };
  const auto next = step.item<std::int64_t>();
  if (!fits(latents) || (before.defined() && !fits(before)) || next < 0 || next > steps)
    fail("{}: holds other latents than this work has; remove it, or do without --resume", file.string());
  return LatentState{next, latents, before};
}

}  // namespace lithe
