#include "lithe/models/registry.h"

#include <gtest/gtest.h>

#include "lithe/base/error.h"
#include "lithe/graph/cost.h"
#include "lithe/graph/shape_inference.h"

namespace lithe {
namespace {

std::int64_t parameters(const char* name) {
  return count_parameters(build_network(name));
}

// Known counts: 0.27 M and 0.46 M in He et al., CVPR 2016, Table 6; to the parameter as implementations with
// shortcuts of option A count them.
TEST(Networks, HaveTheParametersOfTheirPapers) {
  EXPECT_EQ(parameters("resnet20"), 269722);
  EXPECT_EQ(parameters("resnet32"), 464154);
  // Patches, class token, positions, six blocks of two norms, attention and MLP, norm, head.
  const std::int64_t d = 128, block = 4 * d + (d * 3 * d + 3 * d) + (d * d + d) + (d * 4 * d + 4 * d) +
                                      (4 * d * d + d);
  EXPECT_EQ(parameters("vit_small"), (48 * d + d) + d + 65 * d + 6 * block + 2 * d + (10 * d + 10));
}

TEST(Networks, GiveWhatTheySay) {
  for (const NetworkInfo& network : networks()) {
    Graph graph = build_network(network.name);
    graph.validate();
    graph.inputs[0].shape = DimVector{{2}, {3}, {32}, {32}};
    for (std::size_t i = 1; i < graph.inputs.size(); ++i) graph.inputs[i].shape = DimVector{{2}};
    infer_shapes(graph);
    const DimVector& out = *graph.outputs[0].shape;
    ASSERT_FALSE(out.empty()) << network.name;
    switch (network.kind) {
      case NetworkKind::Classifier:
        EXPECT_EQ(out[1].value, 10) << network.name;
        break;
      case NetworkKind::Upscaler:
        EXPECT_EQ(out[3].value, 64) << network.name;
        break;
      case NetworkKind::Denoiser:
        EXPECT_EQ(out, *graph.inputs[0].shape) << network.name;
        break;
    }
  }
}

TEST(Networks, KeepSmallImagesLarge) {
  Graph graph = build_network("mobilenet_v2_x0.5");
  graph.inputs[0].shape = DimVector{{1}, {3}, {32}, {32}};
  infer_shapes(graph);
  EXPECT_EQ(graph.info("stem")->shape->at(2).value, 32);
  EXPECT_EQ(graph.info("head_relu")->shape->at(2).value, 4);
}

TEST(Networks, TakeAWidth) {
  EXPECT_EQ(build_network("resnet32_x2").constants.at("conv1.weight").shape()[0], 32);
  EXPECT_EQ(build_network("mobilenet_v2_x0.5").constants.at("stem.weight").shape()[0], 16);
  EXPECT_EQ(build_network("unet_x2", {.image_size = 8}).constants.at("conv_in.weight").shape()[0], 32);
  EXPECT_FALSE(find_network("vit_small_x2"));
  EXPECT_FALSE(find_network("resnet20_x"));
  EXPECT_FALSE(find_network("resnet20_x0"));
  EXPECT_FALSE(find_network("model.onnx"));
  EXPECT_THROW(build_network("resnet21"), Error);
  EXPECT_THROW(build_network("vit_small", {.image_size = 30}), Error);
  EXPECT_THROW(build_network("unet", {.image_size = 30}), Error);
}

}  // namespace
}  // namespace lithe
