// A latent diffusion model whose every answer is exact, on a scene whose motion is known.
//
// The autoencoder keeps six coefficients of a block's cosine transform. Given the frame, clean latents are
// one of four recolourings of it, plus a little noise; the best denoiser of such a mixture has a closed form.
// Each run must settle for one recolouring at each place; frames that settle for different ones flicker, and
// the mean of two is none of them. A toy: it shows what the order of smoothing and sampling does, not how
// well videos look.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <opencv2/core.hpp>
#include <vector>

#include "lithe/stylize/latent_loop.h"
#include "lithe/video/frame.h"

namespace lithe::test {

/// A rotating disc that moves over a moving background, and where each pixel came from.
struct ToyScene {
  static constexpr int kSide = 128;
  std::vector<Frame> frames;

  explicit ToyScene(int count);
  /// Where the pixels of frame `to` lie in frame `from` (CV_32FC2: column, row), and whether they are seen
  /// there (CV_8U).
  struct Flow {
    cv::Mat places, seen;
  };
  const Flow& flow(int from, int to) const {
    return flows_[static_cast<std::size_t>(from) * frames.size() + static_cast<std::size_t>(to)];
  }

  /// The mean of each frame and its neighbours up to `reach` away, brought to its geometry.
  std::vector<Frame> mean_along_motion(const std::vector<Frame>& styled, int reach) const;
  /// Mean squared difference, on a scale of 0..1, of neighbours along the motion.
  double warp_error(const std::vector<Frame>& styled) const;

 private:
  std::vector<Flow> flows_;
};

class ToyAutoencoder : public Autoencoder {
 public:
  static constexpr std::int64_t kChannels = 18, kBlock = 8;
  ToyAutoencoder();
  std::vector<Frame> decode(const at::Tensor& latents) override;
  at::Tensor encode(const std::vector<Frame>& frames) override;
  at::Tensor encode_pixels(
      const at::Tensor& pixels) const;  // grey levels 0..255 [n, 3, h, w], may lie outside

 private:
  at::Tensor basis_;  // [6, 1, 8, 8]
};

class ToyDenoiser : public LatentDenoiser {
 public:
  static constexpr double kDeviation = 0.05;
  ToyDenoiser(const std::vector<Frame>& guides, const ToyAutoencoder& autoencoder);
  at::Tensor predict(const at::Tensor& x, FrameRange range, double timestep) override;

  /// Root mean square distance of latents to the nearest recolouring.
  double off_mode(const at::Tensor& latents) const;
  /// The number of the nearest recolouring at each place, [n, h, w].
  at::Tensor labels(const at::Tensor& latents) const;

 private:
  at::Tensor distances(const at::Tensor& latents) const;
  std::vector<at::Tensor> modes_;  // of the styles, [n, 18, h, w] each
};

/// Share of places that have the label of the place that they came from in the frame before.
double label_agreement(const ToyScene& scene, const at::Tensor& labels);

}  // namespace lithe::test
