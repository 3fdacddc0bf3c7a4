// Operators on tensors of any rank give what stock ONNX Runtime gives; forms of opset 18 and later above all.
#include <gtest/gtest.h>

#include <cmath>

#include "onnxruntime/need.h"
#include "onnxruntime/operator_cases.h"

namespace lithe {
namespace {

TEST(OperatorsAsOnnxRuntime, Elementwise) {
  LITHE_NEED_ONNX_RUNTIME();
  Operands make(1);
  const at::Tensor x = make.floats({3, 5}, -4, 4), halves = x.to(at::kHalf);
  const at::Tensor odd = reals({INFINITY, -INFINITY, NAN, 1, -0.0f});
  const at::Tensor a = make.ints({3, 4}, -50, 50), b = make.ints({4}, 1, 9);
  const at::Tensor ai = a.to(at::kInt), bi = -b.to(at::kInt);
  std::vector<OperatorCase> cases{
      {"Gelu", {x}},
      {"Gelu", {x}, {{"approximate", "tanh"}}},
      {"Mish", {x}},
      {"HardSwish", {x}},
      {"Swish", {x}, {}, 24},
      {"Swish", {x}, {{"alpha", 1.5f}}, 24},
      {"Celu", {x}, {{"alpha", 2.0f}}},
      {"Shrink", {x}, {{"lambd", 1.5f}, {"bias", 0.5f}}},
      {"ThresholdedRelu", {x}, {{"alpha", 2.0f}}},
      {"PRelu", {x, make.floats({5})}},
      {"IsInf", {odd}},
      {"IsInf", {odd.to(at::kHalf)}},
      {"IsInf", {odd}, {{"detect_negative", 0}}},
      {"IsInf", {odd}, {{"detect_positive", 0}}},
      {"IsNaN", {odd}},
      {"IsNaN", {odd.to(at::kHalf)}},
      {"Round", {reals({0.5, 1.5, 2.5, -0.5, -1.5, 1.2f})}},
      {"BitwiseNot", {ai}, {}, 18},
      {"BitwiseNot", {a.to(at::kByte)}, {}, 18},
      {"BitShift", {a.abs().to(at::kByte), b.to(at::kByte)}, {{"direction", "LEFT"}}},
      {"Div", {ai, bi}},
      {"Div", {a, b}},
      {"Mod", {ai, bi}},
      {"Mod", {a, b}, {{"fmod", 1}}},
      {"Mod", {x, make.floats({5}, 1, 2)}, {{"fmod", 1}}},
      {"Pow", {x.abs(), make.ints({5}, 0, 4)}},
      {"Clip", {x, number(2), number(-1)}},
      {"Clip", {a, Operand(), number(3, at::kLong)}},
      {"Max", {a, b, make.ints({3, 1}, -9, 9)}},
      {"Min", {halves, make.floats({5}).to(at::kHalf)}},
      {"Where", {x > 0, x, make.floats({3, 1})}},
      {"Cast", {x}, {{"to", 6}}},
      {"Cast", {halves}, {{"to", 1}}},
      {"Cast", {x}, {{"to", 10}}},
      {"Softmax", {make.floats({2, 3, 4})}, {{"axis", 1}}},
      {"Softmax", {make.floats({2, 3, 4})}, {{"axis", 1}}, 11},
      {"LogSoftmax", {make.floats({2, 3, 4})}, {{"axis", 0}}},
      {"LogSoftmax", {make.floats({2, 3, 4})}, {}, 11},
      {"Hardmax", {make.floats({2, 3, 4})}, {{"axis", -2}}},
  };
  for (const char* op : {"BitwiseAnd", "BitwiseOr", "BitwiseXor"})
    for (const at::ScalarType type : {at::kInt, at::kLong, at::kByte})
      cases.push_back({op, {a.to(type), b.to(type)}, {}, 18});
  expect_as_onnx_runtime(cases);
}

TEST(OperatorsAsOnnxRuntime, Reductions) {
  LITHE_NEED_ONNX_RUNTIME();
  Operands make(2);
  const at::Tensor x = make.floats({2, 3, 4}, 0.1, 2), whole = make.ints({2, 3, 4}, -9, 9).to(at::kInt);
  const at::Tensor nothing = at::empty({2, 0, 4});
  const at::Tensor ties = reals({1, 3, 3, 2, 3, 1, 0, 2, 2, 2}).reshape({2, 5});
  std::vector<OperatorCase> cases{
      {"ReduceMax", {x > 1, list({1})}},
      {"ReduceMin", {x > 1, list({0, 2})}, {{"keepdims", 0}}},
      {"ReduceMean", {nothing, list({0})}},
      {"ReduceSum", {nothing, list({2})}},
      {"ReduceSum", {nothing, list({0})}, {{"keepdims", 0}}},
      {"ArgMax", {ties}, {{"axis", 1}, {"select_last_index", 1}}},
      {"ArgMin", {ties}, {{"axis", -1}, {"keepdims", 0}}},
      {"TopK", {ties, list({4})}, {}, 20, 2},
      {"TopK", {ties, list({3})}, {{"largest", 0}}, 20, 2},
      {"TopK", {whole.to(at::kLong), list({2})}, {{"axis", 1}}, 20, 2},
      {"Unique", {ties}, {}, 20, 4},
      {"Unique", {ties}, {{"sorted", 0}}, 20, 4},
      {"Unique", {list({3, 1, 3, 1}).reshape({2, 2})}, {{"axis", 0}}, 20, 4},
      {"Unique", {list({7})}, {{"sorted", 0}}, 20, 4},
      {"CumSum", {whole, number(1, at::kInt)}},
      {"CumSum", {whole, number(0, at::kInt)}, {{"exclusive", 1}}},
      {"CumSum", {x, number(-1, at::kLong)}, {{"exclusive", 1}, {"reverse", 1}}},
  };
  for (const std::string op : {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1",
                               "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp"}) {
    cases.push_back({op, {x}});
    cases.push_back({op, {x, list({-1, 0})}, {{"keepdims", 0}}, 18});
    cases.push_back({op, {x, list({})}, {{"noop_with_empty_axes", 1}}});
    if (op != "ReduceMean") cases.push_back({op, {nothing, list({1})}});
    if (op != "ReduceSum") cases.push_back({op, {x}, {{"axes", Ints{1}}}, 13});
    if (op != "ReduceLogSum" && op != "ReduceLogSumExp") cases.push_back({op, {whole, list({1})}});
  }
  expect_as_onnx_runtime(cases);
}

TEST(OperatorsAsOnnxRuntime, Layout) {
  LITHE_NEED_ONNX_RUNTIME();
  Operands make(3);
  const at::Tensor x = make.floats({2, 3, 5}), row = make.floats({7}), image = make.floats({1, 4, 2, 3});
  std::vector<OperatorCase> cases{
      {"Split", {row}, {{"num_outputs", 3}}, 18, 3},
      {"Split", {x}, {{"num_outputs", 2}, {"axis", -1}}, 18, 2},
      {"Split", {x, list({1, 4})}, {{"axis", 2}}, 18, 2},
      {"Split", {row, list({3, 0, 4})}, {}, 18, 3},
      {"CenterCropPad", {x, list({2, 2, 2})}},
      {"CenterCropPad", {x, list({4, 3})}, {{"axes", Ints{-1, 0}}}},
      {"CenterCropPad", {x, list({8})}, {{"axes", Ints{1}}}},
      {"Pad", {x, list({1, 2, 0, 2}), number(7), list({0, -1})}},
      {"Pad", {x, list({0, -1, 2, 1, 0, -2})}},
      {"Pad", {x, list({-1, 1}), Operand(), list({1})}, {{"mode", "edge"}}},
      {"Pad", {x, list({2, 1}), Operand(), list({2})}, {{"mode", "reflect"}}},
      {"Pad", {x, list({0, 2, 3, 0, 1, 4})}, {{"mode", "wrap"}}},
      {"Pad", {make.ints({2, 2}, 0, 9), list({1, 0, 0, 1}), number(5, at::kLong)}},
      {"Trilu", {make.floats({2, 4, 5})}},
      {"Trilu", {make.ints({4, 5}, 0, 9), number(-1, at::kLong)}, {{"upper", 0}}},
      {"Trilu", {make.floats({3, 4}), number(9, at::kLong)}},
      {"Transpose", {x}},
      {"Transpose", {x}, {{"perm", Ints{1, 2, 0}}}},
      {"DepthToSpace", {image}, {{"blocksize", 2}, {"mode", "CRD"}}},
      {"DepthToSpace", {image}, {{"blocksize", 2}}},
      {"SpaceToDepth", {make.floats({1, 2, 4, 6})}, {{"blocksize", 2}}},
      {"Slice", {x, list({4, -1}), list({-9, 0}), list({2, 1}), list({-2, -1})}},
      {"Expand", {row, list({2, 1, 7})}},
      {"Tile", {x, list({2, 1, 2})}},
      {"Shape", {x}, {{"start", -2}}},
      {"Reshape", {x, list({0, -1})}},
      {"Concat", {x, x, make.floats({2, 3, 1})}, {{"axis", -1}}},
      {"Squeeze", {make.floats({1, 3, 1, 2})}},
      {"Unsqueeze", {x, list({-1, 0})}},
      {"EyeLike", {make.floats({3, 4})}, {{"k", 1}, {"dtype", 7}}},
      {"ReverseSequence", {make.floats({4, 3, 2}), list({4, 1, 2})}},
      {"ReverseSequence", {make.floats({3, 4}), list({4, 1, 2})}, {{"batch_axis", 0}, {"time_axis", 1}}},
      {"Range", {number(5, at::kLong), number(-4, at::kLong), number(-2, at::kLong)}},
  };
  expect_as_onnx_runtime(cases);
}

TEST(OperatorsAsOnnxRuntime, Indexing) {
  LITHE_NEED_ONNX_RUNTIME();
  Operands make(4);
  const at::Tensor x = make.floats({4, 5}), updates = make.floats({3, 5});
  const at::Tensor places = make.ints({3, 5}, -4, 4), tuples = make.ints({6, 1}, -4, 4),
                   pairs = list({0, 1, 3, -1, 0, 1}).reshape({3, 2});
  const at::Tensor labels = list({0, -1, 3, 7, -9, 2}), off_on = reals({2, 5});
  std::vector<OperatorCase> cases{
      {"OneHot", {labels, number(4, at::kLong), off_on}},
      {"OneHot", {labels.reshape({2, 3}), number(4, at::kLong), off_on}, {{"axis", 0}}},
      {"OneHot", {labels, list({4}), list({0, 1})}, {{"axis", -2}}},
      {"Gather", {x, list({-1, 0})}, {{"axis", 1}}},
      {"GatherElements", {x, make.ints({2, 5}, -4, 4)}},
      {"GatherND", {x, pairs}},
      {"GatherND", {make.floats({2, 3, 4}), list({2, 0}).reshape({2, 1})}, {{"batch_dims", 1}}},
      {"Compress", {x, list({0, 1, 1}).to(at::kBool)}, {{"axis", 0}}},
      {"Compress", {x, list({0, 1, 1}).to(at::kBool)}},
      {"NonZero", {x > 0}},
      {"ScatterElements", {x, list({1, 0, 4}).reshape({1, 3}), make.floats({1, 3})}, {{"axis", 1}}},
      {"ScatterND", {x, pairs.narrow(0, 0, 2), make.floats({2})}},
  };
  for (const std::string reduction : {"add", "mul", "max", "min"}) {
    cases.push_back({"ScatterElements", {x, places, updates}, {{"reduction", reduction}}, 18});
    cases.push_back({"ScatterND", {x, tuples, make.floats({6, 5})}, {{"reduction", reduction}}, 18});
    cases.push_back({"ScatterND", {x, pairs, make.floats({3})}, {{"reduction", reduction}}, 18});
  }
  expect_as_onnx_runtime(cases);
}

TEST(OperatorsAsOnnxRuntime, ProductsAndNorms) {
  LITHE_NEED_ONNX_RUNTIME();
  Operands make(5);
  const at::Tensor x = make.floats({2, 6, 3, 4}, -2, 2), square = make.floats({3, 4, 4});
  const at::Tensor scale = make.floats({6}), bias = make.floats({6});
  const auto einsum = [&](const std::string& equation, std::vector<Operand> inputs) {
    return OperatorCase{"Einsum", std::move(inputs), {{"equation", equation}}};
  };
  std::vector<OperatorCase> cases{
      {"MatMul", {make.floats({3}), make.floats({3})}},
      {"MatMul", {make.floats({2, 1, 3, 4}), make.floats({4})}},
      {"MatMul", {make.floats({4}), make.floats({2, 4, 3})}},
      {"MatMul", {make.floats({2, 1, 3, 4}), make.floats({5, 4, 2})}},
      {"Gemm",
       {make.floats({4, 3}), make.floats({5, 4}), make.floats({5})},
       {{"transA", 1}, {"transB", 1}, {"alpha", 0.5f}, {"beta", 2.0f}}},
      einsum("->", {number(3)}),
      einsum("bij,bjk->bik", {square, square}),
      einsum("...ij->...ji", {square}),
      einsum("bii->b", {square}),
      einsum("i,j", {make.floats({3}), make.floats({2})}),
      {"Det", {square}},
      {"BatchNormalization", {x, scale, bias, make.floats({6}), make.floats({6}, 0.5, 2)}},
      {"InstanceNormalization", {x, scale, bias}},
      {"GroupNormalization", {x, make.floats({3}), make.floats({3})}, {{"num_groups", 3}}, 18},
      {"GroupNormalization", {x, scale, bias}, {{"num_groups", 2}}, 21},
      {"GroupNormalization", {x, scale, bias}, {{"num_groups", 3}, {"epsilon", 0.01f}}, 21},
      {"LayerNormalization", {x, make.floats({4}), make.floats({4})}, {}, 17, 3},
      {"LayerNormalization", {x, make.floats({3, 4})}, {{"axis", -2}, {"epsilon", 0.1f}}, 17},
      {"RMSNormalization", {x, make.floats({4})}, {}, 23},
      {"RMSNormalization", {x, make.floats({6, 3, 4})}, {{"axis", -3}, {"epsilon", 0.1f}}, 23},
      {"LpNormalization", {x}, {{"axis", 0}, {"p", 1}}},
      {"LpNormalization", {x}, {{"axis", 1}}},
      {"MeanVarianceNormalization", {x}},
      {"LRN", {x}, {{"size", 3}, {"alpha", 0.1f}, {"bias", 2.0f}}},
  };
  expect_as_onnx_runtime(cases);
}

TEST(OperatorsAsOnnxRuntime, Attention) {
  LITHE_NEED_ONNX_RUNTIME();
  Operands make(6);
  const at::Tensor q = make.floats({2, 4, 3, 8}, -2, 2), k = make.floats({2, 4, 5, 8}, -2, 2),
                   v = make.floats({2, 4, 5, 6}), mask = make.floats({3, 5});
  const at::Tensor open = list({1, 1, 0, 1, 0, 0, 1, 1, 0, 1, 1, 0, 0, 0, 1}).reshape({3, 5}).to(at::kBool);
  const at::Tensor shared_k = make.floats({2, 2, 5, 8}), shared_v = make.floats({2, 2, 5, 6});
  const at::Tensor past_k = make.floats({2, 4, 2, 8}), past_v = make.floats({2, 4, 2, 6});
  const at::Tensor packed_q = make.floats({2, 3, 32}), packed_k = make.floats({2, 5, 32}),
                   packed_v = make.floats({2, 5, 24});
  const Attribute heads = 4;
  std::vector<OperatorCase> cases{
      {"Attention", {q, k, v}, {}, 23},
      {"Attention", {q, k, v}, {{"scale", 0.3f}}, 23},
      {"Attention", {q, k, v}, {{"softcap", 0.5f}}, 23},
      {"Attention", {q, k, v}, {{"is_causal", 1}}, 23},
      {"Attention", {q, k, v, mask}, {}, 23},
      {"Attention", {q, k, v, open}, {}, 23},
      {"Attention", {q, k, v, make.floats({2, 1, 3, 5})}, {}, 23},
      {"Attention", {q, shared_k, shared_v, mask}, {}, 23},
      {"Attention", {q, k, v, make.floats({3, 7}), past_k, past_v}, {}, 23, 3},
      {"Attention", {packed_q, packed_k, packed_v}, {{"q_num_heads", heads}, {"kv_num_heads", heads}}, 23},
      {"Attention",
       {packed_q, packed_k, packed_v, mask},
       {{"q_num_heads", heads}, {"kv_num_heads", heads}, {"softcap", 2.0f}},
       23},
      {"Attention",
       {packed_q, make.floats({2, 5, 16}), make.floats({2, 5, 12})},
       {{"q_num_heads", heads}, {"kv_num_heads", 2}, {"is_causal", 1}},
       23},
  };
  for (const std::int64_t mode : {0, 1, 2, 3})
    cases.push_back(
        {"Attention", {q, k, v, mask}, {{"qk_matmul_output_mode", mode}, {"softcap", 0.5f}}, 23, 4});
  expect_as_onnx_runtime(cases);
}

TEST(OperatorsAsOnnxRuntime, Quantization) {
  LITHE_NEED_ONNX_RUNTIME();
  Operands make(7);
  const at::Tensor x = make.floats({3, 8}, -40, 40), scales = make.floats({8}, 0.1, 0.5),
                   blocks = make.floats({3, 2}, 0.5, 4);
  const at::Tensor image = make.floats({1, 2, 5, 5});
  // Weights of 7 bits: without VNNI, ONNX Runtime adds products of uint8 and int8 in 16 bits that saturate.
  const at::Tensor codes = make.ints({1, 2, 5, 5}, 0, 256).to(at::kByte),
                   weights = make.ints({3, 2, 3, 3}, -63, 64).to(at::kChar);
  const auto zeros = [&](at::ScalarType type) { return make.ints({8}, 1, 9).to(type); };
  const auto typed_zeros = [&](DType dtype, const Ints& shape) { return make.codes(dtype, shape, 0, 8); };
  const Attribute int32 = static_cast<std::int64_t>(DType::Int32);
  std::vector<OperatorCase> cases{
      {"QuantizeLinear", {x, number(0.25), number(3, at::kByte)}, {}, 13},
      {"QuantizeLinear", {x, scales, zeros(at::kChar)}, {{"axis", 1}}, 13},
      {"QuantizeLinear", {x, scales}, {{"axis", -1}}, 13},
      {"QuantizeLinear", {x, scales, zeros(at::kShort)}, {}, 21},
      {"QuantizeLinear", {x * 9, scales, typed_zeros(DType::UInt16, {8})}, {}, 21},
      {"QuantizeLinear", {x, scales, typed_zeros(DType::Int4, {8})}, {}, 21, 1, DType::Int8},
      {"QuantizeLinear", {x, scales, typed_zeros(DType::UInt4, {8})}, {}, 21, 1, DType::UInt8},
      {"QuantizeLinear", {x, blocks}, {{"block_size", 4}}, 21},
      {"QuantizeLinear",
       {x, blocks, typed_zeros(DType::Int4, {3, 2})},
       {{"block_size", 4}},
       21,
       1,
       DType::Int8},
      {"QuantizeLinear", {x, number(0.01)}, {{"output_dtype", 5}}, 21},
      {"DequantizeLinear", {codes, reals({0.5, 0.1f}), list({7, 200}).to(at::kByte)}, {{"axis", 1}}, 13},
      {"DequantizeLinear", {make.ints({3, 8}, -1000, 1000).to(at::kInt), scales}, {{"axis", 1}}, 13},
      {"DequantizeLinear", {make.codes(DType::Int4, {3, 7}, -8, 8), number(0.5)}, {}, 21},
      {"DequantizeLinear",
       {make.codes(DType::UInt4, {3, 8}, 0, 16), blocks, typed_zeros(DType::UInt4, {3, 2})},
       {{"block_size", 4}},
       21},
      {"DequantizeLinear",
       {make.codes(DType::Int4, {3, 8}, -8, 8), make.floats({2, 8}, 0.1, 1)},
       {{"axis", 0}, {"block_size", 2}},
       21},
      {"DequantizeLinear",
       {make.codes(DType::UInt16, {3, 8}, 0, 65536), number(0.5), typed_zeros(DType::UInt16, {})},
       {},
       21},
      {"DequantizeLinear", {make.ints({3, 8}, -30000, 30000).to(at::kShort), number(0.01)}, {}, 21},
      {"DynamicQuantizeLinear", {image}, {}, 11, 3},
      {"ConvInteger", {codes, weights, number(100, at::kByte)}, {{"pads", Ints{1, 1, 1, 1}}}, 10},
      {"MatMulInteger", {codes, make.ints({5, 4}, -63, 64).to(at::kChar), number(9, at::kByte)}, {}, 10},
      {"QLinearMatMul",
       {codes, number(0.02), number(128, at::kByte), make.ints({5, 4}, -63, 64).to(at::kChar), number(0.01),
        number(2, at::kChar), number(0.05), number(120, at::kByte)},
       {},
       21},
      {"QLinearConv",
       {codes, number(0.02), number(128, at::kByte), weights, reals({0.01f, 0.02f, 0.03f}),
        at::zeros({3}, at::kChar), number(0.1), number(120, at::kByte),
        make.ints({3}, -500, 500).to(at::kInt)},
       {{"pads", Ints{1, 1, 1, 1}}, {"strides", Ints{2, 2}}},
       10},
  };
  cases.push_back({"Cast", {make.codes(DType::UInt4, {2, 3}, 0, 16)}, {{"to", int32}}, 21});
  expect_as_onnx_runtime(cases);
}

}  // namespace
}  // namespace lithe
