#include "lithe/models/models.h"

#include <gtest/gtest.h>

#include <set>

#include "lithe/base/error.h"
#include "lithe/graph/cost.h"
#include "lithe/graph/onnx.h"
#include "lithe/graph/shape_inference.h"

namespace lithe {
namespace {

std::set<std::string> operators(const Graph& graph) {
  std::set<std::string> found;
  for (const Node& node : graph.nodes) found.insert(node.op_type);
  return found;
}

std::vector<Graph> small_models(std::uint64_t seed = 0, std::int64_t opset = 17) {
  const SuperResolutionOptions sr{
      .channels = 8, .blocks = 2, .image_size = 8, .growth = 4, .layers = 2, .seed = seed, .opset = opset};
  const ClassifierOptions classifier{
      .classes = 10, .image_size = 32, .width = 0.125, .seed = seed, .opset = opset};
  return {build_resnet18(classifier),
          build_resnet50(classifier),
          build_resnet20(classifier),
          build_regnetx_600m(classifier),
          build_mobilenet_v2(classifier),
          build_edsr(sr),
          build_rdn(sr),
          build_unet({.image_size = 8,
                      .base = 8,
                      .multipliers = {1, 2},
                      .attention_sizes = {4},
                      .seed = seed,
                      .opset = opset}),
          build_adm_unet({.base = 8, .classes = 3, .learned_sigma = true, .seed = seed, .opset = opset}),
          build_vit({.image_size = 32,
                     .patch = 8,
                     .dim = 24,
                     .depth = 2,
                     .classes = 10,
                     .seed = seed,
                     .opset = opset})};
}

TEST(Models, DeclaredOutputsFollowFromTheInputs) {
  for (const std::int64_t opset : {13, 17, 20})
    for (Graph& graph : small_models(0, opset)) {
      SCOPED_TRACE(graph.name);
      graph.validate();
      const std::string declared = format_type(graph.outputs[0]);
      graph.outputs[0].shape.reset();
      infer_shapes(graph);
      EXPECT_EQ(format_type(graph.outputs[0]), declared);
    }
}

TEST(Models, SeedsDetermineTheWeights) {
  const auto once = small_models(7), again = small_models(7), other = small_models(8);
  for (std::size_t i = 0; i < once.size(); ++i) {
    EXPECT_EQ(serialize_onnx(once[i]), serialize_onnx(again[i]));
    EXPECT_NE(serialize_onnx(once[i]), serialize_onnx(other[i]));
  }
}

TEST(Models, BatchNormIsAnOption) {
  const ClassifierOptions plain{.image_size = 32, .width = 0.125, .batch_norm = false};
  for (const Graph& graph : {build_resnet18(plain), build_mobilenet_v2(plain), build_regnetx_600m(plain)})
    EXPECT_FALSE(operators(graph).contains("BatchNormalization"));
  EXPECT_TRUE(operators(build_resnet18({.image_size = 32, .width = 0.125})).contains("BatchNormalization"));
}

TEST(Models, TransformersComeInBothSpellings) {
  const VitOptions options{.image_size = 32, .patch = 8, .dim = 24, .depth = 2, .classes = 10};
  VitOptions modern = options;
  modern.layer_norm_operator = true;
  modern.batch = 2;
  const auto old_style = operators(build_vit(options)), new_style = operators(build_vit(modern));
  EXPECT_TRUE(old_style.contains("ReduceMean") && old_style.contains("Shape"));
  EXPECT_TRUE(new_style.contains("LayerNormalization"));
  EXPECT_FALSE(new_style.contains("ReduceMean") || new_style.contains("Shape"));
  EXPECT_EQ(count_parameters(build_vit(options)), count_parameters(build_vit(modern)));
}

TEST(Models, AdmStartsFromZero) {
  const Graph graph = build_adm_unet();
  for (const char* name : {"out.conv.weight", "down.0.0.block.conv2.weight", "mid.attention.proj.bias"})
    for (const float value : graph.constants.at(name).to_floats()) EXPECT_EQ(value, 0) << name;
  for (const char* name : {"conv_in.weight", "down.0.0.block.conv1.weight", "up.1.0.block.skip.weight"})
    EXPECT_NE(graph.constants.at(name).to_floats()[0], 0) << name;
}

TEST(Models, RefuseSizesThatDoNotFit) {
  EXPECT_THROW(build_adm_unet({.image_size = 7}), Error);
  EXPECT_THROW(build_adm_unet({.base = 12}), Error);
  EXPECT_THROW(build_adm_unet({.heads = 3}), Error);
  EXPECT_THROW(build_vit({.image_size = 30, .patch = 8}), Error);
  EXPECT_THROW(build_vit({.dim = 25, .heads = 3}), Error);
  EXPECT_THROW(build_vit({.layer_norm_operator = true, .opset = 16}), Error);
  EXPECT_THROW(build_unet({.image_size = 10, .multipliers = {1, 2, 2}}), Error);
  EXPECT_THROW(build_resnet18({.classes = 0}), Error);
  EXPECT_THROW(build_edsr({.blocks = 0}), Error);
}

}  // namespace
}  // namespace lithe
