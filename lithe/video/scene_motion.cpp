#include "lithe/video/scene_motion.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace lithe {
namespace {

using Point = cv::Point2d;

Point turned(Point p, double angle, double scale) {
  const double c = scale * std::cos(angle), s = scale * std::sin(angle);
  return {c * p.x - s * p.y, s * p.x + c * p.y};
}

/// Scale and angle change evenly around a centre that moves evenly.
class Similarity : public Motion {
 public:
  struct Path {
    Point start{0, 0}, step{0, 0};  // of the centre in the frame
    double scale = 1, scale_step = 0, angle_step = 0;
  };
  explicit Similarity(const Path& path) : path_(path) {}
  Point centre(double t) const { return path_.start + t * path_.step; }
  Point to_texture(Point p, double t) const override {
    return turned(p - centre(t), path_.angle_step * t, scale(t));
  }
  Point to_frame(Point u, double t) const override {
    return turned(u, -path_.angle_step * t, 1 / scale(t)) + centre(t);
  }

 private:
  double scale(double t) const { return std::max(0.2, path_.scale + path_.scale_step * t); }
  Path path_;
};

/// u = p + v(p, t), whose derivative is below 1, so that iterating finds the inverse.
class Waves : public Motion {
 public:
  Point to_texture(Point p, double t) const override { return p + offset(p, t); }
  Point to_frame(Point u, double t) const override {
    Point p = u;
    for (int i = 0; i < 60; ++i) p = u - offset(p, t);
    return p;
  }

 private:
  static Point offset(Point p, double t) {
    constexpr double kTurn = 2 * std::numbers::pi;
    return {3 * std::sin(kTurn * (p.y / 48 + t / 16)) + 0.4 * t, 2 * std::sin(kTurn * (p.x / 40 - t / 12))};
  }
};

/// A pinhole camera, tilted forward, over a ground whose slopes are so gentle that nothing is hidden.
class Flight : public Motion {
 public:
  explicit Flight(double focal) : focal_(focal) {}
  Point to_texture(Point p, double t) const override {
    // The ray is eye + s (across, along, -down); the ground is below where its height is less.
    const double across = p.x / focal_, y = -p.y / focal_;
    const double along = std::sin(kTilt) + y * std::cos(kTilt), down = std::cos(kTilt) - y * std::sin(kTilt);
    const auto at = [&](double s) { return eye(t) + Point(s * across, s * along); };
    double near = (height() - kHills) / down, far = (height() + kHills) / down;
    for (int i = 0; i < 48; ++i) {
      const double s = (near + far) / 2;
      (height() - s * down > hill(at(s)) ? near : far) = s;
    }
    return at((near + far) / 2);
  }
  Point to_frame(Point u, double t) const override {
    const Point away = u - eye(t);
    const double down = height() - hill(u);
    const double depth = down * std::cos(kTilt) + away.y * std::sin(kTilt);
    const double up = away.y * std::cos(kTilt) - down * std::sin(kTilt);
    return {focal_ * away.x / depth, -focal_ * up / depth};
  }

 private:
  static constexpr double kTilt = 0.25, kHills = 28;
  double height() const { return focal_; }  // so that a pixel is about one of the texture
  static Point eye(double t) { return {1.5 * t, 2.0 * t}; }
  static double hill(Point u) {
    return kHills / 2 * (std::sin(u.x / 40 + 0.7) * std::cos(u.y / 55) + std::sin(u.y / 47 - u.x / 90));
  }
  double focal_;
};

class Disc : public Shape {
 public:
  Disc(std::shared_ptr<const Similarity> motion, double radius)
      : motion_(std::move(motion)), radius_(radius) {}
  double covers(Point p, double t) const override {
    return std::clamp(radius_ - cv::norm(p - motion_->centre(t)) + 0.5, 0.0, 1.0);
  }

 private:
  std::shared_ptr<const Similarity> motion_;
  double radius_;
};

/// Lines across the texture of a motion that keeps lengths.
class Wires : public Shape {
 public:
  explicit Wires(std::shared_ptr<const Motion> motion) : motion_(std::move(motion)) {}
  double covers(Point p, double t) const override {
    const Point u = motion_->to_texture(p, t);
    const double apart = u.x + 0.2 * u.y;
    const double distance = std::abs(apart - kEvery * std::round(apart / kEvery)) / std::sqrt(1.04);
    return std::clamp(kWidth / 2 - distance + 0.5, 0.0, 1.0);
  }

 private:
  static constexpr double kEvery = 32, kWidth = 2.5;
  std::shared_ptr<const Motion> motion_;
};

std::shared_ptr<const Similarity> pan(double x, double y) {
  return std::make_shared<Similarity>(Similarity::Path{.step = {x, y}});
}

}  // namespace

SceneLayers scene_layers(SceneKind kind, int height, int width) {
  switch (kind) {
    case SceneKind::ZoomRot:
      return {.layers = {{.motion = std::make_shared<Similarity>(
                              Similarity::Path{.scale = 1.15, .scale_step = -0.008, .angle_step = 0.012})}}};
    case SceneKind::Two: {
      const auto disc = std::make_shared<Similarity>(
          Similarity::Path{.start = {-0.19 * width, -0.2 * height}, .step = {1.7, 2.1}, .angle_step = 0.02});
      return {.layers = {{.motion = pan(-0.6, 0.9)},
                         {.motion = disc, .shape = std::make_shared<Disc>(disc, 26), .texture = 1}},
              .textures = 2};
    }
    case SceneKind::Waves:
      return {.layers = {{.motion = std::make_shared<Waves>()}}};
    case SceneKind::Blur:
      return {.layers = {{.motion = pan(4, -1.5)}}, .shutter = 0.5};
    case SceneKind::Thin: {
      const auto wires = pan(2.3, 0.4);
      return {.layers = {{.motion = pan(-0.8, 0.5)},
                         {.motion = wires, .shape = std::make_shared<Wires>(wires), .texture = 1}},
              .textures = 2};
    }
    case SceneKind::Cut:
      return {.layers = {{.motion = pan(1.3, -0.7), .last_half = 1},
                         {.motion = pan(-0.9, -1.1), .texture = 1, .first_half = 1}},
              .textures = 2};
    case SceneKind::Static:
      return {.layers = {{.motion = pan(0, 0)}}};
    case SceneKind::Camera:
      return {.layers = {{.motion = std::make_shared<Flight>(std::max({height, width, 128}))}}};
    case SceneKind::Pan:
      break;
  }
  return {.layers = {{.motion = pan(1.3, -0.7)}}};
}

}  // namespace lithe
