// Operators on images and volumes give what stock ONNX Runtime gives.
#include <gtest/gtest.h>

#include "onnxruntime/need.h"
#include "onnxruntime/operator_cases.h"

namespace lithe {
namespace {

using Attributes = std::map<std::string, Attribute, std::less<>>;

TEST(ImageOperatorsAsOnnxRuntime, Convolutions) {
  LITHE_NEED_ONNX_RUNTIME();
  Operands make(11);
  const at::Tensor x = make.floats({1, 4, 6, 7}), row = make.floats({2, 4, 9});
  const at::Tensor weight = make.floats({4, 3, 3, 3});  // of a transposed convolution
  const at::Tensor offsets = make.floats({1, 18, 4, 5}), kernel = make.floats({3, 4, 3, 3});
  std::vector<OperatorCase> cases{
      {"Conv", {x, kernel, make.floats({3})}, {{"auto_pad", "SAME_LOWER"}, {"strides", Ints{2, 2}}}},
      {"Conv", {x, make.floats({6, 2, 3, 2})}, {{"group", 2}, {"dilations", Ints{2, 1}}}},
      {"Conv", {row, make.floats({4, 1, 3})}, {{"group", 4}, {"pads", Ints{2, 0}}}},
      {"Conv", {make.floats({1, 2, 4, 5, 4}), make.floats({3, 2, 2, 3, 2})}, {{"strides", Ints{1, 2, 2}}}},
      {"ConvTranspose", {x, weight}, {{"group", 2}, {"strides", Ints{2, 2}}}},
      {"ConvTranspose", {make.floats({3, 4, 4, 4}), weight, make.floats({6})}, {{"group", 2}}},
      {"ConvTranspose",
       {x, weight},
       {{"strides", Ints{3, 2}}, {"output_padding", Ints{1, 1}}, {"pads", Ints{1, 0, 0, 1}}}},
      {"ConvTranspose", {x, weight}, {{"dilations", Ints{2, 2}}, {"pads", Ints{1, 1, 1, 1}}}},
      {"ConvTranspose", {x, weight}, {{"strides", Ints{2, 2}}, {"output_shape", Ints{12, 14}}}},
      {"ConvTranspose", {x, weight}, {{"strides", Ints{2, 2}}, {"auto_pad", "SAME_UPPER"}}},
      {"ConvTranspose", {row, make.floats({4, 2, 3})}, {{"group", 4}, {"strides", Ints{2}}}},
      {"DeformConv", {x, kernel, offsets}, {}, 19},
      {"DeformConv",
       {x, kernel, make.floats({1, 18, 6, 7}), make.floats({3}), make.floats({1, 9, 6, 7})},
       {{"pads", Ints{1, 1, 1, 1}}},
       19},
      {"DeformConv",
       {x, make.floats({4, 2, 3, 3}), make.floats({1, 36, 3, 3}), Operand(), make.floats({1, 18, 3, 3})},
       {{"offset_group", 2}, {"group", 2}, {"strides", Ints{2, 2}}, {"pads", Ints{1, 0, 1, 0}}},
       19},
  };
  expect_as_onnx_runtime(cases);
}

TEST(ImageOperatorsAsOnnxRuntime, Pooling) {
  LITHE_NEED_ONNX_RUNTIME();
  Operands make(12);
  const at::Tensor x = make.floats({1, 2, 7, 8}), volume = make.floats({1, 2, 5, 6, 5});
  const Ints two{2, 2}, three{3, 3}, pads{1, 1, 1, 1};
  const Attribute ceil = 1;
  std::vector<OperatorCase> cases{
      {"AveragePool", {x}, {{"kernel_shape", three}, {"dilations", two}}},
      {"AveragePool", {x}, {{"kernel_shape", three}, {"strides", two}, {"pads", pads}, {"ceil_mode", ceil}}},
      {"AveragePool",
       {x},
       {{"kernel_shape", three}, {"strides", three}, {"pads", pads}, {"count_include_pad", 1}}},
      {"AveragePool", {x}, {{"kernel_shape", two}, {"strides", two}, {"ceil_mode", ceil}}},
      {"AveragePool", {x}, {{"kernel_shape", three}, {"auto_pad", "SAME_LOWER"}, {"strides", two}}},
      {"AveragePool", {volume}, {{"kernel_shape", Ints{2, 2, 2}}, {"dilations", Ints{2, 1, 2}}}},
      {"AveragePool",
       {make.floats({1, 1, 2, 2})},  // the last window would start on padding
       {{"kernel_shape", three}, {"strides", three}, {"pads", pads}, {"ceil_mode", ceil}}},
      {"MaxPool", {x}, {{"kernel_shape", three}, {"strides", two}, {"ceil_mode", ceil}}},
      {"MaxPool",
       {make.floats({1, 1, 2, 2})},
       {{"kernel_shape", Ints{1, 1}}, {"strides", two}, {"ceil_mode", ceil}}},
      {"MaxPool", {x}, {{"kernel_shape", three}, {"dilations", two}, {"pads", pads}}, 20, 2},
      {"MaxPool", {x}, {{"kernel_shape", two}, {"storage_order", 1}}, 20, 2},
      {"MaxPool", {volume}, {{"kernel_shape", Ints{2, 2, 2}}, {"dilations", Ints{2, 2, 2}}}},
      {"MaxPool", {x}, {{"kernel_shape", three}, {"auto_pad", "SAME_UPPER"}, {"strides", two}}},
      {"LpPool", {x}, {{"kernel_shape", two}, {"dilations", two}}},
      {"LpPool", {x}, {{"kernel_shape", three}, {"strides", two}, {"pads", pads}, {"p", 1}}},
      {"GlobalAveragePool", {volume}},
      {"GlobalMaxPool", {x}},
      {"GlobalLpPool", {x}, {{"p", 3}}},
      {"MaxUnpool",
       {make.floats({1, 1, 2, 2}), list({5, 7, 13, 15}).reshape({1, 1, 2, 2})},
       {{"kernel_shape", two}, {"strides", two}}},
  };
  expect_as_onnx_runtime(cases);
}

TEST(ImageOperatorsAsOnnxRuntime, Sampling) {
  LITHE_NEED_ONNX_RUNTIME();
  Operands make(13);
  const at::Tensor x = make.floats({2, 2, 5, 6}), grid = make.floats({2, 4, 3, 2}, -1.3, 1.3);
  const at::Tensor volume = make.floats({1, 2, 3, 4, 5}), paths = make.floats({1, 3, 2, 2, 3}, -1.3, 1.3);
  std::vector<OperatorCase> cases{
      {"AffineGrid", {make.floats({2, 2, 3}), list({2, 3, 4, 5})}},
      {"AffineGrid", {make.floats({2, 2, 3}), list({2, 3, 4, 5})}, {{"align_corners", 1}}},
      {"AffineGrid", {make.floats({1, 3, 4}), list({1, 2, 3, 4, 5})}},
  };
  for (const std::int64_t align : {0, 1})
    for (const std::string padding : {"zeros", "border", "reflection"}) {
      const auto settings = [&](const std::string& mode) {
        return Attributes{{"mode", mode}, {"padding_mode", padding}, {"align_corners", align}};
      };
      for (const std::string mode : {"nearest", "linear", "cubic"})
        cases.push_back({"GridSample", {x, grid}, settings(mode)});
      for (const std::string mode : {"nearest", "linear"})
        cases.push_back({"GridSample", {volume, paths}, settings(mode)});
      for (const std::string mode : {"nearest", "bilinear", "bicubic"})
        cases.push_back({"GridSample", {x, grid}, settings(mode), 16});
    }
  expect_as_onnx_runtime(cases);
}

TEST(ImageOperatorsAsOnnxRuntime, Resize) {
  LITHE_NEED_ONNX_RUNTIME();
  Operands make(14);
  const at::Tensor x = make.floats({1, 2, 5, 6});
  const Operand none;
  const auto by_scales = [&](const std::vector<float>& scales, Attributes settings) {
    return OperatorCase{"Resize", {x, none, reals(scales)}, std::move(settings), 19};
  };
  const auto to_sizes = [&](const Ints& sizes, Attributes settings) {
    return OperatorCase{"Resize", {x, none, none, list(sizes)}, std::move(settings), 19};
  };
  const Ints height_width{2, 3}, width_height{3, 2};
  const at::Tensor window = reals({0, 0, 0.4f, -0.2f, 1, 1, 0.9f, 1.3f});
  const Attribute crop = "tf_crop_and_resize";
  std::vector<OperatorCase> cases{
      by_scales({1, 1, 0.6f, 0.5f}, {{"mode", "cubic"}, {"antialias", 1}}),
      by_scales({1, 1, 0.6f, 0.5f}, {{"mode", "linear"}, {"antialias", 1}}),
      to_sizes({1, 2, 3, 4}, {{"mode", "linear"}, {"antialias", 1}}),
      to_sizes({1, 2, 8, 4}, {{"mode", "cubic"}, {"antialias", 1}, {"exclude_outside", 1}}),
      by_scales({1, 1, 0.6f, 0.6f},
                {{"mode", "linear"}, {"coordinate_transformation_mode", "half_pixel_symmetric"}}),
      by_scales({2, 2.5f}, {{"axes", height_width}}),
      by_scales({2, 3}, {{"axes", width_height}}),
      to_sizes({7, 9}, {{"axes", width_height}, {"mode", "cubic"}, {"cubic_coeff_a", -0.5f}}),
      by_scales({1, 1, 1.5f, 2}, {{"mode", "cubic"}, {"exclude_outside", 1}}),
  };
  for (const std::string policy : {"not_larger", "not_smaller"})
    for (const Ints& sizes : {Ints{3, 4}, Ints{7, 9}})
      cases.push_back(to_sizes(sizes, {{"axes", height_width}, {"keep_aspect_ratio_policy", policy}}));
  for (const std::string mode :
       {"half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners", "half_pixel_symmetric"}) {
    for (const std::string filter : {"linear", "cubic", "nearest"}) {
      cases.push_back(to_sizes({1, 2, 8, 9}, {{"mode", filter}, {"coordinate_transformation_mode", mode}}));
      cases.push_back(to_sizes({1, 2, 3, 1}, {{"mode", filter}, {"coordinate_transformation_mode", mode}}));
    }
    for (const std::string nearest : {"floor", "ceil", "round_prefer_ceil", "round_prefer_floor"})
      cases.push_back(by_scales({1, 1, 0.7f, 1.6f},
                                {{"nearest_mode", nearest}, {"coordinate_transformation_mode", mode}}));
  }
  cases.push_back(
      {"Resize",
       {x, window, none, list({1, 2, 3, 4})},
       {{"mode", "linear"}, {"coordinate_transformation_mode", crop}, {"extrapolation_value", 10.0f}},
       19});
  for (const Ints& axes : {height_width, width_height})
    cases.push_back({"Resize",
                     {x, reals({0.4f, 0.6f, 0.8f, 0.7f}), none, list({3, 4})},
                     {{"mode", "linear"}, {"coordinate_transformation_mode", crop}, {"axes", axes}},
                     19});
  expect_as_onnx_runtime(cases);
}

TEST(ImageOperatorsAsOnnxRuntime, Detection) {
  LITHE_NEED_ONNX_RUNTIME();
  Operands make(15);
  const at::Tensor corner = make.floats({2, 12, 2}, 0, 0.7), size = make.floats({2, 12, 2}, 0.1, 0.4);
  const at::Tensor boxes = at::cat({corner, corner + size}, -1), centred = at::cat({corner, size}, -1);
  const at::Tensor scores = make.floats({2, 3, 12}, 0, 1);
  // Boxes of height 1 whose overlap is exactly the threshold.
  const at::Tensor halves = reals({0, 0, 1, 1, 0, 0, 1, 0.5f, 0, 2, 1, 3}).reshape({1, 3, 4});
  const at::Tensor image = make.floats({2, 3, 8, 9}),
                   rois = reals({1, 1, 6, 5, 0, 2, 3.5f, 7, 2, 2, 2.2f, 2.1f}).reshape({3, 4});
  const at::Tensor batch = list({0, 1, 1});
  std::vector<OperatorCase> cases{
      {"NonMaxSuppression", {boxes, scores, list({5}), reals({0.3f}), reals({0.2f})}},
      {"NonMaxSuppression", {centred, scores, number(4, at::kLong), number(0.4)}, {{"center_point_box", 1}}},
      {"NonMaxSuppression", {boxes, scores}},
      {"NonMaxSuppression", {halves, reals({0.9f, 0.8f, 0.7f}).reshape({1, 1, 3}), list({3}), reals({0.5})}},
  };
  for (const std::string mode : {"avg", "max"})
    for (const std::int64_t ratio : {0, 2}) {
      Attributes settings{{"mode", mode},
                          {"sampling_ratio", ratio},
                          {"output_height", 3},
                          {"output_width", 2},
                          {"spatial_scale", 0.8f}};
      for (const std::string pixels : {"half_pixel", "output_half_pixel"}) {
        settings.insert_or_assign("coordinate_transformation_mode", pixels);
        cases.push_back({"RoiAlign", {image, rois, batch}, settings, 16});
      }
    }
  expect_as_onnx_runtime(cases);
}

}  // namespace
}  // namespace lithe
