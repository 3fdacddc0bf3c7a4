#include "lithe/train/train.h"

#include <gtest/gtest.h>

#include <atomic>
#include <fstream>
#include <limits>

#include "lithe/base/file.h"
#include "lithe/engine/threads.h"
#include "lithe/graph/safetensors.h"
#include "lithe/models/registry.h"
#include "lithe/train/batch_norm.h"
#include "lithe/train/checkpoint.h"
#include "relabelled.h"
#include "tests/train/helpers.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;
using test::differing;
using test::expect_contains;
using test::message_of;
using test::quarters;
using test::quick;
using test::small_net;
using test::values_of;

class Training : public testing::Test {
 protected:
  void SetUp() override { set_threads(1); }
  Progress silent_;
  TemporaryFolder folder_;

  TrainResult run(const TrainOptions& options, const DatasetPtr& data = quarters(128),
                  const Graph& graph = small_net(), TrainHooks* hooks = nullptr) {
    return train(graph, data, options, silent_, hooks);
  }
};

/// Stops as Ctrl-C would after so many steps.
class StopAfter : public TrainHooks {
 public:
  explicit StopAfter(int steps) : left_(steps) {}
  void after_step(Executor&, std::int64_t, std::int64_t) override {
    if (--left_ == 0) throw Interrupted{};
  }

 private:
  int left_;
};

TEST_F(Training, LearnsAndKeepsTheBest) {
  TrainOptions options = quick(6);
  options.validation = quarters(64, 6);
  std::vector<std::int64_t> epochs;
  options.on_epoch = [&](const EpochRecord& record) { epochs.push_back(record.epoch); };
  const TrainResult result = run(options);
  ASSERT_EQ(result.history.size(), 6u);
  EXPECT_EQ(epochs, (std::vector<std::int64_t>{1, 2, 3, 4, 5, 6}));
  EXPECT_LT(result.history.back().loss, 0.7 * result.history.front().loss);
  double best = 0;
  for (const EpochRecord& record : result.history) best = std::max(best, record.validation_top1.value());
  EXPECT_GT(best, 0.9);
  EXPECT_EQ(result.history[static_cast<std::size_t>(result.best_epoch - 1)].validation_top1, best);
  EXPECT_TRUE(result.complete);
  EXPECT_GT(result.images_per_second, 0);
  // Running statistics follow the data, everything else that learns has moved, and nothing else has.
  EXPECT_NE(values_of(result.last, "bn1.running_mean"), std::vector<float>(6, 0));
  const auto changed = differing(small_net(), result.last);
  EXPECT_EQ(changed.size(), 2u + 4u + 4u + 2u);
}

TEST_F(Training, HoldsOutAShareOfTheData) {
  TrainOptions options = quick(1);
  options.validation_share = 0.25;
  options.batch = 48;
  const TrainResult result = run(options);  // 96 remain: two steps
  EXPECT_TRUE(result.history[0].validation_top1.has_value());
  EXPECT_EQ(result.best_epoch, 1);
  options.validation_share = 0.001;
  expect_contains(message_of([&] { run(options); }), "nothing to validate on");
}

TEST_F(Training, IsReproducible) {
  TrainOptions options = quick();
  options.augmentation = {.flip = true, .padded_crop = 1};
  const Graph first = run(options).last;
  options.threads = 3;
  EXPECT_TRUE(differing(first, run(options).last).empty());
  options.seed = 1;
  EXPECT_FALSE(differing(first, run(options).last).empty());
}

TEST_F(Training, ResumesToTheSameWeights) {
  for (const bool adam : {false, true}) {
    TrainOptions options = quick(2);
    if (adam) options.optimiser = AdamW{};
    if (adam) options.learning_rate = 0.01;
    options.augmentation = {.flip = true, .padded_crop = 1};
    options.ema_decay = adam ? 0.9 : 0;
    options.clip_norm = 0.5;
    options.validation = quarters(32, 6);
    const Graph net = small_net(1, true);
    const TrainResult straight = run(options, quarters(128), net);
    for (const int steps : {3, 8, 11}) {  // inside an epoch of eight steps, at its end, in the next
      options.checkpoints = folder_.path() / (std::to_string(steps) + (adam ? "a" : "s"));
      options.resume = false;
      StopAfter stop(steps);
      EXPECT_THROW(run(options, quarters(128), net, &stop), Interrupted);
      options.resume = true;
      const TrainResult resumed = run(options, quarters(128), net);
      EXPECT_TRUE(differing(straight.last, resumed.last).empty()) << steps;
      EXPECT_TRUE(differing(straight.best, resumed.best).empty()) << steps;
      ASSERT_EQ(resumed.history.size(), 2u);
      for (std::size_t i = 0; i < 2; ++i) {
        EXPECT_EQ(resumed.history[i].loss, straight.history[i].loss);
        EXPECT_EQ(resumed.history[i].train_top1, straight.history[i].train_top1);
        EXPECT_EQ(resumed.history[i].validation_loss, straight.history[i].validation_loss);
      }
    }
  }
}

/// Changes what is scored, and in epoch `stop` is interrupted there.
class StopInEvaluation : public TrainHooks {
 public:
  explicit StopInEvaluation(int stop) : stop_(stop) {}
  void before_evaluation(Executor& executor, const DatasetPtr& data) override {
    executor.set_constant("bn1.running_mean", at::full_like(executor.constant("bn1.running_mean"), 0.25));
    reestimate_batch_norm(executor, data, {.batches = 2, .batch = 16, .threads = 1});
    if (--stop_ == 0) throw Interrupted{};
  }
  std::map<std::string, double> epoch_numbers(Executor&, std::int64_t) override {
    return {{"asked", static_cast<double>(++asked_)}};
  }
  std::map<std::string, at::Tensor> state() const override { return {{"asked", at::tensor({asked_})}}; }
  void load_state(const std::map<std::string, at::Tensor>& state) override {
    asked_ = state.at("asked")[0].item<std::int64_t>();
  }

 private:
  int stop_;
  std::int64_t asked_ = 0;
};

TEST_F(Training, ResumesAfterAnInterruptedEvaluation) {
  TrainOptions options = quick(3);
  options.ema_decay = 0.9;
  options.validation = quarters(32, 6);
  StopInEvaluation never(-1), second(2), resumes(-1);
  const TrainResult straight = run(options, quarters(128), small_net(), &never);
  options.checkpoints = folder_.path() / "run";
  EXPECT_THROW(run(options, quarters(128), small_net(), &second), Interrupted);
  options.resume = true;
  const TrainResult resumed = run(options, quarters(128), small_net(), &resumes);
  EXPECT_TRUE(differing(straight.last, resumed.last).empty());
  EXPECT_TRUE(differing(straight.best, resumed.best).empty());
  ASSERT_EQ(resumed.history.size(), 3u);
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(resumed.history[i].loss, straight.history[i].loss);
    EXPECT_EQ(resumed.history[i].validation_loss, straight.history[i].validation_loss);
    EXPECT_EQ(resumed.history[i].extra.at("asked"), static_cast<double>(i + 1));
  }
}

TEST_F(Training, DoesNotTrustTheNumbersOfACheckpoint) {
  TrainOptions options = quick(2);
  options.ema_decay = 0.9;
  options.validation = quarters(32, 6);
  options.checkpoints = folder_.path() / "run";
  StopAfter stop(11);
  EXPECT_THROW(run(options, quarters(128), small_net(), &stop), Interrupted);
  const fs::path last = options.checkpoints / "last.safetensors";
  const auto [tensors, progress] = read_checked(last);
  options.resume = true;
  for (const auto& [key, value] :
       std::vector<std::pair<std::string, nlohmann::json>>{{"step", -50000000},
                                                           {"step", -3},
                                                           {"step", 9},
                                                           {"epoch", 99},
                                                           {"epoch", -1},
                                                           {"epoch", 0},
                                                           {"best_epoch", 7},
                                                           {"summed_steps", -1},
                                                           {"history", nlohmann::json::array()},
                                                           {"history", 3}}) {
    nlohmann::json forged = progress;
    forged[key] = value;
    write_checked(last, tensors, forged);
    expect_contains(message_of([&] { run(options); }), "leave --resume out");
  }
  NamedTensors other = tensors;
  for (auto& [name, data] : other)
    if (name.starts_with("@average/")) data = TensorData::from<float>({1}, {0});
  write_checked(last, other, progress);
  expect_contains(message_of([&] { run(options); }), "lacks a fitting average");
  write_checked(last, tensors, progress);
  EXPECT_EQ(run(options).history.size(), 2u);
}

TEST_F(Training, BestWeightsOfAnotherEpochAreNotTaken) {
  TrainOptions options = quick(3);
  options.validation = quarters(32, 6);
  options.checkpoints = folder_.path() / "run";
  StopAfter stop(20);
  EXPECT_THROW(run(options, quarters(128), small_net(), &stop), Interrupted);
  const fs::path best = options.checkpoints / "best.safetensors";
  auto [tensors, record] = read_checked(best);
  record["epoch"] = 3;
  write_checked(best, tensors, record);
  options.resume = true;
  std::string noted;
  options.on_note = [&](const std::string& text) { noted += text; };
  EXPECT_EQ(run(options).best_epoch, 3);
  expect_contains(noted, "the best weights so far are lost");
}

TEST_F(Training, FallsBackToThePreviousCheckpoint) {
  TrainOptions options = quick(3);
  const TrainResult straight = run(options);
  options.checkpoints = folder_.path() / "run";
  StopAfter stop(20);  // after two epochs of eight steps and a half
  EXPECT_THROW(run(options, quarters(128), small_net(), &stop), Interrupted);
  const fs::path last = options.checkpoints / "last.safetensors";
  {
    std::fstream file(last, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-5, std::ios::end);
    file.put('\x7f');
  }
  options.resume = true;
  std::string noted;
  options.on_note = [&](const std::string& text) { noted += text + "\n"; };
  const TrainResult resumed = run(options);
  expect_contains(noted, "last.safetensors: the checksum does not agree");
  expect_contains(noted, "previous.safetensors");
  EXPECT_TRUE(differing(straight.last, resumed.last).empty());

  for (const char* name : {"last.safetensors", "previous.safetensors"})
    std::ofstream(options.checkpoints / name) << "x";
  expect_contains(message_of([&] { run(options); }), "no checkpoint can be read");
}

TEST_F(Training, ReadsACheckpointThatWasAboutToBeTheLast) {
  TrainOptions options = quick(2);
  const TrainResult straight = run(options);
  options.checkpoints = folder_.path() / "run";
  StopAfter stop(12);
  EXPECT_THROW(run(options, quarters(128), small_net(), &stop), Interrupted);
  // As a crash between the two renames leaves it.
  fs::rename(options.checkpoints / "last.safetensors", options.checkpoints / "next.safetensors");
  options.resume = true;
  std::string noted;
  options.on_note = [&](const std::string& text) { noted += text; };
  EXPECT_TRUE(differing(straight.last, run(options).last).empty());
  EXPECT_EQ(noted, "");
}

TEST_F(Training, ADamagedCheckpointDoesNotReplaceAGoodOne) {
  TrainOptions options = quick(4);
  options.checkpoints = folder_.path() / "run";
  StopAfter stop(20);
  EXPECT_THROW(run(options, quarters(128), small_net(), &stop), Interrupted);
  const fs::path previous = options.checkpoints / "previous.safetensors";
  const std::string good = read_text_file(previous);
  std::ofstream(options.checkpoints / "last.safetensors") << "x";
  options.resume = true;
  StopAfter early(1);  // goes on from the previous one, and writes over the damaged one
  EXPECT_THROW(run(options, quarters(128), small_net(), &early), Interrupted);
  EXPECT_EQ(read_text_file(previous), good);
  std::ofstream(options.checkpoints / "last.safetensors") << "x";
  EXPECT_EQ(run(options).history.size(), 4u);
}

TEST_F(Training, SaysThatABatchIsBakedIn) {
  // A class token expanded to a batch of one, as exporters write it.
  GraphBuilder net("tokens", 1);
  const std::string x = net.flatten("flat", net.input("image", {-1, 2, 8, 8}));
  const std::string token =
      net.node("Expand", "expand", {net.random("token", {1, 4}, 1), net.ints("shape", {1, 4})});
  const std::string joined = net.node("Concat", "join", {token, x}, {{"axis", std::int64_t{1}}});
  net.output("logits", net.gemm("fc", joined, 132, 4), {-1, 4});
  const Graph graph = net.finish();
  TrainOptions options = quick(1);
  const std::string text = message_of([&] { run(options, quarters(32), graph); });
  expect_contains(text, "'tokens' runs one sample at a time, not 16");
  expect_contains(text, "--batch 1");
  options.batch = 1;
  EXPECT_EQ(run(options, quarters(8), graph).history.size(), 1u);
}

TEST_F(Training, RefusesCheckpointsOfOtherRuns) {
  TrainOptions options = quick(1);
  options.checkpoints = folder_.path() / "run";
  run(options);
  options.resume = true;
  options.learning_rate = 0.01;
  expect_contains(message_of([&] { run(options); }), "learning_rate = 0.05, not 0.01");
  options.learning_rate = 0.05;
  expect_contains(message_of([&] { run(options, quarters(64)); }), "samples = 128, not 64");
  TrainOptions other = options;
  other.preprocess.mean = {0.5};
  expect_contains(message_of([&] { run(other); }), "was made with preprocess = ");
  other = options;
  other.distillation.teacher = std::make_shared<Graph>(small_net(7));
  expect_contains(message_of([&] { run(other); }), "was made with distillation = null, not [\"small ");
  class Method : public TrainHooks {
   public:
    std::map<std::string, std::string> recipe() const override { return {{"pattern", "2:4"}}; }
  } method;
  expect_contains(message_of([&] { run(options, quarters(128), small_net(), &method); }),
                  "was made with pattern = nothing, not \"2:4\"");
  expect_contains(message_of([&] {
                    run(options,
                        tensor_dataset({{"", at::zeros({128, 3, 32, 32})}}, at::zeros({128}, at::kLong)),
                        build_network("resnet20"));
                  }),
                  "another model");
  options.checkpoints = folder_.path() / "empty";
  std::string noted;
  options.on_note = [&](const std::string& text) { noted = text; };
  run(options);
  expect_contains(noted, "no checkpoint to resume from");
}

TEST_F(Training, WritesCheckpointsThatAreWeights) {
  TrainOptions options = quick(1);
  options.checkpoints = folder_.path() / "run";
  options.validation = quarters(16);
  const TrainResult result = run(options);
  for (const char* name : {"last.safetensors", "best.safetensors"}) {
    Graph graph = small_net(9);
    load_weights(graph, read_safetensors(options.checkpoints / name).tensors, name);
    EXPECT_TRUE(differing(graph, result.last).empty()) << name;
  }
}

TEST_F(Training, StopsWhenTheTimeIsUp) {
  TrainOptions options = quick(1000);
  options.time_budget = 0.05;
  options.checkpoints = folder_.path() / "run";
  const TrainResult result = run(options);
  EXPECT_FALSE(result.complete);
  EXPECT_LT(result.history.size(), 1000u);
  EXPECT_TRUE(fs::exists(options.checkpoints / "last.safetensors"));
}

TEST_F(Training, NamesWhatIsNotFinite) {
  at::Tensor images = at::randn({32, 2, 8, 8});
  images[20][0][0][0] = std::numeric_limits<float>::quiet_NaN();
  TrainOptions options = quick(1);
  const DatasetPtr broken = tensor_dataset({{"", images}}, at::zeros({32}, at::kLong));
  expect_contains(message_of([&] { run(options, broken); }),
                  "the input 'image' is the first tensor that is not finite");

  Graph graph = small_net();
  auto weights = values_of(graph, "conv2.weight");
  weights[3] = std::numeric_limits<float>::infinity();
  graph.constants["conv2.weight"] = TensorData::from<float>({8, 6, 3, 3}, weights);
  expect_contains(message_of([&] { run(options, quarters(32), graph); }), "the constant 'conv2.weight'");

  graph = small_net();  // overflows in the second convolution
  graph.constants["conv2.weight"] =
      TensorData::from<float>({8, 6, 3, 3}, std::vector<float>(8 * 6 * 9, 3e38f));
  const std::string text = message_of([&] { run(options, quarters(32), graph); });
  expect_contains(text, "in epoch 1, step 1");
  expect_contains(text, "'conv2' (Conv node 'conv2') is the first tensor that is not finite");
}

TEST_F(Training, NoticesDivergence) {
  GraphBuilder net("linear", 1);
  const std::string x = net.input("x", {-1, 8});
  net.output("y", net.gemm("fc", x, 8, 4), {-1, 4});
  Graph graph = net.finish();
  TrainOptions options = quick(50);
  options.learning_rate = 50;  // reached slowly, so that the first steps are fine
  options.warmup_epochs = 50;
  const DatasetPtr noise = tensor_dataset({{"", at::randn({128, 8})}}, at::randint(0, 4, {128}, at::kLong));
  expect_contains(message_of([&] { run(options, noise, graph); }), "training diverges: in epoch");
}

TEST_F(Training, ALossBelowGuessingIsNoDivergence) {
  // A network that is sure and right, and then is asked for other labels: far worse than its first steps.
  const Graph sure = run(quick(60)).last;
  TrainOptions options = quick(6);
  options.learning_rate = 1e-5;
  options.memory_bytes = 0;
  std::atomic<int> asked = 0;
  const auto data = std::make_shared<test::Relabelled>(
      quarters(128), [&asked](std::int64_t label) { return ++asked > 30 * 16 ? (label + 1) % 4 : label; });
  const TrainResult result = run(options, data, sure);
  EXPECT_GT(result.history.back().loss, 20 * result.history.front().loss);
}

TEST_F(Training, CopesWithFewSamples) {
  TrainOptions options = quick(1);
  options.batch = 32;
  std::string noted;
  options.on_note = [&](const std::string& text) { noted = text; };
  const TrainResult result = run(options, quarters(5));
  expect_contains(noted, "the 5 training samples do not fill a batch of 32");
  EXPECT_EQ(result.notes, std::vector<std::string>{noted});
  EXPECT_FALSE(differing(small_net(), result.last).empty());
}

TEST_F(Training, RefusesWhatDoesNotFit) {
  const TrainOptions options = quick(1);
  const at::Tensor images = at::zeros({32, 2, 8, 8});
  expect_contains(message_of([&] { run(options, tensor_dataset({{"", images}})); }), "needs labelled data");
  expect_contains(message_of([&] {
                    run(options, tensor_dataset({{"", images}}, at::full({32}, 4, at::kLong)));
                  }),
                  "the label is 4, but the model has 4 classes");
  Graph fixed = small_net();
  fixed.inputs[0].shape->front() = {.value = 1};
  expect_contains(message_of([&] { run(options, quarters(32), fixed); }), "batches of exactly 1");
  TrainOptions frozen = options;
  for (const Trainable& one : trainable_constants(small_net())) frozen.frozen.push_back(one.name);
  expect_contains(message_of([&] { run(frozen); }), "no constants that could learn");
}

TEST_F(Training, DecaysWeightsAlone) {
  // Without a gradient to speak of (all samples of one class, fitted at once) only decay acts.
  class NoGradients : public TrainHooks {
   public:
    void after_gradients(Executor& executor, std::int64_t, std::int64_t) override {
      for (const Trainable& one : trainable_constants(executor.graph()))
        executor.constant(one.name).mutable_grad().zero_();
    }
  } hooks;
  TrainOptions options = quick(1);
  options.optimiser = Sgd{.momentum = 0};
  options.schedule = Schedule::Constant;
  options.learning_rate = 0.5;
  options.weight_decay = 0.1;
  options.batch = 128;  // one step
  const Graph before = small_net();
  Graph after = run(options, quarters(128), before, &hooks).last;
  EXPECT_NEAR(values_of(after, "conv1.weight")[0], 0.95f * values_of(before, "conv1.weight")[0], 1e-6);
  EXPECT_EQ(values_of(after, "bn1.weight"), values_of(before, "bn1.weight"));
  options.decay_all = true;
  after = run(options, quarters(128), before, &hooks).last;
  EXPECT_NEAR(values_of(after, "bn1.weight")[0], 0.95f, 1e-6);
}

TEST_F(Training, FreezesAndAdds) {
  TrainOptions options = quick(1);
  options.frozen = {"conv1.weight"};
  Graph graph = small_net();
  graph.constants["unused"] = TensorData::scalar<float>(2);
  // A factor on the logits: a scalar, which does not learn by itself.
  for (Node& node : graph.nodes)
    if (node.name == "fc") node.outputs[0] = "unscaled";
  graph.nodes.push_back(
      {.name = "scale", .op_type = "Mul", .inputs = {"unscaled", "unused"}, .outputs = {"logits"}});
  EXPECT_EQ(values_of(run(options, quarters(128), graph).last, "unused")[0], 2);
  options.also_learn = {"unused"};
  const Graph after = run(options, quarters(128), graph).last;
  EXPECT_NE(values_of(after, "unused")[0], 2);
  EXPECT_EQ(values_of(after, "conv1.weight"), values_of(graph, "conv1.weight"));
}

TEST_F(Training, CallsHooksAndForgetsWhatEvaluationChanged) {
  class Hooks : public TrainHooks {
   public:
    int before = 0, gradients = 0, after = 0, evaluations = 0, started = 0;
    void before_training(Executor&) override { ++started; }
    void before_step(Executor&, std::int64_t, std::int64_t) override { ++before; }
    void after_gradients(Executor& executor, std::int64_t, std::int64_t) override {
      gradients += executor.constant("conv1.weight").grad().defined();
    }
    void after_step(Executor&, std::int64_t, std::int64_t) override { ++after; }
    void before_evaluation(Executor& executor, const DatasetPtr& data) override {
      ++evaluations;
      EXPECT_EQ(data->size(), 128);
      executor.constant("fc.weight").detach().zero_();
      executor.set_constant("bn1.running_mean", at::full({6}, 7.0f));
    }
    std::map<std::string, double> epoch_numbers(Executor&, std::int64_t epoch) override {
      return {{"twice", 2.0 * static_cast<double>(epoch)}};
    }
  } hooks;
  TrainOptions options = quick();
  const Graph plain = run(options).last;
  options.validation = quarters(16);
  const TrainResult result = run(options, quarters(128), small_net(), &hooks);
  EXPECT_EQ(hooks.started, 1);
  EXPECT_EQ(hooks.before, 16);
  EXPECT_EQ(hooks.gradients, 16);
  EXPECT_EQ(hooks.after, 16);
  EXPECT_EQ(hooks.evaluations, 2);
  EXPECT_EQ(result.history[1].extra.at("twice"), 2);
  EXPECT_TRUE(differing(plain, result.last).empty());
  EXPECT_EQ(values_of(result.best, "fc.weight"), std::vector<float>(32, 0));
  EXPECT_EQ(values_of(result.best, "bn1.running_mean"), std::vector<float>(6, 7));
}

TEST_F(Training, KeepsTheStateOfHooks) {
  class Counter : public StopAfter {
   public:
    using StopAfter::StopAfter;
    at::Tensor count = at::zeros({1});
    void before_step(Executor&, std::int64_t, std::int64_t) override { count += 1; }
    std::map<std::string, at::Tensor> state() const override { return {{"count", count}}; }
    void load_state(const std::map<std::string, at::Tensor>& state) override { count = state.at("count"); }
  };
  TrainOptions options = quick();
  options.checkpoints = folder_.path() / "run";
  Counter first(5), second(-1);
  EXPECT_THROW(run(options, quarters(128), small_net(), &first), Interrupted);
  options.resume = true;
  run(options, quarters(128), small_net(), &second);
  EXPECT_EQ(second.count.item<float>(), 16);
}

TEST_F(Training, ScoresTheAverage) {
  TrainOptions options = quick(1);
  options.ema_decay = 0.999;
  options.validation = quarters(16);
  const TrainResult result = run(options);
  const double start = values_of(small_net(), "fc.weight")[0], last = values_of(result.last, "fc.weight")[0],
               best = values_of(result.best, "fc.weight")[0];
  EXPECT_GT((best - start) / (last - start), 0);
  EXPECT_LT((best - start) / (last - start), 1);
}

TEST_F(Training, LearnsFromATeacher) {
  TrainOptions options = quick(8);
  const Graph teacher = run(options).last;
  options.distillation = {.teacher = std::make_shared<Graph>(teacher), .temperature = 1, .weight = 1};
  options.validation = quarters(64, 6);
  options.epochs = 20;
  // The labels of the data are wrong; the teacher knows better.
  at::Tensor images = at::stack([&] {
    std::vector<at::Tensor> all;
    const DatasetPtr data = quarters(128);
    for (std::int64_t i = 0; i < 128; ++i) all.push_back(data->get(i).inputs.at(""));
    return all;
  }());
  const TrainResult result =
      run(options, tensor_dataset({{"", images}}, at::zeros({128}, at::kLong)), small_net(4));
  EXPECT_GT(result.history.back().validation_top1.value(), 0.8);
}

TEST_F(Training, LearnsImages) {
  Graph graph = build_network("edsr", {.image_channels = 1, .scale = 2});
  EXPECT_EQ(graph.inputs[0].shape->at(2).symbol, "height");
  GraphBuilder net("upscaler", 1);
  std::string x = net.conv("conv", net.input("image", {-1, 1, 6, 6}), {.channels = 4});
  net.output("large",
             net.node("DepthToSpace", "shuffle", {x},
                      {{"blocksize", std::int64_t{2}}, {"mode", std::string("CRD")}}),
             {-1, 1, 12, 12});
  const at::Tensor small = at::rand({40, 1, 10, 10});
  const at::Tensor large = small.repeat_interleave(2, 2).repeat_interleave(2, 3);
  TrainOptions options{
      .epochs = 15, .batch = 8, .optimiser = AdamW{}, .learning_rate = 0.05, .weight_decay = 0};
  options.augmentation = {.flip = true, .patch = 6};
  options.threads = 1;
  const TrainResult result = run(options, tensor_dataset({{"", small}}, {}, large), net.finish());
  EXPECT_FALSE(result.history[0].train_top1.has_value());
  EXPECT_LT(result.history.back().loss, 0.2 * result.history.front().loss);
}

TEST_F(Training, ReestimatesBatchNorms) {
  const Graph graph = small_net(1, true);
  Executor executor(graph, {});
  const DatasetPtr data = quarters(48);
  reestimate_batch_norm(executor, data, {.batches = 3, .batch = 16, .threads = 1, .seed = 2});
  Graph after = graph;
  executor.store_constants(after);
  EXPECT_EQ(differing(graph, after), (std::vector<std::string>{"bn1.running_mean", "bn1.running_var",
                                                               "bn2.running_mean", "bn2.running_var"}));
  EXPECT_FALSE(executor.options().training);
  // All batches are equally large: the mean of their means is that of all samples.
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> images;
  for (std::int64_t i = 0; i < 48; ++i) images.push_back(data->get(i).inputs.at(""));
  const at::Tensor maps = executor.run({{"image", at::stack(images)}}, {"conv1"}).at("conv1");
  EXPECT_TRUE(at::allclose(executor.constant("bn1.running_mean"), maps.mean({0, 2, 3}), 1e-4, 1e-5));
  const at::Tensor variance = maps.var({0, 2, 3}, false);
  EXPECT_TRUE(
      at::allclose(executor.constant("bn1.running_var"), variance, 0.05, 1e-4));  // of batches: a little less
}

}  // namespace
}  // namespace lithe
