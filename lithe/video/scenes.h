// Videos made from formulas: the exact motion is known, and so is what a styled video without flicker is.
//
// Each frame is sampled from a texture without bounds, through a map of its own; the style is applied to the
// texture. So the styled truth moves exactly as the guide does, and each frame can be had alone.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <opencv2/core/mat.hpp>
#include <string_view>

#include "lithe/video/flow.h"
#include "lithe/video/frame.h"

namespace lithe {

enum class SceneKind {
  Pan,      // 1.3 pixels to the right and 0.7 up each frame
  ZoomRot,  // scale 1.15 - 0.008 t, turning by 0.012 rad a frame
  Two,      // a disc of radius 26 turns and moves over a moving background
  Waves,    // not rigid: two sines of 3 and 2 pixels that travel
  Blur,     // a pan of 4 pixels a frame, the shutter open for half of the time
  Thin,     // wires 2.5 pixels wide move over a moving background
  Cut,      // a pan; the second half shows another texture and pans elsewhere
  Static,   // nothing moves
  Camera,   // a tilted camera flies over hills
};

inline constexpr std::array kSceneKinds{SceneKind::Pan,   SceneKind::ZoomRot, SceneKind::Two,
                                        SceneKind::Waves, SceneKind::Blur,    SceneKind::Thin,
                                        SceneKind::Cut,   SceneKind::Static,  SceneKind::Camera};

/// "pan", "zoomrot", "two", "waves", "blur", "thin", "cut", "static", "camera".
std::string_view to_string(SceneKind kind);
/// Throws Error(Input) that lists the names.
SceneKind scene_kind(std::string_view name);

struct SceneOptions {
  SceneKind kind = SceneKind::Pan;
  int height = 128, width = 128;  // 16..4096
  int frames = 24;                // 1..100; the cut is in the middle
  std::uint64_t seed = 0;         // of the textures
};

class Scene {
 public:
  /// Throws Error(Input) that names the option that is out of its range.
  explicit Scene(const SceneOptions& options);
  ~Scene();
  Scene(Scene&&) noexcept;

  const SceneOptions& options() const { return options_; }
  /// Frame t of the video that a style is applied to, 0 <= t < frames.
  Frame guide(int t) const;
  /// Frame t of the styled video without flicker.
  Frame truth(int t) const;
  /// Exact motion from frame j to frame i. Valid where both ends are inside, and the 3x3 pixels around each
  /// show the same thing.
  Flow flow(int j, int i) const;

 private:
  struct Parts;
  Frame render(int t, bool styled) const;
  SceneOptions options_;
  std::unique_ptr<Parts> parts_;
};

/// The texture of scenes: noise on grids of 4, 8, 16, 64 and `side` nodes around mid grey, CV_32FC3, in
/// quarter grey levels, clipped to 0..kFrameMaximum.
cv::Mat noise_texture(std::uint64_t seed, int side = 512);

/// The style of scenes, on CV_32FC3 in quarter grey levels: blurred with sigma 1, channels permuted, with
/// gains 0.9, 1.1 and 0.8, and darker by 1.5 times the |Laplacian|.
cv::Mat drawn_style(const cv::Mat& picture);
Frame drawn_style(const Frame& frame);

}  // namespace lithe
