#include "lithe/multibit/learn.h"

#include <gmock/gmock.h>
#include <torch/csrc/autograd/autograd.h>

#include <filesystem>

#include "lithe/base/file.h"
#include "lithe/kernels/bound_quantize.h"
#include "lithe/ops/registry.h"
#include "multibit/helpers.h"

namespace lithe {
namespace {

using namespace test;
using ::testing::Contains;
using ::testing::HasSubstr;

at::Tensor rows(const std::vector<float>& values) {
  return at::tensor(at::ArrayRef<float>(values), at::kFloat).view({2, 3});
}

TEST(BitLoss, Golden) {
  const at::Tensor z = rows({2, .5f, -1, .1f, .2f, .3f}), teacher = rows({3, 0, -2, 1, -1, .5f});
  const at::Tensor y = at::tensor({0, 2}, at::kLong);
  const auto hard = [&](const at::Tensor& scores) { return at::nll_loss(at::log_softmax(scores, 1), y); };
  EXPECT_NEAR(soft_cross_entropy(z, teacher).item<double>(), .72783035, 1e-6);
  EXPECT_NEAR(hard(z).item<double>(), .62162709, 1e-6);

  BranchGraph branches;
  branches.paths = {{.bits = 2, .output = "low"}, {.bits = 8, .output = "high"}};
  const TrainOptions training;
  BitHooks hooks(branches, {}, training);
  EXPECT_EQ(hooks.step_outputs(0, 0), (std::vector<std::string>{"high", "low"}));
  EXPECT_NEAR(hooks.step_loss({{"low", z}, {"high", teacher}}, hard).item<double>(), .55497104 + .67472875,
              1e-6);

  BitHooks recursive(branches, {.teaching = Teaching::Recursive}, training);
  recursive.step_outputs(0, 0);
  EXPECT_NEAR(recursive.step_loss({{"low", z}, {"high", teacher}}, hard).item<double>(),
              .55497104 + .72783035, 1e-6);
  BitHooks alone(branches, {.teaching = Teaching::None}, training);
  alone.step_outputs(0, 0);
  EXPECT_NEAR(alone.step_loss({{"low", z}, {"high", teacher}}, hard).item<double>(), .55497104 + .62162709,
              1e-6);
}

TEST(BitLoss, TheTeacherGetsNoGradient) {
  const at::Tensor student = at::randn({4, 3}).requires_grad_(), teacher = at::randn({4, 3}).requires_grad_();
  const at::Tensor loss = soft_cross_entropy(student, teacher);
  const auto gradients =
      torch::autograd::grad({loss}, {student, teacher}, {}, {}, false, /*allow_unused=*/true);
  EXPECT_TRUE(gradients[0].defined());
  EXPECT_FALSE(gradients[1].defined());
}

TEST(BitHooks, ASandwichHasTheMostBitsAndOneOther) {
  BranchGraph branches;
  for (const int bits : {2, 4, 6, 8})
    branches.paths.push_back({.bits = bits, .output = std::to_string(bits)});
  const TrainOptions training;
  BitHooks hooks(branches, {.sandwich = true}, training), again(branches, {.sandwich = true}, training);
  std::map<std::string, int> seen;
  for (std::int64_t step = 0; step < 60; ++step) {
    const auto outputs = hooks.step_outputs(1, step);
    ASSERT_EQ(outputs.size(), 2u);
    EXPECT_EQ(outputs[0], "8");
    EXPECT_EQ(outputs, again.step_outputs(1, step));
    ++seen[outputs[1]];
  }
  EXPECT_EQ(seen.size(), 3u);
  EXPECT_FALSE(seen.contains("8"));
}

TEST(BitHooks, MovesBoundsThatCrossApartAndCounts) {
  const Graph graph = prepared(residual_net());
  BranchGraph branches = insert_branches(graph, find_body(graph), {});
  BitHooks hooks(branches, {}, short_training());
  Executor executor(branches.graph);
  const LearntBounds& first = branches.bounds[0];
  executor.set_constant(first.low, at::full({}, 2.0f));
  executor.set_constant(first.high, at::full({}, 1.0f));
  hooks.after_step(executor, 0, 0);
  EXPECT_EQ(hooks.crossed(), 1);
  EXPECT_EQ(executor.constant(first.low).item<float>(), 2);
  EXPECT_GT(executor.constant(first.high).item<float>(), 2);
  hooks.after_step(executor, 0, 1);
  EXPECT_EQ(hooks.crossed(), 1);
  BitHooks resumed(branches, {}, short_training());
  resumed.load_state(hooks.state());
  EXPECT_EQ(resumed.crossed(), 1);
}

TEST(StartBounds, FollowWeightsAndActivations) {
  BranchGraph branches = plan_multibit(residual_net(), nullptr, {.bits = {2, 3, 4}});
  EXPECT_EQ(start_bounds(branches, patches(64, 1), short_training()), 0);
  for (const LearntBounds& one : branches.bounds) {
    const float low = branches.graph.constants.at(one.low).to_floats()[0],
                high = branches.graph.constants.at(one.high).to_floats()[0];
    if (one.weight) {
      const at::Tensor weight = to_tensor(branches.graph.constants.at(one.value));
      EXPECT_NEAR(high, 3 * weight.std(true).item<float>(), 1e-4) << one.value;
      EXPECT_EQ(low, -high);
    } else {
      EXPECT_EQ(low, 0) << one.value;  // behind a Relu
      EXPECT_GT(high, 0.05) << one.value;
    }
  }
}

// Activations far from zero lie above 3 deviations: their bounds reach up to the largest.
TEST(StartBounds, OfActivationsFarFromZero) {
  GraphBuilder net("offset", 1);
  std::string x = net.conv("stem", net.input("x", {-1, 3, 8, 8}), {.channels = 8, .bias = false});
  x = net.node("Add", "shifted", {net.batch_norm("norm", x), net.scalar("by", 100)});
  net.set_channels(x, 8);
  x = net.batch_norm("conv.norm", net.conv("conv", x, {.channels = 8, .bias = false}));
  net.output("y", net.gemm("fc", net.flatten("flat", net.global_average_pool("pool", x)), 8, 2), {-1, 2});
  BranchGraph branches = plan_multibit(net.finish(), nullptr, {.bits = {2, 4}});
  EXPECT_EQ(start_bounds(branches, patches(64, 1), short_training()), 0);
  for (const LearntBounds& one : branches.bounds) {
    if (one.weight) continue;
    const float low = branches.graph.constants.at(one.low).to_floats()[0],
                high = branches.graph.constants.at(one.high).to_floats()[0];
    EXPECT_GT(low, 90) << one.low;
    EXPECT_GT(high, low + 2) << one.low;
  }
}

double validation(const MultibitTrained& result, const std::string& name) {
  return result.history.back().extra.at(name);
}

TEST(TrainMultibit, LearnsEveryBitWidth) {
  Progress silent;
  MultibitOptions options{
      .bits = {2, 3, 4, 8}, .from_scratch = true, .norm_batches = 4, .train = short_training(4)};
  options.train.validation = patches(200, 9);
  const MultibitTrained result = train_multibit(residual_net(), patches(320, 1), options, silent);
  for (const int bits : options.bits) {
    const std::string loss = fmt::format("loss of {} bits", bits);
    EXPECT_LT(result.history.back().extra.at(loss), 0.8 * result.history.front().extra.at(loss)) << bits;
    EXPECT_GT(validation(result, fmt::format("top1 logits@{}", bits)), 0.6) << bits;
  }
  EXPECT_GE(validation(result, "top1 logits@8"), validation(result, "top1 logits@2") - 0.05);
  EXPECT_EQ(result.crossed, 0);
  // The mean over the bit-widths is what is scored.
  const EpochRecord& last = result.history.back();
  double mean = 0;
  for (const int bits : options.bits) mean += last.extra.at(fmt::format("top1 logits@{}", bits)) / 4;
  EXPECT_NEAR(*last.validation_top1, mean, 1e-12);
  // And what is kept gives these numbers.
  const auto scores = evaluate_bits(result.branches.graph, options.bits, options.train.validation,
                                    {.batch = 50, .threads = 1});
  double kept = 0;
  for (const Evaluation& one : scores) kept += *one.top1 / 4;
  EXPECT_NEAR(kept, *result.history[static_cast<std::size_t>(result.best_epoch - 1)].validation_top1, 0.011);
}

// Bounds that learn much too fast cross, are moved apart, and a note counts them.
TEST(TrainMultibit, CountsBoundsThatCross) {
  MultibitOptions options;
  options.bound_learning_rate = 2;
  const MultibitTrained result = small_model({2, 4}, {}, options);
  EXPECT_GT(result.crossed, 0);
  EXPECT_EQ(result.history.back().extra.at("bounds crossed"), static_cast<double>(result.crossed));
  EXPECT_THAT(result.notes, Contains(HasSubstr(fmt::format("met {} times", result.crossed))));
  for (const LearntBounds& one : result.branches.bounds) {
    const auto& constants = result.branches.graph.constants;
    EXPECT_GE(constants.at(one.high).to_floats()[0] - constants.at(one.low).to_floats()[0], kSmallestWidth)
        << one.low;
  }
}

TEST(TrainMultibit, StartsFromATrainedModel) {
  Progress silent;
  TrainOptions dense = short_training(3);
  const Graph model = train(residual_net(), patches(256, 1), dense, silent).best;
  MultibitOptions options{.bits = {2, 4}, .norm_batches = 2, .train = short_training(3)};
  options.train.learning_rate = 0.01;
  options.train.validation = patches(200, 9);
  const MultibitTrained result = train_multibit(model, patches(256, 1), options, silent);
  EXPECT_GT(*result.history.back().validation_top1, 0.8);
  // Branches start as copies that differ a little.
  const auto& constants = result.branches.graph.constants;
  const at::Tensor one = to_tensor(constants.at("s0.0.conv2.weight@1")),
                   two = to_tensor(constants.at("s0.0.conv2.weight@2"));
  EXPECT_FALSE(at::equal(one, two));
  EXPECT_LT((one - two).norm().item<double>(), 0.5 * one.norm().item<double>());
}

TEST(TrainMultibit, GivesNormsToConvolutionsWithoutOne) {
  Progress silent;
  MultibitOptions options{.bits = {2, 4}, .norm_batches = 2, .train = short_training(2)};
  const MultibitTrained result =
      train_multibit(residual_net({.norms = false}), patches(256, 1), options, silent);
  EXPECT_THAT(result.notes, Contains(HasSubstr("5 convolutions without a batch norm got one")));
  const auto scores = evaluate_bits(result.branches.graph, {2, 4}, patches(200, 9), {.threads = 1});
  for (const Evaluation& one : scores) EXPECT_GT(*one.top1, 0.5);
}

TEST(TrainMultibit, Baselines) {
  for (const MultibitMethod method :
       {MultibitMethod::Shared, MultibitMethod::AnyPrecision, MultibitMethod::AdaBits, MultibitMethod::Lsq}) {
    MultibitOptions options{.method = method};
    if (method == MultibitMethod::AnyPrecision) options.teaching = Teaching::Recursive;
    if (method == MultibitMethod::AdaBits) options.teaching = Teaching::None;
    const std::vector<int> bits = method == MultibitMethod::Lsq ? std::vector{4} : std::vector{2, 4};
    const MultibitTrained result = small_model(bits, {}, options, 8);
    EXPECT_LT(result.history.back().loss, result.history.front().loss) << multibit_method_name(method);
    const auto scores = evaluate_bits(result.branches.graph, bits, patches(200, 9), {.threads = 1});
    for (const Evaluation& one : scores) EXPECT_GT(*one.top1, 0.4) << multibit_method_name(method);
  }
}

// An interruption changes nothing, with the random sandwich, momentum and both optimisers.
TEST(TrainMultibit, ResumesBitForBit) {
  Progress silent;
  const TemporaryFolder folder;
  MultibitOptions options{.bits = {2, 3, 4}, .sandwich = true, .from_scratch = true, .norm_batches = 2};
  options.train = short_training(2);
  const DatasetPtr data = patches(128, 1);
  const MultibitTrained whole = train_multibit(residual_net(), data, options, silent);
  options.train.checkpoints = folder.path() / "c";
  options.train.time_budget = 1e-9;  // ends after the first step
  options.train.resume = true;
  for (int part = 0; part < 3; ++part)
    EXPECT_FALSE(train_multibit(residual_net(), data, options, silent).complete);
  options.train.time_budget = 0;
  const MultibitTrained resumed = train_multibit(residual_net(), data, options, silent);
  EXPECT_TRUE(resumed.complete);
  for (const auto& [name, value] : whole.branches.graph.constants) {
    const auto other = resumed.branches.graph.constants.at(name).bytes();
    EXPECT_TRUE(std::equal(value.bytes().begin(), value.bytes().end(), other.begin(), other.end())) << name;
  }
  options.bits = {2, 3, 8};
  EXPECT_THAT(message_of([&] { train_multibit(residual_net(), data, options, silent); }),
              HasSubstr("was made with bit-widths"));
}

TEST(TrainMultibit, NeedsLabels) {
  Progress silent;
  EXPECT_THAT(message_of([&] {
                train_multibit(residual_net(), tensor_dataset({{"", random_images(8, 1)}}), {}, silent);
              }),
              HasSubstr("labelled data"));
}

}  // namespace
}  // namespace lithe
