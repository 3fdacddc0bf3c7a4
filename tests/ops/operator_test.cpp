// Forms of operators that the ONNX project's older test data does not have, types, limits and errors.
#include <ATen/CPUGeneratorImpl.h>

#include <cmath>
#include <limits>

#include "ops/op_testing.h"

namespace lithe {
namespace {

using Ints = std::vector<std::int64_t>;
constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

at::Tensor bools(const std::vector<std::uint8_t>& values) {
  return at::tensor(std::vector<int>(values.begin(), values.end()), at::kInt).to(at::kBool);
}

// --- elementwise -----------------------------------------------------------------------------------------

TEST(Elementwise, GeluHasTwoForms) {
  const at::Tensor x = floats({-1, 0, 1, 3});
  // x * Phi(x), and Hendrycks and Gimpel's approximation by tanh.
  EXPECT_TRUE(close(run_op("Gelu", {x}), floats({-0.15865525f, 0, 0.84134475f, 2.9959502f})));
  EXPECT_TRUE(close(run_op("Gelu", {x}, {.attributes = {{"approximate", std::string("tanh")}}}),
                    floats({-0.15880801f, 0, 0.84119199f, 2.9963627f})));
  EXPECT_NE(message_of([&] {
              run_op("Gelu", {x}, {.attributes = {{"approximate", std::string("fast")}}});
            }).find("'fast'"),
            std::string::npos);
}

TEST(Elementwise, SwishAndMish) {
  EXPECT_TRUE(close(run_op("Swish", {floats({1, -2})}), floats({0.73105858f, -0.23840584f})));
  EXPECT_TRUE(
      close(run_op("Swish", {floats({1})}, {.attributes = {{"alpha", 2.0f}}}), floats({0.88079708f})));
  EXPECT_TRUE(close(run_op("Mish", {floats({1, 0, -30})}), floats({0.86509839f, 0, -2.8e-12f}), 1e-5, 1e-7));
}

TEST(Elementwise, IntegerDivisionTruncatesAndSurvivesTheLeastNumber) {
  EXPECT_TRUE(same(run_op("Div", {ints({7, -7, 7, -7}), ints({2, 2, -2, -2})}), ints({3, -3, -3, 3})));
  EXPECT_TRUE(same(run_op("Div", {ints({kLeast, 6}), ints({-1, -1})}), ints({kLeast, -6})));
  EXPECT_TRUE(same(run_op("Mod", {ints({kLeast, -7}), ints({-1, 3})}), ints({0, 2})));
  EXPECT_TRUE(
      same(run_op("Mod", {ints({kLeast, -7}), ints({-1, 3})}, {.attributes = {{"fmod", std::int64_t{1}}}}),
           ints({0, -1})));
  EXPECT_THROW(run_op("Mod", {floats({1}), floats({2})}), Error);
}

TEST(Elementwise, RoundGoesToEven) {
  EXPECT_TRUE(same(run_op("Round", {floats({0.5, 1.5, 2.5, -0.5, -1.5})}), floats({0, 2, 2, -0.0, -2})));
}

TEST(Elementwise, ClipTakesMaxWhereBoundsCross) {
  EXPECT_TRUE(
      same(run_op("Clip", {floats({-5, 2, 9}), at::tensor(4.0f), at::tensor(1.0f)}), floats({1, 1, 1})));
  EXPECT_TRUE(
      same(run_op("Clip", {ints({-5, 2, 9}), at::Tensor(), at::tensor(std::int64_t{3})}), ints({-5, 2, 3})));
  EXPECT_TRUE(
      same(run_op("Clip", {floats({-5, 2, 9})}, {.attributes = {{"min", 0.0f}, {"max", 6.0f}}, .opset = 10}),
           floats({0, 2, 6})));
}

TEST(Elementwise, PowKeepsTheTypeOfTheBase) {
  EXPECT_TRUE(
      same(run_op("Pow", {at::tensor({2, 3}, at::kInt), floats({2.5, 2})}), at::tensor({5, 9}, at::kInt)));
  EXPECT_TRUE(same(run_op("Pow", {floats({2, 3}), ints({3, 2})}), floats({8, 9})));
  EXPECT_TRUE(same(run_op("Pow", {floats({4, 9}), at::tensor({0.5f})}), floats({2, 3})));
}

TEST(Elementwise, CastKeepsLowBitsOfNarrowTypes) {
  const auto cast = [](const at::Tensor& x, DType to) {
    return run_op("Cast", {x}, {.attributes = {{"to", static_cast<std::int64_t>(to)}}});
  };
  EXPECT_TRUE(same(cast(ints({7, 8, -1, 16}), DType::Int4), at::tensor({7, -8, -1, 0}, at::kChar)));
  EXPECT_TRUE(same(cast(ints({15, 16, -1}), DType::UInt4), at::tensor({15, 0, 15}, at::kByte)));
  EXPECT_TRUE(same(cast(ints({65535, 65536, -1}), DType::UInt16), at::tensor({65535, 0, 65535}, at::kInt)));
  EXPECT_TRUE(same(cast(floats({0, -0.5, 2}), DType::Bool), bools({0, 1, 1})));
  EXPECT_THROW(cast(floats({1}), DType::String), Error);
}

TEST(Elementwise, IsInfLooksAtTheSign) {
  const float inf = INFINITY;
  const at::Tensor x = floats({-inf, 1, inf, NAN});
  EXPECT_TRUE(same(run_op("IsInf", {x}), bools({1, 0, 1, 0})));
  EXPECT_TRUE(same(run_op("IsInf", {x}, {.attributes = {{"detect_negative", std::int64_t{0}}}}),
                   bools({0, 0, 1, 0})));
  EXPECT_TRUE(same(run_op("IsInf", {x}, {.attributes = {{"detect_positive", std::int64_t{0}}}}),
                   bools({1, 0, 0, 0})));
}

TEST(Elementwise, DropoutDropsAndScalesInTraining) {
  const at::Tensor x = at::ones({20000});
  const OpSettings settings{.attributes = {{"seed", std::int64_t{3}}}, .outputs = 2};
  const std::vector<at::Tensor> inputs{x, at::tensor(0.25f), bools({1}).reshape({})};
  const auto first = run_op_all("Dropout", inputs, settings),
             second = run_op_all("Dropout", inputs, settings);
  EXPECT_TRUE(same(first[0], second[0]));
  EXPECT_TRUE(same(first[0], first[1].to(at::kFloat) / 0.75));
  EXPECT_NEAR(first[0].mean().item<double>(), 1, 0.02);
  EXPECT_TRUE(same(run_op("Dropout", {x, at::tensor(0.25f)}), x));
  EXPECT_FALSE(at::equal(run_op("Dropout", {x, at::tensor(0.25f)}, {.training = true}), x));
}

TEST(Elementwise, HalfTypesFollowFloat32) {
  const at::Tensor x = floats({0.1f, 0.25f, 0.5f, 0.9f});
  for (const char* op : {"Abs",       "Neg",         "Sqrt",       "Exp",
                         "Log",       "Reciprocal",  "Floor",      "Ceil",
                         "Round",     "Sign",        "Erf",        "Sin",
                         "Cos",       "Tan",         "Asin",       "Acos",
                         "Atan",      "Sinh",        "Cosh",       "Asinh",
                         "Atanh",     "Tanh",        "Sigmoid",    "Relu",
                         "HardSwish", "HardSigmoid", "Mish",       "Softplus",
                         "Softsign",  "LeakyRelu",   "Elu",        "Selu",
                         "Celu",      "Gelu",        "Swish",      "ThresholdedRelu",
                         "Shrink",    "Identity",    "ReduceSum",  "ReduceMean",
                         "ReduceMax", "ReduceL2",    "ReduceProd", "ReduceLogSumExp"}) {
    for (const at::ScalarType type : {at::kHalf, at::kBFloat16}) {
      const at::Tensor narrow = x.to(type);
      const at::Tensor y = run_op(op, {narrow});
      EXPECT_EQ(y.scalar_type(), type) << op;
      EXPECT_TRUE(
          close(y.to(at::kFloat), run_op(op, {narrow.to(at::kFloat)}), type == at::kHalf ? 2e-3 : 1e-2, 1e-3))
          << op;
    }
  }
  for (const char* op : {"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "PRelu"}) {
    const at::Tensor a = x.to(at::kHalf), b = (x + 0.5).to(at::kHalf);
    const at::Tensor y = run_op(op, {a, b});
    EXPECT_EQ(y.scalar_type(), at::kHalf) << op;
    EXPECT_TRUE(close(y.to(at::kFloat), run_op(op, {a.to(at::kFloat), b.to(at::kFloat)}), 2e-3, 1e-3)) << op;
  }
}

// --- logic -----------------------------------------------------------------------------------------------

TEST(Logic, BitwiseOperators) {
  const at::Tensor a = ints({12, -1}), b = ints({10, 7});
  EXPECT_TRUE(same(run_op("BitwiseAnd", {a, b}), ints({8, 7})));
  EXPECT_TRUE(same(run_op("BitwiseOr", {a, b}), ints({14, -1})));
  EXPECT_TRUE(same(run_op("BitwiseXor", {a, b}), ints({6, -8})));
  EXPECT_TRUE(same(run_op("BitwiseNot", {a}), ints({-13, 0})));
}

TEST(Logic, WhereRefusesOtherConditions) {
  EXPECT_NE(message_of([] {
              run_op("Where", {ints({1}), ints({1}), ints({2})});
            }).find("bool"),
            std::string::npos);
}

// --- reductions ------------------------------------------------------------------------------------------

TEST(Reduction, AxesAsAttributeAndAsInput) {
  const at::Tensor x = at::arange(6, at::kFloat).reshape({2, 3});
  EXPECT_TRUE(same(run_op("ReduceMax", {x}, {.attributes = {{"axes", Ints{1}}}, .opset = 13}),
                   floats({2, 5}).reshape({2, 1})));
  EXPECT_TRUE(same(run_op("ReduceMax", {x, ints({-1})}, {.attributes = {{"keepdims", std::int64_t{0}}}}),
                   floats({2, 5})));
  EXPECT_TRUE(same(run_op("ReduceMean", {x}), at::full({1, 1}, 2.5f)));
}

TEST(Reduction, EmptyAxesMayMeanNone) {
  const at::Tensor x = floats({-1, 2});
  const OpSettings none{.attributes = {{"noop_with_empty_axes", std::int64_t{1}}}};
  EXPECT_TRUE(same(run_op("ReduceSum", {x, ints({})}, none), x));
  // The steps of a composite reduction that are not the reduction itself still happen.
  EXPECT_TRUE(same(run_op("ReduceSumSquare", {x, ints({})}, none), floats({1, 4})));
  EXPECT_TRUE(same(run_op("ReduceL2", {x, ints({})}, none), floats({1, 2})));
  EXPECT_TRUE(same(run_op("ReduceSum", {x, ints({})}), floats({1})));
}

TEST(Reduction, OfNothing) {
  const at::Tensor nothing = at::empty({2, 0}, at::kFloat);
  const std::vector<at::Tensor> inputs{nothing, ints({1})};
  EXPECT_TRUE(same(run_op("ReduceMax", inputs), at::full({2, 1}, -INFINITY)));
  EXPECT_TRUE(same(run_op("ReduceMin", {nothing.to(at::kInt), ints({1})}),
                   at::full({2, 1}, std::numeric_limits<std::int32_t>::max(), at::kInt)));
  EXPECT_TRUE(same(run_op("ReduceSum", inputs), at::zeros({2, 1})));
  EXPECT_TRUE(same(run_op("ReduceProd", inputs), at::ones({2, 1})));
  EXPECT_TRUE(same(run_op("ReduceLogSumExp", inputs), at::full({2, 1}, -INFINITY)));
}

TEST(Reduction, OfBools) {
  const at::Tensor x = bools({1, 0, 0, 0}).reshape({2, 2});
  EXPECT_TRUE(same(run_op("ReduceMax", {x, ints({1})}), bools({1, 0}).reshape({2, 1})));
  EXPECT_TRUE(same(run_op("ReduceMin", {x, ints({1})}), bools({0, 0}).reshape({2, 1})));
}

TEST(Reduction, ProductDropsTheRightAxes) {
  const at::Tensor x = at::arange(1, 9, at::kFloat).reshape({2, 2, 2});
  EXPECT_TRUE(same(run_op("ReduceProd", {x, ints({2, 0})}, {.attributes = {{"keepdims", std::int64_t{0}}}}),
                   floats({60, 672})));
}

TEST(Reduction, TopKOrdersEqualElementsByIndex) {
  const auto outputs = run_op_all("TopK", {floats({1, 3, 3, 2, 3}), ints({4})}, {.outputs = 2});
  EXPECT_TRUE(same(outputs[0], floats({3, 3, 3, 2})));
  EXPECT_TRUE(same(outputs[1], ints({1, 2, 4, 3})));
  EXPECT_NE(message_of([] { run_op("TopK", {floats({1}), ints({2})}); }).find("k = 2"), std::string::npos);
}

// --- shape -----------------------------------------------------------------------------------------------

TEST(Shape, SplitByNumberLeavesASmallerLast) {
  const auto parts = run_op_all("Split", {at::arange(7, at::kFloat)},
                                {.attributes = {{"num_outputs", std::int64_t{3}}}, .outputs = 3});
  EXPECT_TRUE(same(parts[0], floats({0, 1, 2})));
  EXPECT_TRUE(same(parts[1], floats({3, 4, 5})));
  EXPECT_TRUE(same(parts[2], floats({6})));
  EXPECT_NE(message_of([] {
              run_op_all("Split", {at::arange(7, at::kFloat)}, {.opset = 13, .outputs = 3});
            }).find("7 elements"),
            std::string::npos);
  EXPECT_THROW(run_op_all("Split", {at::arange(7), ints({3, 5})}, {.outputs = 2}), Error);
  EXPECT_THROW(run_op_all("Split", {at::arange(7), ints({kMost, kMost})}, {.outputs = 2}), Error);
}

TEST(Shape, SliceClampsAnyBound) {
  const at::Tensor x = at::arange(5, at::kFloat);
  const auto slice = [&](std::int64_t start, std::int64_t end, std::int64_t step) {
    return run_op("Slice", {x, ints({start}), ints({end}), ints({0}), ints({step})});
  };
  EXPECT_TRUE(same(slice(0, kMost, 2), floats({0, 2, 4})));
  EXPECT_TRUE(same(slice(-1, kLeast, -1), floats({4, 3, 2, 1, 0})));
  EXPECT_TRUE(same(slice(kMost, kLeast, -2), floats({4, 2, 0})));
  EXPECT_TRUE(same(slice(3, 0, -2), floats({3, 1})));
  EXPECT_TRUE(same(slice(1, 3, kMost), floats({1})));
  EXPECT_TRUE(same(slice(-1, kLeast, kLeast), floats({4})));
  EXPECT_TRUE(same(slice(0, 3, -1), floats({})));
  EXPECT_TRUE(same(slice(kLeast, kMost, 1), x));
  EXPECT_THROW(slice(0, 3, 0), Error);
  EXPECT_TRUE(
      same(run_op("Slice", {x}, {.attributes = {{"starts", Ints{1}}, {"ends", Ints{-1}}}, .opset = 9}),
           floats({1, 2, 3})));
}

TEST(Shape, PadModes) {
  const at::Tensor x = floats({1, 2, 3});
  const auto pad = [&](const std::string& mode, const Ints& pads) {
    return run_op("Pad", {x, ints(pads)}, {.attributes = {{"mode", mode}}});
  };
  EXPECT_TRUE(same(pad("constant", {2, 1}), floats({0, 0, 1, 2, 3, 0})));
  EXPECT_TRUE(same(pad("edge", {2, 1}), floats({1, 1, 1, 2, 3, 3})));
  EXPECT_TRUE(same(pad("reflect", {2, 1}), floats({3, 2, 1, 2, 3, 2})));
  EXPECT_TRUE(same(pad("reflect", {3, 4}), floats({2, 3, 2, 1, 2, 3, 2, 1, 2, 3})));
  EXPECT_TRUE(same(pad("wrap", {2, 1}), floats({2, 3, 1, 2, 3, 1})));
  EXPECT_TRUE(same(pad("constant", {-1, 1}), floats({2, 3, 0})));
  EXPECT_TRUE(same(pad("edge", {-1, 1}), floats({2, 3, 3})));
  EXPECT_THROW(pad("mirror", {1, 1}), Error);
  EXPECT_THROW(pad("constant", {-2, -2}), Error);
  EXPECT_THROW(pad("constant", {kMost, kMost}), Error);
  EXPECT_TRUE(same(run_op("Pad", {bools({1}), ints({1, 0}), bools({1}).reshape({})}), bools({1, 1})));
}

TEST(Shape, PadOfSomeAxes) {
  const at::Tensor x = at::ones({2, 2});
  EXPECT_TRUE(same(run_op("Pad", {x, ints({1, 0}), at::tensor(5.0f), ints({-1})}),
                   floats({5, 1, 1, 5, 1, 1}).reshape({2, 3})));
}

TEST(Shape, PadOfImagesIsTheSameAsPadOfRows) {
  const at::Tensor image = at::arange(2 * 3 * 4 * 5, at::kFloat).reshape({2, 3, 4, 5});
  for (const char* mode : {"reflect", "edge"}) {
    const OpSettings settings{.attributes = {{"mode", std::string(mode)}}};
    const at::Tensor rows = run_op("Pad", {image.reshape({6, 4, 5}), ints({0, 2, 1, 0, 3, 4})}, settings);
    EXPECT_TRUE(
        same(run_op("Pad", {image, ints({0, 0, 2, 1, 0, 0, 3, 4})}, settings), rows.reshape({2, 3, 9, 10})));
  }
}

TEST(Shape, ReshapeResolvesZerosAndMinusOne) {
  const at::Tensor x = at::arange(6, at::kFloat).reshape({2, 3});
  EXPECT_EQ(run_op("Reshape", {x, ints({0, -1, 1})}).sizes().vec(), (Ints{2, 3, 1}));
  EXPECT_EQ(
      run_op("Reshape", {at::empty({0, 3}), ints({3, 0})}, {.attributes = {{"allowzero", std::int64_t{1}}}})
          .sizes()
          .vec(),
      (Ints{3, 0}));
  EXPECT_NE(message_of([&] { run_op("Reshape", {x, ints({4, -1})}); }).find("[2, 3]"), std::string::npos);
  EXPECT_THROW(run_op("Reshape", {x, ints({-1, -1})}), Error);
  EXPECT_THROW(run_op("Reshape", {x, ints({kMost, kMost, 4})}), Error);
  EXPECT_THROW(run_op("Reshape", {x, ints({1, 1, 0})}), Error);
}

TEST(Shape, CenterCropPad) {
  const at::Tensor x = at::arange(5, at::kFloat).reshape({1, 5});
  EXPECT_TRUE(same(run_op("CenterCropPad", {x, ints({2, 2})}), floats({1, 2, 0, 0}).reshape({2, 2})));
  EXPECT_TRUE(same(run_op("CenterCropPad", {x, ints({8})}, {.attributes = {{"axes", Ints{-1}}}}),
                   floats({0, 0, 1, 2, 3, 4, 0, 0}).reshape({1, 8})));
}

TEST(Shape, TriangleOfHugeOffset) {
  const at::Tensor x = at::ones({2, 2});
  EXPECT_TRUE(same(run_op("Trilu", {x, ints({kMost})}), at::zeros({2, 2})));
  EXPECT_TRUE(same(run_op("Trilu", {x, ints({kMost})}, {.attributes = {{"upper", std::int64_t{0}}}}), x));
  EXPECT_TRUE(same(run_op("Trilu", {x.to(at::kBool)}), bools({1, 1, 0, 1}).reshape({2, 2})));
}

TEST(Shape, HostileSizesAreRefused) {
  const at::Tensor x = at::ones({1});
  EXPECT_THROW(run_op("Expand", {x, ints({kMost, kMost})}), Error);
  EXPECT_THROW(run_op("Expand", {x, ints({-3})}), Error);
  EXPECT_THROW(run_op("Tile", {at::ones({2}), ints({kMost})}), Error);
  EXPECT_THROW(run_op("ConstantOfShape", {ints({1 << 20, 1 << 20})}), Error);
  EXPECT_THROW(run_op("OneHot", {ints({0}), ints({kMost}), floats({0, 1})}), Error);
  EXPECT_THROW(run_op("Range", {ints({0}), ints({kMost}), ints({1})}), Error);
  EXPECT_THROW(run_op("Unsqueeze", {x, ints({5})}), Error);
  EXPECT_THROW(run_op("Unsqueeze", {x, ints({0, 0})}), Error);
  EXPECT_THROW(run_op("Transpose", {x}, {.attributes = {{"perm", Ints{0, 1}}}}), Error);
  EXPECT_THROW(run_op("Squeeze", {at::ones({2}), ints({0})}), Error);
}

// --- indexing --------------------------------------------------------------------------------------------

TEST(Indexing, GatherChecksIndices) {
  const at::Tensor x = at::arange(6, at::kFloat).reshape({2, 3});
  EXPECT_TRUE(same(run_op("Gather", {x, ints({-1, 0})}, {.attributes = {{"axis", std::int64_t{1}}}}),
                   floats({2, 0, 5, 3}).reshape({2, 2})));
  EXPECT_TRUE(same(run_op("Gather", {x, at::scalar_tensor(-1, at::kLong)}), floats({3, 4, 5})));
  EXPECT_NE(message_of([&] { run_op("Gather", {x, ints({2})}); }).find("index 2"), std::string::npos);
  EXPECT_THROW(run_op("GatherND", {x, ints({0, 3})}), Error);
  EXPECT_THROW(run_op("GatherElements", {x, ints({-3}).reshape({1, 1})}), Error);
}

TEST(Indexing, ScatterReductions) {
  const at::Tensor x = floats({1, 2, 3, 4}), places = ints({0, 0, 3}), updates = floats({5, -1, 2});
  const auto scatter = [&](const std::string& reduction) {
    return run_op("ScatterElements", {x, places, updates}, {.attributes = {{"reduction", reduction}}});
  };
  EXPECT_TRUE(same(scatter("add"), floats({5, 2, 3, 6})));
  EXPECT_TRUE(same(scatter("mul"), floats({-5, 2, 3, 8})));
  EXPECT_TRUE(same(scatter("max"), floats({5, 2, 3, 4})));
  EXPECT_TRUE(same(scatter("min"), floats({-1, 2, 3, 2})));
  EXPECT_THROW(scatter("mean"), Error);
  EXPECT_TRUE(same(run_op("ScatterND", {x, ints({1, -1}).reshape({2, 1}), floats({7, 8})},
                          {.attributes = {{"reduction", std::string("max")}}}),
                   floats({1, 7, 3, 8})));
  EXPECT_THROW(run_op("ScatterND", {x, ints({9}).reshape({1, 1}), floats({7})}), Error);
}

TEST(Indexing, GatherNDByBatch) {
  const at::Tensor x = at::arange(8, at::kFloat).reshape({2, 2, 2});
  EXPECT_TRUE(same(run_op("GatherND", {x, ints({1, 0}).reshape({2, 1})},
                          {.attributes = {{"batch_dims", std::int64_t{1}}}}),
                   floats({2, 3, 4, 5}).reshape({2, 2})));
}

// --- quantisation ----------------------------------------------------------------------------------------

TEST(Quantization, ProductOfCodesTakesHalfScales) {
  const auto codes = [](const Ints& values, at::ScalarType type) { return ints(values).to(type); };
  const auto half = [](float value) { return at::scalar_tensor(value, at::kHalf); };
  for (const at::ScalarType type : {at::kByte, at::kChar}) {
    const auto zero_point = [&](std::int64_t value) { return at::scalar_tensor(value, type); };
    // (1 - 3) 6 + (5 - 3) 20 = 28 and (0 - 3) 6 + (3 - 3) 20 = -18; times 0.5 * 0.25 / 0.5, plus 10.
    const at::Tensor y =
        run_op("QLinearMatMul",
               {codes({1, 5, 0, 3}, type).reshape({2, 2}), half(0.5), zero_point(3),
                codes({7, 21}, type).reshape({2, 1}), half(0.25), zero_point(1), half(0.5), zero_point(10)},
               {.opset = 21});
    EXPECT_TRUE(same(y, codes({17, 6}, type).reshape({2, 1})));
  }
}

// --- generators ------------------------------------------------------------------------------------------

TEST(Generator, Ranges) {
  EXPECT_TRUE(same(run_op("Range", {ints({5}), ints({-2}), ints({-3})}), ints({5, 2, -1})));
  EXPECT_TRUE(same(run_op("Range", {ints({0}), ints({5}), ints({-3})}), ints({})));
  EXPECT_TRUE(close(run_op("Range", {at::tensor(1.0f), at::tensor(2.0f), at::tensor(0.3f)}),
                    floats({1, 1.3f, 1.6f, 1.9f})));
  EXPECT_THROW(run_op("Range", {ints({0}), ints({5}), ints({0})}), Error);
}

TEST(Generator, ConstantsOfEveryForm) {
  const auto constant = [](const char* name, Attribute value) {
    return run_op("Constant", {}, {.attributes = {{name, std::move(value)}}});
  };
  EXPECT_TRUE(same(constant("value_float", 1.5f), at::scalar_tensor(1.5f)));
  EXPECT_TRUE(same(constant("value_int", std::int64_t{3}), at::scalar_tensor(3, at::kLong)));
  EXPECT_TRUE(same(constant("value_ints", Ints{1, 2}), ints({1, 2})));
  EXPECT_TRUE(same(constant("value_floats", std::vector<float>{1, 2}), floats({1, 2})));
  EXPECT_TRUE(
      same(constant("value", TensorData::from<float>({1, 2}, {3, 4})), floats({3, 4}).reshape({1, 2})));
  EXPECT_THROW(constant("value_string", std::string("text")), Error);
}

TEST(Generator, RandomNumbersFollowTheirSeedAndLaw) {
  const OpSettings seeded{
      .attributes = {{"seed", 7.0f}, {"shape", Ints{20000}}, {"mean", 2.0f}, {"scale", 3.0f}}};
  const at::Tensor normal = run_op("RandomNormal", {}, seeded);
  EXPECT_TRUE(same(run_op("RandomNormal", {}, seeded), normal));
  EXPECT_NEAR(normal.mean().item<double>(), 2, 0.1);
  EXPECT_NEAR(normal.std().item<double>(), 3, 0.1);
  const at::Tensor uniform = run_op("RandomUniformLike", {at::empty({20000})},
                                    {.attributes = {{"low", -1.0f}, {"high", 3.0f}, {"seed", 1.0f}}});
  EXPECT_GE(uniform.min().item<double>(), -1);
  EXPECT_LT(uniform.max().item<double>(), 3);
  EXPECT_NEAR(uniform.mean().item<double>(), 1, 0.05);
  const at::Tensor coin = run_op("Bernoulli", {at::full({20000}, 0.3)}, {.attributes = {{"seed", 1.0f}}});
  EXPECT_NEAR(coin.mean().item<double>(), 0.3, 0.02);
  const at::Tensor drawn = run_op("Multinomial", {floats({0, std::log(3.0f)}).reshape({1, 2})},
                                  {.attributes = {{"sample_size", std::int64_t{20000}}, {"seed", 1.0f}}});
  EXPECT_EQ(drawn.scalar_type(), at::kInt);
  EXPECT_NEAR(drawn.to(at::kFloat).mean().item<double>(), 0.75, 0.02);
}

TEST(Generator, CallersMayBringTheirOwn) {
  const OpSettings settings{.attributes = {{"shape", Ints{4}}},
                            .generator = at::make_generator<at::CPUGeneratorImpl>(5)};
  const at::Tensor first = run_op("RandomNormal", {}, settings),
                   second = run_op("RandomNormal", {}, settings);
  EXPECT_FALSE(at::equal(first, second));
  const OpSettings again{.attributes = {{"shape", Ints{4}}},
                         .generator = at::make_generator<at::CPUGeneratorImpl>(5)};
  EXPECT_TRUE(same(run_op("RandomNormal", {}, again), first));
}

}  // namespace
}  // namespace lithe
