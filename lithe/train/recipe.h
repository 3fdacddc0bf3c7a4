// The options of training as numbers to check, to compare and to follow.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>

#include "lithe/train/train.h"

namespace lithe {

/// Throws Error(Input) naming the option that is out of range.
void check_options(const TrainOptions& options);

/// Everything that the course of training depends on, for comparing a checkpoint with the run that resumes
/// it. `samples` and `processes` count what is trained on; `parameters` are the learnable constants by name;
/// `method` are the options of a method that joins in.
nlohmann::json recipe_json(const TrainOptions& options, std::int64_t samples, std::int64_t processes,
                           const std::vector<std::string>& parameters,
                           const std::map<std::string, std::string>& method = {});

/// Throws Error(Input) that names the folder and the first option in which the recipes differ.
void require_same_recipe(const nlohmann::json& checkpoint, const nlohmann::json& now,
                         const std::filesystem::path& folder);

nlohmann::json to_json(const EpochRecord& record);
EpochRecord epoch_record_from_json(const nlohmann::json& json);

}  // namespace lithe
