// The autoencoder of a Stable Diffusion model on frames.
#pragma once

#include <vector>

#include "lithe/stylize/latent_loop.h"
#include "lithe/stylize/stable_diffusion.h"

namespace lithe {

/// Latents are scaled as the U-Net has them; frames are encoded to the mean of their distribution. Heights
/// and widths of frames must be multiples of kBlock.
class StableDiffusionVae : public Autoencoder {
 public:
  static constexpr int kBlock = 8;  // pixels of a latent, each way

  /// `model` must outlive it; `batch` is the number of frames in one run.
  explicit StableDiffusionVae(StableDiffusion& model, std::int64_t batch = 1)
      : model_(model), batch_(batch) {}

  /// Throw Error(Input) naming the file where what comes out does not fit.
  std::vector<Frame> decode(const at::Tensor& latents) override;
  at::Tensor encode(const std::vector<Frame>& frames) override;

 private:
  StableDiffusion& model_;
  std::int64_t batch_;
};

}  // namespace lithe
