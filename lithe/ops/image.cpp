// Resize, Upsample, GridSample, AffineGrid, RoiAlign, NonMaxSuppression.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "lithe/ops/resize.h"
#include "lithe/ops/support.h"

namespace lithe {
namespace {

using Ints = std::vector<std::int64_t>;

std::vector<float> floats(const at::Tensor& tensor) {
  const at::Tensor flat = tensor.detach().to(at::kCPU, at::kFloat).contiguous();
  return {flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel()};
}

void require_one_of(const OpCall& call, const char* attribute, const std::string& value,
                    std::initializer_list<const char*> known) {
  if (std::find(known.begin(), known.end(), value) == known.end())
    fail("{}: {} = '{}' is not known", describe(call.node), attribute, value);
}

/// Interpolates along one axis by the taps: a weighted sum of selected slices.
at::Tensor interpolate(const at::Tensor& x, std::int64_t axis, const ResizeTaps& taps) {
  const auto count = static_cast<std::int64_t>(taps.outside.size());
  const at::Tensor index = at::tensor(taps.index, at::kLong).view({count, taps.taps}).to(x.device());
  if (taps.taps == 1) return x.index_select(axis, index.select(1, 0));
  Ints shape(static_cast<std::size_t>(x.dim()), 1);
  shape[static_cast<std::size_t>(axis)] = count;
  const at::Tensor weight =
      at::tensor(taps.weight, at::kFloat).view({count, taps.taps}).to(x.device(), x.scalar_type());
  at::Tensor y;
  for (std::int64_t tap = 0; tap < taps.taps; ++tap) {
    const at::Tensor part = x.index_select(axis, index.select(1, tap)) * weight.select(1, tap).reshape(shape);
    y = y.defined() ? y + part : part;
  }
  return y;
}

/// LibTorch's own kernels, where they compute the very same thing; else an undefined tensor.
at::Tensor resize_directly(const at::Tensor& x, const std::vector<ResizeAxis>& axes,
                           const ResizeOptions& options) {
  if (x.dim() != 4 || x.scalar_type() != at::kFloat || options.antialias || x.numel() == 0) return {};
  for (std::size_t i = 0; i < 2; ++i)
    if (axes[i].size != axes[i].resized) return {};
  const Ints size{axes[2].resized, axes[3].resized};
  const double sy = axes[2].scale, sx = axes[3].scale;
  const bool half_pixel = options.coordinates == "half_pixel" ||
                          (options.coordinates == "pytorch_half_pixel" && size[0] > 1 && size[1] > 1);
  const bool aligned = options.coordinates == "align_corners";
  if (options.mode == "nearest") {
    const auto whole = [](double s) { return s == 1 || s == 2 || s == 3 || s == 4 || s == 8; };
    const bool same = (options.coordinates == "asymmetric" && options.nearest == "floor") ||
                      (options.coordinates == "half_pixel" && options.nearest == "round_prefer_floor");
    return same && whole(sy) && whole(sx) ? at::upsample_nearest2d(x, size, sy, sx) : at::Tensor();
  }
  if (!half_pixel && !aligned) return {};
  if (options.mode == "linear") return at::upsample_bilinear2d(x, size, aligned, sy, sx);
  if (options.cubic_a == -0.75f && !options.exclude_outside)
    return at::upsample_bicubic2d(x, size, aligned, sy, sx);
  return {};
}

at::Tensor resize_by(const OpCall& call, const at::Tensor& x, const std::vector<ResizeAxis>& axes,
                     const ResizeOptions& options) {
  Ints shape;
  for (const ResizeAxis& axis : axes) shape.push_back(axis.resized);
  check_output_shape(call, shape);
  for (std::size_t i = 0; i < axes.size(); ++i)
    if (axes[i].size == 0 && axes[i].resized > 0)
      fail("{}: an empty axis of {} cannot be resized", describe(call.node), format_shape(shape_of(x)));
  if (at::Tensor y = resize_directly(x, axes, options); y.defined()) return y;
  const bool direct = options.mode == "nearest" || (is_floating(x) && !is_half(x));
  at::Tensor y = direct ? x : x.to(at::kFloat);
  at::Tensor outside;
  for (std::size_t i = 0; i < axes.size(); ++i) {
    const std::int64_t axis = static_cast<std::int64_t>(i);
    const bool crops = options.coordinates == "tf_crop_and_resize";
    if (axes[i].size == axes[i].resized && axes[i].scale == 1 &&
        (!crops || (axes[i].roi_start == 0 && axes[i].roi_end == 1)))
      continue;
    const ResizeTaps taps = resize_taps(axes[i], options);
    y = interpolate(y, axis, taps);
    if (crops && std::find(taps.outside.begin(), taps.outside.end(), true) != taps.outside.end()) {
      Ints broadcast(axes.size(), 1);
      broadcast[i] = axes[i].resized;
      std::vector<std::int64_t> flags(taps.outside.begin(), taps.outside.end());
      const at::Tensor mask = at::tensor(flags, at::kLong).to(at::kBool).view(broadcast).to(x.device());
      outside = outside.defined() ? outside | mask : mask;
    }
  }
  if (outside.defined()) y = y.masked_fill(outside, call.node.attr("extrapolation_value", 0.0f));
  return y.to(x.scalar_type());
}

void require_positive(const OpCall& call, const std::vector<float>& scales, std::size_t count) {
  if (scales.size() != count)
    fail("{}: there are {} scales for {} axes", describe(call.node), scales.size(), count);
  for (const float scale : scales)
    if (!(scale > 0) || !std::isfinite(scale))
      fail("{}: the scale {} is not positive", describe(call.node), scale);
}

std::int64_t scaled_size(std::int64_t size, float scale) {
  return static_cast<std::int64_t>(std::floor(static_cast<float>(size) * scale));
}

std::vector<at::Tensor> resize(const OpCall& call) {
  const Node& node = call.node;
  const at::Tensor& x = call.input(0);
  const bool old = call.opset < 11;  // inputs X, scales; behaves like Upsample
  ResizeOptions options;
  options.mode = node.attr("mode", "nearest");
  options.coordinates = old ? "asymmetric" : node.attr("coordinate_transformation_mode", "half_pixel");
  options.nearest = old ? "simple" : node.attr("nearest_mode", "round_prefer_floor");
  options.cubic_a = node.attr("cubic_coeff_a", -0.75f);
  options.exclude_outside = node.attr("exclude_outside", std::int64_t{0}) != 0;
  options.antialias = node.attr("antialias", std::int64_t{0}) != 0;
  require_one_of(call, "mode", options.mode, {"nearest", "linear", "cubic"});
  require_one_of(call, "coordinate_transformation_mode", options.coordinates,
                 {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric",
                  "tf_half_pixel_for_nn", "tf_crop_and_resize"});
  require_one_of(call, "nearest_mode", options.nearest,
                 {"round_prefer_floor", "round_prefer_ceil", "floor", "ceil", "simple"});

  Ints all(static_cast<std::size_t>(x.dim()));
  std::iota(all.begin(), all.end(), 0);
  const Ints chosen = checked_axes(call, node.attr("axes", all), x.dim());
  std::vector<ResizeAxis> axes(all.size());
  for (std::size_t i = 0; i < axes.size(); ++i)
    axes[i].size = axes[i].resized = x.size(static_cast<std::int64_t>(i));
  const auto axis_at = [&](std::size_t k) -> ResizeAxis& {
    return axes[static_cast<std::size_t>(chosen[k])];
  };

  const at::Tensor scales_input = call.optional(old ? 1 : 2),
                   sizes_input = old ? at::Tensor() : call.optional(3);
  const bool by_scales = scales_input.defined() && scales_input.numel() > 0;
  if (by_scales) {
    const std::vector<float> scales = floats(scales_input);
    require_positive(call, scales, chosen.size());
    for (std::size_t k = 0; k < chosen.size(); ++k) {
      axis_at(k).scale = scales[k];
      axis_at(k).resized = scaled_size(axis_at(k).size, scales[k]);
    }
  } else {
    if (!sizes_input.defined()) fail("{}: neither scales nor sizes are given", describe(node));
    const Ints sizes = call.ints(3);
    if (sizes.size() != chosen.size())
      fail("{}: there are {} sizes for {} axes", describe(node), sizes.size(), chosen.size());
    const std::string policy = node.attr("keep_aspect_ratio_policy", "stretch");
    require_one_of(call, "keep_aspect_ratio_policy", policy, {"stretch", "not_larger", "not_smaller"});
    for (std::size_t k = 0; k < chosen.size(); ++k) {
      axis_at(k).resized = sizes[k];
      axis_at(k).scale =
          static_cast<float>(sizes[k]) / static_cast<float>(std::max<std::int64_t>(1, axis_at(k).size));
    }
    if (policy != "stretch" && !chosen.empty()) {
      float common = axis_at(0).scale;
      for (std::size_t k = 1; k < chosen.size(); ++k)
        common =
            policy == "not_larger" ? std::min(common, axis_at(k).scale) : std::max(common, axis_at(k).scale);
      for (std::size_t k = 0; k < chosen.size(); ++k) {
        axis_at(k).scale = common;
        axis_at(k).resized =
            static_cast<std::int64_t>(std::floor(common * static_cast<float>(axis_at(k).size) + 0.5f));
      }
    }
  }
  if (options.coordinates == "tf_crop_and_resize") {
    const std::vector<float> roi = floats(call.input(1));
    if (roi.size() != 2 * chosen.size())
      fail("{}: the roi has {} entries for {} axes", describe(node), roi.size(), chosen.size());
    for (std::size_t k = 0; k < chosen.size(); ++k) {
      axis_at(k).roi_start = roi[k];
      axis_at(k).roi_end = roi[chosen.size() + k];
    }
  }
  return {resize_by(call, x, axes, options)};
}

std::vector<at::Tensor> upsample(const OpCall& call) {
  const at::Tensor& x = call.input(0);
  ResizeOptions options{
      .mode = call.node.attr("mode", "nearest"), .coordinates = "asymmetric", .nearest = "simple"};
  if (options.mode == "bilinear") options.mode = "linear";
  require_one_of(call, "mode", options.mode, {"nearest", "linear"});
  std::vector<float> scales;
  if (const auto* attribute = call.node.find<std::vector<float>>("scales"))
    scales = *attribute;
  else
    scales = floats(call.input(1));
  require_positive(call, scales, static_cast<std::size_t>(x.dim()));
  std::vector<ResizeAxis> axes;
  for (std::size_t i = 0; i < scales.size(); ++i) {
    const std::int64_t size = x.size(static_cast<std::int64_t>(i));
    axes.push_back({.size = size, .resized = scaled_size(size, scales[i]), .scale = scales[i]});
  }
  return {resize_by(call, x, axes, options)};
}

/// Moves the points of a volume's grid [.., 3] to the nearest voxels' centres. LibTorch rounds halves in
/// volumes away from zero, in images to even numbers; ONNX wants the latter throughout.
at::Tensor snapped_to_voxels(const at::Tensor& volume, const at::Tensor& grid, bool aligned) {
  const std::vector<std::int64_t> lengths{volume.size(4), volume.size(3), volume.size(2)};
  const at::Tensor length = at::tensor(lengths, at::kLong).to(grid.options());
  if (!aligned) return (at::round(((grid + 1) * length - 1) / 2) * 2 + 1) / length - 1;
  const at::Tensor last = length - 1;
  return at::round((grid + 1) / 2 * last) * 2 / last.clamp_min(1) - 1;
}

std::vector<at::Tensor> grid_sample(const OpCall& call) {
  const at::Tensor &x = call.input(0), &grid = call.input(1);
  const std::string mode = call.node.attr("mode", call.opset < 20 ? "bilinear" : "linear");
  const std::string padding = call.node.attr("padding_mode", "zeros");
  require_one_of(call, "mode", mode, {"bilinear", "linear", "nearest", "bicubic", "cubic"});
  require_one_of(call, "padding_mode", padding, {"zeros", "border", "reflection"});
  const std::int64_t interpolation = mode == "nearest" ? 1 : mode == "bicubic" || mode == "cubic" ? 2 : 0;
  const std::int64_t outside = padding == "zeros" ? 0 : padding == "border" ? 1 : 2;
  if ((x.dim() != 4 && x.dim() != 5) || grid.dim() != x.dim() || grid.size(0) != x.size(0) ||
      grid.size(-1) != x.dim() - 2)
    fail("{}: the grid {} does not fit the input {}", describe(call.node), format_shape(shape_of(grid)),
         format_shape(shape_of(x)));
  if (interpolation == 2 && x.dim() == 5)
    fail("{}: cubic sampling of volumes is not supported", describe(call.node));
  const bool aligned = call.node.attr("align_corners", std::int64_t{0}) != 0;
  return {in_float(x, [&](const at::Tensor& image) {
    at::Tensor points = grid.to(image.scalar_type());
    if (interpolation == 1 && image.dim() == 5) points = snapped_to_voxels(image, points, aligned);
    return at::grid_sampler(image, points, interpolation, outside, aligned);
  })};
}

std::vector<at::Tensor> affine_grid(const OpCall& call) {
  const Ints size = call.ints(1);
  check_output_shape(call, size);
  if (size.size() != 4 && size.size() != 5)
    fail("{}: the size {} is neither of an image nor of a volume", describe(call.node), format_shape(size));
  return {
      at::affine_grid_generator(call.input(0), size, call.node.attr("align_corners", std::int64_t{0}) != 0)};
}

/// Sample positions of a region along one axis, clamped as RoiAlign prescribes.
struct RoiAxis {
  Ints low, high;
  std::vector<float> low_weight, high_weight;
};

RoiAxis roi_axis(float start, float bin, std::int64_t bins, std::int64_t samples, std::int64_t size) {
  RoiAxis axis;
  for (std::int64_t i = 0; i < bins * samples; ++i) {
    const std::int64_t cell = i / samples, sample = i % samples;
    float position = start + static_cast<float>(cell) * bin +
                     (static_cast<float>(sample) + 0.5f) * bin / static_cast<float>(samples);
    const bool outside = position < -1 || position > static_cast<float>(size);
    position = std::clamp(position, 0.0f, static_cast<float>(size - 1));
    const auto low = static_cast<std::int64_t>(position);
    const float fraction = position - static_cast<float>(low);
    axis.low.push_back(low);
    axis.high.push_back(std::min(low + 1, size - 1));
    axis.low_weight.push_back(outside ? 0 : 1 - fraction);
    axis.high_weight.push_back(outside ? 0 : fraction);
  }
  return axis;
}

/// He et al., 2017 (Mask R-CNN), section 3.
std::vector<at::Tensor> roi_align(const OpCall& call) {
  const Node& node = call.node;
  const at::Tensor &x = call.input(0), &rois = call.input(1);
  const std::int64_t height = node.attr("output_height", std::int64_t{1}),
                     width = node.attr("output_width", std::int64_t{1}),
                     ratio = node.attr("sampling_ratio", std::int64_t{0});
  const float scale = node.attr("spatial_scale", 1.0f);
  const std::string mode = node.attr("mode", "avg");
  require_one_of(call, "mode", mode, {"avg", "max"});
  const bool half_pixel =
      call.opset >= 16 && node.attr("coordinate_transformation_mode", "half_pixel") == "half_pixel";
  const Ints batch = call.ints(2);
  if (x.dim() != 4 || x.size(2) < 1 || x.size(3) < 1 || rois.dim() != 2 || rois.size(1) != 4 ||
      rois.size(0) != static_cast<std::int64_t>(batch.size()) || height < 1 || width < 1 || ratio < 0)
    fail("{}: the regions {} do not fit the input {}", describe(node), format_shape(shape_of(rois)),
         format_shape(shape_of(x)));
  check_output_shape(call, {rois.size(0), x.size(1), height, width});
  const std::vector<float> boxes = floats(rois);
  std::vector<at::Tensor> results;
  for (std::size_t r = 0; r < batch.size(); ++r) {
    if (batch[r] < 0 || batch[r] >= x.size(0))
      fail("{}: region {} belongs to image {} of {}", describe(node), r, batch[r], x.size(0));
    const float shift = half_pixel ? 0.5f : 0.0f;
    const float left = boxes[4 * r] * scale - shift, top = boxes[4 * r + 1] * scale - shift;
    float roi_width = boxes[4 * r + 2] * scale - shift - left,
          roi_height = boxes[4 * r + 3] * scale - shift - top;
    if (!half_pixel) {
      roi_width = std::max(roi_width, 1.0f);
      roi_height = std::max(roi_height, 1.0f);
    }
    const float bin_w = roi_width / static_cast<float>(width),
                bin_h = roi_height / static_cast<float>(height);
    const auto samples = [&](float bin) {
      if (ratio > 0) return ratio;
      constexpr float kMaxSamples = 4096;  // of a region that is far larger than any image
      return static_cast<std::int64_t>(std::clamp(std::ceil(bin), 1.0f, kMaxSamples));
    };
    const std::int64_t ny = samples(bin_h), nx = samples(bin_w);
    check_output_shape(call, {x.size(1), height, ny, width, nx});
    const RoiAxis ys = roi_axis(top, bin_h, height, ny, x.size(2)),
                  xs = roi_axis(left, bin_w, width, nx, x.size(3));
    const at::Tensor image = x[batch[r]];
    const auto corner = [&](const Ints& yi, const std::vector<float>& yw, const Ints& xi,
                            const std::vector<float>& xw) {
      const auto index = [&](const Ints& values) { return at::tensor(values, at::kLong).to(x.device()); };
      const auto weight = [&](const std::vector<float>& values) {
        return at::tensor(values, at::kFloat).to(x.device(), x.scalar_type());
      };
      return image.index_select(1, index(yi)).index_select(2, index(xi)) * weight(yw).unsqueeze(1) *
             weight(xw);
    };
    const at::Tensor corners = at::stack({corner(ys.low, ys.low_weight, xs.low, xs.low_weight),
                                          corner(ys.low, ys.low_weight, xs.high, xs.high_weight),
                                          corner(ys.high, ys.high_weight, xs.low, xs.low_weight),
                                          corner(ys.high, ys.high_weight, xs.high, xs.high_weight)});
    const Ints bins{x.size(1), height, ny, width, nx};
    // ONNX's maximum is over the weighted corners, not over interpolated samples.
    results.push_back(mode == "avg" ? corners.sum(0).reshape(bins).mean({2, 4})
                                    : corners.amax(0).reshape(bins).amax({2, 4}));
  }
  if (results.empty()) return {at::empty({0, x.size(1), height, width}, x.options())};
  return {at::stack(results)};
}

struct Box {
  float x1, y1, x2, y2;
  float area() const { return (x2 - x1) * (y2 - y1); }
};

float intersection_over_union(const Box& a, const Box& b) {
  const float width = std::min(a.x2, b.x2) - std::max(a.x1, b.x1);
  const float height = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
  if (width <= 0 || height <= 0) return 0;
  const float common = width * height, both = a.area() + b.area() - common;
  return both > 0 ? common / both : 0;
}

std::vector<at::Tensor> non_max_suppression(const OpCall& call) {
  const at::Tensor &boxes = call.input(0), &scores = call.input(1);
  if (boxes.dim() != 3 || boxes.size(2) != 4 || scores.dim() != 3 || scores.size(0) != boxes.size(0) ||
      scores.size(2) != boxes.size(1))
    fail("{}: the boxes {} and scores {} do not fit together", describe(call.node),
         format_shape(shape_of(boxes)), format_shape(shape_of(scores)));
  const std::int64_t most = call.has(2) ? call.inputs[2].item().toLong() : 0;
  const float overlap = call.has(3) ? call.inputs[3].item().toFloat() : 0;
  const float threshold =
      call.has(4) ? call.inputs[4].item().toFloat() : -std::numeric_limits<float>::infinity();
  const bool centred = call.node.attr("center_point_box", std::int64_t{0}) != 0;
  const std::vector<float> coordinates = floats(boxes), values = floats(scores);
  const std::int64_t images = boxes.size(0), count = boxes.size(1), classes = scores.size(1);
  const auto box_at = [&](std::int64_t image, std::int64_t i) -> Box {
    const float* p = &coordinates[static_cast<std::size_t>((image * count + i) * 4)];
    if (centred) return {p[0] - p[2] / 2, p[1] - p[3] / 2, p[0] + p[2] / 2, p[1] + p[3] / 2};
    return {std::min(p[1], p[3]), std::min(p[0], p[2]), std::max(p[1], p[3]), std::max(p[0], p[2])};
  };
  Ints selected;
  for (std::int64_t image = 0; image < images; ++image) {
    for (std::int64_t label = 0; label < classes; ++label) {
      const float* score = values.data() + (image * classes + label) * count;
      Ints order;
      for (std::int64_t i = 0; i < count; ++i)
        if (score[i] > threshold) order.push_back(i);
      std::stable_sort(order.begin(), order.end(),
                       [&](std::int64_t a, std::int64_t b) { return score[a] > score[b]; });
      std::vector<Box> kept;
      for (const std::int64_t i : order) {
        if (static_cast<std::int64_t>(kept.size()) >= most) break;
        const Box box = box_at(image, i);
        if (std::any_of(kept.begin(), kept.end(),
                        [&](const Box& other) { return intersection_over_union(box, other) > overlap; }))
          continue;
        kept.push_back(box);
        selected.insert(selected.end(), {image, label, i});
      }
    }
  }
  const auto rows = static_cast<std::int64_t>(selected.size()) / 3;
  return {at::tensor(selected, at::kLong).view({rows, 3}).to(boxes.device())};
}

}  // namespace

void register_image(OpRegistry& registry) {
  registry.add("Resize", resize, 10, 24);
  registry.add("Upsample", upsample, 7, 9);
  registry.add("GridSample", grid_sample, 16, 24);
  registry.add("AffineGrid", affine_grid, 20, 24);
  registry.add("RoiAlign", roi_align, 10, 24);
  registry.add("NonMaxSuppression", non_max_suppression, 10, 24);
}

}  // namespace lithe
