// The flags of training, the same in every verb that trains.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "cli/verb.h"
#include "lithe/train/train.h"

namespace lithe::cli {

/// What the flags say; `options` takes those that need no reading.
struct RecipeFlags {
  TrainOptions options;
  std::string optimiser = "sgd", schedule = "cosine", step_epochs, loss = "auto", checkpoints;
  double momentum = 0.9, learning_rate = 0;
  bool nesterov = false;
};

/// Adds the recipe, the augmentation, held-out samples and checkpoints. `rates` says what --lr is by default.
void add_training_flags(CLI::App& verb, RecipeFlags& flags, const std::string& rates);

/// The names of all that `add_training_flags` added to the verb.
std::vector<std::string> training_flags(const CLI::App& verb);

/// Flags that would change nothing are a misunderstanding: throws Error(Input) naming the first of `names`
/// that was given to the verb, and `why` it has no effect.
void refuse_idle(const CLI::App& verb, const std::vector<std::string>& names, const std::string& why);

/// The options with what the common flags say. `rate` is the learning rate where none is given. Throws
/// Error(Input) naming the flag.
TrainOptions training_options(const RecipeFlags& flags, const Invocation& call, at::Device device,
                              double rate);

}  // namespace lithe::cli
