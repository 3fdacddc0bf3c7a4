// The flags that tell how images become a model's input, the same in every verb.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "lithe/data/dataset.h"
#include "lithe/data/preprocess.h"

namespace lithe::cli {

/// Adds --mean --std --scale --resize --crop --layout --colour --interpolation. They go over the JSON file
/// beside the model: see `preprocess_for`.
void add_preprocess_flags(CLI::App& app, PreprocessFlags& flags);

/// Where `spec` is a folder with a list of labels that `data` does not use: one line that says how to use it.
/// Otherwise empty.
std::string unused_labels(const std::string& spec, const Dataset& data);

/// Where pictures are read and nothing says what numbers the model expects: one line that says what is
/// assumed and how to say otherwise. Otherwise empty.
std::string assumed_preprocess(const std::string& model, const Graph& graph, const PreprocessFlags& flags,
                               const std::string& spec);

/// The arrays of a .npz file as feeds. Throws Error(Input) naming the file and the array if a name or a shape
/// is not what the model declares.
Feeds read_feeds(const Graph& graph, const std::string& npz);

/// What --data and --calib accept, for help.
inline constexpr const char* kDataHelp =
    "[kind:]path[,key=value...]: folder of images, sheet, CIFAR, IDX, .npy or .npz; see docs/data.md";

}  // namespace lithe::cli
