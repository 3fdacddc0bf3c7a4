// Training: a graph, data and a recipe in; a trained graph out.
//
//   TrainOptions options{.epochs = 30, .batch = 128, .learning_rate = 0.1, .weight_decay = 5e-4};
//   options.augmentation = {.flip = true, .padded_crop = 4};
//   options.validation_share = 0.1;
//   const TrainResult result = train(build_resnet20(), open_dataset("train.bin"), options, progress);
//   write_onnx(result.best, "resnet20.onnx");
//
// Methods that learn something else besides (masks, branches) join in through TrainHooks.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "lithe/base/progress.h"
#include "lithe/data/dataset.h"
#include "lithe/engine/executor.h"
#include "lithe/graph/graph.h"
#include "lithe/ops/collective.h"
#include "lithe/train/trainable.h"

namespace lithe {

/// v <- momentum v + g; w <- w - lr v, or w - lr (g + momentum v) with `nesterov`. Weight decay is added to
/// g.
struct Sgd {
  double momentum = 0.9;
  bool nesterov = false;
};

/// Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, algorithm 2.
struct AdamW {
  double beta1 = 0.9, beta2 = 0.999, epsilon = 1e-8;
};

enum class Schedule {
  CosinePerStep,   // linear warm-up by step, then half a cosine over the remaining steps, towards 0
  CosinePerEpoch,  // lr (1 + cos(pi e / E)) / 2 in epoch e = 0, 1, ...; warm-up epochs: lr (e + 1) / warm-up
  Constant,        // after the linear warm-up
  Step,            // times `step_factor` at each of `step_epochs`
};

/// Random changes of the training images. They depend on (seed, epoch, index of the sample) alone.
struct Augmentation {
  bool flip = false;                 // left and right, with probability 1/2
  std::int64_t padded_crop = 0;      // pixels of black border, then a random crop of the original size
  bool random_resized_crop = false;  // a random part, resized to the size of the input
  double least_area = 0.08;          // of that part, as a share of the image; ratios are 3/4 to 4/3
  double colour_jitter = 0;          // brightness, contrast and saturation times 1 +- this; below 1
  /// Zhang et al., "mixup", ICLR 2018: each sample is mixed with another one drawn at random, with a share
  /// from Beta(alpha, alpha) of its own. 0: off.
  double mixup_alpha = 0;
  /// Size of the random patches of the input for image targets (the target's patch follows); 0: whole images.
  std::int64_t patch = 48;
};

/// Hinton et al., "Distilling the Knowledge in a Neural Network", 2015: the loss becomes
/// (1 - weight) loss + weight T^2 KL(teacher / T || student / T); for image targets the mean absolute
/// difference to the teacher's output instead of the divergence.
struct Distillation {
  GraphPtr teacher;  // takes the same inputs, gives the same output; nothing: no distillation
  double temperature = 4;
  double weight = 0.5;  // 0..1
};

enum class TrainLoss {
  Auto,          // L1 for data with target images, else cross-entropy
  CrossEntropy,  // of the first output [n, classes] with labels
  L1,            // mean absolute difference of the first output and the target images
  L2,            // mean squared difference; held-out samples are scored by it too, not by PSNR
};

struct EpochRecord {
  std::int64_t epoch = 0;            // from 1
  double learning_rate = 0;          // of the last step
  double loss = 0;                   // mean over the steps, what was minimised
  std::optional<double> train_top1;  // share of the augmented training samples, before each update
  std::optional<double> validation_loss, validation_top1, validation_psnr;
  double seconds = 0;                   // of training, without the evaluation
  double images_per_second = 0;         // of training, all processes together
  std::map<std::string, double> extra;  // from the hooks
};

/// Learnable constants with a step of their own; the schedule is that of all.
struct ParameterGroup {
  std::vector<std::string> names;  // of constants that learn; in one group at most
  std::variant<Sgd, AdamW> optimiser = AdamW{};
  double learning_rate = 1e-4;  // in place of TrainOptions::learning_rate
  double weight_decay = 0;      // of all of them
};

struct TrainOptions {
  std::int64_t epochs = 30;
  /// Samples in a step of one process. The last samples of an epoch that do not fill a step are left out (the
  /// order changes every epoch). Made smaller, with a note, if the data hold fewer.
  std::int64_t batch = 128;

  std::variant<Sgd, AdamW> optimiser = Sgd{};
  double learning_rate = 0.1;
  double warmup_epochs = 0;
  Schedule schedule = Schedule::CosinePerStep;
  std::vector<double> step_epochs;  // for Schedule::Step: where the rate falls
  double step_factor = 0.1;
  double weight_decay = 5e-4;
  bool decay_all = false;  // also of norms, biases and embeddings
  double label_smoothing = 0;
  double clip_norm = 0;  // of all gradients together; 0: no clipping
  double ema_decay = 0;  // per step; the averaged weights are evaluated and returned as the best; 0: off
  TrainLoss loss = TrainLoss::Auto;
  Augmentation augmentation;
  Distillation distillation;

  /// What learns: `trainable_constants` less `frozen`, plus `also_learn` (names of constants; they decay as
  /// weights do if they have two axes or more).
  std::vector<std::string> frozen, also_learn;
  /// Constants that learn by another step than the rest.
  std::vector<ParameterGroup> groups;

  /// Scored after every `evaluate_every` epochs and the last one. Without a data set, `validation_share` of
  /// the training data is set aside, chosen by the seed; 0: no evaluation, the best is the last.
  DatasetPtr validation;
  double validation_share = 0;
  std::int64_t evaluate_every = 1;
  Preprocess preprocess;  // of the data: where black lies, and the units of PSNR

  std::uint64_t seed = 0;
  int threads = 2;  // that decode
  at::Device device = at::kCPU;
  /// Training and held-out data are kept in memory as far as they fit in this together.
  std::int64_t memory_bytes = std::int64_t{4} << 30;

  /// Folder of last.safetensors, previous.safetensors and best.safetensors; empty: none are written.
  std::filesystem::path checkpoints;
  std::int64_t checkpoint_every = 1;  // epochs; one is also written when interrupted, and at the end
  /// Continue from the last checkpoint that can be read; start afresh, with a note, if there is none.
  bool resume = false;

  /// Stops after the step in which so many seconds have passed, as if interrupted; 0: no bound.
  double time_budget = 0;
  /// A mean loss over recent steps above this many times the loss of the first ones, and of equal
  /// probabilities for all classes, stops with an error; 0: off.
  double divergence_factor = 20;

  Collective* collective = nullptr;  // the other processes; nullptr: alone

  std::function<void(const EpochRecord&)> on_epoch;
  std::function<void(const std::string&)> on_note;  // what the user should know; also in TrainResult::notes
};

/// Where a method joins in. Every function may be left out. `executor.constant(name)` is the live tensor of a
/// learnable constant: change it in place under at::NoGradGuard. With several processes every one calls the
/// hooks, after gradients have been averaged, so that the same changes happen everywhere.
class TrainHooks {
 public:
  virtual ~TrainHooks() = default;
  /// What the method makes of the samples of an epoch (from 0), after augmentation: for example adds noise.
  /// Sample i stems from training sample order[i], so that what is drawn for it need not depend on order,
  /// batch or process. Held-out samples are left as they are.
  virtual DatasetPtr epoch_data(DatasetPtr samples, const std::vector<std::int64_t>& /*order*/,
                                std::int64_t /*epoch*/) {
    return samples;
  }
  /// Once, before the first step (after a checkpoint has been loaded).
  virtual void before_training(Executor&) {}
  /// `epoch` and `step` (in the epoch) count from 0.
  virtual void before_step(Executor&, std::int64_t /*epoch*/, std::int64_t /*step*/) {}
  /// `executor.constant(name).grad()` may be changed in place, or replaced through `mutable_grad()`;
  /// clipping, weight decay and momentum come afterwards. A gradient that is undefined leaves its constant as
  /// it is.
  virtual void after_gradients(Executor&, std::int64_t /*epoch*/, std::int64_t /*step*/) {}
  virtual void after_step(Executor&, std::int64_t /*epoch*/, std::int64_t /*step*/) {}
  /// The outputs of the graph that a step computes; none: the first one, which is trained alone.
  virtual std::vector<std::string> step_outputs(std::int64_t /*epoch*/, std::int64_t /*step*/) { return {}; }
  /// What a step minimises where `step_outputs` names outputs; `loss` is the loss of the options of one
  /// output. The accuracy on training samples is that of the output for which `loss` is called first.
  virtual at::Tensor step_loss(const Feeds& /*outputs*/,
                               const std::function<at::Tensor(const at::Tensor&)>& /*loss*/) {
    return {};
  }
  /// The outputs whose mean score tells which weights are best; none: the first one. Of several, each has its
  /// own "loss", "top1" or "psnr" among the extra numbers of the epoch, as "top1 OUTPUT".
  virtual std::vector<std::string> scored_outputs() const { return {}; }
  /// Before the weights are scored and, if they are the best, kept. `data` are the training samples without
  /// augmentation: for example `reestimate_batch_norm`. What is changed here is what is scored and what
  /// TrainResult::best holds; training itself goes on from the state before, as does TrainResult::last.
  virtual void before_evaluation(Executor&, const DatasetPtr& /*data*/) {}
  /// Extra numbers for the record of the epoch; `epoch` counts from 0.
  virtual std::map<std::string, double> epoch_numbers(Executor&, std::int64_t /*epoch*/) { return {}; }
  /// Tensors that a checkpoint must hold for the method to go on (masks that are not constants, counters).
  virtual std::map<std::string, at::Tensor> state() const { return {}; }
  /// Options of the method, by name: a checkpoint that was made with others is refused.
  virtual std::map<std::string, std::string> recipe() const { return {}; }
  virtual void load_state(const std::map<std::string, at::Tensor>&) {}
};

struct TrainResult {
  Graph last;  // as the last step left it
  Graph best;  // as it was scored best (top-1, PSNR, else the loss); the last one without validation
  std::int64_t best_epoch = 0;  // from 1; 0 without validation
  std::vector<EpochRecord> history;
  std::vector<std::string> notes;
  bool complete = true;          // false if the time budget ended it
  double seconds = 0;            // in this call
  double images_per_second = 0;  // of training, without the first step
};

/// Trains every float constant that `trainable_constants` names. Inputs: samples with one image input [c, h,
/// w] (augmentation acts on it) or any inputs without augmentation. The graph's first output is trained; its
/// batch dimension must be free. Running statistics of batch norms follow the data; with several processes
/// they are those of all samples of a step together. Deterministic: equal options, data and thread count give
/// equal weights, bit for bit, also across an interruption and `resume`. Throws Error(Input) if the data do
/// not fit the graph or the options are out of range, if nothing is learnable, if a checkpoint is of another
/// model or recipe, and if a loss or gradient is not finite (naming epoch, step and the first tensor that is
/// not) or the loss diverges. Throws Interrupted after Ctrl-C, with a checkpoint written.
TrainResult train(const Graph& graph, const DatasetPtr& data, const TrainOptions& options, Progress& progress,
                  TrainHooks* hooks = nullptr);

/// The rate of step `step` (from 0, over all epochs) when an epoch has `steps` of them.
double learning_rate(const TrainOptions& options, std::int64_t step, std::int64_t steps);

}  // namespace lithe
