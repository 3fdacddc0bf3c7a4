// The data of `lithe quantize`: opened as each is used, and looked at before anything takes long.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "lithe/data/dataset.h"
#include "lithe/graph/graph.h"

namespace lithe::cli {

/// What --calib names. Of pairs of pictures only the inputs are used, so that --crop may cut them.
DatasetPtr open_calibration(const std::string& spec, const Preprocess& preprocess);
/// What --data names; pairs are compared at their own size, whatever --crop and --resize do to --calib.
DatasetPtr open_measured(const std::string& spec, const Preprocess& preprocess, bool calibrates_apart);

/// Throws Error(Input) naming the file if it lacks an input of the model.
void require_inputs(const Graph& model, const Dataset& data, const std::string& spec);
/// Throws Error(Input) naming two pictures of different shape and the flags that mend it.
void require_one_size(const DatasetPtr& data, int threads);

/// What a plan without data goes by: --shape as `given` or else, for inputs that are open, the shape of the
/// first of `data` or, where pictures of any size will do, 48x48 pixels.
std::vector<std::string> plan_shapes(const Graph& model, const std::vector<std::string>& given,
                                     const DatasetPtr& data, bool pictures);

/// Throws Error(Input) if more than the last folder of the path would have to be made: a slip in a path must
/// not make a tree of folders.
void require_parent_folder(const std::filesystem::path& folder, const char* flag);

}  // namespace lithe::cli
