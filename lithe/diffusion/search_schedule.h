// The search of a sampling schedule for a diffusion model, from data to a schedule that was judged on noise
// that the search has not seen.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "lithe/base/progress.h"
#include "lithe/diffusion/layer_costs.h"
#include "lithe/diffusion/search/evolution.h"
#include "lithe/diffusion/search/image_fitness.h"
#include "lithe/diffusion/search/racing.h"

namespace lithe {

enum class SearchMethod {
  Racing,     // from schedules by hand, small moves, successive halving
  Evolution,  // AutoDiffusion as published, with its defects mended
  Random,
  Climb,  // (1 + lambda) from the best schedule by hand
  Gits,   // dynamic programming on a teacher's path, without a fitness
};
std::string_view search_method_name(
    SearchMethod method);  // "racing", "autodiffusion", "random", "climb", "gits"
SearchMethod parse_search_method(std::string_view name);  // throws Error(Input) that lists them

enum class BudgetUnit { Calls, Layers, Macs, Milliseconds };
std::string_view budget_unit_name(BudgetUnit unit);  // "calls", "layers", "macs", "ms"

/// What one image may cost.
struct ScheduleBudget {
  BudgetUnit unit = BudgetUnit::Calls;
  double amount = 0;  // 0: what `steps` full steps cost
};

/// What the layers of the network cost; absent where only time steps are searched.
struct LayerAccount {
  std::vector<SkippableLayer> layers;
  LayerMacs macs;
  std::optional<LayerTimes> times;  // for budgets in milliseconds; of one image
};

struct ScheduleSearchOptions {
  SearchMethod method = SearchMethod::Racing;
  std::int64_t steps = 4;  // calls of the network for an image before layers are skipped
  ScheduleBudget budget;
  bool reuse = false;          // skipped layers add what they last gave, see GraphDenoiserOptions::branches
  double most_skipped = 0;     // share of the layers that a step may skip; 0: only time steps
  double least_skipped = 0;    // of the published method's last generations
  EvolutionOptions evolution;  // what is not said here: images, stream, seed
  RacingOptions racing;
  std::int64_t images = 1000;  // of an evaluation; of the last level of racing
  int evaluations = 100;       // of the plain methods
  std::uint64_t seed = 0;
  std::int64_t forecast_images = 0;  // racing: images of the teacher-relative filter; 0: none

  /// The best ones are judged again on noise of their own, beside the schedules by hand.
  int finalists = 5;
  std::int64_t final_images = 5000;
  int final_streams = 3;  // 0: no verdict, the best of the search is the result

  int threads = 1;
  Collective* collective = nullptr;
  at::Device device = at::kCPU;  // of the processes' talk
  std::filesystem::path log;
  bool resume = false;
  nlohmann::json identity;  // of model and data, for the log
};

/// A schedule on noise that was not searched on.
struct Judged {
  std::string name;  // "searched 1", or that of the schedule by hand
  Candidate candidate;
  std::vector<double> fitness;  // by stream
  double mean = 0, sd = 0;      // over the streams
  double against = 0,
         against_sd = 0;  // mean and sd of the difference to the best schedule by hand, by stream
};

struct ScheduleSearchResult {
  SearchResult search;
  std::vector<Judged> judged;  // ascending mean
  Candidate best;              // the finalist with the lowest mean
  std::int64_t evaluations = 0;
  double search_calls = 0, judge_calls = 0;  // of the network
  std::string by_hand;                       // the best schedule by hand
};

/// The space that the options describe. Throws Error(Input) if it is empty.
SearchSpace space_of(const ScheduleSearchOptions& options, const ImageTask& task,
                     const LayerAccount& account);

/// Schedules by hand of so many steps, by name: all that this sampler has, for these steps.
std::vector<std::pair<std::string, Candidate>> schedules_by_hand(const ImageTask& task, std::int64_t steps);

/// `reference`: features of real images [n, d]. Deterministic in the seed, for any number of threads and
/// processes, and for a search that was killed and resumed. Throws Error(Input) for options that do not fit,
/// Interrupted after Ctrl-C, with the log complete.
ScheduleSearchResult search_schedule(const ImageTask& task, const at::Tensor& reference, ImageMetric metric,
                                     const LayerAccount& account, const ScheduleSearchOptions& options,
                                     Progress& progress);

/// The best schedule, the best one by hand and "leading" again, on the streams of the verdict, by other
/// features
/// (`task` differs in its feature network alone; `reference` are features of that).
std::vector<Judged> judge_again(const ImageTask& task, const at::Tensor& reference, ImageMetric metric,
                                const ScheduleSearchResult& result, const ScheduleSearchOptions& options,
                                Progress& progress);

}  // namespace lithe
