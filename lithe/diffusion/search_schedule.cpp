#include "lithe/diffusion/search_schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <utility>

#include "lithe/base/error.h"
#include "lithe/diffusion/search/plain_search.h"
#include "lithe/diffusion/search/trajectory.h"
#include "lithe/diffusion/timesteps.h"
#include "lithe/train/samples.h"

namespace lithe {
namespace {

constexpr std::uint64_t kSearchNoise = 0x73656172, kJudgeNoise = 0x6a756467, kTeacherNoise = 0x74656163;
constexpr std::int64_t kTeacherSteps = 100;
constexpr std::array<std::pair<SearchMethod, std::string_view>, 5> kMethods{
    {{SearchMethod::Racing, "racing"},
     {SearchMethod::Evolution, "autodiffusion"},
     {SearchMethod::Random, "random"},
     {SearchMethod::Climb, "climb"},
     {SearchMethod::Gits, "gits"}}};

double step_cost(BudgetUnit unit, const LayerAccount& account) {
  switch (unit) {
    case BudgetUnit::Calls:
      return 1;
    case BudgetUnit::Layers:
      return static_cast<double>(account.layers.size());
    case BudgetUnit::Macs:
      return static_cast<double>(account.macs.full);
    case BudgetUnit::Milliseconds:
      return account.times ? account.times->full : 0;
  }
  return 1;
}

std::vector<double> layer_costs(BudgetUnit unit, const LayerAccount& account) {
  if (unit == BudgetUnit::Macs) return {account.macs.saved.begin(), account.macs.saved.end()};
  std::vector<double> out(account.layers.size(), unit == BudgetUnit::Layers ? 1 : 0);
  if (unit == BudgetUnit::Milliseconds && account.times)
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = std::max(0.0, account.times->saved[i]);
  return out;
}

struct MeanSd {
  double mean = 0, sd = 0;
};

MeanSd spread(const std::vector<double>& values) {
  const auto n = static_cast<double>(values.size());
  MeanSd out{.mean = std::accumulate(values.begin(), values.end(), 0.0) / n};
  for (const double value : values) out.sd += (value - out.mean) * (value - out.mean);
  out.sd = values.size() > 1 ? std::sqrt(out.sd / (n - 1)) : 0;
  return out;
}

bool lower(const Judged& a, const Judged& b) {
  return a.mean < b.mean;
}

/// Fills in the fitness on each stream of the verdict, its mean and its standard deviation.
void score(std::vector<Judged>& judged, Evaluator& evaluator, const ScheduleSearchOptions& options,
           Progress& progress) {
  progress.start("judge", static_cast<std::int64_t>(judged.size()) * options.final_streams);
  for (int stream = 0; stream < options.final_streams; ++stream) {
    std::vector<EvaluationRequest> requests;
    for (const Judged& one : judged)
      requests.push_back(
          {.candidate = one.candidate,
           .images = options.final_images,
           .stream = seed_for(options.seed, kJudgeNoise + static_cast<std::uint64_t>(stream))});
    const std::vector<double> scores = evaluator(requests, progress);
    for (std::size_t i = 0; i < judged.size(); ++i) judged[i].fitness.push_back(scores[i]);
  }
  progress.finish();
  for (Judged& one : judged) {
    const MeanSd over = spread(one.fitness);
    one.mean = over.mean;
    one.sd = over.sd;
  }
}

/// Fills in the paired differences to the schedule of that name, and sorts by mean.
void compare(std::vector<Judged>& judged, const std::string& by_hand) {
  const Judged hand =
      *std::find_if(judged.begin(), judged.end(), [&](const Judged& one) { return one.name == by_hand; });
  for (Judged& one : judged) {
    std::vector<double> difference;
    for (std::size_t i = 0; i < one.fitness.size(); ++i)
      difference.push_back(one.fitness[i] - hand.fitness[i]);
    const MeanSd over = spread(difference);
    one.against = over.mean;
    one.against_sd = over.sd;
  }
  std::stable_sort(judged.begin(), judged.end(), lower);
}

class ScheduleSearch {
 public:
  ScheduleSearch(const ImageTask& task, const at::Tensor& reference, ImageMetric metric,
                 const LayerAccount& account, const ScheduleSearchOptions& options, Progress& progress)
      : task_(task),
        options_(options),
        progress_(progress),
        space_(space_of(options, task, account)),
        by_hand_(schedules_by_hand(task, options.steps)),
        reference_(reference, metric) {
    if (options.images < 2 || options.final_images < 2 || options.finalists < 1 || options.final_streams < 0)
      fail("a search needs two images an evaluation, and a finalist");
    EvaluatorOptions how{.make_fitness = [this] { return make_fitness(); },
                         .calls = [this](const Candidate& one) { return calls_of(one); },
                         .threads = options.threads,
                         .collective = options.collective,
                         .device = options.device,
                         .log = options.log,
                         .resume = options.resume,
                         .identity = options.identity};
    evaluator_.emplace(std::move(how));
  }

  ScheduleSearchResult run() {
    ScheduleSearchResult result;
    result.search = search();
    result.evaluations = evaluator_->evaluations();
    result.search_calls = evaluator_->calls() + other_calls_;
    if (result.search.best.empty()) fail("the search found no schedule; raise the budget");
    if (options_.final_streams > 0)
      judge(result);
    else
      result.best = result.search.best.front().candidate;
    result.judge_calls = evaluator_->calls() + other_calls_ - result.search_calls;
    return result;
  }

 private:
  std::unique_ptr<Fitness> make_fitness() {
    return std::make_unique<ImageFitness>(task_, reference_, cache_);
  }

  double calls_of(const Candidate& one) const {
    return static_cast<double>(network_calls(task_.sampler, plan_of(one)));
  }

  std::uint64_t search_stream() const { return seed_for(options_.seed, kSearchNoise); }

  std::vector<Candidate> starts() const {
    std::vector<Candidate> out;
    for (const auto& [name, candidate] : by_hand_) out.push_back(candidate);
    return out;
  }

  // --- the methods ----------------------------------------------------------------------------------------

  SearchResult search() {
    switch (options_.method) {
      case SearchMethod::Racing:
        return race_schedules();
      case SearchMethod::Evolution:
        return evolve_schedules();
      case SearchMethod::Gits:
        return follow_trajectory();
      case SearchMethod::Random:
      case SearchMethod::Climb:
        break;
    }
    PlainSearchOptions plain{.start = {},
                             .evaluations = options_.evaluations,
                             .images = options_.images,
                             .stream = search_stream(),
                             .seed = options_.seed};
    if (options_.method == SearchMethod::Random)
      return search_at_random(space_, plain, *evaluator_, progress_);
    plain.start = starts();
    return climb(space_, plain, *evaluator_, progress_);
  }

  SearchResult evolve_schedules() {
    EvolutionOptions evolution = options_.evolution;
    evolution.images = options_.images;
    evolution.stream = search_stream();
    evolution.seed = options_.seed;
    evolution.most_pruned = options_.most_skipped;
    evolution.least_pruned = options_.least_skipped;
    return evolve(space_, uniform(), evolution, *evaluator_, progress_);
  }

  /// The schedule that the published search starts from.
  Candidate uniform() const {
    const char* name = task_.sampler.kind == SamplerKind::Plms        ? "plms"
                       : task_.sampler.kind == SamplerKind::DpmSolver ? "time_uniform"
                                                                      : "leading";
    for (const auto& [known, candidate] : by_hand_)
      if (known == name) return candidate;
    return by_hand_.front().second;  // no even stride of so many steps
  }

  SearchResult race_schedules() {
    RacingOptions racing = options_.racing;
    racing.start = starts();
    racing.stream = search_stream();
    racing.seed = options_.seed;
    racing.most_pruned = options_.most_skipped;
    const std::int64_t batch = task_.sampler.batch;
    const bool whole = std::all_of(racing.images.begin(), racing.images.end(), [&](std::int64_t images) {
      return images % batch == 0 || images == options_.images;
    });
    if (!whole || racing.images.empty() || racing.images.back() != options_.images) racing.images = levels();
    std::optional<Evaluator> teacher;
    at::Tensor taught;
    if (options_.forecast_images > 0) {
      const std::uint64_t stream = seed_for(options_.seed, kTeacherNoise);
      const SamplingPlan plan = make_plan(
          "trailing", task_.noise, std::min(kTeacherSteps, task_.noise.steps() - 1), task_.sampler.kind);
      taught = teacher_features(task_, plan, options_.forecast_images, stream);
      other_calls_ += static_cast<double>(options_.forecast_images * network_calls(task_.sampler, plan));
      teacher.emplace(EvaluatorOptions{
          .make_fitness = [this, &taught,
                           stream] { return std::make_unique<TeacherFitness>(task_, taught, stream); },
          .calls = [this](const Candidate& one) { return calls_of(one); },
          .threads = options_.threads,
          .collective = options_.collective,
          .device = options_.device});
      racing.forecast = [&, stream](const std::vector<Candidate>& candidates) {
        std::vector<EvaluationRequest> requests;
        for (const Candidate& one : candidates)
          requests.push_back({.candidate = one, .images = options_.forecast_images, .stream = stream});
        Progress silent;
        return (*teacher)(requests, silent);
      };
    }
    SearchResult result = race(space_, racing, *evaluator_, progress_);
    if (teacher) other_calls_ += teacher->calls();
    return result;
  }

  /// A sixth, a third, and all of the images, in whole batches.
  std::vector<std::int64_t> levels() const {
    const std::int64_t batch = task_.sampler.batch;
    std::vector<std::int64_t> out;
    for (const std::int64_t share : {6, 3}) {
      const std::int64_t images = std::max<std::int64_t>(1, options_.images / share / batch) * batch;
      if (images < options_.images && (out.empty() || images > out.back())) out.push_back(images);
    }
    out.push_back(options_.images);
    return out;
  }

  SearchResult follow_trajectory() {
    if (space_.free_points > 0 || space_.layers() > 0)
      fail("gits gives time steps of Euler steps; use it with ddim, ddpm or plms and without layers to skip");
    const TrajectoryOptions how{.stream = search_stream()};
    progress_.start("search", 1);
    const Trajectory path(task_, how);
    other_calls_ += path.calls();
    progress_.advance();
    progress_.finish();
    const Candidate found = candidate_of(path.steps(space_.most));
    return {.best = {{.candidate = found, .fitness = 0, .images = 0}}, .history = {}};
  }

  // --- the verdict ----------------------------------------------------------------------------------------

  void judge(ScheduleSearchResult& result) {
    std::vector<Judged>& judged = result.judged;
    const auto count =
        std::min<std::size_t>(result.search.best.size(), static_cast<std::size_t>(options_.finalists));
    for (std::size_t i = 0; i < count; ++i) {
      judged.emplace_back();
      judged.back().name = fmt::format("searched {}", i + 1);
      judged.back().candidate = result.search.best[i].candidate;
    }
    for (const auto& [name, candidate] : by_hand_) {
      judged.emplace_back();
      judged.back().name = name;
      judged.back().candidate = candidate;
    }
    score(judged, *evaluator_, options_, progress_);
    if (std::none_of(judged.begin(), judged.end(), [](const Judged& one) { return std::isfinite(one.mean); }))
      fail("no schedule gives finite images; try more steps, clipped predictions, or another model");
    const auto first_by_hand = judged.begin() + static_cast<std::ptrdiff_t>(count);
    result.best = std::min_element(judged.begin(), first_by_hand, lower)->candidate;
    result.by_hand = std::min_element(first_by_hand, judged.end(), lower)->name;
    compare(judged, result.by_hand);
  }

  const ImageTask& task_;
  const ScheduleSearchOptions& options_;
  Progress& progress_;
  SearchSpace space_;
  std::vector<std::pair<std::string, Candidate>> by_hand_;
  ImageReference reference_;
  FeatureCache cache_;
  std::optional<Evaluator> evaluator_;
  double other_calls_ = 0;
};

}  // namespace

std::string_view search_method_name(SearchMethod method) {
  for (const auto& [known, name] : kMethods)
    if (known == method) return name;
  return "";
}

SearchMethod parse_search_method(std::string_view name) {
  for (const auto& [method, known] : kMethods)
    if (known == name) return method;
  fail("there is no search '{}'; there are racing, autodiffusion, random, climb and gits", name);
}

std::string_view budget_unit_name(BudgetUnit unit) {
  switch (unit) {
    case BudgetUnit::Calls:
      return "calls";
    case BudgetUnit::Layers:
      return "layers";
    case BudgetUnit::Macs:
      return "macs";
    case BudgetUnit::Milliseconds:
      return "ms";
  }
  return "";
}

SearchSpace space_of(const ScheduleSearchOptions& options, const ImageTask& task,
                     const LayerAccount& account) {
  const bool layers = options.most_skipped > 0;
  if (layers && options.budget.unit == BudgetUnit::Calls)
    fail("skipped layers save no calls: give a budget in layers, macs or ms");
  if (layers && account.layers.empty()) fail("the network has no layers that can be skipped");
  if (layers && options.method != SearchMethod::Racing && options.method != SearchMethod::Evolution)
    fail("layers are searched by racing and autodiffusion, not by {}", search_method_name(options.method));
  if (options.reuse && task.sampler.kind == SamplerKind::Plms)
    fail("plms asks the network twice at one step, so that layers cannot be reused; take ddim or dpmpp2m");
  if (options.steps < 1) fail("a schedule needs one step at least");
  const BudgetUnit unit = options.budget.unit;
  if (!layers && options.budget.amount > 0 && unit != BudgetUnit::Calls)
    fail("a budget in {} is for a search of layers: give the share that a step may skip, too",
         budget_unit_name(unit));
  SearchSpace space{.grid = task.noise.steps()};
  space.free_points = task.sampler.kind == SamplerKind::DpmSolver ? 1 : 0;
  const auto points = static_cast<std::size_t>(options.steps) + space.free_points;
  space.least = space.most = points;
  space.step_cost = step_cost(unit, account);
  if (!(space.step_cost > 0)) fail("the network's cost in {} is not known", budget_unit_name(unit));
  space.budget = options.budget.amount > 0 ? options.budget.amount
                                           : space.step_cost * static_cast<double>(options.steps);
  if (layers) {
    space.layer_costs = layer_costs(unit, account);
    space.most_skipped = options.most_skipped;
    space.first_whole = options.reuse;
    space.least = 1 + space.free_points + (space.free_points > 0 ? 1 : 0);
    const double saved = std::accumulate(space.layer_costs.begin(), space.layer_costs.end(), 0.0);
    const double cheapest = std::max(space.step_cost - saved * options.most_skipped, space.step_cost * 0.05);
    space.most =
        std::min<std::size_t>(static_cast<std::size_t>(space.budget / cheapest) + space.free_points + 1,
                              static_cast<std::size_t>(space.grid));
    if (unit == BudgetUnit::Calls) space.most = points;
    space.most = std::max(space.most, space.least);
  } else if (unit == BudgetUnit::Calls && options.budget.amount > 0) {
    space.least = space.most = static_cast<std::size_t>(options.budget.amount) + space.free_points;
  }
  check_space(space);
  return space;
}

std::vector<std::pair<std::string, Candidate>> schedules_by_hand(const ImageTask& task, std::int64_t steps) {
  std::vector<std::string> names;
  for (const Spacing& one : spacings()) names.emplace_back(one.name);
  if (task.sampler.kind == SamplerKind::DpmSolver)
    for (const ContinuousSpacing& one : continuous_spacings()) names.emplace_back(one.name);
  std::vector<std::pair<std::string, Candidate>> out;
  std::string problem;
  for (const std::string& name : names) {
    try {
      const Candidate candidate =
          candidate_of_plan(make_plan(name, task.noise, steps, task.sampler.kind), task.noise.steps());
      const bool known = std::any_of(out.begin(), out.end(), [&](const auto& other) {
        return other.second == candidate || other.first == name;
      });
      if (!known) out.emplace_back(name, candidate);
    } catch (const Error& error) {
      problem = error.what();  // this spacing has no schedule of so many steps
    }
  }
  if (out.empty()) fail("{}", problem);
  return out;
}

ScheduleSearchResult search_schedule(const ImageTask& task, const at::Tensor& reference, ImageMetric metric,
                                     const LayerAccount& account, const ScheduleSearchOptions& options,
                                     Progress& progress) {
  return ScheduleSearch(task, reference, metric, account, options, progress).run();
}

std::vector<Judged> judge_again(const ImageTask& task, const at::Tensor& reference, ImageMetric metric,
                                const ScheduleSearchResult& result, const ScheduleSearchOptions& options,
                                Progress& progress) {
  const ImageReference real(reference, metric);
  FeatureCache cache;
  Evaluator evaluator({.make_fitness = [&] { return std::make_unique<ImageFitness>(task, real, cache); },
                       .threads = options.threads});
  std::vector<Judged> judged;
  for (const Judged& one : result.judged)
    if (one.candidate == result.best || one.name == result.by_hand || one.name == "leading") {
      judged.push_back(one);
      judged.back().fitness.clear();
    }
  score(judged, evaluator, options, progress);
  compare(judged, result.by_hand);
  return judged;
}

}  // namespace lithe
