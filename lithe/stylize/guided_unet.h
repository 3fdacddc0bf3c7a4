// The U-Net of a Stable Diffusion model on the latents of a video.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "lithe/stylize/controlnet.h"
#include "lithe/stylize/latent_loop.h"
#include "lithe/stylize/stable_diffusion.h"

namespace lithe {

struct GuidedUnetOptions {
  std::string prompt, negative_prompt;
  /// Ho and Salimans, "Classifier-Free Diffusion Guidance", 2022: negative + scale (prompt - negative). At 1
  /// the negative prompt has no say, and is not computed.
  double guidance_scale = 7.5;
  /// Frames that each one sees in self-attention beside itself, by their distance (0 is itself and counts
  /// once); beyond the ends of the video the first and the last are taken. Empty: none but itself. Each
  /// offset costs another run of the U-Net. DiffSynth's are {-10000, -1, 0, 1}: the first frame and both
  /// neighbours.
  std::vector<std::int64_t> cross_frames;
  std::vector<Control> controls;
  std::int64_t batch = 8;  // pictures in one run, where the U-Net leaves their number free
};

class GuidedUnet : public LatentDenoiser {
 public:
  /// `model` must outlive it. Throws Error(Input) where model and options do not go together: control
  /// pictures without inputs for them or the other way round, wrong sizes, attention that cannot be
  /// rewritten.
  GuidedUnet(StableDiffusion& model, GuidedUnetOptions options);

  at::Tensor predict(const at::Tensor& x, FrameRange range, double timestep) override;

 private:
  void open_controls();
  std::vector<std::int64_t> frames_of_sets(FrameRange range, std::int64_t count) const;
  at::Tensor run(const at::Tensor& x, const at::Tensor& text, const std::vector<std::int64_t>& frames,
                 double timestep, std::int64_t prompted);
  void add_residuals(NetworkPart::Request& request, const at::Tensor& x, const at::Tensor& text,
                     const std::vector<std::int64_t>& frames, double timestep, std::int64_t prompted);
  void add_pictures(NetworkPart::Request& request, const std::vector<std::int64_t>& frames) const;

  StableDiffusion& model_;
  GuidedUnetOptions options_;
  const UnetInputs inputs_;
  at::Tensor positive_, negative_;
  std::vector<std::int64_t> offsets_;                  // of the pictures of a set; 0 first
  std::unique_ptr<NetworkPart> crossed_;               // the U-Net whose frames see one another
  std::vector<std::unique_ptr<ControlNet>> controls_;  // one for each of the options', where they are apart
};

/// The offsets of the pictures of a set: 0, then the others in their order, each once.
std::vector<std::int64_t> set_offsets(const std::vector<std::int64_t>& cross_frames);

}  // namespace lithe
