// `lithe train`: a network by name or an ONNX model, data and a recipe in; a trained model out.
#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <sstream>

#include "cli/data_flags.h"
#include "cli/torch_setup.h"
#include "cli/train_report.h"
#include "cli/validators.h"
#include "cli/verbs.h"
#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/graph/cost.h"
#include "lithe/graph/onnx.h"
#include "lithe/graph/safetensors.h"
#include "lithe/models/registry.h"
#include "lithe/train/distributed.h"
#include "lithe/train/initialise.h"
#include "lithe/train/train.h"

namespace lithe::cli {
namespace {

namespace fs = std::filesystem;

struct TrainFlags {
  Invocation call{"train"};
  PreprocessFlags preprocess;
  TrainOptions options;
  std::string data, validation, optimiser = "sgd", schedule = "cosine", step_epochs, loss = "auto", init,
                                weights, teacher, keep = "best", checkpoints;
  std::vector<std::string> frozen;
  double momentum = 0.9, learning_rate = 0;
  std::int64_t classes = 0, scale = 2;
  bool nesterov = false, from_scratch = false;
};

std::vector<double> parse_epochs(const std::string& text) {
  std::vector<double> out;
  std::stringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    std::size_t used = 0;
    try {
      out.push_back(std::stod(part, &used));
    } catch (const std::exception&) {
      used = 0;
    }
    if (used == 0 || used != part.size()) fail("--step-epochs {}: give epochs such as 30,45", text);
  }
  return out;
}

TrainOptions options_of(const TrainFlags& flags, at::Device device) {
  TrainOptions options = flags.options;
  const bool adam = flags.optimiser == "adamw";
  if (adam)
    options.optimiser = AdamW{};
  else
    options.optimiser = Sgd{.momentum = flags.momentum, .nesterov = flags.nesterov};
  options.learning_rate = flags.learning_rate > 0 ? flags.learning_rate : adam ? 1e-3 : 0.1;
  options.schedule = flags.schedule == "cosine-epoch" ? Schedule::CosinePerEpoch
                     : flags.schedule == "constant"   ? Schedule::Constant
                     : flags.schedule == "step"       ? Schedule::Step
                                                      : Schedule::CosinePerStep;
  options.step_epochs = parse_epochs(flags.step_epochs);
  if (options.schedule == Schedule::Step && options.step_epochs.empty())
    fail("--schedule step needs --step-epochs, for example 30,45");
  options.loss = flags.loss == "cross-entropy" ? TrainLoss::CrossEntropy
                 : flags.loss == "l1"          ? TrainLoss::L1
                                               : TrainLoss::Auto;
  options.seed = flags.call.options.seed;
  options.threads = flags.call.threads();
  options.device = device;
  options.resume = flags.call.options.resume;
  if (flags.call.options.memory_bytes > 0) options.memory_bytes = flags.call.options.memory_bytes;
  options.checkpoints =
      flags.checkpoints.empty() ? flags.call.options.output + ".checkpoints" : flags.checkpoints;
  return options;
}

/// Labels are counted where the data do not name their classes.
std::int64_t count_classes(const Dataset& data) {
  if (const auto names = data.class_names(); !names.empty()) return static_cast<std::int64_t>(names.size());
  std::int64_t most = -1;
  for (std::int64_t i = 0; i < data.size(); ++i) most = std::max(most, data.get(i).label);
  return most + 1;
}

/// A network by name gets the size of the data's images and the number of their classes.
Graph build_for(const TrainFlags& flags, const Dataset& data, const Preprocess& preprocess) {
  const std::string& name = flags.call.options.model;
  const Sample sample = data.get(0);
  const NetworkInfo network = *find_network(name);
  if (preprocess.layout != ImageLayout::Nchw) fail("{}: built networks take --layout nchw", name);
  if (sample.inputs.size() != 1 || sample.inputs.begin()->second.dim() != 3)
    fail("{}: needs one image a sample, {} is none", name, sample.name);
  const auto sizes = sample.inputs.begin()->second.sizes();
  NetworkOptions options{.image_size = sizes[1],
                         .image_channels = sizes[0],
                         .scale = flags.scale,
                         .seed = flags.call.options.seed};
  if (network.classifies) {
    if (!data.labelled()) fail("{}: the data have no labels; see docs/data.md", flags.data);
    if (sizes[1] != sizes[2])
      fail("{}: needs square images, {} has {}x{}; give --resize or --crop", name, sample.name, sizes[1],
           sizes[2]);
    options.classes = flags.classes > 0 ? flags.classes : count_classes(data);
  } else if (sample.target.defined()) {
    options.scale = std::max<std::int64_t>(1, sample.target.size(1) / sizes[1]);
  }
  Graph graph = build_network(name, options);
  initialise(graph, flags.call.options.seed);
  return graph;
}

void load_initial(Graph& graph, TrainFlags& flags) {
  const LoadedWeights loaded = load_weights(graph, read_safetensors(flags.init).tensors, flags.init);
  if (!loaded.missing.empty())
    flags.call.warn(
        fmt::format("{} lacks {} of the model's constants, the first is '{}'; they start as they were",
                    flags.init, loaded.missing.size(), loaded.missing.front()));
}

void run_train(TrainFlags& flags) {
  Invocation& call = flags.call;
  if (call.options.output.empty()) fail("train needs -o FILE for the trained model");
  if (flags.data.empty()) fail("train needs --data; see docs/data.md");
  if (!flags.validation.empty() && flags.options.validation_share > 0)
    fail("give --val or --val-share, not both");
  at::Device device = set_up_torch(call);
  const auto address = process_group_from_environment();
  const bool first = !address || address->rank == 0;
  if (!first) call.options.quiet = true;
  if (address && device.is_cuda())
    device = at::Device(at::kCUDA, static_cast<at::DeviceIndex>(address->local_rank));
  if (first) call.check_outputs();
  if (first && !flags.weights.empty()) require_writable(flags.weights);
  TrainOptions options = options_of(flags, device);

  const bool by_name = find_network(call.options.model).has_value() && !fs::exists(call.options.model);
  if (!by_name && !fs::exists(call.options.model) && !call.options.model.ends_with(".onnx"))
    build_network(call.options.model);  // throws what lists the names
  Graph graph;
  Preprocess preprocess;
  if (by_name) {
    Preprocess base;
    if (find_network(call.options.model)->classifies) {
      base.mean = {0.5};
      base.std = {0.25};
    }
    preprocess = apply_flags(base, flags.preprocess);
  } else {
    graph = read_onnx(call.options.model);
    preprocess = preprocess_for(call.options.model, graph, flags.preprocess);
  }
  options.preprocess = preprocess;
  if (by_name && !find_network(call.options.model)->classifies && options.loss == TrainLoss::Auto)
    options.loss = TrainLoss::L1;
  DatasetPtr data = open_dataset(flags.data, preprocess);
  if (const std::string hint = unused_labels(flags.data, *data); !hint.empty()) call.warn(hint);
  if (!by_name)
    if (const std::string note = assumed_preprocess(call.options.model, graph, flags.preprocess, flags.data);
        !note.empty())
      call.warn(note);
  if (call.options.limit > 0) data = seeded_subset(data, call.options.limit, call.options.seed);
  if (!flags.validation.empty()) options.validation = open_dataset(flags.validation, preprocess);
  if (by_name) graph = build_for(flags, *data, preprocess);
  if (!by_name && flags.from_scratch) initialise(graph, call.options.seed);
  if (!flags.init.empty()) load_initial(graph, flags);
  if (!flags.teacher.empty())
    options.distillation.teacher = std::make_shared<const Graph>(read_onnx(flags.teacher));
  options.frozen = flags.frozen;
  for (const std::string& name : options.frozen)
    if (!graph.is_constant(name)) fail("--freeze {}: the model has no constant of that name", name);

  std::unique_ptr<Collective> group;
  if (address) group = join_process_group(*address, device);
  options.collective = group.get();
  options.on_epoch = [&](const EpochRecord& record) {
    call.say("{}", epoch_line(record, options.epochs));
    std::fflush(stdout);  // also where it is a file that somebody follows
  };
  options.on_note = [&](const std::string& text) { call.warn(text); };

  const TrainResult result = train(graph, data, options, call.progress());
  if (!first) return;
  Graph trained = flags.keep == "last" ? result.last : result.best;
  keep_preprocess(trained, preprocess);
  if (by_name) trained.header.producer_name = "lithe";
  std::vector<std::string> files{call.options.output};
  write_onnx(trained, call.options.output);
  if (!flags.weights.empty()) {
    write_safetensors(flags.weights, {named_weights(trained), {}});
    files.push_back(flags.weights);
  }
  std::error_code ignored;
  if (result.complete && flags.checkpoints.empty()) fs::remove_all(options.checkpoints, ignored);
  const json object = train_json(result, options, count_parameters(trained));
  if (!call.options.report.empty()) {
    const auto written = write_report(train_report(result, options, call.options.model, flags.data),
                                      call.envelope(object, files), call.options.report);
    files.insert(files.end(), written.begin(), written.end());
  }
  for (const std::string& file : files) call.say("wrote {}", file);
  call.finish(object, files);
}

void add_recipe_flags(CLI::App& verb, TrainFlags& flags) {
  TrainOptions& options = flags.options;
  const std::string group = "Recipe";
  const auto add = [&](const char* name, auto& value, const char* help) {
    return verb.add_option(name, value, help)->group(group)->capture_default_str();
  };
  const auto add_flag = [&](const char* name, bool& value, const char* help) {
    verb.add_flag(name, value, help)->group(group);
  };
  add("--epochs", options.epochs, "passes over the data")->check(in_range(1, 1000000));
  add("--batch", options.batch, "samples in a step (of one process)")->check(in_range(1, 1 << 20));
  add("--optimiser,--optimizer", flags.optimiser, "sgd or adamw")->check(CLI::IsMember({"sgd", "adamw"}));
  verb.add_option("--lr,--learning-rate", flags.learning_rate,
                  "highest learning rate (default: 0.1, or 0.001 for adamw)")
      ->group(group)
      ->check(positive());
  add("--momentum", flags.momentum, "of sgd")->check(in_range(0.0, 0.9999));
  add_flag("--nesterov", flags.nesterov, "Nesterov's momentum");
  add("--warmup", options.warmup_epochs, "epochs of rising learning rate")->check(at_least(0));
  add("--schedule", flags.schedule, "cosine (by step), cosine-epoch, constant or step")
      ->check(CLI::IsMember({"cosine", "cosine-epoch", "constant", "step"}));
  add("--step-epochs", flags.step_epochs,
      "epochs at which --schedule step lowers the rate to a tenth, for example 30,45");
  add("--weight-decay", options.weight_decay, "of the weights")->check(in_range(0.0, 0.9999));
  add_flag("--decay-all", options.decay_all, "also of norms, biases and embeddings");
  add("--label-smoothing", options.label_smoothing, "share of the label spread over all classes")
      ->check(in_range(0.0, 0.99));
  add("--clip-norm", options.clip_norm, "bound of the gradients' norm; 0: none")->check(at_least(0));
  add("--ema", options.ema_decay,
      "decay of a running average of the weights, which is scored and kept; 0: off")
      ->check(in_range(0.0, 0.999999));
  add("--loss", flags.loss, "auto, cross-entropy or l1")
      ->check(CLI::IsMember({"auto", "cross-entropy", "l1"}));
  verb.add_option("--teacher", flags.teacher, "an ONNX model to learn from besides")->group(group);
  add("--distil", options.distillation.weight, "weight of the teacher, 0 to 1")->check(in_range(0.0, 1.0));
  add("--temperature", options.distillation.temperature, "of the distillation")->check(positive());
  verb.add_option("--freeze", flags.frozen, "name of a constant that does not learn; repeatable")
      ->group(group);
}

void add_augmentation_flags(CLI::App& verb, Augmentation& how) {
  const std::string group = "Augmentation";
  const auto add = [&](const char* name, auto& value, const char* help) {
    return verb.add_option(name, value, help)->group(group)->capture_default_str();
  };
  verb.add_flag("--flip", how.flip, "mirror images at random")->group(group);
  add("--padded-crop", how.padded_crop, "shift by up to so many pixels over a black border")
      ->check(in_range(0, 256));
  verb.add_flag("--random-resized-crop", how.random_resized_crop, "take a random part, resized to the whole")
      ->group(group);
  add("--least-area", how.least_area, "of that part, as a share of the image")->check(in_range(0.001, 1.0));
  add("--colour-jitter", how.colour_jitter, "change brightness, contrast and saturation by up to this share")
      ->check(in_range(0.0, 0.99));
  add("--mixup", how.mixup_alpha, "alpha of mixup; 0: off")->check(in_range(0.0, 100.0));
  add("--patch", how.patch, "side of the patches of image pairs; 0: whole images")->check(in_range(0, 65536));
}

}  // namespace

void add_train(CLI::App& app) {
  auto flags = std::make_shared<TrainFlags>();
  CLI::App* verb = app.add_subcommand("train", summary_of("train"));
  flags->call.add_flags(
      *verb, {Flag::Output, Flag::Seed, Flag::Threads, Flag::Device, Flag::Limit, Flag::Memory, Flag::Resume},
      false);
  std::string names;
  for (const NetworkInfo& network : networks())
    names += std::string(network.name) + (network.widens ? "[_xWIDTH], " : ", ");
  verb->add_option("model", flags->call.options.model, names + "or an ONNX file")->required();
  verb->add_option("--data", flags->data, std::string("what to train on: ") + kDataHelp);
  verb->add_option("--val,--validation", flags->validation, "held-out data that choose the best epoch");
  verb->add_option("--val-share,--validation-share", flags->options.validation_share,
                   "share of --data to hold out instead, chosen by --seed")
      ->check(in_range(0.0, 0.9));
  verb->add_option("--keep", flags->keep,
                   "which weights are written: best (needs held-out data, else the last) or last")
      ->check(CLI::IsMember({"best", "last"}))
      ->capture_default_str();
  verb->add_option("--init", flags->init,
                   "weights to start from, a safetensors file with the names of the model's constants");
  verb->add_option("--save-weights", flags->weights, "also write the weights as safetensors");
  verb->add_flag("--from-scratch", flags->from_scratch, "draw the weights of an ONNX model anew");
  verb->add_option("--classes", flags->classes,
                   "outputs of a network built by name (default: as many as the data have)")
      ->check(at_least(1));
  verb->add_option("--scale-factor", flags->scale,
                   "of super-resolution networks (default: what the data show)")
      ->check(in_range(1, 16));
  verb->add_option("--checkpoints", flags->checkpoints,
                   "folder for checkpoints (default: beside the output, removed at the end)");
  verb->add_option("--checkpoint-every", flags->options.checkpoint_every, "epochs between checkpoints")
      ->check(at_least(1))
      ->capture_default_str();
  verb->add_option("--evaluate-every", flags->options.evaluate_every, "epochs between evaluations")
      ->check(at_least(1))
      ->capture_default_str();
  verb->add_option("--time-budget", flags->options.time_budget,
                   "seconds after which training stops, with a checkpoint")
      ->check(at_least(0));
  add_recipe_flags(*verb, *flags);
  add_augmentation_flags(*verb, flags->options.augmentation);
  add_preprocess_flags(*verb, flags->preprocess);
  verb->callback([flags] { run_train(*flags); });
}

}  // namespace lithe::cli
