#include "lithe/train/train.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "lithe/base/clock.h"
#include "lithe/base/error.h"
#include "lithe/base/random.h"
#include "lithe/data/loader.h"
#include "lithe/metrics/evaluate.h"
#include "lithe/ops/registry.h"
#include "lithe/train/agreement.h"
#include "lithe/train/averages.h"
#include "lithe/train/batch_size.h"
#include "lithe/train/checkpoint.h"
#include "lithe/train/diagnose.h"
#include "lithe/train/objective.h"
#include "lithe/train/optimiser.h"
#include "lithe/train/recipe.h"
#include "lithe/train/samples.h"
#include "lithe/train/snapshot.h"
#include "lithe/train/split.h"

namespace lithe {
namespace {

using nlohmann::json;

constexpr std::uint64_t kOrder = 0x6f726400, kNoise = 0x6e6f6900;
constexpr std::int64_t kFirstSteps = 20;  // whose mean loss divergence is judged by
constexpr std::int64_t kWholeImages = 4;  // evaluated at a time, which may be far larger than patches
constexpr double kRecent = 0.9;           // share of the past in the running mean of the loss
constexpr double kAverageWarmup = 10;     // steps, for the average of the weights

bool draws_numbers(const Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const Node& node) {
    return node.is("Dropout") || node.is("Bernoulli") || node.op_type.starts_with("Random");
  });
}

/// Puts the constants back when it ends, also where an evaluation was interrupted: what is scored may differ
/// from what is trained.
class Detour {
 public:
  Detour(Executor& executor, std::set<std::string> learnt)
      : executor_(executor), before_(executor), learnt_(std::move(learnt)) {}
  Detour(const Detour&) = delete;
  Detour& operator=(const Detour&) = delete;
  ~Detour() {
    executor_.set_training(true);
    before_.restore(executor_, learnt_);
  }

 private:
  Executor& executor_;
  Snapshot before_;
  std::set<std::string> learnt_;
};

/// Sums over the steps of an epoch so far; of this process.
struct EpochSums {
  double loss = 0, right = 0, seconds = 0;
  std::int64_t steps = 0;
};

class Trainer {
 public:
  Trainer(const Graph& graph, const DatasetPtr& data, const TrainOptions& options, Progress& progress,
          TrainHooks* hooks)
      : graph_(graph),
        options_(options),
        progress_(progress),
        hooks_(hooks ? hooks : &no_hooks_),
        agreement_(options.collective, options.device) {
    check_options(options);
    if (graph.outputs.empty()) fail("the model '{}' has no output to train", graph.name);
    output_ = graph.outputs[0].name;
    if (options.collective) {
      processes_ = options.collective->size();
      rank_ = options.collective->rank();
    }
    graph_.sort();
    agreement_.together([&] {
      prepare_data(data);
      std::vector<std::int64_t> order(static_cast<std::size_t>(data_->size()));
      std::iota(order.begin(), order.end(), std::int64_t{0});
      objective_.emplace(graph_, *hooks_->epoch_data(data_, order, 0), options_);
      random_ = draws_numbers(graph_);
    });
    prepare_model();
  }

  TrainResult run() {
    const auto start = Clock::now();
    agreement_.together([&] { resume(); });
    agreement_.require_equal(epoch_ * steps_ + step_, "the step to go on from");
    load_best();
    hooks_->before_training(executor());
    progress_.start("train", options_.epochs * steps_);
    if (const std::int64_t done = epoch_ * steps_ + step_; done > 0) progress_.skip(done);
    bool complete = true;
    try {
      while (complete && epoch_ < options_.epochs) complete = run_epoch(start);
    } catch (const Interrupted&) {
      save("interrupted");
      throw;
    }
    if (!complete) save("the time is up");
    progress_.finish();
    return result(complete, seconds_since(start));
  }

 private:
  // --- before the first step ------------------------------------------------------------------------------

  void note(const std::string& text) {
    notes_.push_back(text);
    if (options_.on_note && rank_ == 0) options_.on_note(text);
  }

  void prepare_data(const DatasetPtr& data) {
    Split split = split_data(data, options_);
    std::int64_t memory = options_.memory_bytes;  // of both together
    const auto keep = [&](DatasetPtr samples) {
      return keep_in_memory(std::move(samples), options_.preprocess, memory, options_.threads);
    };
    data_ = keep(std::move(split.training));
    if (split.validation) validation_ = keep(std::move(split.validation));

    batch_ = options_.batch;
    if (const std::int64_t fixed = fixed_batch(graph_); fixed > 0 && fixed != batch_)
      fail(
          "the model '{}' takes batches of exactly {}, not {}; give --batch {}, or a model with a free batch "
          "size",
          graph_.name, fixed, batch_, fixed);
    if (data_->size() < batch_ * processes_) {
      batch_ = data_->size() / processes_;
      if (batch_ < 1)
        fail("{} training samples are fewer than the {} processes; give more data", data_->size(),
             processes_);
      note(fmt::format("the {} training samples do not fill a batch of {}; trained in batches of {}",
                       data_->size(), options_.batch * processes_, batch_ * processes_));
    }
    steps_ = data_->size() / (batch_ * processes_);
  }

  void prepare_model() {
    ExecutorOptions how{.device = options_.device, .training = true, .collective = options_.collective};
    executor_.emplace(graph_, how);
    std::vector<Trainable> trainables = trainable_constants(graph_);
    const std::set<std::string> frozen(options_.frozen.begin(), options_.frozen.end());
    std::erase_if(trainables, [&](const Trainable& one) { return frozen.contains(one.name); });
    for (const std::string& name : options_.also_learn) {
      const bool known = std::any_of(trainables.begin(), trainables.end(),
                                     [&](const Trainable& one) { return one.name == name; });
      const at::Tensor value = executor().constant(name);
      if (!value.is_floating_point()) fail("the constant '{}' is not floating-point and cannot learn", name);
      if (!known)
        trainables.push_back({name, value.dim() > 1 ? TrainableKind::Weight : TrainableKind::Bias, -1});
    }
    if (trainables.empty()) fail("the model '{}' has no constants that could learn", graph_.name);
    std::vector<Parameter> parameters;
    for (const Trainable& one : trainables) {
      at::Tensor value = executor().constant(one.name).clone(at::MemoryFormat::Contiguous);
      if (options_.collective) options_.collective->broadcast(value);
      executor().set_constant(one.name, value.set_requires_grad(true));
      parameters.push_back({one.name, value, options_.decay_all || one.decays(), group_of(one.name)});
      names_.push_back(one.name);
    }
    for (const ParameterGroup& group : options_.groups)
      for (const std::string& name : group.names)
        if (std::find(names_.begin(), names_.end(), name) == names_.end())
          fail("'{}' has a step of its own but does not learn", name);
    statistics_ = running_statistics(graph_);
    optimiser_.emplace(std::move(parameters), options_);
    if (options_.ema_decay > 0)
      for (const std::string& name : averaged_names())
        average_[name] = executor().constant(name).detach().clone();
  }

  /// Which of the groups holds the constant; -1: none.
  int group_of(const std::string& name) const {
    for (std::size_t i = 0; i < options_.groups.size(); ++i) {
      const auto& names = options_.groups[i].names;
      if (std::find(names.begin(), names.end(), name) != names.end()) return static_cast<int>(i);
    }
    return -1;
  }

  std::vector<std::string> averaged_names() const {
    std::vector<std::string> names = names_;
    names.insert(names.end(), statistics_.begin(), statistics_.end());
    return names;
  }

  json recipe() const {
    TrainOptions options = options_;
    options.batch = batch_;
    json recipe = recipe_json(options, data_->size(), processes_, names_, hooks_->recipe());
    recipe["validation_samples"] = validation_ ? validation_->size() : 0;
    return recipe;
  }

  void resume() {
    if (!options_.resume || options_.checkpoints.empty()) return;
    const auto checkpoint =
        load_checkpoint(options_.checkpoints, [this](const std::string& text) { note(text); });
    if (!checkpoint) {
      note(fmt::format("{}: no checkpoint to resume from; training starts afresh",
                       options_.checkpoints.string()));
      return;
    }
    try {
      go_on_from(*checkpoint);
    } catch (const json::exception& error) {
      fail("{}: the checkpoint lacks what training needs to go on ({}); leave --resume out to start afresh",
           options_.checkpoints.string(), error.what());
    }
  }

  void go_on_from(const Checkpoint& checkpoint) {
    const json& progress = checkpoint.progress;
    require_same_recipe(progress.at("recipe"), recipe(), options_.checkpoints);
    epoch_ = progress.at("epoch");
    step_ = progress.at("step");
    if (epoch_ < 0 || epoch_ > options_.epochs || step_ < 0 || step_ > steps_ ||
        (epoch_ == options_.epochs && step_ > 0))
      fail("{}: the checkpoint stands at epoch {}, step {}, of {} epochs of {} steps; leave --resume out",
           options_.checkpoints.string(), epoch_, step_, options_.epochs, steps_);
    sums_ = {.loss = progress.at("loss_sum"),
             .right = progress.at("right_sum"),
             .seconds = progress.at("seconds"),
             .steps = progress.at("summed_steps")};
    first_loss_ = progress.at("first_loss");
    recent_loss_ = progress.at("recent_loss");
    best_epoch_ = progress.at("best_epoch");
    for (const json& record : progress.at("history")) history_.push_back(epoch_record_from_json(record));
    if (std::ssize(history_) != epoch_ || best_epoch_ < 0 || best_epoch_ > epoch_ || sums_.steps < 0 ||
        sums_.steps > steps_)
      fail("{}: the checkpoint's numbers contradict each other; leave --resume out to start afresh",
           options_.checkpoints.string());
    if (best_epoch_ > 0) best_score_ = progress.at("best_score").get<std::pair<double, double>>();
    load_constants(checkpoint.constants);
    optimiser_->load_state(checkpoint.optimiser);
    for (auto& [name, value] : average_) {
      const auto found = checkpoint.average.find(name);
      if (found == checkpoint.average.end() || found->second.sizes() != value.sizes() ||
          found->second.scalar_type() != value.scalar_type())
        fail("{}: the checkpoint lacks a fitting average of '{}'", options_.checkpoints.string(), name);
      value = found->second.to(options_.device);
    }
    hooks_->load_state(checkpoint.hooks);
  }

  void load_constants(const NamedTensors& constants) {
    const at::NoGradGuard no_grad;
    const std::set<std::string> learnt(names_.begin(), names_.end());
    for (const auto& [name, data] : constants) {
      const at::Tensor value = to_tensor(data).to(options_.device);
      const at::Tensor now = executor().constant(name);
      if (value.sizes() != now.sizes() || value.scalar_type() != now.scalar_type())
        fail("{}: the checkpoint's '{}' does not fit the model", options_.checkpoints.string(), name);
      if (learnt.contains(name))
        now.detach().copy_(value);
      else
        executor().set_constant(name, value.clone());
    }
  }

  /// The best weights lie in a file of their own, which may be newer than the checkpoint, or lost.
  void load_best() {
    if (best_epoch_ == 0) return;
    const auto path = options_.checkpoints / "best.safetensors";
    std::string problem;
    try {
      const auto [constants, record] = read_checked(path);
      if (record.value("epoch", std::int64_t{0}) != best_epoch_)
        fail("{} is not of epoch {}, the best one of the checkpoint", path.string(), best_epoch_);
      best_ = graph_;
      apply_constants(*best_, constants);
    } catch (const std::exception& error) {
      problem = error.what();
    }
    if (!agreement_.any(!problem.empty())) return;
    note(fmt::format("{}; the best weights so far are lost",
                     problem.empty() ? "another process cannot read its best weights" : problem));
    best_.reset();
    best_epoch_ = 0;
  }

  // --- training -------------------------------------------------------------------------------------------

  /// Returns false if the time is up.
  bool run_epoch(Clock::time_point start) {
    if (step_ < steps_) {
      const std::vector<std::int64_t> order = own_order();
      const DatasetPtr samples = augmented(data_, order,
                                           {.augmentation = options_.augmentation,
                                            .preprocess = options_.preprocess,
                                            .seed = options_.seed,
                                            .epoch = epoch_});
      Loader loader(hooks_->epoch_data(samples, order, epoch_),
                    {.batch = batch_, .threads = std::max(1, options_.threads)});
      Batch batch;
      while (step_ < steps_) {
        const auto step_start = Clock::now();
        agreement_.together([&] { load(loader, batch); });
        const bool out_of_time = options_.time_budget > 0 && seconds_since(start) >= options_.time_budget;
        const bool stop = run_step(batch, out_of_time);
        const double seconds = seconds_since(step_start);
        sums_.seconds += seconds;
        if (steps_done_++ > 0) timed_seconds_ += seconds;
        ++step_;
        hooks_->after_step(executor(), epoch_, step_ - 1);
        if (stop && step_ + epoch_ * steps_ < options_.epochs * steps_) {
          if (stop_requested_) throw Interrupted{};
          return false;
        }
        advance();
      }
    }
    finish_epoch();
    return true;
  }

  void load(Loader& loader, Batch& batch) {
    if (!loader.next(batch)) fail("the data ended in epoch {}, step {}", epoch_ + 1, step_ + 1);
    if (batch.size() != batch_)
      fail("{}: the samples differ in shape from here on; resize them (--resize, --crop) or give a --patch",
           batch.names.back());
  }

  void advance() {
    const std::string text =
        fmt::format("epoch {}/{}, loss {:.4f}", epoch_ + 1, options_.epochs, recent_loss_);
    if (processes_ == 1) return progress_.advance(1, text);
    // Processes hear of Ctrl-C in different steps; they agree on the one to stop after.
    try {
      progress_.advance(1, text);
    } catch (const Interrupted&) {
      interrupted_here_ = true;
    }
  }

  std::vector<std::int64_t> own_order() const {
    const auto order =
        Rng(seed_for(options_.seed, kOrder), static_cast<std::uint64_t>(epoch_)).permutation(data_->size());
    std::vector<std::int64_t> own;
    for (std::int64_t step = step_; step < steps_; ++step)
      for (std::int64_t i = 0; i < batch_; ++i)
        own.push_back(order[static_cast<std::size_t>((step * processes_ + rank_) * batch_ + i)]);
    return own;
  }

  /// Returns whether this step is the last for now.
  bool run_step(const Batch& batch, bool out_of_time) {
    hooks_->before_step(executor(), epoch_, step_);
    const std::int64_t done = epoch_ * steps_ + step_;
    if (random_)
      at::manual_seed(
          seed_for(options_.seed, kNoise + static_cast<std::uint64_t>(done * processes_ + rank_)));
    const Feeds feeds = feeds_of(batch);
    step_outputs_ = hooks_->step_outputs(epoch_, step_);
    const Feeds y = forward(feeds, step_outputs_.empty() ? std::vector{output_} : step_outputs_);
    Objective::Value aim;
    agreement_.together([&] { aim = aim_of(y, batch, feeds); });
    double value = aim.loss.item<double>();
    check_loss(value, feeds);
    aim.loss.backward();
    double rights = aim.right.defined() ? aim.right.item<double>() : 0;
    double stops = out_of_time, interrupts = interrupted_here_;
    if (options_.collective && processes_ > 1) share(value, rights, stops, interrupts);
    hooks_->after_gradients(executor(), epoch_, step_);
    clip(feeds);
    optimiser_->step(learning_rate(options_, done, steps_));
    update_average(done);
    sums_.loss += value;
    sums_.right += rights;
    ++sums_.steps;
    watch_divergence(value, done);
    stop_requested_ = interrupts > 0;
    return stops > 0 || interrupts > 0;
  }

  Feeds feeds_of(const Batch& batch) const {
    Feeds feeds = bind_inputs(graph_, batch.inputs);
    for (auto& [name, value] : feeds) value = value.to(options_.device);
    return feeds;
  }

  Objective::Value aim_of(const Feeds& y, const Batch& batch, const Feeds& feeds) {
    const at::Tensor& first = y.begin()->second;
    guess_ =
        objective_->image_targets() || first.dim() < 2 ? 0 : std::log(static_cast<double>(first.size(1)));
    if (step_outputs_.empty()) return (*objective_)(y.at(output_), batch, feeds);
    Objective::Value aim;
    aim.loss = hooks_->step_loss(y, [&](const at::Tensor& one) {
      Objective::Value value = (*objective_)(one, batch, feeds);
      if (!aim.right.defined()) aim.right = value.right;
      return value.loss;
    });
    return aim;
  }

  Feeds forward(const Feeds& feeds, const std::vector<std::string>& outputs) {
    try {
      return executor().run(feeds, outputs);
    } catch (const std::exception&) {
      require_free_batch(graph_, feeds, options_.device);
      throw;
    }
  }

  /// Averages gradients and loss over the processes, and adds up the rest.
  void share(double& loss, double& rights, double& stops, double& interrupts) {
    average_gradients(*options_.collective, optimiser_->parameters());
    const auto sums = sum_numbers(*options_.collective, {loss, rights, stops, interrupts}, options_.device);
    loss = sums[0] / static_cast<double>(processes_);
    rights = sums[1];
    stops = sums[2];
    interrupts = sums[3];
  }

  [[noreturn]] void fail_at_step(const std::string& what, const Feeds& feeds) {
    fail("{} in epoch {}, step {}: {}; lower the learning rate ({}) or clip gradients", what, epoch_ + 1,
         step_ + 1, describe_non_finite(executor(), feeds, fetched(), optimiser_->parameters()),
         options_.learning_rate);
  }

  std::vector<std::string> fetched() const {
    return step_outputs_.empty() ? std::vector{output_} : step_outputs_;
  }

  /// Before any process goes backwards, where batch norms meet.
  void check_loss(double value, const Feeds& feeds) {
    if (!agreement_.any(!std::isfinite(value))) return;
    if (!std::isfinite(value)) fail_at_step(fmt::format("the loss is {}", value), feeds);
    // To find the tensor, the other one runs the model again, and its batch norms meet this one's.
    describe_non_finite(executor(), feeds, fetched(), optimiser_->parameters());
    fail_system("the loss of another process is not finite in epoch {}, step {}; see its message", epoch_ + 1,
                step_ + 1);
  }

  void clip(const Feeds& feeds) {
    const double norm = gradient_norm(optimiser_->parameters());
    if (!std::isfinite(norm)) fail_at_step("a gradient is not finite", feeds);
    if (options_.clip_norm == 0 || norm <= options_.clip_norm) return;
    const at::NoGradGuard no_grad;
    for (const Parameter& one : optimiser_->parameters())
      if (at::Tensor gradient = one.tensor.grad(); gradient.defined())
        gradient.mul_(options_.clip_norm / norm);
  }

  void update_average(std::int64_t done) {
    if (average_.empty()) return;
    const at::NoGradGuard no_grad;
    const double steps = static_cast<double>(done);
    const double decay = std::min(options_.ema_decay, (1 + steps) / (kAverageWarmup + steps));
    for (auto& [name, value] : average_)
      value.mul_(decay).add_(executor().constant(name).detach(), 1 - decay);
  }

  void watch_divergence(double loss, std::int64_t done) {
    if (done < kFirstSteps) first_loss_ += (loss - first_loss_) / static_cast<double>(done + 1);
    recent_loss_ = done == 0 ? loss : kRecent * recent_loss_ + (1 - kRecent) * loss;
    if (options_.divergence_factor == 0 || done < kFirstSteps) return;
    // A trained network starts with a loss near 0, and may do worse for a while as it is changed: worse than
    // guessing it must not become.
    if (recent_loss_ > options_.divergence_factor * std::max({first_loss_, guess_, 1e-12}))
      fail(
          "training diverges: in epoch {}, step {} the mean loss of the last steps is {:.4g}, that of the "
          "first ones "
          "was {:.4g}; lower the learning rate ({}), give it a warm-up, or clip gradients",
          epoch_ + 1, step_ + 1, recent_loss_, first_loss_, options_.learning_rate);
  }

  // --- between epochs -------------------------------------------------------------------------------------

  void finish_epoch() {
    const double samples = static_cast<double>(sums_.steps * batch_ * processes_);
    EpochRecord record{.epoch = epoch_ + 1,
                       .learning_rate = learning_rate(options_, epoch_ * steps_ + steps_ - 1, steps_),
                       .loss = sums_.loss / static_cast<double>(sums_.steps),
                       .seconds = sums_.seconds,
                       .images_per_second = samples / std::max(sums_.seconds, 1e-9)};
    if (!objective_->image_targets()) record.train_top1 = sums_.right / samples;
    const bool last = epoch_ + 1 == options_.epochs;
    if (validation_ && ((epoch_ + 1) % options_.evaluate_every == 0 || last)) score(record);
    record.extra.merge(hooks_->epoch_numbers(executor(), epoch_));  // behind all that may be interrupted
    history_.push_back(record);
    ++epoch_;
    step_ = 0;
    sums_ = {};
    if (epoch_ % options_.checkpoint_every == 0 || last) save("");
    if (options_.on_epoch && rank_ == 0) options_.on_epoch(record);
  }

  void score(EpochRecord& record) {
    const at::NoGradGuard no_grad;
    const Detour detour(executor(), {names_.begin(), names_.end()});
    for (const auto& [name, value] : average_)
      if (std::find(names_.begin(), names_.end(), name) != names_.end())
        executor().constant(name).detach().copy_(value);
      else
        executor().set_constant(name, value.clone());
    hooks_->before_evaluation(executor(), data_);
    // What the executor prepared for evaluation is out of date: learnable constants change in place.
    executor().set_constant(names_[0], executor().constant(names_[0]));
    executor().set_training(false);
    score_outputs(record);
    const double quality = record.validation_top1   ? *record.validation_top1
                           : record.validation_psnr ? *record.validation_psnr
                                                    : 0;
    const std::pair<double, double> score{quality, -record.validation_loss.value_or(0)};
    if (best_epoch_ == 0 || score > best_score_) {
      best_score_ = score;
      best_epoch_ = record.epoch;
      const NamedTensors constants = changed_constants(graph_, executor());
      best_ = graph_;
      apply_constants(*best_, constants);
      agreement_.together([&] {
        if (options_.checkpoints.empty() || rank_ != 0) return;
        create_folder();
        write_checked(options_.checkpoints / "best.safetensors", constants, to_json(record));
      });
    }
  }

  /// The loss on the samples held out.
  Evaluation squared_differences(const std::string& output) {
    Evaluation result;
    double sum = 0;
    Loader loader(validation_, {.batch = batch_, .threads = std::max(1, options_.threads)});
    for (Batch batch; loader.next(batch);) {
      const Feeds feeds = feeds_of(batch);
      const at::Tensor y = executor().run(feeds, {output}).at(output);
      sum += (*objective_)(y, batch, feeds).loss.item<double>() * static_cast<double>(batch.size());
      result.n += batch.size();
    }
    result.loss = sum / static_cast<double>(result.n);
    return result;
  }

  Evaluation score_output(const std::string& output) {
    Evaluation result;
    bool stopped = false;
    agreement_.together([&] {
      try {
        result =
            objective_->squared()
                ? squared_differences(output)
                : evaluate(graph_, [&](const Feeds& feeds) { return executor().run(feeds, {output}); },
                           validation_,
                           {.batch = objective_->image_targets() ? std::min(batch_, kWholeImages) : batch_,
                            .threads = options_.threads,
                            .output = output,
                            .preprocess = options_.preprocess});
      } catch (const Interrupted&) {
        stopped = true;
      }
    });
    if (agreement_.any(stopped)) throw Interrupted{};  // all processes together, which then save
    if (processes_ > 1) average_scores(*options_.collective, result, options_.device);
    return result;
  }

  /// Fills in the means over the outputs that are scored.
  void score_outputs(EpochRecord& record) {
    std::vector<std::string> outputs = hooks_->scored_outputs();
    if (outputs.empty()) outputs = {output_};
    const auto take = [&](const char* name, const std::string& output, const std::optional<double>& value,
                          std::optional<double>& mean) {
      if (!value) return;
      mean = mean.value_or(0) + *value / static_cast<double>(outputs.size());
      if (outputs.size() > 1) record.extra[fmt::format("{} {}", name, output)] = *value;
    };
    for (const std::string& output : outputs) {
      const Evaluation result = score_output(output);
      take("loss", output, result.loss, record.validation_loss);
      take("top1", output, result.top1, record.validation_top1);
      take("psnr", output, result.psnr_y ? result.psnr_y : result.psnr_rgb, record.validation_psnr);
    }
  }

  void create_folder() const {
    std::error_code error;
    std::filesystem::create_directories(options_.checkpoints, error);
    if (error)
      fail("{}: cannot create the folder for checkpoints: {}", options_.checkpoints.string(),
           error.message());
  }

  void write_checkpoint() {
    json history = json::array();
    for (const EpochRecord& record : history_) history.push_back(to_json(record));
    save_checkpoint(options_.checkpoints, {.constants = changed_constants(graph_, executor()),
                                           .optimiser = optimiser_->state(),
                                           .average = average_,
                                           .hooks = hooks_->state(),
                                           .progress = {{"recipe", recipe()},
                                                        {"epoch", epoch_},
                                                        {"step", step_},
                                                        {"loss_sum", sums_.loss},
                                                        {"right_sum", sums_.right},
                                                        {"seconds", sums_.seconds},
                                                        {"summed_steps", sums_.steps},
                                                        {"first_loss", first_loss_},
                                                        {"recent_loss", recent_loss_},
                                                        {"best_epoch", best_epoch_},
                                                        {"best_score", best_score_},
                                                        {"history", history}}});
  }

  void save(const std::string& reason) {
    if (options_.checkpoints.empty()) return;
    agreement_.together([&] {
      if (rank_ == 0) write_checkpoint();
    });
    if (!reason.empty())
      note(fmt::format("{} in epoch {} after {} of {} steps; {} holds the state, --resume goes on from there",
                       reason, epoch_ + 1, step_, steps_,
                       (options_.checkpoints / "last.safetensors").string()));
  }

  TrainResult result(bool complete, double seconds) {
    TrainResult out{.last = graph_,
                    .best = {},
                    .best_epoch = best_epoch_,
                    .history = history_,
                    .notes = notes_,
                    .complete = complete,
                    .seconds = seconds};
    executor().store_constants(out.last);
    if (best_) {
      out.best = *best_;
    } else {
      const at::NoGradGuard no_grad;
      out.best = out.last;
      for (const auto& [name, value] : average_) apply_constants(out.best, {{name, to_tensor_data(value)}});
    }
    if (timed_seconds_ > 0)
      out.images_per_second = static_cast<double>((steps_done_ - 1) * batch_ * processes_) / timed_seconds_;
    return out;
  }

  Executor& executor() { return *executor_; }

  TrainHooks no_hooks_;
  Graph graph_;
  TrainOptions options_;
  Progress& progress_;
  TrainHooks* hooks_;
  Agreement agreement_;
  std::optional<Objective> objective_;
  std::string output_;
  DatasetPtr data_, validation_;  // the latter: this process's share
  std::int64_t batch_ = 0, steps_ = 0, processes_ = 1, rank_ = 0;
  bool random_ = false;

  std::optional<Executor> executor_;
  std::vector<std::string> names_, statistics_;  // what learns, and what follows the data
  std::vector<std::string> step_outputs_;        // of this step; none: the first output
  std::optional<Optimiser> optimiser_;
  std::map<std::string, at::Tensor> average_;

  std::int64_t epoch_ = 0, step_ = 0;  // the next to be done
  EpochSums sums_;
  double first_loss_ = 0, recent_loss_ = 0;
  double guess_ = 0;  // the loss of equal probabilities; 0 where the loss is another
  bool stop_requested_ = false, interrupted_here_ = false;
  std::int64_t steps_done_ = 0;  // in this call
  double timed_seconds_ = 0;     // of all of them but the first
  std::vector<EpochRecord> history_;
  std::vector<std::string> notes_;
  std::optional<Graph> best_;
  std::int64_t best_epoch_ = 0;
  std::pair<double, double> best_score_{0, 0};
};

}  // namespace

TrainResult train(const Graph& graph, const DatasetPtr& data, const TrainOptions& options, Progress& progress,
                  TrainHooks* hooks) {
  return Trainer(graph, data, options, progress, hooks).run();
}

}  // namespace lithe
