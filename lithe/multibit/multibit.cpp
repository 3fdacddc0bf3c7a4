#include "lithe/multibit/multibit.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "lithe/base/error.h"
#include "lithe/base/hash.h"
#include "lithe/base/random.h"
#include "lithe/graph/adopt_constants.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/train/checkpoint.h"
#include "lithe/train/initialise.h"
#include "lithe/train/insert_norms.h"

namespace lithe {
namespace {

/// Shapes of the inner values, with a free batch where the model has one.
void infer(Graph& graph) {
  infer_shapes(graph, concrete_input_shapes(graph, {}, 1));
}

/// The input keeps the batch size that the model declares.
Graph with_inputs_of(Graph graph, const Graph& model) {
  for (ValueInfo& input : graph.inputs)
    if (const ValueInfo* declared = model.info(input.name)) input = *declared;
  for (ValueInfo& output : graph.outputs)
    if (output.shape && !output.shape->empty() && !model.inputs.empty() && model.inputs[0].shape &&
        !model.inputs[0].shape->empty())
      output.shape->front() = model.inputs[0].shape->front();
  graph.values.clear();
  infer_shapes(graph);
  return graph;
}

/// He et al., ICCV 2015, by fan-out, of each branch for itself.
void draw_branches(BranchGraph& branches, std::uint64_t seed) {
  for (const std::string& name : branches.weights) {
    TensorData& data = branches.graph.constants.at(name);
    double fan_out = static_cast<double>(data.shape()[0]);
    for (std::size_t i = 2; i < data.shape().size(); ++i) fan_out *= static_cast<double>(data.shape()[i]);
    const std::string source = name.substr(0, name.rfind('@'));
    for (const BodyConvolution& conv : branches.body.convolutions)
      if (conv.weight == source) {
        // A part of a depthwise convolution has fewer groups, but as few outputs in each.
        const double groups =
            conv.depthwise() ? static_cast<double>(data.shape()[0]) : static_cast<double>(conv.groups);
        fan_out /= groups;
      }
    Rng rng(seed, fnv1a(std::as_bytes(std::span(name))));
    std::vector<float> values(static_cast<std::size_t>(data.count()));
    for (float& value : values) value = static_cast<float>(std::sqrt(2 / fan_out) * rng.normal());
    data = TensorData::from<float>(data.shape(), std::move(values));
  }
}

TrainOptions training_of(const MultibitOptions& options, const BranchGraph& branches) {
  TrainOptions train = options.train;
  ParameterGroup bounds{.names = {}, .learning_rate = options.bound_learning_rate};
  for (const LearntBounds& one : branches.bounds)
    bounds.names.insert(bounds.names.end(), {one.low, one.high});
  train.also_learn = bounds.names;
  for (const LearntScale& one : branches.scales) train.also_learn.push_back(one.scale);
  train.also_learn.insert(train.also_learn.end(), branches.weights.begin(), branches.weights.end());
  if (!bounds.names.empty()) train.groups.push_back(std::move(bounds));
  return train;
}

}  // namespace

BranchGraph plan_multibit(const Graph& model, const DatasetPtr& data, const MultibitOptions& options,
                          std::vector<std::string>* notes) {
  const auto note = [&](std::string text) {
    if (notes) notes->push_back(std::move(text));
  };
  check_bits(options.bits);
  if (has_multibit_info(model))
    fail("the model '{}' runs at several bit-widths already; start from the model that it was made of",
         model.name);
  Graph graph = model;
  adopt_constants(graph);
  if (options.from_scratch) initialise(graph, options.train.seed);
  infer(graph);
  Body body = find_body(graph);
  for (const std::string& text : body.left_out) note(text + "; it stays in float");
  if (const auto bare = convolutions_without_norm(graph, body); !bare.empty()) {
    if (!data)
      fail(
          "{} convolutions of the model '{}' have no batch norm behind them, the first makes '{}'; norms are "
          "started on data, so give --data",
          bare.size(), graph.name, bare.front());
    insert_norms(graph, bare, data, options.norm_samples, std::min<std::int64_t>(options.train.batch, 64));
    note(
        fmt::format("{} convolutions without a batch norm got one, which absorbs the range of the quantisers",
                    bare.size()));
    infer(graph);
    body = find_body(graph);
  }
  const bool copies = options.method == MultibitMethod::MbQuant && !options.from_scratch;
  BranchGraph branches = insert_branches(graph, body,
                                         {.method = options.method,
                                          .bits = options.bits,
                                          .amortise = options.amortise,
                                          .slots = options.slots,
                                          .widths = options.widths,
                                          .branch_noise = copies ? options.branch_noise : 0,
                                          .seed = options.train.seed});
  if (options.from_scratch) draw_branches(branches, options.train.seed);
  branches.graph = with_inputs_of(std::move(branches.graph), model);
  if (options.method == MultibitMethod::MbQuant && options.slots)
    note(
        "bounds belong to places in the selection: the codes of a branch depend on the bit-width, so that "
        "weights are switched after all");
  if (branches.partial_share > 0.5)
    note(fmt::format(
        "the part of a branch has {:.3f} of its multiply-accumulates, so that odd bit-widths cost more than "
        "uniform networks of as many bits",
        branches.partial_share));
  return branches;
}

MultibitTrained train_multibit(const Graph& model, const DatasetPtr& data, const MultibitOptions& options,
                               Progress& progress) {
  if (!data || !data->labelled())
    fail("every bit-width is trained, which needs labelled data; see docs/data.md");
  MultibitTrained result;
  result.branches = plan_multibit(model, data, options, &result.notes);
  BranchGraph& branches = result.branches;
  if (const std::int64_t still = start_bounds(branches, data, options.train); still > 0)
    result.notes.push_back(fmt::format(
        "{} activations do not vary on the first batch; their bounds start at the smallest width", still));

  TrainOptions training = training_of(options, branches);
  const auto report = training.on_note;
  training.on_note = [&](const std::string& text) {
    result.notes.push_back(text);
    if (report) report(text);
  };
  const BitTraining how{.teaching = options.teaching,
                        .sandwich = options.sandwich,
                        .norm_batches = options.norm_batches,
                        .recipe = {{"from scratch", options.from_scratch ? "yes" : "no"}}};
  BitHooks hooks(branches, how, training);
  TrainResult trained = train(branches.graph, data, training, progress, &hooks);
  result.history = std::move(trained.history);
  result.best_epoch = trained.best_epoch;
  result.complete = trained.complete;
  result.images_per_second = trained.images_per_second;
  result.crossed = hooks.crossed();
  branches.graph = std::move(trained.best);
  // What was scored best had its norms re-estimated before, on the samples that were trained on alone.
  if (result.best_epoch == 0 && options.norm_batches > 0) {
    Executor executor(branches.graph, {.device = training.device});
    reestimate_batch_norm(executor, data,
                          {.batches = options.norm_batches,
                           .batch = training.batch,
                           .threads = training.threads,
                           .seed = training.seed,
                           .collective = training.collective});
    executor.store_constants(branches.graph);
  }
  if (result.crossed > 0)
    result.notes.push_back(
        fmt::format("bounds of a quantiser met {} times and were moved apart; a lower --bound-lr may help",
                    result.crossed));
  return result;
}

std::vector<Evaluation> evaluate_bits(const Graph& graph, const std::vector<int>& bits,
                                      const DatasetPtr& data, const EvaluateOptions& options,
                                      at::Device device) {
  const at::NoGradGuard no_grad;
  std::vector<Evaluation> scores;
  for (const int one : bits) {
    Executor executor(extract_bits(graph, one), {.device = device});
    scores.push_back(evaluate(executor, data, options));
  }
  return scores;
}

}  // namespace lithe
