#include "lithe/sparsify/sparsify.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/graph/sparsity_record.h"
#include "lithe/metrics/evaluate.h"
#include "lithe/quantize/quantize.h"
#include "message_of.h"
#include "relabelled.h"
#include "sparsify/helpers.h"

namespace lithe {
namespace {

using namespace testing_helpers;
using testing::Contains;
using testing::HasSubstr;

double top1(const Graph& graph, const DatasetPtr& data) {
  Executor executor(graph);
  return *evaluate(executor, data, {.batch = 64, .threads = 1}).top1;
}

SparsifyOptions options_for(SparsifyMethod method, SparsityPattern pattern = {2, 4}) {
  SparsifyOptions options{.method = method, .layers = {.pattern = pattern}, .train = short_training()};
  options.norm_batches = 4;
  return options;
}

class Sparsify : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    at::set_num_threads(1);
    Progress progress;
    trained_ = new Graph(train(small_net(), small_data(512, 1), short_training(4), progress).best);
  }
  static void TearDownTestSuite() {
    delete trained_;
    trained_ = nullptr;
  }
  static const Graph& trained() { return *trained_; }

  DatasetPtr data_ = small_data(512, 1), held_out_ = small_data(400, 2);
  Progress progress_;

 private:
  static Graph* trained_;
};
Graph* Sparsify::trained_ = nullptr;

TEST_F(Sparsify, EveryMethodKeepsThePatternAndLearns) {
  const double dense = top1(trained(), held_out_);
  EXPECT_GT(dense, 0.9);
  for (const SparsifyMethod method : {SparsifyMethod::Asp, SparsifyMethod::SrSte, SparsifyMethod::SpRe}) {
    const Sparsified result = sparsify(trained(), data_, options_for(method, {1, 4}), progress_);
    EXPECT_LE(result.fold_difference.absolute, 1e-5);
    EXPECT_LE(result.fold_difference.exact.value(), 1e-6);
    EXPECT_GT(top1(result.graph, held_out_), dense - 0.06) << static_cast<int>(method);
    EXPECT_EQ(result.history.size(), 3u);
    for (const SparsifiedLayer& layer : result.layers) {
      if (!layer.layer.pattern) continue;
      EXPECT_LE(layer.nonzero * 4, layer.weights) << layer.layer.name;
      EXPECT_GT(layer.kept_magnitude, 0.25);
      EXPECT_EQ(layer.branch.size(), method == SparsifyMethod::SpRe && layer.spatial ? 9u : 0u);
    }
    for (const SparsityCheck& check : check_sparsity(result.graph, {1, 4}))
      EXPECT_TRUE(check.violations == 0 || check.tensor == "stem.weight" || check.tensor == "fc.weight")
          << check.tensor;
    const auto records = check_sparsity_records(result.graph);
    ASSERT_EQ(records.size(), 3u);
    for (const RecordState& state : records) {
      EXPECT_EQ(format_sparsity(state.record.pattern), "1:4");
      EXPECT_EQ(state.problem, "");
      EXPECT_FALSE(state.changed);
    }
  }
}

TEST_F(Sparsify, OneShotWarnsAndReestimates) {
  const Sparsified blind =
      sparsify(trained(), nullptr, options_for(SparsifyMethod::Magnitude, {1, 8}), progress_);
  EXPECT_THAT(blind.notes, Contains(HasSubstr("without retraining usually falls to chance")));
  EXPECT_THAT(blind.notes, Contains(HasSubstr("no data were given")));
  const Sparsified seen =
      sparsify(trained(), data_, options_for(SparsifyMethod::Magnitude, {1, 8}), progress_);
  EXPECT_GT(top1(seen.graph, held_out_), top1(blind.graph, held_out_));
  const Sparsified half = sparsify(trained(), data_, options_for(SparsifyMethod::Magnitude), progress_);
  for (const std::string& note : half.notes) EXPECT_EQ(note.find("chance"), std::string::npos);
}

TEST_F(Sparsify, FixedMasksStay) {
  const SparsifyOptions options = options_for(SparsifyMethod::Asp, {1, 4});
  const Sparsified result = sparsify(trained(), data_, options, progress_);
  for (const MaskedLayer& layer : result.masked.layers) {
    const auto mask = mask_of(trained().constants.at(layer.layer.weight), layer.layer);
    const auto kernel = result.graph.constants.at(layer.layer.weight).to_floats();
    for (std::size_t i = 0; i < mask.size(); ++i)
      ASSERT_TRUE(mask[i] != 0 || kernel[i] == 0.0f) << layer.layer.name << " " << i;
  }
}

TEST_F(Sparsify, FaithfulAndControls) {
  SparsifyOptions options = options_for(SparsifyMethod::SpRe, {1, 8});
  options.faithful = true;
  options.train.epochs = 2;
  for (const SpatialChoice choice :
       {SpatialChoice::Measured, SpatialChoice::Everywhere, SpatialChoice::Inverted}) {
    options.spatial = choice;
    const Sparsified result = sparsify(trained(), data_, options, progress_);
    EXPECT_LE(result.fold_difference.absolute, 1e-5);
    EXPECT_LE(result.fold_difference.exact.value(), 1e-6);
    for (const MaskedLayer& layer : result.masked.layers) {
      if (!layer.has_branch()) continue;
      // The stored mask is that of the latent weight before the last step, but for a few positions.
      const auto now =
          spatial_mask_of(result.masked.graph.constants.at(layer.layer.weight), layer.layer, choice);
      const auto stored = result.masked.graph.constants.at(layer.spatial_mask).to_doubles();
      int differing = 0;
      for (std::size_t i = 0; i < now.size(); ++i) differing += (stored[i] != 0) != (now[i] != 0) ? 1 : 0;
      EXPECT_LE(differing, choice == SpatialChoice::Everywhere ? 0 : 4);
    }
    EXPECT_TRUE(result.history.at(1).extra.contains("spatial_flips"));
    EXPECT_TRUE(result.history.at(1).extra.contains("mask_flips"));
  }
}

TEST_F(Sparsify, ResumesToTheSameWeights) {
  const TemporaryFolder folder;
  SparsifyOptions options = options_for(SparsifyMethod::SpRe, {1, 4});
  options.faithful = true;
  options.train.epochs = 4;
  const Sparsified whole = sparsify(trained(), data_, options, progress_);
  options.train.checkpoints = folder.path();
  // Ctrl-C after two epochs.
  struct Stop {};
  options.train.on_epoch = [](const EpochRecord& record) {
    if (record.epoch == 2) throw Stop{};
  };
  EXPECT_THROW(sparsify(trained(), data_, options, progress_), Stop);
  options.train.on_epoch = nullptr;
  options.train.resume = true;
  const Sparsified resumed = sparsify(trained(), data_, options, progress_);
  for (const auto& [name, data] : whole.graph.constants)
    EXPECT_TRUE(std::ranges::equal(data.bytes(), resumed.graph.constants.at(name).bytes())) << name;
}

/// Ctrl-C after so many steps of training.
class StopAt : public Progress {
 public:
  explicit StopAt(std::int64_t step) : step_(step) {}

 protected:
  void show(const State& state, bool /*finished*/) override {
    if (state.task == "train" && state.done == step_) throw Interrupted{};
  }

 private:
  std::int64_t step_;
};

TEST_F(Sparsify, ResumesInsideAnEpoch) {
  for (const SparsifyMethod method : {SparsifyMethod::SpRe, SparsifyMethod::SrSte, SparsifyMethod::Asp}) {
    const TemporaryFolder folder;
    SparsifyOptions options = options_for(method, {1, 4});
    options.train.ema_decay = 0.9;
    options.train.validation_share = 0.25;
    options.tighten_epochs = method == SparsifyMethod::SrSte ? 2 : 0;
    const Sparsified whole = sparsify(trained(), data_, options, progress_);
    options.train.checkpoints = folder.path();
    const std::int64_t steps = 384 / options.train.batch;
    StopAt stop(steps + steps / 2);
    EXPECT_THROW(sparsify(trained(), data_, options, stop), Interrupted);
    options.train.resume = true;
    const Sparsified resumed = sparsify(trained(), data_, options, progress_);
    for (const auto& [name, data] : whole.graph.constants)
      EXPECT_TRUE(std::ranges::equal(data.bytes(), resumed.graph.constants.at(name).bytes())) << name;
  }
}

TEST_F(Sparsify, LearnsFromTheDenseModelAlone) {
  SparsifyOptions options = options_for(SparsifyMethod::SpRe);
  options.distillation = 1;
  options.permute = true;  // the teacher is the model as it was
  const auto mislabelled =
      std::make_shared<test::Relabelled>(data_, [](std::int64_t label) { return (label + 1) % 4; });
  const Sparsified result = sparsify(trained(), mislabelled, options, progress_);
  EXPECT_GT(top1(result.graph, held_out_), 0.8);
}

TEST_F(Sparsify, ASecondRunKeepsWhatTheFirstRecorded) {
  SparsifyOptions options = options_for(SparsifyMethod::Magnitude);
  options.layers.exclude = {"body.2"};
  const Graph first = sparsify(trained(), data_, options, progress_).graph;
  options.layers.exclude = {"body.1"};
  const Graph second = sparsify(first, data_, options, progress_).graph;
  EXPECT_GT(sparsity_records(second).size(), sparsity_records(first).size());
  for (const RecordState& state : check_sparsity_records(second)) EXPECT_EQ(state.problem, "");
  // Trained without its mask, a layer loses its record, and the user hears of it.
  options = options_for(SparsifyMethod::Asp);
  options.layers.exclude = {"body.1"};
  const Sparsified trained_again = sparsify(first, data_, options, progress_);
  EXPECT_THAT(trained_again.notes, Contains(HasSubstr("layer 'body.1' was 2:4 before and is not any more")));
}

TEST_F(Sparsify, FoldedModelsAndScratch) {
  const Graph bare = small_net({.norms = false});
  SparsifyOptions options = options_for(SparsifyMethod::SpRe);
  options.train.learning_rate = 0.03;
  const Sparsified result = sparsify(bare, data_, options, progress_);
  EXPECT_THAT(result.notes, Contains(HasSubstr("3 convolutions without a batch norm")));
  EXPECT_EQ(result.graph.nodes.size(), bare.nodes.size());
  options = options_for(SparsifyMethod::SrSte);
  options.from_scratch = true;
  options.distillation = 0.5;
  options.train.epochs = 5;
  const Sparsified scratch = sparsify(trained(), data_, options, progress_);
  EXPECT_GT(top1(scratch.graph, held_out_), 0.6);  // chance is 0.25
}

TEST_F(Sparsify, BudgetAndPermutation) {
  SparsifyOptions options = options_for(SparsifyMethod::Magnitude);
  options.budget = parse_sparsity_budget("size=0.5");
  options.choose = {.samples = 128, .norm_batches = 2, .batch = 64, .threads = 1};
  options.permute = true;
  const Sparsified result = sparsify(trained(), data_, options, progress_);
  std::int64_t all = 0, left = 0;
  for (const SparsifiedLayer& layer : result.layers) {
    all += layer.weights;
    left += layer.nonzero;
  }
  EXPECT_LE(left * 2, all);
  EXPECT_FALSE(result.sensitivities.empty());
  EXPECT_FALSE(result.permuted.empty());
  for (const PermutedGroup& group : result.permuted) EXPECT_GE(group.kept_after, group.kept_before);
}

// Sparsify, then quantise: every zero stays at the zero point.
TEST_F(Sparsify, QuantisationKeepsThePattern) {
  const Sparsified sparse = sparsify(trained(), data_, options_for(SparsifyMethod::SrSte), progress_);
  for (const auto& [bits, target] : std::vector<std::pair<int, Target>>{{8, Target::OnnxRuntime},
                                                                        {8, Target::TensorRt},
                                                                        {8, Target::OpenVino},
                                                                        {4, Target::OnnxRuntime}}) {
    QuantizeOptions options{.weight_bits = bits};
    options.target = target;
    options.threads = 1;
    const Quantized quantized = quantize(sparse.graph, small_data(64, 5), options, progress_);
    int checked = 0;
    for (const SparsityCheck& check : check_sparsity(quantized.graph, {2, 4})) {
      const bool pruned =
          std::any_of(sparse.masked.layers.begin(), sparse.masked.layers.end(),
                      [&](const MaskedLayer& layer) { return layer.layer.name == check.node; });
      if (!pruned) continue;
      ++checked;
      EXPECT_EQ(check.skipped, "") << check.tensor;
      EXPECT_EQ(check.violations, 0) << check.tensor << ", " << bits << " bits";
      EXPECT_GE(check.zeros, 0.5);
    }
    EXPECT_EQ(checked, 3) << bits << " bits";
    const auto records = check_sparsity_records(quantized.graph);  // the model still says what was pruned
    EXPECT_EQ(records.size(), 3u);
    for (const RecordState& state : records) EXPECT_EQ(state.problem, "") << state.record.layer;
    EXPECT_GT(top1(quantized.graph, held_out_), top1(sparse.graph, held_out_) - (bits == 8 ? 0.05 : 0.3));
  }
}

TEST_F(Sparsify, WhatTheUserCanMend) {
  const auto error = [&](const DatasetPtr& data, const SparsifyOptions& options) -> std::string {
    try {
      sparsify(trained(), data, options, progress_);
    } catch (const Error& failure) {
      EXPECT_EQ(failure.kind(), ErrorKind::Input);
      return failure.what();
    }
    return "";
  };
  EXPECT_THAT(error(nullptr, options_for(SparsifyMethod::SpRe)), HasSubstr("needs data"));
  SparsifyOptions options = options_for(SparsifyMethod::SrSte);
  options.layers.pattern = {1, 64};
  EXPECT_THAT(error(data_, options), HasSubstr("no layer"));
  options = options_for(SparsifyMethod::SrSte);
  options.train.learning_rate = 1e6;
  EXPECT_NE(error(data_, options), "");
  options = options_for(SparsifyMethod::Magnitude);
  options.tolerance = -1;
  EXPECT_THAT(error(data_, options), HasSubstr("folding would change"));
  options = options_for(SparsifyMethod::SrSte);
  options.budget = parse_sparsity_budget("size=0.01");
  EXPECT_THAT(error(small_data(32, 1), options), HasSubstr("cannot be met"));
}

TEST_F(Sparsify, TighteningEndsAtThePattern) {
  SparsifyOptions options = options_for(SparsifyMethod::SrSte, {1, 8});
  options.tighten_epochs = 3;
  EXPECT_THAT(test::message_of([&] { sparsify(trained(), data_, options, progress_); }),
              HasSubstr("tightening over 3 epochs leaves none of the 3 epochs"));
  options.train.epochs = 5;
  options.train.validation_share = 0.2;
  const Sparsified result = sparsify(trained(), data_, options, progress_);
  for (const RecordState& state : check_sparsity_records(result.graph)) EXPECT_EQ(state.problem, "");
  // Scored under the pattern from the first epoch on, while the weights still learn under a wider one.
  for (const EpochRecord& record : result.history) EXPECT_TRUE(record.validation_top1.has_value());
  EXPECT_GT(top1(result.graph, held_out_), 0.8);
  EXPECT_LE(result.fold_difference.absolute, 1e-5);
}

// Node names are for people: two layers of one name, as some exporters write them, stay apart.
TEST_F(Sparsify, LayersOfOneName) {
  Graph graph = trained();
  for (Node& node : graph.nodes)
    if (node.name == "body.2") node.name = "body.1";
  SparsifyOptions options = options_for(SparsifyMethod::SpRe, {1, 4});
  const Sparsified named = sparsify(trained(), data_, options, progress_),
                   nameless = sparsify(graph, data_, options, progress_);
  for (const auto& [name, data] : named.graph.constants) {
    if (!name.ends_with(".weight")) continue;
    EXPECT_TRUE(std::ranges::equal(data.bytes(), nameless.graph.constants.at(name).bytes())) << name;
  }
  for (std::size_t i = 0; i < named.layers.size(); ++i)
    EXPECT_EQ(named.layers[i].branch, nameless.layers[i].branch);
  for (const RecordState& state : check_sparsity_records(nameless.graph)) EXPECT_EQ(state.problem, "");
}

TEST_F(Sparsify, SaysThatABatchIsBakedIn) {
  GraphBuilder net("tokens", 1);
  const std::string x = net.flatten("flat", net.input("image", {-1, 3, 8, 8}));
  const std::string token =
      net.node("Expand", "expand", {net.random("token", {1, 8}, 1), net.ints("shape", {1, 8})});
  const std::string y =
      net.gemm("fc1", net.node("Concat", "join", {token, x}, {{"axis", std::int64_t{1}}}), 200, 16);
  net.output("logits", net.gemm("fc3", net.gemm("fc2", y, 16, 16), 16, 4), {-1, 4});
  const Graph graph = net.finish();
  for (const SparsifyMethod method : {SparsifyMethod::Magnitude, SparsifyMethod::SrSte})
    EXPECT_THAT(test::message_of([&] { sparsify(graph, data_, options_for(method), progress_); }),
                HasSubstr("'tokens' runs one sample at a time, not 2"));
  SparsifyOptions single = options_for(SparsifyMethod::SrSte);
  single.train.batch = 1;
  single.train.epochs = 1;
  single.train.learning_rate = 1e-3;
  EXPECT_EQ(sparsify(graph, small_data(20, 1), single, progress_).history.size(), 1u);
}

TEST_F(Sparsify, DataSmallerThanABatch) {
  SparsifyOptions options = options_for(SparsifyMethod::SrSte);
  options.train.epochs = 1;
  const Sparsified result = sparsify(trained(), small_data(20, 1), options, progress_);
  EXPECT_FALSE(result.notes.empty());
}

}  // namespace
}  // namespace lithe
