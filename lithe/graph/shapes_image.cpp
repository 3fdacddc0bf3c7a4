// Shape rules of resampling and detection operators.
#include <algorithm>
#include <cmath>

#include "lithe/graph/shape_rules.h"

namespace lithe {
namespace {

/// The attribute "axes", or all axes where it is absent.
std::vector<std::size_t> chosen_axes(const ShapeCall& call, const Shape& x) {
  std::vector<std::size_t> axes;
  for (const std::int64_t value : call.node.attr("axes", std::vector<std::int64_t>{}))
    axes.push_back(call.axis(value, x.size()));
  if (axes.empty())
    for (std::size_t i = 0; i < x.size(); ++i) axes.push_back(i);
  return axes;
}

void resize(ShapeCall& call) {
  const Shape* x = call.shape(0);
  if (!x) return call.set(0, call.dtype(0));
  // Upsample and the first Resize have the scales at input 1.
  const bool old = call.node.op_type == "Upsample" || call.opset == 10;
  const std::size_t scales_input = old ? 1 : 2;
  const std::vector<std::size_t> axes = chosen_axes(call, *x);

  Shape out = *x;
  for (const std::size_t axis : axes) out[axis] = Quantity();
  const KnownTensor* sizes = old ? nullptr : call.known(3);
  std::vector<Quantity> scales;
  if (const KnownTensor* tensor = call.known(scales_input)) scales = tensor->elements;
  if (const auto* attribute = call.node.find<std::vector<float>>("scales"))
    for (const float value : *attribute) scales.push_back(Quantity::real(value));
  if (sizes && sizes->elements.size() == axes.size()) {
    std::vector<Quantity> target = sizes->elements;
    const std::string policy = call.node.attr("keep_aspect_ratio_policy", "stretch");
    if (policy != "stretch") {
      std::optional<double> scale;
      for (std::size_t i = 0; i < axes.size(); ++i) {
        const Quantity& from = (*x)[axes[i]];
        if (!from.is_integer() || !target[i].is_integer() || from.integer() == 0)
          return call.set(0, call.dtype(0), std::move(out));
        const double ratio = static_cast<double>(target[i].integer()) / static_cast<double>(from.integer());
        if (!scale || (policy == "not_larger" ? ratio < *scale : ratio > *scale)) scale = ratio;
      }
      if (!(*scale < 1e6)) return call.set(0, call.dtype(0), std::move(out));
      for (std::size_t i = 0; i < axes.size(); ++i)
        target[i] = static_cast<std::int64_t>(
            std::floor(*scale * static_cast<double>((*x)[axes[i]].integer()) + 0.5));
    }
    for (std::size_t i = 0; i < axes.size(); ++i) out[axes[i]] = target[i];
  } else if (scales.size() == axes.size()) {
    for (std::size_t i = 0; i < axes.size(); ++i) {
      const Quantity& from = (*x)[axes[i]];
      if (!scales[i].is_number()) continue;
      const double scale = scales[i].number();
      if (!(scale > 0)) call.contradiction("a scale is {}", scale);
      if (from.is_integer()) {
        const double size = std::floor(static_cast<double>(from.integer()) * scale);
        if (size < 9e15) out[axes[i]] = static_cast<std::int64_t>(size);
      } else {
        out[axes[i]] = from * scales[i];
      }
    }
  } else if (!scales.empty() || (sizes && !sizes->elements.empty())) {
    call.contradiction("{} scales or sizes are given for {} axes",
                       scales.empty() ? sizes->elements.size() : scales.size(), axes.size());
  }
  call.set(0, call.dtype(0), std::move(out));
}

void grid_sample(ShapeCall& call) {
  const Shape *x = call.shape(0), *grid = call.shape(1);
  if (!x || !grid || grid->size() != x->size() || x->size() < 3) return call.set(0, call.dtype(0));
  Shape out{(*x)[0], (*x)[1]};
  out.insert(out.end(), grid->begin() + 1, grid->end() - 1);
  call.set(0, call.dtype(0), std::move(out));
}

void affine_grid(ShapeCall& call) {
  const KnownTensor* size = call.known(1);
  if (!size || size->elements.size() < 4) return call.set(0, call.dtype(0));
  Shape out{size->elements[0]};
  out.insert(out.end(), size->elements.begin() + 2, size->elements.end());
  out.push_back(static_cast<std::int64_t>(size->elements.size() - 2));
  call.set(0, call.dtype(0), std::move(out));
}

void roi_align(ShapeCall& call) {
  const Shape *x = call.shape(0), *rois = call.shape(1);
  call.set(0, call.dtype(0),
           Shape{rois && !rois->empty() ? rois->front() : Quantity(),
                 x && x->size() > 1 ? (*x)[1] : Quantity(), call.node.attr("output_height", std::int64_t{1}),
                 call.node.attr("output_width", std::int64_t{1})});
}

void max_roi_pool(ShapeCall& call) {
  const Shape *x = call.shape(0), *rois = call.shape(1);
  const auto pooled = call.node.attr("pooled_shape", std::vector<std::int64_t>{});
  if (pooled.size() != 2) call.contradiction("pooled_shape must have two numbers");
  call.set(0, call.dtype(0),
           Shape{rois && !rois->empty() ? rois->front() : Quantity(),
                 x && x->size() > 1 ? (*x)[1] : Quantity(), pooled[0], pooled[1]});
}

void non_max_suppression(ShapeCall& call) {
  call.set(0, DType::Int64, Shape{Quantity(), 3});
}

void center_crop_pad(ShapeCall& call) {
  const Shape* x = call.shape(0);
  if (!x) return call.set(0, call.dtype(0));
  const std::vector<std::size_t> axes = chosen_axes(call, *x);
  Shape out = *x;
  const KnownTensor* target = call.known(1);
  for (std::size_t i = 0; i < axes.size(); ++i)
    out[axes[i]] = target && i < target->elements.size() ? target->elements[i] : Quantity();
  call.set(0, call.dtype(0), std::move(out));
}

void col2im(ShapeCall& call) {
  const Shape* x = call.shape(0);
  const KnownTensor *image = call.known(1), *block = call.known(2);
  if (!x || x->size() != 3 || !image || !block) return call.set(0, call.dtype(0));
  const Quantity window = product(block->elements, 0, block->elements.size());
  Shape out{(*x)[0], Quantity::divide_exactly((*x)[1], window).value_or(Quantity())};
  out.insert(out.end(), image->elements.begin(), image->elements.end());
  call.set(0, call.dtype(0), std::move(out));
}

}  // namespace

void add_image_rules(ShapeRules& rules) {
  rules["Resize"] = resize;
  rules["Upsample"] = resize;
  rules["GridSample"] = grid_sample;
  rules["AffineGrid"] = affine_grid;
  rules["RoiAlign"] = roi_align;
  rules["MaxRoiPool"] = max_roi_pool;
  rules["NonMaxSuppression"] = non_max_suppression;
  rules["CenterCropPad"] = center_crop_pad;
  rules["Col2Im"] = col2im;
}

}  // namespace lithe
