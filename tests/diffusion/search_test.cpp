#include <gmock/gmock.h>

#include <algorithm>
#include <atomic>
#include <cmath>

#include <limits>
#include <set>

#include "diffusion/gaussian_fitness.h"
#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/diffusion/search/evolution.h"
#include "lithe/diffusion/search/plain_search.h"
#include "lithe/diffusion/search/racing.h"
#include "lithe/diffusion/timesteps.h"
#include "message_of.h"

namespace lithe {
namespace {

using test::gaussian_options;
using test::message_of;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr double kBestOfFour = 0.10005805460961764;  // by trying all 230,300

SearchSpace times_only(std::size_t count, std::int64_t grid = 50) {
  return {.grid = grid, .least = count, .most = count};
}

std::vector<Candidate> by_hand(std::size_t count, std::int64_t grid = 50) {
  const NoiseSchedule noise = NoiseSchedule::cosine(grid);
  std::vector<Candidate> out;
  for (const char* name : {"centred", "trailing", "linspace", "quadratic"})
    out.push_back(candidate_of(make_timesteps(name, noise, static_cast<std::int64_t>(count))));
  return out;
}

double fitness_of(const std::vector<std::int64_t>& steps, std::int64_t grid = 50) {
  return test::GaussianFitness(NoiseSchedule::cosine(grid))(candidate_of(steps), 2, 0);
}

/// A space whose layers each cost one, as the published program counts.
SearchSpace layered(int layers, double budget, double most_skipped) {
  SearchSpace space{.grid = 1000, .least = 1, .most = 1000};
  space.step_cost = layers;
  space.layer_costs.assign(static_cast<std::size_t>(layers), 1.0);
  space.budget = budget;
  space.most_skipped = most_skipped;
  return space;
}

TEST(GaussianModel, Goldens) {
  EXPECT_NEAR(fitness_of({0, 250, 500, 750}, 1000), 0.1458102371, 1e-9);
  EXPECT_NEAR(fitness_of({249, 499, 749, 999}, 1000), 0.2249050205, 1e-9);
  EXPECT_NEAR(fitness_of({0, 333, 666, 999}, 1000), 0.3668731440, 1e-9);
  EXPECT_NEAR(fitness_of({94, 217, 354, 574, 834, 944}, 1000), 0.1103621168, 1e-9);
  EXPECT_NEAR(fitness_of({12, 25}), 0.186129454928996, 1e-12);
  EXPECT_NEAR(fitness_of({9, 21, 31}), 0.13487606611951328, 1e-12);
  EXPECT_NEAR(fitness_of({7, 17, 27, 35}), kBestOfFour, 1e-12);
  EXPECT_NEAR(fitness_of({0, 12, 24, 36}), 0.1301933540, 1e-9);
}

TEST(Candidates, KeysAreCanonical) {
  EXPECT_EQ(key_of({{94, {}}, {354, {3, 7}}}), "94 354:3,7");
  EXPECT_EQ(key_of(canonical({{354, {3, 7}}, {94, {}}})), "94 354:3,7");
  EXPECT_NE(key_of({{94, {3}}, {354, {7}}}), key_of({{94, {}}, {354, {3, 7}}}));
}

// What fits under a budget of 580 layers of a network of 58.
TEST(Candidates, BudgetArithmetic) {
  const std::vector<std::pair<double, std::size_t>> skips{{.02, 1}, {.04, 2}, {.06, 3},
                                                          {.08, 4}, {.1, 5},  {.2, 11}};
  for (const auto& [share, count] : skips) {
    const SearchSpace space = layered(58, 580, share);
    EXPECT_EQ(space.skips(share), count);
    std::vector<int> skipped(count);
    for (std::size_t i = 0; i < count; ++i) skipped[i] = static_cast<int>(i);
    Candidate candidate;
    while (cost_of(space, candidate) + cost_of_gene(space, {0, skipped}) <= space.budget)
      candidate.push_back({static_cast<std::int64_t>(candidate.size()), skipped});
    EXPECT_EQ(candidate.size(), share == .2 ? 12u : 10u);
    EXPECT_TRUE(is_valid(space, candidate));
    candidate.push_back({900, skipped});
    EXPECT_FALSE(is_valid(space, candidate));
  }
}

TEST(Candidates, RepairMakesThemLegal) {
  const SearchSpace space = layered(20, 100, 0.25);
  const Pruning pruning{.most = 0.25};
  for (std::int64_t i = 0; i < 300; ++i) {
    Rng rng(7, static_cast<std::uint64_t>(i));
    Candidate wild;
    for (std::size_t k = 1 + rng.below(9); k > 0; --k)
      wild.push_back(
          {static_cast<std::int64_t>(rng.below(12)), draw_layers(space, rng.below(6), pruning, rng)});
    const auto legal = repair(space, wild, pruning, rng);
    ASSERT_TRUE(legal);
    EXPECT_TRUE(is_valid(space, *legal)) << key_of(*legal);
  }
  Rng rng(1);
  const auto fewer = repair(space, {{5, {1, 2}}, {5, {3}}}, pruning, rng);
  ASSERT_TRUE(fewer);
  EXPECT_EQ(key_of(*fewer), "5:3");  // of equal steps the one that skips less
  const auto filled = repair(times_only(4), candidate_of({3, 3, 9}), {}, rng);
  ASSERT_TRUE(filled);
  EXPECT_EQ(filled->size(), 4u);
}

TEST(Candidates, ImpossibleSpacesAreRefused) {
  EXPECT_THROW(check_space(times_only(51)), Error);
  EXPECT_THROW(check_space(times_only(0)), Error);
  SearchSpace tight = layered(10, 35, 0.1);
  tight.least = 4;  // 4 steps of 9 layers
  EXPECT_THAT(message_of([&] { check_space(tight); }), HasSubstr("budget"));
  tight.budget = 36;
  check_space(tight);
}

TEST(CheapestJumps, Goldens) {
  constexpr double kNone = 0;
  const std::vector<std::vector<double>> cost{{kNone, 1.0, 2.5, 4.5, 7.0},
                                              {kNone, kNone, 0.8, 2.2, 4.0},
                                              {kNone, kNone, kNone, 0.9, 2.6},
                                              {kNone, kNone, kNone, kNone, 1.1},
                                              {kNone, kNone, kNone, kNone, kNone}};
  const auto check = [&](std::size_t steps, double gamma, const std::vector<std::size_t>& nodes,
                         double total) {
    EXPECT_EQ(cheapest_jumps(cost, steps, gamma), nodes);
    EXPECT_NEAR(cost_of_jumps(cost, nodes, gamma), total, 1e-12);
  };
  check(2, 1, {0, 1}, 5.0);
  check(3, 1, {0, 1, 3}, 4.3);
  check(4, 1, {0, 1, 2, 3}, 3.8);
  check(2, 1.15, {0, 2}, 5.49);
  check(3, 1.15, {0, 1, 3}, 4.98475);
  check(4, 1.15, {0, 1, 2, 3}, 4.7832125);
  EXPECT_THROW(cheapest_jumps(cost, 5, 1), Error);
}

// --- the searches
// ---------------------------------------------------------------------------------------------

TEST(Racing, FindsTheBestScheduleOfTheGaussianModel) {
  const std::vector<double> best{0.186129454928996, 0.13487606611951328, kBestOfFour};
  for (std::size_t count = 2; count <= 4; ++count) {
    int found = 0;
    for (std::uint64_t seed = 0; seed < 10; ++seed) {
      Evaluator evaluator(gaussian_options());
      Progress progress;
      const SearchResult result =
          race(times_only(count),
               {.start = by_hand(count), .rounds = 60, .children = 24, .images = {2}, .seed = seed},
               evaluator, progress);
      EXPECT_LE(evaluator.evaluations(), 1500);
      found += result.best.front().fitness <= best[count - 2] * (1 + 1e-12);
    }
    EXPECT_GE(found, 9) << count;
  }
}

TEST(Evolution, ComesNearTheBestScheduleOfTheGaussianModel) {
  int near = 0;
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    Evaluator evaluator(gaussian_options());
    Progress progress;
    const EvolutionOptions options{.generations = 30, .images = 2, .seed = seed};
    const SearchResult result =
        evolve(times_only(4), candidate_of({0, 13, 26, 39}), options, evaluator, progress);
    EXPECT_LE(evaluator.evaluations(), 1500);
    near += result.best.front().fitness <= kBestOfFour * 1.005;
  }
  EXPECT_GE(near, 4);
}

TEST(Evolution, ArchiveNeverGetsWorseAndCandidatesAreLegal) {
  std::vector<Candidate> seen;
  EvaluatorOptions how = gaussian_options(1000);
  class Spy : public test::GaussianFitness {
   public:
    explicit Spy(std::vector<Candidate>& seen) : GaussianFitness(NoiseSchedule::cosine(1000)), seen_(seen) {}
    double operator()(const Candidate& candidate, std::int64_t images, std::uint64_t stream) override {
      seen_.push_back(candidate);
      return GaussianFitness::operator()(candidate, images, stream) -
             0.001 * static_cast<double>(candidate.size());
    }

   private:
    std::vector<Candidate>& seen_;
  };
  how.make_fitness = [&] { return std::make_unique<Spy>(seen); };
  Evaluator evaluator(how);
  Progress progress;
  const SearchSpace space = layered(20, 100, 0.3);
  const EvolutionOptions options{.population = 20,
                                 .parents = 5,
                                 .mutations = 10,
                                 .crossovers = 6,
                                 .generations = 10,
                                 .most_pruned = 0.3};
  const SearchResult result =
      evolve(space, candidate_of({0, 200, 400, 600, 800}), options, evaluator, progress);
  ASSERT_EQ(result.history.size(), 10u);
  for (std::size_t i = 1; i < result.history.size(); ++i)
    EXPECT_LE(result.history[i].best, result.history[i - 1].best);
  EXPECT_EQ(result.history.front().most_skipped, 0);  // time steps first
  EXPECT_NEAR(result.history.back().most_skipped, 0.3, 1e-12);
  std::set<std::string> keys;
  std::size_t most = 0;
  for (const Candidate& one : seen) {
    EXPECT_TRUE(is_valid(space, one)) << key_of(one);
    EXPECT_TRUE(keys.insert(key_of(one)).second) << key_of(one);
    most = std::max(most, one.size());
  }
  EXPECT_GT(most, 5u);  // what is skipped pays for more steps
}

TEST(Evolution, EndsInASpaceThatRunsDry) {
  Evaluator evaluator(gaussian_options(5));
  Progress progress;
  const SearchResult result =
      evolve(times_only(2, 5), candidate_of({0, 3}), {.mutation = 0}, evaluator, progress);
  EXPECT_LE(evaluator.evaluations(), 10);  // all pairs of five
  EXPECT_EQ(result.history.size(), 10u);
}

TEST(Evolution, PublishedQuirksCostEvaluations) {
  Progress progress;
  Evaluator published(gaussian_options(5)), mended(gaussian_options(5));
  evolve(times_only(2, 5), candidate_of({0, 3}), {.unsorted = true}, published, progress);
  evolve(times_only(2, 5), candidate_of({0, 3}), {}, mended, progress);
  EXPECT_GT(published.evaluations(), mended.evaluations());  // the same pair in another order is new to it
}

TEST(PlainSearch, SpendsWhatItIsGiven) {
  Progress progress;
  Evaluator first(gaussian_options()), second(gaussian_options());
  const PlainSearchOptions options{.start = by_hand(4), .evaluations = 117, .seed = 3};
  const SearchResult random = search_at_random(times_only(4), options, first, progress);
  const SearchResult climbed = climb(times_only(4), options, second, progress);
  EXPECT_EQ(first.evaluations(), 117);
  EXPECT_EQ(second.evaluations(), 117);
  EXPECT_EQ(random.best.size(), 117u);
  EXPECT_LE(climbed.best.front().fitness, kBestOfFour * 1.01);
  EXPECT_LT(climbed.best.front().fitness, random.best.front().fitness);
}

TEST(Racing, LayersPayForSteps) {
  /// Layers 0 to 9 do no harm, the others much; more steps are better.
  class Layers : public Fitness {
   public:
    double operator()(const Candidate& candidate, std::int64_t, std::uint64_t) override {
      double harm = 0;
      for (const Gene& gene : candidate)
        for (const int layer : gene.skipped) harm += layer < 10 ? 0 : 1;
      return 10 + harm - static_cast<double>(candidate.size());
    }
  };
  SearchSpace space = layered(20, 100, 0.5);
  Evaluator evaluator({.make_fitness = [] { return std::make_unique<Layers>(); }});
  Progress progress;
  const SearchResult result = race(
      space,
      {.start = {candidate_of({0, 200, 400, 600, 800})}, .rounds = 30, .images = {2, 4}, .most_pruned = 0.5},
      evaluator, progress);
  EXPECT_TRUE(is_valid(space, result.best.front().candidate));
  EXPECT_GE(result.best.front().candidate.size(), 7u);
  EXPECT_EQ(result.best.front().images, 4);
}

// --- the evaluator
// --------------------------------------------------------------------------------------------

SearchResult search_with(EvaluatorOptions how, std::int64_t* evaluations = nullptr) {
  Evaluator evaluator(std::move(how));
  Progress progress;
  SearchResult result = race(
      times_only(4), {.start = by_hand(4), .rounds = 5, .images = {2, 3, 4}, .seed = 5}, evaluator, progress);
  if (evaluations) *evaluations = evaluator.evaluations();
  return result;
}

TEST(Evaluator, RepetitionsCostNothing) {
  std::atomic<int> made = 0;
  EvaluatorOptions how;
  class Counting : public Fitness {
   public:
    explicit Counting(std::atomic<int>& made) : made_(made) {}
    double operator()(const Candidate& candidate, std::int64_t, std::uint64_t) override {
      ++made_;
      return candidate.front().t == 1 ? std::numeric_limits<double>::quiet_NaN() : 1.0;
    }

   private:
    std::atomic<int>& made_;
  };
  how.make_fitness = [&] { return std::make_unique<Counting>(made); };
  Evaluator evaluator(how);
  Progress progress;
  const EvaluationRequest one{.candidate = candidate_of({1, 2}), .images = 10};
  const auto scores = evaluator({one, one}, progress);
  EXPECT_EQ(made, 1);
  EXPECT_THAT(scores,
              ElementsAre(std::numeric_limits<double>::infinity(), std::numeric_limits<double>::infinity()));
  EvaluationRequest more = one;
  more.images = 20;
  more.already = 10;
  evaluator({one, more}, progress);
  EXPECT_EQ(made, 2);
  EXPECT_EQ(evaluator.evaluations(), 2);
  EXPECT_EQ(evaluator.calls(), 40);  // two steps, 20 images
  EXPECT_EQ(evaluator.failed(), 2);
}

TEST(Evaluator, LogsAreEqualForAnyNumberOfWorkers) {
  const TemporaryFolder folder;
  std::vector<std::string> logs;
  for (const int threads : {1, 3}) {
    EvaluatorOptions how = gaussian_options(50, threads);
    how.log = folder.path() / fmt::format("{}.jsonl", threads);
    search_with(how);
    logs.push_back(read_text_file(how.log));
  }
  EXPECT_GT(logs[0].size(), 1000u);
  EXPECT_EQ(logs[0], logs[1]);
}

TEST(Evaluator, GoesOnFromAnyLineOfTheLog) {
  const TemporaryFolder folder;
  EvaluatorOptions how = gaussian_options();
  how.log = folder.path() / "whole.jsonl";
  how.identity = {{"seed", 5}};
  std::int64_t evaluations = 0;
  const SearchResult whole = search_with(how, &evaluations);
  const std::string text = read_text_file(how.log);
  for (const double share : {0.02, 0.4, 0.83, 1.0}) {
    how.log = folder.path() / fmt::format("{}.jsonl", share);
    write_file(how.log, text.substr(0, static_cast<std::size_t>(share * static_cast<double>(text.size()))));
    how.resume = true;
    std::int64_t again = 0;
    const SearchResult result = search_with(how, &again);
    EXPECT_EQ(read_text_file(how.log), text) << share;
    EXPECT_EQ(again, evaluations);
    ASSERT_EQ(result.best.size(), whole.best.size());
    EXPECT_EQ(result.best.front().candidate, whole.best.front().candidate);
    EXPECT_EQ(result.best.front().fitness, whole.best.front().fitness);
  }
}

TEST(Evaluator, RefusesLogsThatAreNotItsOwn) {
  const TemporaryFolder folder;
  EvaluatorOptions how = gaussian_options();
  how.log = folder.path() / "log.jsonl";
  how.identity = {{"seed", 5}, {"sampler", "ddim"}};
  search_with(how);
  EXPECT_THAT(message_of([&] { Evaluator evaluator(how); }), HasSubstr("--resume"));
  how.resume = true;
  {
    Evaluator first(how);
    EXPECT_THAT(message_of([&] { Evaluator evaluator(how); }), HasSubstr("another search is writing"));
  }
  how.identity["seed"] = 6;
  EXPECT_THAT(message_of([&] { Evaluator evaluator(how); }), HasSubstr("'seed' is 5 there and 6 here"));
  how.identity["seed"] = 5;
  std::string text = read_text_file(how.log);
  text.replace(text.find("\"fitness\"", 200), 9, "\"fitnass\"");
  write_file(how.log, text);
  EXPECT_THAT(message_of([&] { Evaluator evaluator(how); }), HasSubstr("line"));
  write_file(how.log, "something else\n");
  EXPECT_THAT(message_of([&] { Evaluator evaluator(how); }), HasSubstr("no log of a search"));
}

TEST(Evaluator, ErrorsOfTheModelReachTheCaller) {
  class Broken : public Fitness {
   public:
    double operator()(const Candidate&, std::int64_t, std::uint64_t) override { fail("the model is broken"); }
  };
  Evaluator evaluator({.make_fitness = [] { return std::make_unique<Broken>(); }, .threads = 2});
  Progress progress;
  EXPECT_THAT(message_of([&] {
                evaluator({{.candidate = candidate_of({1}), .images = 2},
                           {.candidate = candidate_of({2}), .images = 2}},
                          progress);
              }),
              HasSubstr("the model is broken"));
}

}  // namespace
}  // namespace lithe
