// What `lithe train` tells of a training.
#pragma once

#include <string>
#include <vector>

#include "cli/verb.h"
#include "lithe/report/report.h"
#include "lithe/train/train.h"

namespace lithe::cli {

/// "epoch  3/30  lr 0.098  loss 1.2345  train 55.1 %  val 61.0 %  12 s".
std::string epoch_line(const EpochRecord& record, std::int64_t epochs);

json train_json(const TrainResult& result, const TrainOptions& options, std::int64_t parameters);

Report train_report(const TrainResult& result, const TrainOptions& options, const std::string& model,
                    const std::string& data);

}  // namespace lithe::cli
