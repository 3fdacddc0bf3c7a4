// `lithe train`: a network by name or an ONNX model, data and a recipe in; a trained model out.
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <optional>

#include "cli/data_flags.h"
#include "cli/network_for.h"
#include "cli/overwrite.h"
#include "cli/processes.h"
#include "cli/train_denoiser_flags.h"
#include "cli/train_flags.h"
#include "cli/train_report.h"
#include "cli/validators.h"
#include "cli/verbs.h"
#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/diffusion/train_denoiser.h"
#include "lithe/graph/cost.h"
#include "lithe/graph/half_weights.h"
#include "lithe/graph/onnx.h"
#include "lithe/graph/safetensors.h"
#include "lithe/graph/sparsity_record.h"
#include "lithe/models/registry.h"
#include "lithe/train/initialise.h"
#include "lithe/train/train.h"

namespace lithe::cli {
namespace {

namespace fs = std::filesystem;

constexpr double kSgdRate = 0.1, kAdamRate = 1e-3;

struct TrainFlags {
  Invocation call{"train"};
  PreprocessFlags preprocess;
  RecipeFlags recipe;
  NoisePredictorFlags denoiser;
  std::string data, validation, init, weights, teacher, keep = "best";
  std::vector<std::string> frozen;
  std::int64_t classes = 0, scale = 2;
  bool from_scratch = false, half_file = false;
  CLI::App* verb = nullptr;  // to ask which flags were given
};

void load_initial(Graph& graph, TrainFlags& flags) {
  const LoadedWeights loaded = load_weights(graph, read_safetensors(flags.init).tensors, flags.init);
  if (!loaded.missing.empty())
    flags.call.warn(
        fmt::format("{} lacks {} of the model's constants, the first is '{}'; they start as they were",
                    flags.init, loaded.missing.size(), loaded.missing.front()));
  if (!loaded.unknown.empty())
    flags.call.warn(
        fmt::format("{} holds {} weights that the model lacks, the first is '{}'; they are not used",
                    flags.init, loaded.unknown.size(), loaded.unknown.front()));
}

void refuse_idle_flags(const TrainFlags& flags, bool by_name) {
  const CLI::App& verb = *flags.verb;
  if (flags.teacher.empty()) refuse_idle(verb, {"--distil", "--temperature"}, "there is no --teacher");
  if (flags.recipe.optimiser == "adamw")
    refuse_idle(verb, {"--momentum", "--nesterov"}, "it is for --optimiser sgd");
  if (by_name)
    refuse_idle(verb, {"--from-scratch"}, "a network built by name starts from scratch");
  else
    refuse_idle(verb, {"--classes", "--scale-factor"}, "an ONNX model has its own outputs");
}

/// What a noise predictor learns; nothing for other networks.
std::optional<DiffusionRecord> diffusion_to_learn(const TrainFlags& flags, bool by_name, const Graph& model) {
  std::optional<DiffusionRecord> diffusion = by_name ? std::nullopt : diffusion_record(model);
  const bool recorded = diffusion.has_value();
  if (by_name && find_network(flags.call.options.model)->kind == NetworkKind::Denoiser)
    diffusion = diffusion_of(flags.denoiser);
  refuse_idle_denoiser_flags(*flags.verb, diffusion.has_value(), recorded);
  return diffusion;
}

constexpr double kNearly = 1e-3;  // as good as equal

/// One number for all channels or one a channel; none: `otherwise`.
bool same_numbers(const std::vector<double>& a, const std::vector<double>& b, double otherwise) {
  const auto at = [&](const std::vector<double>& of, std::size_t channel) {
    return of.empty() ? otherwise : of[std::min(channel, of.size() - 1)];
  };
  for (std::size_t channel = 0; channel < std::max({a.size(), b.size(), std::size_t{1}}); ++channel)
    if (std::abs(at(a, channel) - at(b, channel)) > kNearly) return false;
  return true;
}

/// A teacher sees what the student sees, so both must want the same numbers.
GraphPtr read_teacher(const std::string& path, const Preprocess& student) {
  const Graph teacher = read_onnx(path);
  if (preprocess_is_known(path, teacher, {})) {
    const Preprocess own = preprocess_for(path, teacher);
    if (!same_numbers(own.mean, student.mean, 0) || !same_numbers(own.std, student.std, 1) ||
        std::abs(own.scale / student.scale - 1) > kNearly)
      fail(
          "--teacher {} expects --mean {:.4g} --std {:.4g} --scale {:.4g}, but sees what the model does: "
          "--mean {:.4g} --std {:.4g} --scale {:.4g}; train the model with the teacher's numbers",
          path, fmt::join(own.mean, ","), fmt::join(own.std, ","), own.scale, fmt::join(student.mean, ","),
          fmt::join(student.std, ","), student.scale);
  }
  return std::make_shared<const Graph>(teacher);
}

void run_train(TrainFlags& flags) {
  Invocation& call = flags.call;
  if (call.options.output.empty()) fail("train needs -o FILE for the trained model");
  if (flags.data.empty()) fail("train needs --data; see docs/data.md");
  if (!flags.validation.empty() && flags.recipe.options.validation_share > 0)
    fail("give --val or --val-share, not both");
  Processes processes(call);
  const bool by_name = names_network(call.options.model);
  Graph graph;
  if (!by_name) {
    graph = read_onnx(call.options.model);
    widen_weights(graph);
  }
  const std::optional<DiffusionRecord> diffusion = diffusion_to_learn(flags, by_name, graph);
  if (diffusion && flags.verb->get_option("--optimiser")->count() == 0) flags.recipe.optimiser = "adamw";
  refuse_idle_flags(flags, by_name);
  TrainOptions options = training_options(flags.recipe, call, processes.device(),
                                          flags.recipe.optimiser == "adamw" ? kAdamRate : kSgdRate);
  options.collective = processes.join();
  processes.check_in_first([&] {
    const std::vector<NamedFile> reads{{"--data", flags.data},
                                       {"--val", flags.validation},
                                       {"--init", flags.init},
                                       {"--teacher", flags.teacher}};
    check_overwriting(call, reads, {{"--save-weights", flags.weights}});
    check_checkpoints(call, options.checkpoints, reads);
  });

  const Preprocess preprocess = by_name
                                    ? apply_flags(network_preprocess(call.options.model), flags.preprocess)
                                    : preprocess_for(call.options.model, graph, flags.preprocess);
  options.preprocess = preprocess;
  if (by_name && find_network(call.options.model)->kind == NetworkKind::Upscaler &&
      options.loss == TrainLoss::Auto)
    options.loss = TrainLoss::L1;
  DatasetPtr data = open_dataset(flags.data, preprocess);
  if (const std::string hint = unused_labels(flags.data, *data); !hint.empty()) call.warn(hint);
  if (!by_name)
    if (const std::string note = assumed_preprocess(call.options.model, graph, flags.preprocess, flags.data);
        !note.empty())
      call.warn(note);
  if (call.options.limit > 0) data = seeded_subset(data, call.options.limit, call.options.seed);
  if (!flags.validation.empty()) options.validation = open_dataset(flags.validation, preprocess);
  if (by_name)
    graph = network_for({.name = call.options.model,
                         .data_spec = flags.data,
                         .classes = flags.classes,
                         .scale = flags.scale,
                         .labels = flags.denoiser.class_conditional || flags.classes > 0,
                         .seed = call.options.seed},
                        *data, preprocess);
  if (!by_name && flags.from_scratch) initialise(graph, call.options.seed);
  if (!flags.init.empty()) load_initial(graph, flags);
  if (!flags.teacher.empty()) options.distillation.teacher = read_teacher(flags.teacher, preprocess);
  options.frozen = flags.frozen;
  for (const std::string& name : options.frozen)
    if (!graph.is_constant(name)) fail("--freeze {}: the model has no constant of that name", name);

  options.on_epoch = [&](const EpochRecord& record) {
    call.say("{}", epoch_line(record, options.epochs));
    std::fflush(stdout);  // also where it is a file that somebody follows
  };
  options.on_note = [&](const std::string& text) { call.warn(text); };

  const TrainResult result = diffusion ? train_denoiser(graph, data, *diffusion, options, call.progress())
                                       : train(graph, data, options, call.progress());
  if (!processes.first()) return;
  Graph trained = flags.keep == "last" ? result.last : result.best;
  keep_preprocess(trained, preprocess);
  if (by_name) trained.header.producer_name = "lithe";
  if (const auto broken = update_sparsity_records(trained); !broken.empty())
    call.warn(fmt::format(
        "{} sparse layers are no longer sparse, the first is '{}'; to keep the pattern, train with "
        "lithe sparsify --method asp",
        broken.size(), broken.front().record.layer));
  std::vector<std::string> files{call.options.output};
  if (!flags.weights.empty()) {
    write_safetensors(flags.weights, {named_weights(trained), {}});
    files.push_back(flags.weights);
  }
  if (flags.half_file) halve_weights(trained);
  write_onnx(trained, call.options.output);
  if (result.complete && flags.recipe.checkpoints.empty()) remove_checkpoints(options.checkpoints);
  const json object = train_json(result, options, count_parameters(trained));
  if (!call.options.report.empty()) {
    const auto written = write_report(train_report(result, options, call.options.model, flags.data),
                                      call.envelope(object, files), call.options.report);
    files.insert(files.end(), written.begin(), written.end());
  }
  for (const std::string& file : files) call.say("wrote {}", file);
  call.finish(object, files);
}

}  // namespace

void add_train(CLI::App& app) {
  auto flags = std::make_shared<TrainFlags>();
  CLI::App* verb = flags->verb = app.add_subcommand("train", summary_of("train"));
  flags->call.add_flags(
      *verb, {Flag::Output, Flag::Seed, Flag::Threads, Flag::Device, Flag::Limit, Flag::Memory, Flag::Resume},
      false);
  std::string names;
  for (const NetworkInfo& network : networks())
    names += std::string(network.name) + (network.widens ? "[_xWIDTH], " : ", ");
  verb->add_option("model", flags->call.options.model, names + "or an ONNX file")->required();
  verb->add_option("--data", flags->data, std::string("what to train on: ") + kDataHelp);
  verb->add_option("--val,--validation", flags->validation, "held-out data that choose the best epoch");
  verb->add_option("--keep", flags->keep,
                   "which weights are written: best (needs held-out data, else the last) or last")
      ->check(CLI::IsMember({"best", "last"}))
      ->capture_default_str();
  verb->add_option("--init", flags->init,
                   "weights to start from, a safetensors file with the names of the model's constants");
  verb->add_option("--save-weights", flags->weights, "also write the weights as safetensors");
  verb->add_flag("--half-file", flags->half_file,
                 "write weights as float16 with a Cast behind each: half the file, rounded weights");
  verb->add_flag("--from-scratch", flags->from_scratch, "draw the weights of an ONNX model anew");
  verb->add_option("--classes", flags->classes,
                   "outputs of a network built by name (default: as many as the data have)")
      ->check(at_least(1));
  verb->add_option("--scale-factor", flags->scale,
                   "of super-resolution networks (default: what the data show)")
      ->check(in_range(1, 16));
  verb->add_option("--time-budget", flags->recipe.options.time_budget,
                   "seconds after which training stops, with a checkpoint")
      ->check(at_least(0));
  Distillation& distillation = flags->recipe.options.distillation;
  verb->add_option("--teacher", flags->teacher, "an ONNX model to learn from besides");
  verb->add_option("--distil", distillation.weight, "weight of the teacher, 0 to 1")
      ->check(in_range(0.0, 1.0))
      ->capture_default_str();
  verb->add_option("--temperature", distillation.temperature, "of the distillation")
      ->check(positive())
      ->capture_default_str();
  verb->add_option("--freeze", flags->frozen, "name of a constant that does not learn; repeatable");
  add_training_flags(*verb, flags->recipe,
                     "0.1, or 0.001 for adamw, which noise predictors take unless told otherwise");
  add_noise_predictor_flags(*verb, flags->denoiser);
  add_preprocess_flags(*verb, flags->preprocess);
  verb->callback([flags] { run_train(*flags); });
}

}  // namespace lithe::cli
