#include "lithe/sparsify/sparsify.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "lithe/base/error.h"
#include "lithe/data/loader.h"
#include "lithe/graph/sparsity_record.h"
#include "lithe/kernels/magnitude_mask.h"
#include "lithe/kernels/spatial_sparsity.h"
#include "lithe/train/batch_size.h"
#include "lithe/train/initialise.h"

namespace lithe {
namespace {

constexpr double kLargeOutput = 80;  // above, rounding the kernels once may do more than 1e-5
constexpr double kCollapse = 0.25;   // one-shot masks at this density or below leave nothing that works

MaskOptions mask_options(const SparsifyOptions& options) {
  MaskOptions masks{.decay = options.decay, .spatial = options.spatial, .seed = options.train.seed};
  const bool trains_masks = options.method == SparsifyMethod::SrSte || options.method == SparsifyMethod::SpRe;
  masks.mode = trains_masks ? MaskMode::Refined : MaskMode::Fixed;
  masks.tightens = trains_masks && options.tighten_epochs > 0;
  masks.branches = options.method == SparsifyMethod::SpRe;
  masks.branch_gamma = options.branch_gamma.value_or(options.faithful ? 1.0 : 0.0);
  return masks;
}

void warn(std::vector<std::string>& notes, const std::vector<SparseLayer>& layers,
          const SparsifyOptions& options, bool data) {
  if (options.method == SparsifyMethod::Magnitude) {
    const auto sparse = std::find_if(layers.begin(), layers.end(), [](const SparseLayer& layer) {
      return layer.pattern && layer.density() <= kCollapse;
    });
    if (sparse != layers.end())
      notes.push_back(
          fmt::format("magnitude pruning at {}:{} without retraining usually falls to chance; use --method "
                      "asp, sr-ste or spre",
                      sparse->pattern->kept, sparse->pattern->group));
    if (!data)
      notes.push_back(
          "no data were given: batch norms keep the statistics of the dense model, which costs accuracy");
  }
  for (const SparseLayer& layer : layers)
    if (layer.pattern && layer.groups.channels % layer.pattern->group != 0)
      notes.push_back(
          fmt::format("layer '{}': the last group of {} input channels is short and keeps at most {}",
                      layer.name, layer.groups.channels, layer.pattern->kept));
}

double kept_magnitude(const TensorData& weight, const SparseLayer& layer) {
  const std::vector<double> values = weight.to_doubles();
  const auto mask = mask_of(weight, layer);
  double all = 0, kept = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    all += std::abs(values[i]);
    kept += mask[i] != 0 ? std::abs(values[i]) : 0;
  }
  return all > 0 ? kept / all : 1;
}

std::optional<SpatialSparsity> spatial_of(const TensorData& latent, const SparseLayer& layer) {
  const std::vector<std::int64_t> kernel = layer.kernel();
  if (!layer.pattern || layer.op != "Conv" || layer.groups.inner < 2) return std::nullopt;
  const std::vector<float> values = latent.to_floats();
  std::vector<std::int64_t> kept(static_cast<std::size_t>(layer.groups.inner));
  spatial_counts(values.data(), layer.groups, layer.pattern->kept, layer.pattern->group, kept.data());
  return spatial_sparsity(kept, layer.groups, kernel);
}

constexpr double kPublishedWarmup = 5, kPublishedSmoothing = 0.1, kPublishedRate = 0.1;
constexpr std::int64_t kPublishedBatch = 256;

/// The first two samples, where the graph leaves its batch free; nothing where they cannot share a batch.
Feeds first_samples(const Graph& graph, const DatasetPtr& data) {
  if (fixed_batch(graph) > 0) return {};
  Loader loader(data, {.batch = 2, .threads = 1});
  Batch batch;
  return loader.next(batch) && batch.size() == 2 ? bind_inputs(graph, batch.inputs) : Feeds{};
}

/// What `options.layers` says, with the patterns that a budget may choose.
LayerPolicy policy_of(const SparsifyOptions& options) {
  LayerPolicy policy = options.layers;
  if (options.budget) policy.candidates = options.choose.candidates;
  return policy;
}

ChooseOptions choice_of(const SparsifyOptions& options) {
  ChooseOptions choose = options.choose;
  choose.ragged = options.layers.ragged;
  choose.device = options.train.device;
  return choose;
}

/// Fails if a rewrite that should change nothing did; says so where only the rounding of float32 exceeds the
/// tolerance.
void require_unchanged(const FoldDifference& found, double tolerance, const char* what,
                       std::vector<std::string>& notes) {
  const double bound = tolerance * std::max(1.0, found.scale / kLargeOutput);
  if (found.exact ? !(*found.exact <= bound) : !(found.relative <= tolerance))
    fail("{} would change the output by {:.2g}{}, more than {:.2g}; nothing is written", what,
         found.exact.value_or(found.relative), found.exact ? "" : " of its scale",
         found.exact ? bound : tolerance);
  if (!(found.relative <= tolerance))
    notes.push_back(
        fmt::format("{} moves the output by {:.2g} of its scale in float32, which is rounding: in float64 it "
                    "is {:.2g}",
                    what, found.relative, *found.exact));
}

/// Constants of `from` into the graph of the same names.
void take_constants(Graph& into, const Graph& from) {
  for (auto& [name, data] : into.constants)
    if (const TensorData* learnt = from.constant(name)) data = *learnt;
}

}  // namespace

TrainOptions published_recipe(TrainOptions train) {
  train.optimiser = Sgd{};
  train.learning_rate = kPublishedRate;
  train.batch = kPublishedBatch;
  train.decay_all = true;
  train.schedule = Schedule::CosinePerEpoch;
  const std::int64_t sixth = train.epochs / 6;
  train.warmup_epochs = std::min(kPublishedWarmup, static_cast<double>(sixth));
  train.label_smoothing = kPublishedSmoothing;
  return train;
}

std::vector<std::string> departures(const SparsifyOptions& options) {
  const TrainOptions &train = options.train, published = published_recipe(train);
  std::vector<std::string> found;
  const auto differs = [&](bool differs, std::string what) {
    if (differs) found.push_back(std::move(what));
  };
  const auto* sgd = std::get_if<Sgd>(&train.optimiser);
  const std::int64_t processes = train.collective ? train.collective->size() : 1;
  differs(!options.from_scratch, "it starts from the weights of the model");
  differs(!sgd || sgd->momentum != Sgd{}.momentum || sgd->nesterov,
          "another optimiser than SGD, momentum 0.9");
  differs(train.learning_rate != published.learning_rate,
          fmt::format("learning rate {} (0.1)", train.learning_rate));
  differs(train.batch * processes != published.batch,
          fmt::format("batches of {} (256)", train.batch * processes));
  differs(!train.decay_all, "weight decay on weights alone (on everything)");
  differs(train.schedule != published.schedule, "another schedule than a cosine set once an epoch");
  differs(train.warmup_epochs != kPublishedWarmup,
          fmt::format("{} epochs of warm-up (5)", train.warmup_epochs));
  differs(train.label_smoothing != published.label_smoothing,
          fmt::format("label smoothing {} (0.1)", train.label_smoothing));
  differs(options.branch_gamma.value_or(1) != 1, "branches start at another scale than 1");
  differs(options.spatial_update.value_or(SpatialUpdate::Step) != SpatialUpdate::Step ||
              options.spatial_margin > 0,
          "spatial masks are not measured afresh before every step");
  differs(options.tighten_epochs > 0, "the pattern is tightened");
  differs(!options.layers.prune_last, "the classifier stays dense");
  differs(train.weight_decay != TrainOptions{}.weight_decay,
          fmt::format("weight decay {} (0.0005)", train.weight_decay));
  differs(options.decay != SparsifyOptions{}.decay,
          fmt::format("decay of pruned weights {} (0.0002)", options.decay));
  differs(options.spatial != SpatialChoice::Measured, "branches are placed as a control");
  differs(options.permute, "channels are permuted");
  differs(options.budget.has_value() || !options.layers.pattern_for.empty(),
          "layers have patterns of their own");
  differs(options.distillation > 0, "a teacher");
  differs(train.clip_norm > 0, "gradients are clipped");
  differs(train.ema_decay > 0, "weights are averaged");
  differs(train.augmentation.mixup_alpha > 0, "mixup");
  differs(!train.augmentation.flip || train.augmentation.padded_crop != 4,
          "other augmentation than flips and crops over 4 pixels");
  differs(true, "batch norms are re-estimated before every evaluation");
  return found;
}

std::vector<SparseLayer> plan_sparsity(const Graph& model, const SparsifyOptions& options) {
  Graph graph = model;
  adopt_constants(graph);
  std::vector<SparseLayer> layers = find_sparse_layers(graph, policy_of(options));
  if (options.budget) check_budget(layers, choice_of(options), *options.budget);
  return layers;
}

Sparsified sparsify(const Graph& model, const DatasetPtr& data, const SparsifyOptions& options,
                    Progress& progress) {
  const bool trains = options.method != SparsifyMethod::Magnitude;
  if (trains && !data) fail("this method trains and needs data; give --data, or use --method magnitude");
  if (trains && options.tighten_epochs >= options.train.epochs)
    fail(
        "tightening over {} epochs leaves none of the {} epochs of training to the pattern; give fewer, or "
        "train longer",
        options.tighten_epochs, options.train.epochs);
  if (options.budget && !data) fail("a budget needs data to measure how sensitive layers are; give --data");
  Sparsified result;
  Graph graph = model;
  adopt_constants(graph);
  if (options.from_scratch) initialise(graph, options.train.seed);
  std::vector<SparseLayer> layers = find_sparse_layers(graph, policy_of(options));
  if (data && options.train.batch > 1)
    require_free_batch(graph, first_samples(graph, data), options.train.device);
  if (options.budget) {
    check_budget(layers, choice_of(options), *options.budget);
    result.sensitivities = measure_sensitivity(graph, layers, data, choice_of(options), progress);
    choose_patterns(layers, result.sensitivities, *options.budget);
  }
  if (options.permute) {
    const Graph before = graph;
    result.permuted = permute_channels(graph, layers, options.permutation);
    if (result.permuted.empty())
      result.notes.push_back(
          "no channels could be permuted: the layers that make and read them are not tied by simple nodes");
    else
      require_unchanged(fold_difference(before, graph, data), options.tolerance, "permuting channels",
                        result.notes);
  }
  warn(result.notes, layers, options, data != nullptr);
  if (options.faithful && options.method == SparsifyMethod::SpRe)
    result.notes.push_back(
        fmt::format("faithful, but not in everything: {}", fmt::join(departures(options), "; ")));

  std::vector<double> magnitude;
  for (const SparseLayer& layer : layers)
    magnitude.push_back(layer.dense_reason.empty() ? kept_magnitude(graph.constants.at(layer.weight), layer)
                                                   : 1.0);
  std::vector<std::string> inserted;
  if (data)
    inserted = insert_batch_norms(graph, layers, data, options.norm_samples,
                                  std::min<std::int64_t>(options.train.batch, 64));
  if (!inserted.empty())
    result.notes.push_back(fmt::format(
        "{} convolutions without a batch norm got one for the time of the work; it is folded again",
        inserted.size()));
  result.masked = insert_masks(graph, layers, mask_options(options), inserted);
  if (options.method == SparsifyMethod::SpRe &&
      std::none_of(result.masked.layers.begin(), result.masked.layers.end(),
                   [](const MaskedLayer& one) { return one.has_branch(); }))
    result.notes.push_back("no pruned layer has a kernel of more than one position: spre is sr-ste here");

  Graph learnt = result.masked.graph;
  TrainOptions training = options.train;
  if (trains) {
    if (options.distillation > 0)
      training.distillation = {std::make_shared<const Graph>(model), options.temperature,
                               options.distillation};
    const auto report = training.on_note;
    training.on_note = [&](const std::string& note) {
      result.notes.push_back(note);
      if (report) report(note);
    };
    const MaskTraining schedule{.update = options.spatial_update.value_or(
                                    options.faithful ? SpatialUpdate::Step : SpatialUpdate::Epoch),
                                .margin = options.spatial_margin,
                                .tighten_epochs = options.tighten_epochs,
                                .norm_batches = options.norm_batches,
                                .recipe = {{"permuted", options.permute ? "yes" : "no"},
                                           {"from scratch", options.from_scratch ? "yes" : "no"}}};
    MaskHooks hooks(result.masked, schedule, training);
    TrainResult trained = train(learnt, data, training, progress, &hooks);
    result.history = std::move(trained.history);
    result.best_epoch = trained.best_epoch;
    learnt = std::move(trained.best);
  }
  // What was scored best had its norms re-estimated before, on the samples that were trained on alone.
  if (data && result.best_epoch == 0) {
    Executor executor(learnt, {.device = training.device});
    reestimate_batch_norm(executor, data, reestimate_options(training, options.norm_batches));
    executor.store_constants(learnt);
  }
  take_constants(result.masked.graph, learnt);

  result.graph = fold_masks(result.masked, learnt);
  result.fold_difference = fold_difference(learnt, result.graph, data);
  require_unchanged(result.fold_difference, options.tolerance, "folding", result.notes);
  for (const RecordState& broken : update_sparsity_records(result.graph))
    result.notes.push_back(fmt::format("layer '{}' was {} before and is not any more: it {}",
                                       broken.record.layer, format_sparsity(broken.record.pattern),
                                       broken.problem));
  check_patterns(result.graph, result.masked.layers);

  for (std::size_t i = 0; i < layers.size(); ++i) {
    SparsifiedLayer one{.layer = layers[i], .kept_magnitude = magnitude[i]};
    const TensorData& weight = result.graph.constants.at(layers[i].weight);
    const std::vector<float> values = weight.to_floats();
    one.weights = weight.count();
    one.nonzero = std::count_if(values.begin(), values.end(), [](float v) { return v != 0; });
    one.spatial = spatial_of(learnt.constants.at(layers[i].weight), layers[i]);
    for (const MaskedLayer& masked : result.masked.layers)
      if (masked.layer.weight == layers[i].weight && masked.has_branch())
        for (const double bit : learnt.constants.at(masked.spatial_mask).to_doubles())
          one.branch.push_back(bit != 0 ? 1 : 0);
    result.layers.push_back(std::move(one));
  }
  return result;
}

}  // namespace lithe
