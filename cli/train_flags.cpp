#include "cli/train_flags.h"

#include <sstream>

#include "cli/overwrite.h"
#include "cli/validators.h"
#include "lithe/base/error.h"

namespace lithe::cli {
namespace {

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

// Headings of the help.
constexpr const char *kRecipe = "Recipe", *kAugmentation = "Augmentation", *kCourse = "Course";

/// Adds options of one heading of the help.
class Group {
 public:
  Group(CLI::App& verb, std::string name) : verb_(verb), name_(std::move(name)) {}

  template <typename Value>
  CLI::Option* add(const char* flag, Value& value, const char* help) {
    return verb_.add_option(flag, value, help)->group(name_)->capture_default_str();
  }
  void add_flag(const char* flag, bool& value, const char* help) {
    verb_.add_flag(flag, value, help)->group(name_);
  }

 private:
  CLI::App& verb_;
  std::string name_;
};

void add_recipe(CLI::App& verb, RecipeFlags& flags, const std::string& rates) {
  TrainOptions& options = flags.options;
  Group group(verb, kRecipe);
  group.add("--epochs", options.epochs, "passes over the data")->check(in_range(1, 1000000));
  group.add("--batch", options.batch, "samples in a step (of one process)")->check(in_range(1, 1 << 20));
  group.add("--optimiser,--optimizer", flags.optimiser, "sgd or adamw")
      ->check(CLI::IsMember({"sgd", "adamw"}));
  verb.add_option("--lr,--learning-rate", flags.learning_rate,
                  "highest learning rate (default: " + rates + ")")
      ->group(kRecipe)
      ->check(positive());
  group.add("--momentum", flags.momentum, "of sgd")->check(in_range(0.0, 0.9999));
  group.add_flag("--nesterov", flags.nesterov, "Nesterov's momentum");
  group.add("--warmup", options.warmup_epochs, "epochs of rising learning rate")->check(at_least(0));
  group.add("--schedule", flags.schedule, "cosine (by step), cosine-epoch, constant or step")
      ->check(CLI::IsMember({"cosine", "cosine-epoch", "constant", "step"}));
  group.add("--step-epochs", flags.step_epochs,
            "epochs at which --schedule step lowers the rate to a tenth, for example 30,45");
  group.add("--weight-decay", options.weight_decay, "of the weights")->check(in_range(0.0, 0.9999));
  group.add_flag("--decay-all", options.decay_all, "also of norms, biases and embeddings");
  group.add("--label-smoothing", options.label_smoothing, "share of the label spread over all classes")
      ->check(in_range(0.0, 0.99));
  group.add("--clip-norm", options.clip_norm, "bound of the gradients' norm; 0: none")->check(at_least(0));
  group
      .add("--ema", options.ema_decay,
           "decay of a running average of the weights, which is scored and kept; 0: off")
      ->check(in_range(0.0, 0.999999));
  group.add("--loss", flags.loss, "auto, cross-entropy or l1")
      ->check(CLI::IsMember({"auto", "cross-entropy", "l1"}));
}

void add_augmentation(CLI::App& verb, Augmentation& how) {
  Group group(verb, kAugmentation);
  group.add_flag("--flip", how.flip, "mirror images at random");
  group.add("--padded-crop", how.padded_crop, "shift by up to so many pixels over a black border")
      ->check(in_range(0, 256));
  group.add_flag("--random-resized-crop", how.random_resized_crop,
                 "take a random part, resized to the whole");
  group.add("--least-area", how.least_area, "of that part, as a share of the image")
      ->check(in_range(0.001, 1.0));
  group
      .add("--colour-jitter", how.colour_jitter,
           "change brightness, contrast and saturation by up to this share")
      ->check(in_range(0.0, 0.99));
  group.add("--mixup", how.mixup_alpha, "alpha of mixup; 0: off")->check(in_range(0.0, 100.0));
  group.add("--patch", how.patch, "side of the patches of image pairs; 0: whole images")
      ->check(in_range(0, 65536));
}

}  // namespace

void add_training_flags(CLI::App& verb, RecipeFlags& flags, const std::string& rates) {
  add_recipe(verb, flags, rates);
  add_augmentation(verb, flags.options.augmentation);
  Group group(verb, kCourse);
  group
      .add("--val-share,--validation-share", flags.options.validation_share,
           "share of --data, chosen by --seed, that is held out and chooses the best epoch")
      ->check(in_range(0.0, 0.9));
  group.add("--evaluate-every", flags.options.evaluate_every, "epochs between evaluations")
      ->check(at_least(1));
  verb.add_option("--checkpoints", flags.checkpoints,
                  "folder for checkpoints (default: beside the output, removed at the end)")
      ->group(kCourse);
  group.add("--checkpoint-every", flags.options.checkpoint_every, "epochs between checkpoints")
      ->check(at_least(1));
}

std::vector<std::string> training_flags(const CLI::App& verb) {
  std::vector<std::string> names;
  for (const CLI::Option* option : verb.get_options())
    for (const char* group : {kRecipe, kAugmentation, kCourse})
      if (option->get_group() == group) names.push_back("--" + option->get_lnames().front());
  return names;
}

void refuse_idle(const CLI::App& verb, const std::vector<std::string>& names, const std::string& why) {
  for (const std::string& name : names)
    if (verb.get_option(name)->count() > 0) fail("{} has no effect: {}; leave it out", name, why);
}

TrainOptions training_options(const RecipeFlags& flags, const Invocation& call, at::Device device,
                              double rate) {
  TrainOptions options = flags.options;
  if (flags.optimiser == "adamw")
    options.optimiser = AdamW{};
  else
    options.optimiser = Sgd{.momentum = flags.momentum, .nesterov = flags.nesterov};
  options.learning_rate = flags.learning_rate > 0 ? flags.learning_rate : rate;
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
  options.seed = call.options.seed;
  options.threads = call.threads();
  options.device = device;
  options.resume = call.options.resume;
  if (call.options.memory_bytes > 0) options.memory_bytes = call.options.memory_bytes;
  options.checkpoints =
      flags.checkpoints.empty() ? default_checkpoints(call.options.output) : flags.checkpoints;
  return options;
}

}  // namespace lithe::cli
