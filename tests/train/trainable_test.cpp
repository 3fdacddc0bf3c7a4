#include "lithe/train/trainable.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <map>
#include <set>

#include "lithe/graph/cost.h"
#include "lithe/graph/onnx.h"
#include "lithe/models/models.h"
#include "lithe/models/registry.h"
#include "lithe/train/initialise.h"
#include "tests/real_models.h"
#include "tests/train/helpers.h"

namespace lithe {
namespace {

std::set<std::string> names_of(const std::vector<Trainable>& found) {
  std::set<std::string> names;
  for (const Trainable& one : found) names.insert(one.name);
  return names;
}

std::map<TrainableKind, int> kinds_of(const std::vector<Trainable>& found) {
  std::map<TrainableKind, int> kinds;
  for (const Trainable& one : found) ++kinds[one.kind];
  return kinds;
}

/// Lithe's own networks call what learns name.weight and name.bias, beside a token and positions.
std::set<std::string> expected_names(const Graph& graph) {
  std::set<std::string> names;
  for (const auto& [name, data] : graph.constants)
    if (name.ends_with(".weight") || name.ends_with(".bias") || name == "cls_token" || name == "pos_embed")
      names.insert(name);
  return names;
}

TEST(Trainable, FindsWhatLearnsInOwnNetworks) {
  for (const char* name : {"resnet20", "resnet18_x0.125", "mobilenet_v2_x0.5", "vit_small", "edsr"}) {
    const Graph graph = build_network(name);
    EXPECT_EQ(names_of(trainable_constants(graph)), expected_names(graph)) << name;
  }
  const VitOptions small{.image_size = 16,
                         .patch = 4,
                         .dim = 8,
                         .depth = 2,
                         .heads = 2,
                         .classes = 3,
                         .layer_norm_operator = true};
  const Graph with_operator = build_vit(small);
  EXPECT_EQ(names_of(trainable_constants(with_operator)), expected_names(with_operator));
  for (const Graph& unet :
       {build_unet({.image_size = 8, .base = 8, .multipliers = {1, 2}, .attention_sizes = {4}}),
        build_adm_unet({.classes = 3})}) {
    const auto found = names_of(trainable_constants(unet));
    for (const std::string& name : expected_names(unet)) EXPECT_TRUE(found.contains(name)) << name;
    EXPECT_FALSE(found.contains("time.frequencies"));
  }
}

TEST(Trainable, TellsKindsApart) {
  const auto resnet = kinds_of(trainable_constants(build_network("resnet20")));
  EXPECT_EQ(resnet, (std::map<TrainableKind, int>{{TrainableKind::Weight, 20},
                                                  {TrainableKind::Bias, 1},
                                                  {TrainableKind::NormScale, 19},
                                                  {TrainableKind::NormBias, 19}}));
  const auto vit = kinds_of(trainable_constants(build_network("vit_small")));
  EXPECT_EQ(vit, (std::map<TrainableKind, int>{{TrainableKind::Weight, 1 + 6 * 4 + 1},
                                               {TrainableKind::Bias, 1 + 6 * 4 + 1},
                                               {TrainableKind::NormScale, 13},
                                               {TrainableKind::NormBias, 13},
                                               {TrainableKind::Embedding, 2}}));
  EXPECT_EQ(running_statistics(build_network("resnet20")).size(), 38u);
}

TEST(Trainable, LeavesTheRest) {
  GraphBuilder net("net", 1);
  std::string x = net.input("image", {-1, 3, 8, 8});
  // Normalisation of the input, bounds, factors, attention masks and padding are no parameters.
  x = net.node("Sub", "centred", {x, net.constant("mean", TensorData::from<float>({1, 3, 1, 1}, {1, 2, 3}))});
  x = net.node("Div", "scaled", {x, net.constant("std", TensorData::from<float>({1, 3, 1, 1}, {1, 2, 3}))});
  net.set_channels(x, 3);
  x = net.relu6("relu6", net.conv("conv", x, {.channels = 4}));
  x = net.node("Mul", "half", {x, net.scalar("factor", 0.5f)});
  x = net.node("Concat", "padded",
               {x, net.constant("zeros", TensorData::from<float>({1, 1, 8, 8}, std::vector<float>(64)))},
               {{"axis", std::int64_t{1}}});
  std::vector<float> hidden(64, 0);
  hidden[3] = -10000;
  x = net.node("Add", "masked", {x, net.constant("mask", TensorData::from<float>({8, 8}, hidden))});
  // These are: a weight behind Transpose, one behind an operator of ours, a bias along channels.
  x = net.node("Add", "shifted",
               {x, net.constant("shift", TensorData::from<float>({5, 1, 1}, {1, 2, 3, 4, 5}))});
  const std::string turned = net.transpose("turned", net.random("turned_weight", {6, 8}, 1), {1, 0});
  x = net.node("MatMul", "product", {x, turned});
  Graph graph = net.finish();
  graph.nodes.push_back({.name = "masked_weight",
                         .op_type = "Mask",
                         .domain = "lithe",
                         .inputs = {"latent", "own"},
                         .outputs = {"sparse"}});
  graph.nodes.push_back(
      {.name = "last", .op_type = "MatMul", .inputs = {"product", "sparse"}, .outputs = {"y"}});
  graph.constants["latent"] = TensorData::from<float>({6, 2}, std::vector<float>(12, 1));
  graph.constants["own"] = TensorData::from<float>({6, 2}, std::vector<float>(12, 1));
  graph.outputs.push_back({.name = "y", .dtype = DType::Float32});
  EXPECT_EQ(names_of(trainable_constants(graph)),
            (std::set<std::string>{"conv.weight", "conv.bias", "shift", "turned_weight", "latent"}));
}

TEST(Trainable, SeesConstantNodes) {
  Graph graph = test::small_net();
  Node constant{.name = "weights", .op_type = "Constant", .outputs = {"conv1.weight"}};
  constant.attributes["value"] = graph.constants.at("conv1.weight");
  graph.constants.erase("conv1.weight");
  graph.nodes.insert(graph.nodes.begin(), constant);
  EXPECT_TRUE(names_of(trainable_constants(graph)).contains("conv1.weight"));
  initialise(graph, 3);
  EXPECT_NE(std::get<TensorData>(graph.nodes[0].attributes.at("value")).to_floats(),
            std::get<TensorData>(constant.attributes.at("value")).to_floats());
}

TEST(Initialise, GivesTheUsualStart) {
  Graph graph = build_network("mobilenet_v2_x0.5");
  initialise(graph, 4);
  for (const float scale : graph.constants.at("stem_bn.weight").to_floats()) EXPECT_EQ(scale, 1);
  for (const float mean : graph.constants.at("stem_bn.running_mean").to_floats()) EXPECT_EQ(mean, 0);
  for (const float variance : graph.constants.at("stem_bn.running_var").to_floats()) EXPECT_EQ(variance, 1);
  for (const float bias : graph.constants.at("classifier.bias").to_floats()) EXPECT_EQ(bias, 0);
  double square = 0;
  const auto weights = graph.constants.at("head.weight").to_floats();  // [1280, 160, 1, 1]
  for (const float weight : weights) square += static_cast<double>(weight) * weight;
  EXPECT_NEAR(square / static_cast<double>(weights.size()), 2.0 / 160, 2.0 / 160 * 0.02);
  Graph again = build_network("mobilenet_v2_x0.5", {.seed = 9});
  initialise(again, 4);
  EXPECT_EQ(again.constants.at("head.weight").to_floats(), weights);
}

TEST(Initialise, KeepsDeepBranchesWithoutNormsSmall) {
  Graph graph = build_network("edsr");
  initialise(graph, 4);
  const auto deviation = [&](const char* name) {
    double square = 0;
    const auto weights = graph.constants.at(name).to_floats();
    for (const float weight : weights) square += static_cast<double>(weight) * weight;
    return std::sqrt(square / static_cast<double>(weights.size()));
  };
  const double he = std::sqrt(2.0 / (64 * 9));
  EXPECT_NEAR(deviation("body.3.conv1.weight"), he, 0.02 * he);
  EXPECT_NEAR(deviation("body.3.conv2.weight"), 0.1 * he, 0.002 * he);
  EXPECT_NEAR(deviation("tail.weight"), he, 0.05 * he);
}

// Models as training and other exporters write them.
TEST(Trainable, FindsWhatLearnsInExports) {
  const std::set<std::string> known{"digits",      "resnet20_cifar10", "mobilenet_v2_x0.5_cifar10",
                                    "vit_cifar10", "vit_mnist",        "mobilenet_v2_imagenet",
                                    "imdn_x2",     "rlfn_x4"};
  int files = 0;
  for (const std::filesystem::path& path : test::real_models()) {
    const std::string name = path.stem().string();
    if (!known.contains(name)) continue;
    const Graph graph = read_onnx(path);
    std::int64_t learns = 0;
    for (const Trainable& one : trainable_constants(graph))
      if (const TensorData* data = graph.constant(one.name)) learns += data->count();
    const auto total = static_cast<double>(count_parameters(graph));
    EXPECT_GT(static_cast<double>(learns), 0.99 * total) << name;
    EXPECT_LE(static_cast<double>(learns), 1.001 * total) << name;
    ++files;
  }
  EXPECT_GE(files, 3);
}

}  // namespace
}  // namespace lithe
