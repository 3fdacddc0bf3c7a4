// Pictures that lead a diffusion model: depth, edges, tiles.
#pragma once

#include <ATen/ATen.h>

#include <filesystem>
#include <optional>
#include <vector>

#include "lithe/stylize/stable_diffusion.h"
#include "lithe/video/frame.h"

namespace lithe {

/// One kind of control pictures, one for each frame of the video.
struct Control {
  std::vector<Frame> frames;
  double scale = 1;
  /// The network (model.onnx) that reads them, for U-Nets that take residuals; empty: that of the model's
  /// folder. U-Nets with the network inside take none.
  std::filesystem::path network;
  /// Shuffle: residuals are their mean over the picture with the prompt, and none without it, so that content
  /// is led and not place.
  bool shuffle = false;
};

/// Residuals for a U-Net, in the order of its inputs: those of the way down, then that of the middle.
using ControlResiduals = std::vector<at::Tensor>;

/// A ControlNet (Zhang et al., "Adding Conditional Control to Text-to-Image Diffusion Models", ICCV 2023) as
/// a graph of its own.
class ControlNet {
 public:
  /// `sets` pictures see one another where it is 2 or more (see `with_cross_frame_attention`). Throws
  /// Error(Input) naming the file if its inputs or outputs are not those of a ControlNet of this U-Net.
  ControlNet(const std::filesystem::path& file, const UnetInputs& unet, std::int64_t sets,
             const ExecutorOptions& options);

  /// For noisy latents [n, c, h, w], text embeddings [n, tokens, width] and pictures 0..1 [n, 3, 8 h, 8 w].
  ControlResiduals residuals(const at::Tensor& x, const at::Tensor& text, const at::Tensor& pictures,
                             double timestep, std::int64_t most);

 private:
  NetworkPart part_;
  std::int64_t sets_;
  std::string sample_, time_, text_, picture_, scale_;
  std::vector<std::string> outputs_;  // as the U-Net has its inputs
};

/// Puts the time where the graph takes it: a row for each item, or one number for all.
void add_time(NetworkPart::Request& request, const NetworkPart& part, const std::string& input,
              double timestep, std::int64_t rows);

}  // namespace lithe
