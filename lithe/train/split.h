// Which samples are trained on, and which are held out.
#pragma once

#include "lithe/data/dataset.h"
#include "lithe/train/train.h"

namespace lithe {

struct Split {
  DatasetPtr training;    // the same in all processes
  DatasetPtr validation;  // the share of this process; nothing if nothing is scored
};

/// Sets `options.validation_share` of the data aside, chosen by the seed, unless a validation set is given.
/// Throws Error(Input) if one side would be empty, or smaller than the number of processes.
Split split_data(const DatasetPtr& data, const TrainOptions& options);

}  // namespace lithe
