// Which patches of an image are left behind each block, for people to see.
#pragma once

#include <ATen/ATen.h>

#include <vector>

#include "lithe/tokens/compress.h"

namespace lithe {

/// For each block int64 [b, tokens of the model]: the token behind that block that each original one went
/// into, -1 if it was dropped. Steps of the operators of DiffRate only; others throw Error(Input). `images`
/// are fed to the model's only input.
std::vector<at::Tensor> trace_tokens(const Graph& prepared, const TokenModel& model,
                                     const std::vector<TokenStep>& steps, const at::Tensor& images,
                                     const CompressOptions& options = {});

/// The picture [3 or 1, h, w] (0..255) with dropped patches greyed, and the patches of each merged group in
/// the mean colour of the group. `fate` int64 [tokens] as above; patches are square, in rows. Throws
/// Error(Input) if the patches do not fill the picture.
at::Tensor draw_survivors(const at::Tensor& picture, const at::Tensor& fate, std::int64_t specials);

}  // namespace lithe
