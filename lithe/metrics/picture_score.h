// How near a picture is to what it should be, as papers on super-resolution measure it.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>

namespace lithe {

struct PictureScore {
  double psnr_y = 0, psnr_rgb = 0;  // infinite where the pictures are equal
  std::optional<double> ssim_y;     // nothing for pictures smaller than its window
};

/// PSNR and SSIM of a picture of bytes [3 or 1, h, w] against another, without a border of `border` pixels on
/// each side; Y is the luma of BT.601 of three channels (`luma_bt601`), or the only channel. Computed in
/// double precision a band of rows at a time: beside the pictures some megabytes are needed, whatever their
/// height. Throws Error(Input) if the shapes differ or nothing is left inside the border.
PictureScore score_picture(const at::Tensor& picture, const at::Tensor& target, std::int64_t border);

}  // namespace lithe
