// Which patches of an image are left behind each block, for people to see.
#pragma once

#include <ATen/ATen.h>

#include <optional>
#include <vector>

#include "lithe/tokens/compress.h"

namespace lithe {

/// For each block int64 [b, tokens of the model]: the token behind that block that each original one went
/// into, -1 if it was dropped. Steps of the operators of DiffRate only; others throw Error(Input). `images`
/// are fed to the model's only input.
std::vector<at::Tensor> trace_tokens(const Graph& prepared, const TokenModel& model,
                                     const std::vector<TokenStep>& steps, const at::Tensor& images,
                                     const CompressOptions& options = {});

/// How patches lie in a picture.
struct PatchGrid {
  std::int64_t rows = 0, columns = 0;
};

/// The grid of the model's patches: that of its stem's convolution, else square patches of a picture of this
/// size, if they fill it; nothing if neither is known.
std::optional<PatchGrid> patch_grid(const TokenModel& model, std::int64_t height, std::int64_t width);

/// The picture [3 or 1, h, w] (0..255) with dropped patches greyed, and the patches of each merged group in
/// the mean colour of the group. `fate` int64 [tokens] as above. Patches that overlap are drawn where their
/// middles are. Throws Error(Input) if the grid does not hold the patches, or is finer than the picture.
at::Tensor draw_survivors(const at::Tensor& picture, const at::Tensor& fate, std::int64_t specials,
                          const PatchGrid& grid);

}  // namespace lithe
