// Methods that train several outputs at once, and constants that learn by a step of their own.
#include <gmock/gmock.h>

#include "lithe/train/recipe.h"
#include "train/helpers.h"

namespace lithe {
namespace {

using namespace test;
using ::testing::HasSubstr;

/// The small net with a second head behind the same features.
Graph two_heads() {
  GraphBuilder net("heads", 1);
  std::string x =
      net.relu("relu1", net.batch_norm("bn1", net.conv("conv1", net.input("image", {-1, 2, 8, 8}),
                                                       {.channels = 6, .stride = 2, .bias = false})));
  x = net.flatten("flat",
                  net.global_average_pool("pool", net.relu("relu2", net.conv("conv2", x, {.channels = 8}))));
  net.output("a", net.gemm("head_a", x, 8, 4), {-1, 4});
  net.output("b", net.gemm("head_b", x, 8, 4), {-1, 4});
  Graph graph = net.finish();
  initialise(graph, 1);
  return graph;
}

class Both : public TrainHooks {
 public:
  std::vector<std::string> step_outputs(std::int64_t, std::int64_t step) override {
    return step % 2 == 0 ? std::vector<std::string>{"a", "b"} : std::vector<std::string>{"b"};
  }
  at::Tensor step_loss(const Feeds& outputs,
                       const std::function<at::Tensor(const at::Tensor&)>& loss) override {
    at::Tensor sum = loss(outputs.at("b"));
    if (const auto a = outputs.find("a"); a != outputs.end()) sum = sum + loss(a->second);
    return sum;
  }
  std::vector<std::string> scored_outputs() const override { return {"a", "b"}; }
};

TEST(TrainOutputs, SeveralAreTrainedAndScored) {
  Progress silent;
  Both hooks;
  TrainOptions options = quick(6);
  options.validation = quarters(80, 9);
  const TrainResult result = train(two_heads(), quarters(256), options, silent, &hooks);
  const EpochRecord& last = result.history.back();
  EXPECT_GT(last.extra.at("top1 a"), 0.8);
  EXPECT_GT(last.extra.at("top1 b"), 0.8);
  EXPECT_NEAR(*last.validation_top1, (last.extra.at("top1 a") + last.extra.at("top1 b")) / 2, 1e-12);
  EXPECT_NEAR(*last.validation_loss, (last.extra.at("loss a") + last.extra.at("loss b")) / 2, 1e-9);
  // Without the hooks the second head stays as it was.
  const TrainResult first = train(two_heads(), quarters(256), options, silent);
  EXPECT_EQ(values_of(first.last, "head_b.weight"), values_of(two_heads(), "head_b.weight"));
  EXPECT_FALSE(first.history.back().extra.contains("top1 a"));
}

TEST(TrainGroups, HaveAStepOfTheirOwn) {
  Progress silent;
  const Graph graph = small_net();
  TrainOptions options = quick(1);
  options.groups = {{.names = {"conv2.weight"}, .optimiser = Sgd{.momentum = 0}, .learning_rate = 1e-9},
                    {.names = {"fc.bias"}, .optimiser = AdamW{}, .learning_rate = 0.01, .weight_decay = 0}};
  options.schedule = Schedule::Constant;
  const TrainResult result = train(graph, quarters(32), options, silent);  // two steps
  const auto before = values_of(graph, "conv2.weight"), after = values_of(result.last, "conv2.weight");
  for (std::size_t i = 0; i < before.size(); ++i) EXPECT_NEAR(after[i], before[i], 1e-6);
  for (const float value : values_of(result.last, "fc.bias")) {  // Adam moves by its rate at first
    EXPECT_GT(std::abs(value), 0.005);
    EXPECT_LT(std::abs(value), 0.021);
  }
  EXPECT_NE(values_of(result.last, "conv1.weight"), values_of(graph, "conv1.weight"));
}

TEST(TrainGroups, NameWhatLearns) {
  Progress silent;
  TrainOptions options = quick(1);
  options.groups = {{.names = {"nothing"}}};
  EXPECT_THAT(message_of([&] { train(small_net(), quarters(32), options, silent); }),
              HasSubstr("'nothing' has a step of its own but does not learn"));
  options.groups = {{.names = {"fc.bias"}, .learning_rate = 0}};
  EXPECT_THAT(message_of([&] { train(small_net(), quarters(32), options, silent); }),
              HasSubstr("a group needs"));
}

TEST(TrainGroups, AreInTheRecipe) {
  TrainOptions options = quick(1);
  const auto without = recipe_json(options, 32, 1, {"a"});
  EXPECT_FALSE(without.contains("groups"));  // as checkpoints had it before there were groups
  options.groups = {{.names = {"a"}}};
  EXPECT_THAT(message_of([&] { require_same_recipe(without, recipe_json(options, 32, 1, {"a"}), "folder"); }),
              HasSubstr("groups"));
}

}  // namespace
}  // namespace lithe
