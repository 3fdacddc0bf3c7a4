// What `lithe train` tells of a training.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "cli/verb.h"
#include "lithe/report/report.h"
#include "lithe/train/train.h"

namespace lithe::cli {

/// "epoch  3/30  lr 0.098  loss 1.2345  train 55.1 %  val 61.0 %  12 s".
std::string epoch_line(const EpochRecord& record, std::int64_t epochs);

/// The records with the methods' own numbers beside the others.
json history_json(const std::vector<EpochRecord>& history);

/// Curves of loss, accuracy or PSNR and learning rate.
void add_history(Report& report, const std::vector<EpochRecord>& history);

/// A curve over the epochs of one number, which may be missing in some.
Series epoch_curve(const std::string& name, const std::vector<EpochRecord>& history, double factor,
                   const std::function<std::optional<double>(const EpochRecord&)>& number);

/// Adds the plot with those series that have a point.
void add_epoch_plot(Report& report, const std::string& title, const std::string& label,
                    std::vector<Series> series);

json train_json(const TrainResult& result, const TrainOptions& options, std::int64_t parameters);

Report train_report(const TrainResult& result, const TrainOptions& options, const std::string& model,
                    const std::string& data);

}  // namespace lithe::cli
