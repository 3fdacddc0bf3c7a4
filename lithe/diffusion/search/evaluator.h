// Scores candidates over threads and processes, and remembers every score in a file.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "lithe/base/progress.h"
#include "lithe/diffusion/search/candidate.h"
#include "lithe/engine/threads.h"
#include "lithe/ops/collective.h"

namespace lithe {

/// What a search minimises. Depends on its arguments alone, not on the order of calls, so that results do not
/// depend on the number of workers. One object serves one thread.
class Fitness {
 public:
  virtual ~Fitness() = default;
  /// Lower is better; infinite where what the schedule makes is not finite. The candidate ascends strictly.
  /// `images` is how many samples are judged, `stream` names their noise.
  virtual double operator()(const Candidate& candidate, std::int64_t images, std::uint64_t stream) = 0;
};

struct EvaluatorOptions {
  std::function<std::unique_ptr<Fitness>()> make_fitness;  // called once a thread
  /// Network calls that one image costs; for accounts of what a search spent.
  std::function<double(const Candidate&)> calls = [](const Candidate& one) {
    return static_cast<double>(one.size());
  };
  int threads = 1;                   // workers, each of which computes on one thread
  Collective* collective = nullptr;  // other processes, which make the same calls; outlives the evaluator
  at::Device device = at::kCPU;      // of the tensors through which they talk: the GPU for NCCL
  /// Append-only file of scores, one JSON object a line; "": none. Other processes need not see it.
  std::filesystem::path log;
  bool resume = false;      // take the scores that the file holds
  nlohmann::json identity;  // of the search: a file of another one is refused
};

struct EvaluationRequest {
  Candidate candidate;
  std::int64_t images = 0;
  std::uint64_t stream = 0;
  /// What `images` adds to an earlier request of the candidate, for the account of calls; 0: all of them.
  std::int64_t already = 0;
};

/// A candidate that was scored before with as many images of the same stream costs nothing again.
class Evaluator {
 public:
  /// Throws Error(Input) if the log is there and `resume` is not set, belongs to another search, is in use by
  /// another process, or cannot be written. A last line that was cut off by a crash is dropped.
  explicit Evaluator(EvaluatorOptions options);
  ~Evaluator();
  Evaluator(const Evaluator&) = delete;
  Evaluator& operator=(const Evaluator&) = delete;

  /// Scores in the order of the requests. Throws Interrupted after Ctrl-C, with what was scored in the log.
  std::vector<double> operator()(const std::vector<EvaluationRequest>& requests, Progress& progress);

  std::int64_t evaluations() const { return evaluations_; }  // without repetitions; those from the log count
  double calls() const { return calls_; }                    // of the network, likewise
  std::int64_t repeated() const { return repeated_; }        // answered from memory
  std::int64_t failed() const { return failed_; }            // with an infinite score

 private:
  using Key = std::tuple<std::string, std::int64_t, std::uint64_t>;
  class Log;
  class Workers;

  /// Scores those of the requests that this process owns and, with others, learns the rest from them.
  void score(const std::vector<EvaluationRequest>& requests, Progress& progress);
  void score_apart(const std::vector<EvaluationRequest>& requests, Progress& progress);
  void remember(const EvaluationRequest& request, double value);

  SerialBlas serial_;  // results must not depend on the number of threads
  EvaluatorOptions options_;
  std::unique_ptr<Log> log_;
  std::unique_ptr<Workers> workers_;
  std::map<Key, double> known_, logged_;
  std::map<std::string, std::int64_t, std::less<>> owners_;  // which process scored a candidate first
  std::int64_t evaluations_ = 0, repeated_ = 0, failed_ = 0;
  double calls_ = 0;
};

}  // namespace lithe
