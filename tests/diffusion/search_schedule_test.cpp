#include "lithe/diffusion/search_schedule.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>

#include <cmath>
#include <limits>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/random.h"
#include "lithe/diffusion/search/trajectory.h"
#include "lithe/models/models.h"
#include "message_of.h"

namespace lithe {
namespace {

using test::message_of;
using testing::HasSubstr;

/// The best predictor for Gaussian pixels of mean 0 and the given deviation by column.
class GaussianDenoiser : public Denoiser {
 public:
  GaussianDenoiser(NoiseSchedule noise, double broken) : noise_(std::move(noise)), broken_(broken) {}
  at::Tensor predict(const at::Tensor& x, double timestep, const at::Tensor&,
                     const std::vector<int>&) override {
    if (timestep < broken_) return at::full_like(x, std::numeric_limits<double>::quiet_NaN());
    const double bar = noise_.alpha_bar(static_cast<std::int64_t>(timestep));
    const at::Tensor deviation = at::linspace(0.05, 0.6, x.size(3), x.options());
    return std::sqrt(1 - bar) * x / (bar * deviation.square() + 1 - bar);
  }

 private:
  NoiseSchedule noise_;
  double broken_;
};

constexpr std::int64_t kSize = 8;

class ScheduleSearch : public testing::Test {
 protected:
  ScheduleSearch() {
    at::set_num_threads(1);
    task_.noise = NoiseSchedule::cosine(100);
    task_.sampler.batch = 16;
    task_.shape = {1, kSize, kSize};
    task_.make_denoiser = [this] { return std::make_unique<GaussianDenoiser>(task_.noise, broken_below_); };
    const Graph features =
        build_resnet20({.classes = 4, .image_size = kSize, .image_channels = 1, .width = 0.25});
    task_.make_features = [features] {
      return std::make_unique<FeatureNetwork>(features, Preprocess{.mean = {0.5}, .std = {0.25}});
    };
    Rng rng(5);
    at::Tensor real = at::empty({400, 1, kSize, kSize});
    for (std::int64_t i = 0; i < real.numel(); ++i)
      real.data_ptr<float>()[i] = static_cast<float>(rng.normal());
    real.mul_(at::linspace(0.05, 0.6, kSize));
    const auto network = task_.make_features();
    reference_ = features_of(*network, to_uint8(real));
    options_ = {.steps = 3, .images = 64, .seed = 7, .finalists = 2, .final_images = 64, .final_streams = 2};
    options_.racing = {.rounds = 2, .children = 6, .parents = 3, .images = {16, 64}};
  }

  ScheduleSearchResult search(const ScheduleSearchOptions& options,
                              ImageMetric metric = ImageMetric::Frechet) {
    Progress progress;
    return search_schedule(task_, reference_, metric, account_, options, progress);
  }

  ImageTask task_;
  double broken_below_ = 0;
  at::Tensor reference_;
  LayerAccount account_;
  ScheduleSearchOptions options_;
  TemporaryFolder folder_;
};

TEST_F(ScheduleSearch, IsTheSameForAnyNumberOfThreadsAndFromAnyPointOn) {
  options_.log = folder_.path() / "one.jsonl";
  const ScheduleSearchResult one = search(options_);
  ScheduleSearchOptions three = options_;
  three.threads = 3;
  three.log = folder_.path() / "three.jsonl";
  const ScheduleSearchResult other = search(three);
  const std::string text = read_text_file(options_.log);
  EXPECT_EQ(text, read_text_file(three.log));
  EXPECT_EQ(one.best, other.best);
  ScheduleSearchOptions resumed = options_;
  resumed.log = folder_.path() / "cut.jsonl";
  resumed.resume = true;
  write_file(resumed.log, text.substr(0, text.size() / 2));
  const ScheduleSearchResult again = search(resumed);
  EXPECT_EQ(read_text_file(resumed.log), text);
  EXPECT_EQ(again.best, one.best);
  EXPECT_EQ(again.judged.front().mean, one.judged.front().mean);
  EXPECT_EQ(again.search_calls, one.search_calls);
}

TEST_F(ScheduleSearch, EveryMethodIsJudgedBesideSchedulesByHand) {
  for (const SearchMethod method : {SearchMethod::Racing, SearchMethod::Evolution, SearchMethod::Random,
                                    SearchMethod::Climb, SearchMethod::Gits}) {
    ScheduleSearchOptions options = options_;
    options.method = method;
    options.evaluations = 12;
    options.images = 32;
    options.evolution = {.population = 6, .parents = 2, .mutations = 3, .crossovers = 1, .generations = 2};
    options.racing.images = {16, 32};
    const ScheduleSearchResult result = search(options);
    EXPECT_EQ(result.best.size(), 3u) << search_method_name(method);
    EXPECT_TRUE(std::is_sorted(result.judged.begin(), result.judged.end(),
                               [](const Judged& a, const Judged& b) { return a.mean < b.mean; }));
    const auto named = [&](const std::string& name) {
      return std::any_of(result.judged.begin(), result.judged.end(),
                         [&](const Judged& one) { return one.name == name; });
    };
    EXPECT_TRUE(named("centred") && named("searched 1") && named("leading"));
    EXPECT_GT(result.search_calls, 0);
    EXPECT_EQ(result.judge_calls, std::ceil(result.judge_calls));
    for (const Judged& one : result.judged) EXPECT_EQ(one.fitness.size(), 2u);
  }
}

TEST_F(ScheduleSearch, TheKernelDistanceAndTheForecastServe) {
  options_.forecast_images = 8;
  const ScheduleSearchResult with = search(options_, ImageMetric::Kernel);
  options_.forecast_images = 0;
  const ScheduleSearchResult without = search(options_, ImageMetric::Kernel);
  EXPECT_GT(with.search_calls, without.search_calls);
  EXPECT_TRUE(std::isfinite(with.judged.front().mean));
}

TEST_F(ScheduleSearch, ImagesThatAreNotFiniteLose) {
  broken_below_ = 20;  // what is sampled below step 20 is not a number
  const ScheduleSearchResult result = search(options_);
  EXPECT_TRUE(std::isfinite(result.judged.front().mean));
  EXPECT_GE(result.best.front().t, 20);
  EXPECT_TRUE(std::isinf(result.judged.back().mean));
}

TEST_F(ScheduleSearch, TheBudgetDecides) {
  EXPECT_THAT(message_of([&] {
                ScheduleSearchOptions options = options_;
                options.steps = 101;
                search(options);
              }),
              HasSubstr("101"));
  ScheduleSearchOptions layers = options_;
  layers.most_skipped = 0.5;
  EXPECT_THAT(message_of([&] { search(layers); }), HasSubstr("save no calls"));
  layers.budget.unit = BudgetUnit::Layers;
  EXPECT_THAT(message_of([&] { search(layers); }), HasSubstr("no layers"));
  ScheduleSearchOptions macs = options_;
  macs.budget = {BudgetUnit::Macs, 1e6};
  EXPECT_THAT(message_of([&] { search(macs); }), HasSubstr("macs"));
}

TEST_F(ScheduleSearch, LayersAreSkippedUnderABudget) {
  const auto graph = std::make_shared<const Graph>(build_adm_unet(
      {.image_size = kSize, .image_channels = 1, .base = 8, .multipliers = {1, 2}, .seed = 3}));
  const std::vector<SkippableLayer> layers = find_skippable_layers(*graph);
  ASSERT_FALSE(layers.empty());
  task_.noise = NoiseSchedule::cosine();
  task_.make_denoiser = [graph, layers] {
    return std::make_unique<GraphDenoiser>(
        graph, GraphDenoiserOptions{},
        [graph, layers](const std::vector<int>& skipped) { return without_layers(*graph, layers, skipped); });
  };
  account_ = {.layers = layers, .macs = measure_layer_macs(*graph, layers), .times = {}};
  options_.images = 16;
  options_.final_images = 16;
  options_.racing.images = {16};
  options_.most_skipped = 0.5;
  const double full = static_cast<double>(account_.macs.full);
  options_.budget = {BudgetUnit::Macs, 2.4 * full};
  for (const SearchMethod method : {SearchMethod::Racing, SearchMethod::Evolution}) {
    options_.method = method;
    options_.evolution = {.population = 6, .parents = 2, .mutations = 3, .crossovers = 1, .generations = 3};
    if (method == SearchMethod::Evolution) options_.steps = 2;  // what the budget holds without skips
    const ScheduleSearchResult result = search(options_);
    double macs = 0;
    for (const Gene& gene : result.best) macs += static_cast<double>(account_.macs.without(gene.skipped));
    EXPECT_LE(macs, 2.4 * full * (1 + 1e-9)) << search_method_name(method);
  }
}

TEST_F(ScheduleSearch, FeaturesDoNotDependOnWhatWasAskedBefore) {
  FeatureCache cache;
  const ImageReference real(reference_);
  ImageFitness once(task_, real, cache);
  const Candidate candidate = candidate_of({10, 40, 80});
  const double few = once(candidate, 20, 3), more = once(candidate, 50, 3);
  FeatureCache empty;
  ImageFitness anew(task_, real, empty);
  EXPECT_EQ(anew(candidate, 50, 3), more);
  EXPECT_EQ(anew(candidate, 20, 3), few);
  EXPECT_NE(anew(candidate, 20, 4), few);
}

TEST_F(ScheduleSearch, TrajectoriesGiveDistinctSteps) {
  const Trajectory path(task_, {.nodes = 20, .samples = 16, .stream = 1});
  EXPECT_EQ(path.calls(), 320);
  EXPECT_EQ(path.cost().size(), 21u);
  for (std::size_t i = 1; i < path.cost().size() - 1; ++i)  // longer jumps err more
    EXPECT_GE(path.cost()[0][i + 1], path.cost()[0][i] * 0.5);
  const std::vector<std::int64_t> steps = path.steps(5);
  EXPECT_EQ(steps.size(), 5u);
  EXPECT_TRUE(std::is_sorted(steps.begin(), steps.end()));
  EXPECT_EQ(steps.back(), 99);
}

}  // namespace
}  // namespace lithe
