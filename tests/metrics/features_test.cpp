#include "lithe/metrics/features.h"

#include <gtest/gtest.h>

#include "lithe/base/error.h"
#include "lithe/models/models.h"

namespace lithe {
namespace {

Graph network(std::int64_t size, std::int64_t channels) {
  return build_resnet20({.classes = 5, .image_size = size, .image_channels = channels, .seed = 3});
}

at::Tensor pixels(std::int64_t n, std::int64_t channels, std::int64_t size) {
  return (at::arange(n * channels * size * size) * 37 % 256).to(at::kByte).view({n, channels, size, size});
}

TEST(Features, ArePenultimateValues) {
  FeatureNetwork features(network(8, 3), {});
  const at::Tensor images = pixels(5, 3, 8);
  const at::Tensor all = features(images);
  EXPECT_EQ(all.sizes(), (std::vector<std::int64_t>{5, 64}));
  EXPECT_EQ(all.scalar_type(), at::kDouble);
  EXPECT_TRUE(at::allclose(features_of(features, images, 2), all, 1e-5, 1e-6));
}

TEST(Features, FitSizeAndChannels) {
  FeatureNetwork features(network(16, 3), {.mean = {0.5}, .std = {0.25}});
  const at::Tensor gray = pixels(2, 1, 16);
  const at::Tensor colour = gray.expand({2, 3, 16, 16}).contiguous();
  EXPECT_TRUE(at::equal(features(gray), features(colour)));
  EXPECT_EQ(features(pixels(2, 1, 8)).size(1), 64);   // made larger
  EXPECT_EQ(features(pixels(2, 3, 40)).size(1), 64);  // and smaller
  EXPECT_THROW(features(pixels(2, 2, 16)), Error);
  EXPECT_THROW(features(gray.to(at::kFloat)), Error);
}

TEST(Features, OfANamedValue) {
  const Graph graph = network(8, 1);
  std::string convolution;
  for (const Node& node : graph.nodes)
    if (node.is("Conv") && convolution.empty()) convolution = node.output(0);
  FeatureNetwork features(graph, {}, convolution);
  EXPECT_EQ(features(pixels(3, 1, 8)).sizes(), (std::vector<std::int64_t>{3, 16}));
  EXPECT_THROW(FeatureNetwork(graph, {}, "nowhere"), Error);
}

TEST(Features, PixelsOfImages) {
  const at::Tensor images = at::tensor({-2.0f, -1.0f, 0.0f, 1.0f, 3.0f}).view({1, 1, 1, 5});
  EXPECT_TRUE(at::equal(to_uint8(images).flatten(), at::tensor({0, 0, 128, 255, 255}).to(at::kByte)));
  const DatasetPtr data = tensor_dataset({{"", images.expand({4, 1, 1, 5}).contiguous()}});
  EXPECT_EQ(load_pixels(data, 3).size(0), 3);
  EXPECT_EQ(load_pixels(data).size(0), 4);
}

}  // namespace
}  // namespace lithe
