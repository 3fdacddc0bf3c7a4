#include "lithe/tokens/tokens.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "lithe/base/clock.h"
#include "lithe/base/error.h"
#include "lithe/data/loader.h"

namespace lithe {
namespace {

std::int64_t budget_of(const TokensPlan& plan, const TokensOptions& options) {
  return static_cast<std::int64_t>(std::floor(options.share * static_cast<double>(plan.cost.dense)));
}

TrainOptions search_training(const TokensOptions& options, std::int64_t samples) {
  TrainOptions train = options.train;
  train.batch = std::min(train.batch, samples);
  if (train.epochs <= 0) train.epochs = search_epochs(samples, train.batch);
  if (train.learning_rate <= 0) {
    constexpr double kTravel = 15;  // of a logit, whose steps are at most the learning rate
    const double steps =
        static_cast<double>(train.epochs) *
        std::max(1.0, std::floor(static_cast<double>(samples) / static_cast<double>(train.batch)));
    train.learning_rate = std::clamp(kTravel / steps, 0.01, 0.1);
  }
  return train;
}

/// The loss of the model with a schedule, on some of the data.
ScheduleLoss measured_loss(const TokensPlan& plan, const DatasetPtr& data, const TokensOptions& options) {
  DatasetPtr samples = seeded_subset(data, options.repair_samples, options.seed);
  if (!samples->labelled())
    samples =
        labelled_by(plan.prepared, samples, options.train.batch, options.train.threads, options.train.device);
  return [&plan, &options, samples](const TokenSchedule& schedule) {
    const at::NoGradGuard no_grad;
    const Compressed compressed =
        compress_tokens(plan.prepared, plan.model, reduce_steps(schedule, plan.model.tokens),
                        {.sizes = options.sizes, .class_rows = options.class_rows});
    Executor executor(compressed.graph, {.device = options.train.device});
    const auto loss =
        evaluate(executor, samples, {.batch = options.train.batch, .threads = options.train.threads}).loss;
    if (!loss) fail_system("the loss of the model '{}' could not be measured", plan.prepared.name);
    return *loss;
  };
}

TokenSchedule schedule_of(const std::vector<TokenStep>& steps, std::int64_t tokens) {
  TokenSchedule schedule;
  for (const TokenStep& step : steps) {
    const std::int64_t after = tokens_after(step, tokens);
    schedule.prune.push_back(step.kind == TokenStep::Kind::Reduce ? step.prune
                             : step.kind == TokenStep::Kind::Tome ? tokens
                                                                  : after);
    schedule.merge.push_back(after);
    tokens = after;
    if (step.kind == TokenStep::Kind::Tome) schedule.operators = TokenOperators::Tome;
    if (step.kind == TokenStep::Kind::Evit) schedule.operators = TokenOperators::Evit;
  }
  return schedule;
}

/// The steps that a schedule of a file asks for.
std::vector<TokenStep> steps_of_schedule(const TokensPlan& plan, const TokensOptions& options) {
  TokenSchedule schedule = effective(*options.schedule, plan.model.tokens);
  const std::size_t blocks = schedule.blocks();
  if (options.class_rows)
    schedule.prune.back() = schedule.merge.back() =
        blocks > 1 ? schedule.merge[blocks - 2] : plan.model.tokens;
  if (schedule.operators == TokenOperators::Reduce) return reduce_steps(schedule, plan.model.tokens);
  std::vector<TokenStep> steps(blocks);
  std::int64_t tokens = plan.model.tokens;
  for (std::size_t l = 0; l < blocks; ++l) {
    const std::int64_t left = schedule.merge[l], gone = tokens - left;
    const bool tome = schedule.operators == TokenOperators::Tome;
    if (tome && gone > (tokens - plan.model.specials) / 2)
      fail("the schedule merges {} of {} tokens in block {}; ToMe merges pairs, at most half of them", gone,
           tokens, l + 1);
    if (!tome && gone > 0 && left - 1 <= plan.model.specials)
      fail(
          "the schedule keeps {} tokens in block {}; EViT needs the special ones, one more and the fused one",
          left, l + 1);
    if (gone > 0 && tome) steps[l] = {.kind = TokenStep::Kind::Tome, .removed = gone};
    if (gone > 0 && !tome) steps[l] = {.kind = TokenStep::Kind::Evit, .kept = left - 1};
    tokens = left;
  }
  return steps;
}

TokenSchedule learn(const TokensPlan& plan, const DatasetPtr& data, const TokensOptions& options,
                    Progress& progress, TokensResult& result) {
  const SearchGraph search =
      insert_search(plan.prepared, plan.model, plan.cost, plan.limits,
                    {.kind = options.kind, .granularity = options.granularity, .sizes = options.sizes});
  RateLearning learning = options.learning;
  learning.share = options.share;
  LearntRates rates = learn_rates(plan.prepared, plan.model, search, data, learning,
                                  search_training(options, data->size()), progress);
  result.history = std::move(rates.history);
  result.notes.insert(result.notes.end(), rates.notes.begin(), rates.notes.end());
  result.complete = rates.complete;
  result.learnt = rates.schedule;
  return rates.schedule;
}

void fine_tune(const TokensPlan& plan, const DatasetPtr& data, const TokensOptions& options,
               double seconds_left, Progress& progress, TokensResult& result) {
  TrainOptions train = options.fine_tune;
  train.epochs = options.fine_tune_epochs;
  train.batch = std::min(train.batch, data->size());
  train.seed = options.seed;
  train.threads = options.train.threads;
  train.device = options.train.device;
  train.preprocess = options.train.preprocess;
  train.on_note = [&](const std::string& text) {
    result.notes.push_back(text);
    if (options.train.on_note) options.train.on_note(text);
  };
  train.time_budget = seconds_left;
  if (!options.train.checkpoints.empty()) train.checkpoints = options.train.checkpoints / "fine_tune";
  std::error_code missing;  // where an interrupted run did not come so far, there is nothing to go on from
  train.resume = options.train.resume && std::filesystem::exists(train.checkpoints, missing);
  DatasetPtr samples = data;
  if (!data->labelled()) {
    samples = labelled_by(plan.prepared, data, train.batch, train.threads, train.device);
    train.distillation = {.teacher = std::make_shared<Graph>(plan.prepared), .temperature = 1, .weight = 1};
  } else {
    train.distillation = {.teacher = std::make_shared<Graph>(plan.prepared), .temperature = 1, .weight = 0.5};
  }
  TrainResult trained = lithe::train(result.graph, samples, train, progress);
  result.graph = std::move(trained.last);
  result.fine_tuning = std::move(trained.history);
  result.complete = result.complete && trained.complete;
}

}  // namespace

const char* token_method_name(TokenMethod method) {
  switch (method) {
    case TokenMethod::DiffRate:
      return "diffrate";
    case TokenMethod::Tome:
      return "tome";
    case TokenMethod::Evit:
      return "evit";
    case TokenMethod::Random:
      return "random";
    case TokenMethod::Fixed:
      break;
  }
  return "fixed";
}

std::int64_t search_epochs(std::int64_t samples, std::int64_t batch) {
  constexpr std::int64_t kSteps = 180, kMost = 100;
  const std::int64_t steps = std::max<std::int64_t>(1, samples / std::max<std::int64_t>(1, batch));
  return std::min((kSteps + steps - 1) / steps, kMost);
}

TokensPlan plan_tokens(const Graph& model, const TokensOptions& options) {
  TokensPlan plan{.prepared = prepare_tokens(model)};
  plan.model = find_attention(plan.prepared);
  if (options.class_rows && plan.model.tail != TokenTail::Specials)
    fail(
        "only models that read special tokens alone can do without the other rows of the last block; this "
        "one takes the mean over its tokens");
  if (options.importance == TokenImportance::Mean) plan.model.rows = 0;
  if (options.importance == TokenImportance::Class) {
    if (plan.model.specials == 0)
      fail(
          "the model '{}' has no special token whose attention could say what is important; leave it to the "
          "mean over the queries",
          plan.prepared.name);
    plan.model.rows = std::max<std::int64_t>(1, plan.model.rows);
  }
  plan.cost = token_cost(plan.prepared, plan.model, options.class_rows);
  plan.limits = token_limits(plan.model, options.class_rows, options.first_block);
  if (options.method == TokenMethod::Tome && !options.schedule)
    plan.range = tome_range(plan.cost, tome_limits(plan.model, options.class_rows));
  else if (options.method == TokenMethod::Evit && !options.schedule)
    plan.range = evit_range(plan.cost, plan.limits);
  else
    plan.range = reachable(plan.cost, plan.limits, options.kind);
  return plan;
}

void check_tokens(const TokensPlan& plan, const TokensOptions& options) {
  if (!(options.own_mass >= 0 && options.own_mass <= 1))
    fail("the share of the importance that images keep must be above 0 and at most 1, not {}",
         options.own_mass);
  if (options.own_mass > 0)  // what the model does not allow is said before the work
    compress_tokens(
        plan.prepared, plan.model,
        reduce_steps(dense_schedule(plan.model.blocks.size(), plan.model.tokens), plan.model.tokens),
        {.own_mass = options.own_mass});
  if (options.schedule) {
    check_schedule(*options.schedule, plan.model.blocks.size(), plan.model.tokens, plan.model.specials);
    steps_of_schedule(plan, options);
    return;
  }
  if (!(options.share > 0 && options.share <= 1))
    fail("the share of multiply-accumulates must be above 0 and at most 1, not {}", options.share);
  std::string advice;
  const bool ours = options.method != TokenMethod::Tome && options.method != TokenMethod::Evit;
  if (ours && !options.first_block) {
    const TokenRange wider =
        reachable(plan.cost, token_limits(plan.model, options.class_rows, true), options.kind);
    if (options.share >= wider.least)
      advice =
          fmt::format(", or let the first block remove tokens too (--first-block: from {:.4f})", wider.least);
  }
  check_reachable(options.share, plan.range, advice);
}

std::vector<TokenStep> steps_of(TokenMethod method, const TokensPlan& plan, const TokensOptions& options) {
  const std::int64_t budget = budget_of(plan, options);
  switch (method) {
    case TokenMethod::Tome:
      return tome_steps(plan.cost, tome_limits(plan.model, options.class_rows), budget);
    case TokenMethod::Evit:
      return evit_steps(plan.cost, plan.limits, budget);
    case TokenMethod::Random:
      return reduce_steps(random_schedule(plan.cost, plan.limits, budget, options.kind, options.seed),
                          plan.model.tokens);
    case TokenMethod::Fixed:
    case TokenMethod::DiffRate:
      break;
  }
  return reduce_steps(fixed_schedule(plan.cost, plan.limits, budget, options.kind, options.fall),
                      plan.model.tokens);
}

TokensResult reduce_model_tokens(const Graph& model, const DatasetPtr& data, const TokensOptions& options,
                                 Progress& progress) {
  return reduce_model_tokens(plan_tokens(model, options), data, options, progress);
}

TokensResult reduce_model_tokens(const TokensPlan& plan, const DatasetPtr& data, const TokensOptions& options,
                                 Progress& progress) {
  const Clock::time_point start = Clock::now();
  TokensResult result;
  check_tokens(plan, options);
  result.model = plan.model;
  result.cost = plan.cost;
  result.macs_before = plan.cost.dense;
  const std::int64_t budget = budget_of(plan, options);
  if (options.schedule) {
    if (const auto block = check_schedule(*options.schedule, plan.model.blocks.size(), plan.model.tokens,
                                          plan.model.specials))
      result.warnings.push_back(fmt::format(
          "the schedule asks for more tokens in block {} than come to it; running minima are taken",
          *block + 1));
    result.steps = steps_of_schedule(plan, options);
  } else {
    if (options.share > plan.range.most)
      result.notes.push_back(
          fmt::format("with all tokens {:.4f} of the multiply-accumulates remain; nothing is removed for {}",
                      plan.range.most, options.share));
    if (options.method == TokenMethod::DiffRate) {
      if (!data) fail("token counts are learnt from images; give some hundred to some thousand");
      TokenSchedule schedule = learn(plan, data, options, progress, result);
      const ScheduleLoss loss = measured_loss(plan, data, options);
      const auto round = static_cast<std::int64_t>(plan.limits.end - plan.limits.first) + 1;
      std::int64_t asked = 0;
      schedule = fit_schedule(schedule, plan.cost, plan.limits, budget, [&](const TokenSchedule& one) {
        if (asked++ % round == 0) progress.start("harm of blocks", round);
        const double measured = loss(one);
        progress.advance();
        if (asked % round == 0) progress.finish();
        return measured;
      });
      result.steps = reduce_steps(schedule, plan.model.tokens);
      if (!result.complete)
        result.warnings.emplace_back(
            "the time budget ended the search; the counts are half learnt and brought to the budget");
    } else {
      result.steps = steps_of(options.method, plan, options);
    }
    const std::int64_t cost = plan.cost.total(result.steps);
    if (cost > budget)
      fail(
          "{} of the multiply-accumulates cannot be reached by {}: {:.4f} is the least that its steps come "
          "to",
          options.share, token_method_name(options.method),
          static_cast<double>(cost) / static_cast<double>(plan.cost.dense));
  }
  Compressed compressed = compress_tokens(
      plan.prepared, plan.model, result.steps,
      {.sizes = options.sizes, .class_rows = options.class_rows, .own_mass = options.own_mass});
  result.graph = std::move(compressed.graph);
  result.own_mass = options.own_mass;
  result.tokens = std::move(compressed.tokens);
  result.schedule = schedule_of(result.steps, plan.model.tokens);
  result.macs = plan.cost.total(result.steps);
  if (options.own_mass > 0)
    result.notes.emplace_back(
        "images keep counts of their own; those of the schedule, and its cost, are the most");
  for (const std::string& text : plan.model.aside) result.notes.push_back("left alone: " + text);
  if (options.fine_tune_epochs > 0 && result.complete) {
    if (!data) fail("fine-tuning needs images");
    double left = 0;
    if (options.train.time_budget > 0)
      left = std::max(1e-3, options.train.time_budget - seconds_since(start));
    fine_tune(plan, data, options, left, progress, result);
    if (!result.complete)
      result.warnings.emplace_back("the time budget ended fine-tuning; --resume goes on with it");
  }
  return result;
}

}  // namespace lithe
