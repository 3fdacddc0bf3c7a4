#include "lithe/tokens/tokens.h"

#include <algorithm>
#include <cmath>

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
  if (train.learning_rate <= 0) {
    constexpr double kTravel = 15;  // of a logit, whose steps are at most the learning rate
    const double steps =
        static_cast<double>(train.epochs) *
        std::max(1.0, std::floor(static_cast<double>(samples) / static_cast<double>(train.batch)));
    train.learning_rate = std::clamp(kTravel / steps, 0.01, 0.1);
  }
  return train;
}

/// What each block's tokens are worth: the growth of the loss for a multiply-accumulate less, measured by
/// taking a few.
std::vector<double> harm_of(const TokensPlan& plan, const TokenSchedule& schedule, const DatasetPtr& data,
                            const TokensOptions& options, Progress& progress) {
  const at::NoGradGuard no_grad;
  DatasetPtr samples = seeded_subset(data, options.repair_samples, options.seed);
  if (!samples->labelled())
    samples =
        labelled_by(plan.prepared, samples, options.train.batch, options.train.threads, options.train.device);
  const auto loss = [&](const TokenSchedule& one) {
    const Compressed compressed =
        compress_tokens(plan.prepared, plan.model, reduce_steps(one, plan.model.tokens),
                        {.sizes = options.sizes, .class_rows = options.class_rows});
    Executor executor(compressed.graph, {.device = options.train.device});
    return evaluate(executor, samples, {.batch = options.train.batch, .threads = options.train.threads})
        .loss.value_or(0);
  };
  const std::size_t blocks = schedule.blocks();
  progress.start("harm of blocks", static_cast<std::int64_t>(plan.limits.end - plan.limits.first) + 1);
  const double before = loss(schedule);
  progress.advance();
  const auto cost = static_cast<double>(plan.cost.total(schedule));
  std::vector<double> harm(blocks, 0);
  for (std::size_t l = plan.limits.first; l < plan.limits.end; ++l) {
    TokenSchedule less = schedule;
    const std::int64_t few = std::max<std::int64_t>(1, (schedule.merge[l] - plan.model.specials) / 8);
    less.merge[l] = std::max(plan.limits.least, less.merge[l] - few);
    less.prune[l] = std::max(less.merge[l], less.prune[l] - few);
    less = effective(less, plan.model.tokens);
    const double saved = cost - static_cast<double>(plan.cost.total(less));
    harm[l] = saved > 0 ? (loss(less) - before) / saved : std::numeric_limits<double>::infinity();
    progress.advance();
  }
  progress.finish();
  return harm;
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
  }
  return schedule;
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
  result.notes = std::move(rates.notes);
  result.complete = rates.complete;
  result.learnt = rates.schedule;
  return rates.schedule;
}

void fine_tune(const TokensPlan& plan, const DatasetPtr& data, const TokensOptions& options,
               Progress& progress, TokensResult& result) {
  TrainOptions train = options.fine_tune;
  train.epochs = options.fine_tune_epochs;
  train.batch = std::min(train.batch, data->size());
  train.seed = options.seed;
  train.threads = options.train.threads;
  train.device = options.train.device;
  train.preprocess = options.train.preprocess;
  train.on_epoch = options.train.on_epoch;
  DatasetPtr samples = data;
  if (!data->labelled()) {
    samples = labelled_by(plan.prepared, data, train.batch, train.threads, train.device);
    train.distillation = {.teacher = std::make_shared<Graph>(plan.prepared), .temperature = 1, .weight = 1};
  } else {
    train.distillation = {.teacher = std::make_shared<Graph>(plan.prepared), .temperature = 1, .weight = 0.5};
  }
  TrainResult trained = lithe::train(result.graph, samples, train, progress);
  result.graph = std::move(trained.last);
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

TokensPlan plan_tokens(const Graph& model, const TokensOptions& options) {
  TokensPlan plan{.prepared = prepare_tokens(model)};
  plan.model = find_attention(plan.prepared);
  if (options.class_rows && plan.model.tail != TokenTail::Specials)
    fail(
        "only models that read special tokens alone can do without the other rows of the last block; this "
        "one takes the "
        "mean over its tokens");
  plan.cost = token_cost(plan.prepared, plan.model, options.class_rows);
  plan.limits = token_limits(plan.model, options.class_rows, options.first_block);
  plan.range = reachable(plan.cost, plan.limits, options.kind);
  return plan;
}

std::vector<TokenStep> steps_of(TokenMethod method, const TokensPlan& plan, const TokensOptions& options) {
  const std::int64_t budget = budget_of(plan, options);
  switch (method) {
    case TokenMethod::Tome:
      return tome_steps(plan.cost, plan.limits, budget);
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
  TokensResult result;
  const TokensPlan plan = plan_tokens(model, options);
  result.model = plan.model;
  result.cost = plan.cost;
  result.macs_before = plan.cost.dense;
  const std::int64_t budget = budget_of(plan, options);
  if (options.schedule) {
    if (check_schedule(*options.schedule, plan.model.blocks.size(), plan.model.tokens, plan.model.specials))
      result.notes.emplace_back(
          "counts of the schedule grow from a block to the next; running minima are taken");
    TokenSchedule schedule = effective(*options.schedule, plan.model.tokens);
    if (options.class_rows)
      schedule.prune.back() = schedule.merge.back() =
          schedule.blocks() > 1 ? schedule.merge[schedule.blocks() - 2] : plan.model.tokens;
    result.steps = reduce_steps(schedule, plan.model.tokens);
  } else {
    if (!(options.share > 0 && options.share <= 1))
      fail("the share of multiply-accumulates must be above 0 and at most 1, not {}", options.share);
    check_reachable(options.share, plan.range);
    if (options.method == TokenMethod::DiffRate) {
      if (!data) fail("token counts are learnt from images; give some hundred to some thousand");
      TokenSchedule schedule = learn(plan, data, options, progress, result);
      const std::int64_t reached = plan.cost.total(schedule);
      std::vector<double> harm;
      if (reached > budget || static_cast<double>(reached) < 0.995 * static_cast<double>(budget))
        harm = harm_of(plan, schedule, data, options, progress);
      schedule = repair_schedule(schedule, plan.cost, plan.limits, budget, harm);
      result.steps = reduce_steps(schedule, plan.model.tokens);
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
  Compressed compressed = compress_tokens(plan.prepared, plan.model, result.steps,
                                          {.sizes = options.sizes, .class_rows = options.class_rows});
  result.graph = std::move(compressed.graph);
  result.tokens = std::move(compressed.tokens);
  result.schedule = schedule_of(result.steps, plan.model.tokens);
  result.macs = plan.cost.total(result.steps);
  for (const std::string& text : plan.model.aside) result.notes.push_back("left alone: " + text);
  if (options.fine_tune_epochs > 0) {
    if (!data) fail("fine-tuning needs images");
    fine_tune(plan, data, options, progress, result);
  }
  return result;
}

}  // namespace lithe
