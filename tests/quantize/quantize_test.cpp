#include "lithe/quantize/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "helpers.h"
#include "lithe/base/error.h"
#include "lithe/graph/onnx.h"
#include "lithe/models/models.h"

namespace lithe {
namespace {

using namespace testing_helpers;
using testing::HasSubstr;

const std::vector<std::int64_t> kImages{32, 3, 16, 16};

Graph small_resnet() {
  return build_resnet20({.classes = 10, .image_size = 16});
}

Quantized run_quantize(const Graph& graph, const QuantizeOptions& options) {
  Progress silent;
  return quantize(graph, random_dataset(kImages, 3), options, silent);
}

std::string message(const Graph& graph, const QuantizeOptions& options) {
  try {
    run_quantize(graph, options);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::Input);
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
    return error.what();
  }
  return "";
}

double sqnr(const Quantized& quantized) {
  return quantized.output_sqnr_db.value();
}

const TensorData& scale_of(const Graph& graph, const std::string& value) {
  return graph.constants.at(value + "_scale");
}

std::vector<TensorData> stored_weights(const Graph& graph) {
  std::vector<TensorData> weights;
  for (const Node& node : graph.nodes)
    if (node.is("DequantizeLinear") && graph.is_constant(node.input(0)) &&
        graph.constants.at(node.input(0)).dtype() != DType::Int32)
      weights.push_back(graph.constants.at(node.input(0)));
  return weights;
}

TEST(Quantize, MoreBitsGiveLessNoise) {
  const Graph graph = small_resnet();
  double last = 100;
  for (const int bits : {8, 6, 4, 3, 2}) {
    const Quantized quantized =
        run_quantize(graph, {.weight_bits = bits, .activation_bits = bits, .profile = Profile::Exact});
    EXPECT_LT(sqnr(quantized), last) << bits;
    last = sqnr(quantized);
    EXPECT_GT(last, bits == 8 ? 25 : -20);
    EXPECT_LT(last, bits == 2 ? 10 : 100);
  }
}

TEST(Quantize, EveryMethodKeepsEightBitsFaithful) {
  const Graph graph = small_resnet();
  for (const QuantizeMethod method :
       {QuantizeMethod::MinMax, QuantizeMethod::Percentile, QuantizeMethod::Mse})
    for (const Target target : {Target::OnnxRuntime, Target::TensorRt, Target::OpenVino}) {
      const Quantized quantized = run_quantize(graph, {.method = method, .target = target});
      EXPECT_EQ(quantized.profile, Profile::Int8);
      EXPECT_EQ(quantized.placement, PlacementStyle::Deploy);
      EXPECT_GT(sqnr(quantized), 20) << static_cast<int>(method) << static_cast<int>(target);
    }
}

TEST(Quantize, LeastErrorBeatsMinMaxAtFewBits) {
  // Weights of trained networks have outliers; the builder's are uniform.
  Graph graph = small_resnet();
  for (const Layer& layer : find_layers(graph)) {
    const at::Tensor w = to_tensor(graph.constants.at(layer.weight));
    const at::Tensor shape = random_tensor(w.sizes().vec(), 5).pow(3);
    graph.constants[layer.weight] = to_tensor_data((shape / shape.std() * w.std()).contiguous());
  }
  const auto at_four = [&](QuantizeMethod method) {
    return sqnr(run_quantize(graph, {.method = method, .weight_bits = 4, .activation_bits = 4}));
  };
  EXPECT_GT(at_four(QuantizeMethod::Mse), at_four(QuantizeMethod::MinMax));
}

TEST(Quantize, ReferenceIsTheModelAndReportIsFilled) {
  const Graph graph = small_resnet();
  const Quantized quantized = run_quantize(graph, {.weight_bits = 4, .activation_bits = 4});
  const at::Tensor x = random_tensor({4, 3, 16, 16}, 8);
  EXPECT_LE(largest_gap(run(graph, x), run(quantized.reference, x)), 1e-4);
  ASSERT_EQ(quantized.layers.size(), 20u);
  for (const LayerResult& layer : quantized.layers) {
    EXPECT_FALSE(layer.name.empty());
    EXPECT_TRUE(layer.sqnr_db && std::isfinite(*layer.sqnr_db));
    EXPECT_LT(layer.bytes, layer.float_bytes);
    EXPECT_LT(layer.weight_low, layer.weight_high);
    EXPECT_LT(layer.input_low, layer.input_high);
  }
  EXPECT_EQ(quantized.layers.front().weight_bits, 7);  // 8 bits, reduced for ONNX Runtime
  EXPECT_EQ(quantized.layers[1].weight_bits, 4);
  EXPECT_EQ(quantized.layers[1].activation_bits, 4);
  EXPECT_EQ(quantized.layers.back().activation_bits, 8);
  EXPECT_THAT(quantized.notes, testing::Contains(HasSubstr("only 32 samples")));
  EXPECT_EQ(quantized.activations.front().value, graph.inputs[0].name);
}

TEST(Quantize, WeightsOnly) {
  const Graph graph = small_resnet();
  const Quantized quantized = run_quantize(graph, {.weight_bits = 4, .activation_bits = kFloatBits});
  EXPECT_EQ(quantized.profile, Profile::Exact);
  EXPECT_TRUE(quantized.activations.empty());
  for (const Node& node : quantized.graph.nodes) EXPECT_NE(node.op_type, "QuantizeLinear");
  EXPECT_GT(sqnr(quantized), 10);
}

TEST(Quantize, WeightsNeedNoDataAndDataDoNotChangeThem) {
  const Graph graph = small_resnet();
  const QuantizeOptions options{.weight_bits = 4, .activation_bits = kFloatBits};
  Progress silent;
  const Quantized blind = quantize(graph, nullptr, options, silent);
  EXPECT_EQ(serialize_onnx(blind.graph), serialize_onnx(run_quantize(graph, options).graph));
  EXPECT_EQ(blind.samples, 0);
  EXPECT_FALSE(blind.output_sqnr_db);
  EXPECT_FALSE(blind.layers[0].sqnr_db);
  QuantizeOptions corrected = options;
  corrected.correct_bias = true;
  EXPECT_THROW(quantize(graph, nullptr, corrected, silent), Error);
}

TEST(Quantize, ThePlanSaysWhatWillBeWritten) {
  for (const QuantizeOptions& options :
       {QuantizeOptions{}, QuantizeOptions{.weight_bits = 4, .activation_bits = 4, .opset = 21},
        QuantizeOptions{.weight_bits = 7, .activation_bits = kFloatBits}}) {
    const Quantized made = run_quantize(small_resnet(), options);
    const QuantizationPlan plan = plan_quantization(small_resnet(), options);
    ASSERT_EQ(plan.layers.size(), made.layers.size());
    for (std::size_t i = 0; i < made.layers.size(); ++i) {
      EXPECT_EQ(plan.layers[i].name, made.layers[i].name);
      EXPECT_EQ(plan.layers[i].weight_bits, made.layers[i].weight_bits);
      EXPECT_EQ(plan.layers[i].activation_bits, made.layers[i].activation_bits);
      EXPECT_EQ(plan.layers[i].bytes, made.layers[i].bytes);
    }
    EXPECT_EQ(plan.profile, made.profile);
    EXPECT_EQ(plan.reduce_range, made.reduce_range);
  }
}

TEST(Quantize, TellsWhatFourBitContainersWouldSave) {
  const QuantizeOptions narrow{.weight_bits = 4, .activation_bits = kFloatBits};
  Progress silent;
  const Quantized wide = quantize(small_resnet(), nullptr, narrow, silent);
  EXPECT_THAT(wide.notes, testing::Contains(HasSubstr("18 weights of 4 bits or fewer")));
  EXPECT_THAT(wide.notes, testing::Contains(HasSubstr("--opset 21")));
  QuantizeOptions packed = narrow;
  packed.opset = 21;
  const Quantized small = quantize(small_resnet(), nullptr, packed, silent);
  EXPECT_THAT(small.notes, testing::Not(testing::Contains(HasSubstr("--opset 21"))));
  EXPECT_THAT(run_quantize(small_resnet(), {}).notes,
              testing::Not(testing::Contains(HasSubstr("--opset 21"))));
}

TEST(Quantize, HalvesThatDifferAreNoted) {
  const auto noted = [&](at::Tensor images) {
    Progress silent;
    const Quantized quantized =
        quantize(small_resnet(), tensor_dataset({{"", images}}), {.batch = 8, .report_samples = 0}, silent);
    return std::any_of(quantized.notes.begin(), quantized.notes.end(),
                       [](const std::string& note) { return note.find("two halves") != std::string::npos; });
  };
  at::Tensor images = random_tensor(kImages, 3);
  EXPECT_FALSE(noted(images));
  images = images.clone();
  images.narrow(0, 8, 8).mul_(20);  // a batch of the other kind
  EXPECT_TRUE(noted(images));
}

TEST(Quantize, SaysWhatMinMaxWouldHaveGivenAndWhatSaturates) {
  const QuantizeOptions options{.weight_bits = 3, .activation_bits = 3};
  const Quantized best = run_quantize(small_resnet(), options);
  QuantizeOptions plain = options;
  plain.method = QuantizeMethod::MinMax;
  const Quantized simple = run_quantize(small_resnet(), plain);
  ASSERT_TRUE(best.minmax_sqnr_db);
  // Decibels of sums of floats, added up in another order.
  EXPECT_NEAR(*best.minmax_sqnr_db, sqnr(simple), 1e-6);
  EXPECT_FALSE(simple.minmax_sqnr_db);
  for (const ActivationResult& one : simple.activations) EXPECT_EQ(one.saturated, 0) << one.value;
  double most = 0;
  for (const ActivationResult& one : best.activations) most = std::max(most, one.saturated);
  EXPECT_GT(most, 0);
  EXPECT_LT(most, 0.1);
}

TEST(Quantize, EverythingExcludedIsTheFloatNetwork) {
  const Graph graph = small_resnet();
  const Quantized quantized = run_quantize(graph, {.exclude = {"*"}});
  EXPECT_TRUE(std::isinf(sqnr(quantized)));
}

TEST(Quantize, EqualInputsGiveEqualFiles) {
  const Graph graph = small_resnet();
  const QuantizeOptions options{
      .weight_bits = 3, .activation_bits = 4, .equalize = true, .correct_bias = true};
  EXPECT_EQ(serialize_onnx(run_quantize(graph, options).graph),
            serialize_onnx(run_quantize(graph, options).graph));
}

TEST(Quantize, IntegerProfileStoresIntegerBiasesOfTheRightScale) {
  const Quantized quantized = run_quantize(small_resnet(), {});
  const GraphIndex index(quantized.graph);
  int biases = 0;
  for (const Node& node : quantized.graph.nodes) {
    if (!node.is("Conv") && !node.is("Gemm")) continue;
    const auto maker = [&](std::size_t input) -> const Node& {
      return quantized.graph.nodes.at(static_cast<std::size_t>(index.producer(node.input(input))));
    };
    ASSERT_EQ(maker(2).op_type, "DequantizeLinear") << node.name;
    const auto& constants = quantized.graph.constants;
    EXPECT_EQ(constants.at(maker(2).input(0)).dtype(), DType::Int32);
    const std::vector<float> x = constants.at(maker(0).input(1)).to_floats(),
                             w = constants.at(maker(1).input(1)).to_floats(),
                             b = constants.at(maker(2).input(1)).to_floats();
    ASSERT_EQ(b.size(), w.size());
    for (std::size_t c = 0; c < b.size(); ++c) EXPECT_FLOAT_EQ(b[c], x[0] * w[c]);
    ++biases;
  }
  EXPECT_EQ(biases, 20);
}

TEST(Quantize, ReduceRangeKeepsCodesBelow65) {
  const Graph graph = small_resnet();
  const auto largest = [&](std::optional<ReduceRange> reduce, Target target) {
    std::vector<std::int64_t> most;
    const Quantized quantized = run_quantize(graph, {.target = target, .reduce_range = reduce});
    for (const TensorData& weight : stored_weights(quantized.graph)) {
      std::int64_t top = 0;
      for (const std::int64_t code : weight.to_ints()) top = std::max(top, std::abs(code));
      most.push_back(top);
    }
    return most;
  };
  const auto automatic = largest(std::nullopt, Target::OnnxRuntime);
  for (const std::int64_t top : automatic) EXPECT_LE(top, 64);
  const auto ends = largest(ReduceRange::FirstLast, Target::OnnxRuntime);
  EXPECT_LE(ends.front(), 64);
  EXPECT_LE(ends.back(), 64);
  EXPECT_GT(ends[1], 64);
  EXPECT_GT(largest(std::nullopt, Target::OpenVino).front(), 64);
  EXPECT_GT(largest(ReduceRange::Off, Target::OnnxRuntime).front(), 64);
  for (const std::int64_t top : largest(ReduceRange::All, Target::OnnxRuntime)) EXPECT_LE(top, 64);
}

TEST(Quantize, TensorRtGetsZeroPointsOfZero) {
  for (const int bits : {8, 4}) {
    const Quantized quantized = run_quantize(
        small_resnet(), {.weight_bits = bits, .activation_bits = bits, .target = Target::TensorRt});
    for (const Node& node : quantized.graph.nodes) {
      if (!node.is("QuantizeLinear") && !node.is("DequantizeLinear")) continue;
      const TensorData& zero = quantized.graph.constants.at(node.input(2));
      for (const std::int64_t value : zero.to_ints()) EXPECT_EQ(value, 0) << node.name;
      EXPECT_NE(zero.dtype(), DType::UInt8) << node.name;
    }
    EXPECT_GT(sqnr(quantized), bits == 8 ? 20 : 3);
  }
}

TEST(Quantize, MoversShareTheParametersOfTheirInput) {
  Graph graph = build_resnet18({.classes = 10, .image_size = 32, .width = 0.125});
  Progress silent;
  const Quantized quantized = quantize(graph, random_dataset({8, 3, 32, 32}, 3), {}, silent);
  const GraphIndex index(quantized.graph);
  int pools = 0;
  for (const Node& node : quantized.graph.nodes) {
    if (!node.is("MaxPool")) continue;
    const Node& before = quantized.graph.nodes.at(static_cast<std::size_t>(index.producer(node.input(0))));
    ASSERT_EQ(before.op_type, "DequantizeLinear");
    EXPECT_EQ(quantized.graph.constants.at(before.input(1)).to_floats(),
              scale_of(quantized.graph, node.output(0)).to_floats());
    ++pools;
  }
  EXPECT_EQ(pools, 1);
}

TEST(Quantize, OldOpsetsAreRaisedAndNewOnesKept) {
  EXPECT_EQ(run_quantize(build_resnet20({.classes = 10, .image_size = 16, .opset = 11}), {}).graph.opset(),
            13);
  EXPECT_EQ(run_quantize(small_resnet(), {}).graph.opset(), small_resnet().opset());
  const Quantized wide =
      run_quantize(small_resnet(), {.weight_bits = 4, .activation_bits = kFloatBits, .opset = 21});
  EXPECT_EQ(wide.graph.opset(), 21);
  EXPECT_GE(wide.graph.header.ir_version, 10);
  int nibbles = 0;
  for (const TensorData& weight : stored_weights(wide.graph)) nibbles += dtype_bits(weight.dtype()) == 4;
  EXPECT_EQ(nibbles, 18);
  EXPECT_THAT(message(small_resnet(), {.opset = 13, .raise_opset = false}), HasSubstr("cannot be lowered"));
  EXPECT_THAT(message(small_resnet(), {.opset = 12}), HasSubstr("opset 13"));
}

TEST(Quantize, EqualisationHelpsSpreadWeightsPerTensorRangesOfActivations) {
  const Graph graph = build_mobilenet_v2({.classes = 10, .image_size = 32, .width = 0.25});
  Progress silent;
  const DatasetPtr data = random_dataset({16, 3, 32, 32}, 3);
  const Quantized quantized =
      quantize(graph, data, {.method = QuantizeMethod::MinMax, .equalize = true}, silent);
  EXPECT_THAT(quantized.notes, testing::Contains(HasSubstr("equalisation rescaled")));
  EXPECT_GT(sqnr(quantized), 10);
  const at::Tensor x = random_tensor({2, 3, 32, 32}, 8), wanted = run(graph, x);
  EXPECT_LE(largest_gap(wanted, run(quantized.reference, x)), 1e-3 * wanted.abs().max().item<double>());
}

TEST(Quantize, TransformersKeepProductsOfActivationsInFloat) {
  const Graph graph =
      build_vit({.image_size = 16, .patch = 4, .dim = 32, .depth = 2, .heads = 2, .classes = 10});
  Progress silent;
  const DatasetPtr data = random_dataset({8, 3, 16, 16}, 3);
  const Quantized academic =
      quantize(graph, data, {.profile = Profile::Exact, .placement = PlacementStyle::Academic}, silent);
  EXPECT_GT(sqnr(academic), 20);
  const Quantized deploy = quantize(graph, data, {}, silent);
  EXPECT_GT(sqnr(deploy), 15);
  EXPECT_GT(deploy.activations.size(), academic.activations.size());
}

TEST(Quantize, BatchesBakedIntoAConstantAreNoticed) {
  Graph graph;
  graph.inputs = {image("x", {-1, 4})};
  graph.outputs = {{.name = "y", .dtype = DType::Float32}};
  graph.constants["shape"] = TensorData::from<std::int64_t>({2}, {1, 4});
  graph.constants["w"] = random_data({4, 3}, 1);
  graph.nodes = {make("Reshape", "r", {"x", "shape"}), make("MatMul", "y", {"r", "w"})};
  Progress silent;
  const Quantized quantized = quantize(graph, random_dataset({20, 4}, 3), {}, silent);
  EXPECT_EQ(quantized.batch, 1);
  EXPECT_THAT(quantized.notes, testing::Contains(HasSubstr("single samples only")));
  EXPECT_GT(sqnr(quantized), 20);
}

TEST(Quantize, ContradictionsAreRefused) {
  const Graph graph = small_resnet();
  EXPECT_THAT(message(graph, {.activation_bits = 4, .profile = Profile::Int8}), HasSubstr("profile int8"));
  EXPECT_THAT(message(graph, {.target = Target::TensorRt, .activation_scheme = Scheme::Asymmetric}),
              HasSubstr("TensorRT"));
  EXPECT_THAT(message(graph, {.momentum = 0.9}), HasSubstr("minmax"));
  EXPECT_THAT(message(graph, {.percentile = 30}), HasSubstr("percentile"));
  EXPECT_THAT(message(graph, {.weight_bits = 9}), HasSubstr("9 bits"));
  EXPECT_THAT(message(graph, {.bits_for = {{.pattern = "nothing", .weight_bits = 4}}}),
              HasSubstr("'nothing'"));
}

TEST(Quantize, UnfitModelsAndDataAreRefused) {
  const Graph graph = small_resnet();
  Progress silent;
  EXPECT_THROW(quantize(graph, random_dataset({4, 3, 16}, 1), {}, silent), Error);
  EXPECT_THROW(quantize(graph, random_dataset({0, 3, 16, 16}, 1), {}, silent), Error);
  EXPECT_THROW(quantize(graph, nullptr, {}, silent), Error);
  EXPECT_THAT(message(run_quantize(graph, {}).graph, {}), HasSubstr("quantised already"));
  Graph empty;
  empty.inputs = {image("x", {-1, 3, 16, 16})};
  empty.outputs = {{.name = "y", .dtype = DType::Float32}};
  empty.nodes = {make("Relu", "y", {"x"})};
  EXPECT_THAT(message(empty, {}), HasSubstr("no Conv"));
}

}  // namespace
}  // namespace lithe
