// Networks that Lithe can write down itself, as graphs with random weights.
#pragma once

#include <cstdint>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

/// What the image classifiers have in common. Input "input" [batch, image_channels, image_size, image_size]
/// float32, output "logits" [batch, classes].
struct ClassifierOptions {
  std::int64_t classes = 1000;
  std::int64_t image_size = 224;
  std::int64_t image_channels = 3;
  double width = 1;         // factor on the channels
  bool batch_norm = true;   // false: as after folding, convolutions with bias
  std::int64_t batch = -1;  // -1: the symbol "batch"
  std::uint64_t seed = 0;
  std::int64_t opset = 17;
};

/// He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, Table 1; stride in the 3x3
/// convolution.
Graph build_resnet18(const ClassifierOptions& options = {});
Graph build_resnet50(const ClassifierOptions& options = {});
/// The same paper, section 4.2, with shortcuts of option A (strided slice and zero padding of channels).
Graph build_resnet20(ClassifierOptions options = {.classes = 10, .image_size = 32});
Graph build_resnet32(ClassifierOptions options = {.classes = 10, .image_size = 32});
/// Radosavovic et al., "Designing Network Design Spaces", CVPR 2020: RegNetX of 600 million multiply-adds.
Graph build_regnetx_600m(const ClassifierOptions& options = {});
/// Sandler et al., "MobileNetV2", CVPR 2018, Table 2.
Graph build_mobilenet_v2(const ClassifierOptions& options = {});
/// The same with strides for images of about 32 pixels: the first convolution and the second stage keep the
/// size.
Graph build_mobilenet_v2_small_images(ClassifierOptions options = {.classes = 10, .image_size = 32});

/// Input "input" and output "output" are images of `image_channels` channels; the output is `scale` times
/// larger.
struct SuperResolutionOptions {
  std::int64_t scale = 2;
  std::int64_t channels = 64;
  std::int64_t blocks = 16;
  std::int64_t image_channels = 3;
  std::int64_t image_size = 48;  // height and width of the input
  std::int64_t growth = 32;      // of the dense blocks (RDN)
  std::int64_t layers = 6;       // of a dense block (RDN)
  std::int64_t batch = -1;
  std::uint64_t seed = 0;
  std::int64_t opset = 17;
};

/// Lim et al., "Enhanced Deep Residual Networks for Single Image Super-Resolution", CVPRW 2017: residual
/// blocks without normalisation inside one global skip.
Graph build_edsr(const SuperResolutionOptions& options = {});
/// Zhang et al., "Residual Dense Network for Image Super-Resolution", CVPR 2018.
Graph build_rdn(const SuperResolutionOptions& options = {.blocks = 4});

/// Inputs "x" [batch, channels, image_size, image_size] and "t" [batch] int64; output "epsilon" shaped like
/// x.
struct UnetOptions {
  std::int64_t image_size = 32;
  std::int64_t image_channels = 3;
  std::int64_t base = 32;
  std::vector<std::int64_t> multipliers{1, 2, 2};  // channels of each level, times base
  std::int64_t residual_blocks = 2;                // per level
  std::vector<std::int64_t> attention_sizes{8};  // image sizes at which attention follows each residual block
  std::int64_t groups = 8;                       // of the group norms
  std::int64_t batch = -1;
  std::uint64_t seed = 0;
  std::int64_t opset = 17;
};

/// The noise predictor of Ho et al., "Denoising Diffusion Probabilistic Models", NeurIPS 2020: residual
/// blocks with a time embedding, attention, and concatenation skips from encoder to decoder.
Graph build_unet(const UnetOptions& options = {});

/// Inputs "x" [batch, channels, image_size, image_size], "t" [batch] int64 and, with classes, "y" [batch]
/// int64; output "prediction" shaped like x, or with twice its channels.
struct AdmUnetOptions {
  std::int64_t image_size = 8;
  std::int64_t image_channels = 1;
  std::int64_t base = 16;
  std::vector<std::int64_t> multipliers{1, 2};   // channels of each level, times base
  std::int64_t residual_blocks = 2;              // per level; one more in the decoder
  std::vector<std::int64_t> attention_sizes{4};  // image sizes at which attention follows each residual block
  std::int64_t heads = 1;                        // of every attention
  std::int64_t groups = 8;                       // of the group norms
  std::int64_t classes = 0;                      // labels that the network is told; 0: none
  bool learned_sigma = false;                    // as many channels again, for the variance
  bool scale_shift =
      true;  // the embedding scales and shifts the second norm's output; false: is added before it
  std::int64_t batch = -1;
  std::uint64_t seed = 0;
  std::int64_t opset = 17;
};

/// The noise predictor of Dhariwal and Nichol, "Diffusion Models Beat GANs on Image Synthesis", NeurIPS 2021
/// (ADM): residual blocks that also halve (2x2 means) and double (nearest neighbours) the image, on their
/// branch and on their shortcut; attention after residual blocks and in the middle; concatenation skips from
/// encoder to decoder. As at the start of ADM's training, all branches give 0 (see `zero_branch_ends`).
Graph build_adm_unet(const AdmUnetOptions& options = {});

/// Sets to zero what ADM's training starts from zero: the second convolution of every residual block, the
/// projection of every attention, and the output convolution.
void zero_branch_ends(Graph& adm_unet);

/// Input "input" [batch, 3, image_size, image_size], output "logits" [batch, classes]. The defaults are
/// DeiT-Tiny.
struct VitOptions {
  std::int64_t image_size = 224;
  std::int64_t patch = 16;
  std::int64_t image_channels = 3;
  std::int64_t dim = 192;
  std::int64_t depth = 12;
  std::int64_t heads = 3;
  std::int64_t mlp_ratio = 4;
  std::int64_t classes = 1000;
  bool class_token = true;           // false: the mean over the tokens feeds the head
  bool layer_norm_operator = false;  // LayerNormalization (opset 17) instead of its decomposition
  std::int64_t batch = -1;           // -1: symbolic, with the shape chains that exporters write
  std::uint64_t seed = 0;
  std::int64_t opset = 17;
};

/// Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021; pre-norm, as PyTorch exports it.
Graph build_vit(const VitOptions& options = {});

}  // namespace lithe
