// How the parts of procedural scenes move.
#pragma once

#include <cstdint>
#include <memory>
#include <opencv2/core/types.hpp>
#include <vector>

#include "lithe/video/scenes.h"

namespace lithe {

/// A surface with a texture. Points of frames have their origin in the middle of the frame.
class Motion {
 public:
  virtual ~Motion() = default;
  /// The point of the texture that is seen at p in frame t, which may be a fraction.
  virtual cv::Point2d to_texture(cv::Point2d p, double t) const = 0;
  /// Where in frame t a point of the texture is seen: the inverse of `to_texture`.
  virtual cv::Point2d to_frame(cv::Point2d u, double t) const = 0;
};

/// How much of a pixel a layer covers at p in frame t, 0..1.
class Shape {
 public:
  virtual ~Shape() = default;
  virtual double covers(cv::Point2d p, double t) const = 0;
};

struct Layer {
  std::shared_ptr<const Motion> motion;
  std::shared_ptr<const Shape> shape;  // null: all of the frame
  std::size_t texture = 0;
  bool shown_at(int t, int frames) const {
    return t * 2 >= first_half * frames && t * 2 < last_half * frames;
  }
  int first_half = 0, last_half = 2;  // halves of the video in which it is there
};

struct SceneLayers {
  std::vector<Layer> layers;  // from the back to the front
  std::size_t textures = 1;
  double shutter = 0;  // share of a frame's time that it is open
};

/// For frames of that many pixels.
SceneLayers scene_layers(SceneKind kind, int height, int width);

}  // namespace lithe
