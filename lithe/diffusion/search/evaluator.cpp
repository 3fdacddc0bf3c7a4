#include "lithe/diffusion/search/evaluator.h"

#include <ATen/Parallel.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <mutex>
#include <span>
#include <thread>
#include <utility>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/hash.h"
#include "lithe/base/json.h"
#include "lithe/train/agreement.h"

namespace lithe {
namespace {

using nlohmann::json;

constexpr int kSchema = 1;
constexpr std::uint64_t kMostLogBytes = std::uint64_t{1} << 30;
constexpr std::int64_t kRequestsAtOnce = 4;  // of each worker, between two meetings of processes

double from_json(const json& value) {
  return value.is_null() ? std::numeric_limits<double>::infinity() : value.get<double>();
}

/// The text of process 0, in every process.
std::string shared_text(Collective& collective, at::Device device, const std::string& text) {
  at::Tensor size = at::tensor({static_cast<std::int64_t>(text.size())}, at::kLong).to(device);
  collective.broadcast(size);
  at::Tensor bytes = at::zeros({size.item<std::int64_t>()}, at::kByte);
  if (collective.rank() == 0 && !text.empty()) std::memcpy(bytes.data_ptr(), text.data(), text.size());
  if (bytes.numel() > 0) {
    bytes = bytes.to(device);
    collective.broadcast(bytes);
    bytes = bytes.to(at::kCPU);
  }
  return {static_cast<const char*>(bytes.data_ptr()), static_cast<std::size_t>(bytes.numel())};
}

}  // namespace

/// The file, open and locked.
class Evaluator::Log {
 public:
  Log(const std::filesystem::path& path, bool resume, const json& identity) : path_(path) {
    descriptor_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (descriptor_ < 0)
      fail("{}: cannot open the log of evaluations: {}", path.string(), std::strerror(errno));
    try {
      if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0)
        fail("{}: another search is writing this log; give another file, or wait for it", path.string());
      begin(resume, identity);
    } catch (...) {
      ::close(descriptor_);
      throw;
    }
  }
  ~Log() { ::close(descriptor_); }
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;

  /// The complete lines behind the first.
  const std::string& text() const { return text_; }

  void append(const std::string& line) {
    const std::string whole = line + "\n";
    std::size_t done = 0;
    while (done < whole.size()) {
      const ssize_t written = ::write(descriptor_, whole.data() + done, whole.size() - done);
      if (written < 0 && errno == EINTR) continue;
      if (written < 0)
        fail_system("{}: cannot write the log of evaluations: {}", path_.string(), std::strerror(errno));
      done += static_cast<std::size_t>(written);
    }
  }

 private:
  void begin(bool resume, const json& identity) {
    std::string text = read_text_file(path_, kMostLogBytes);
    const std::string first = json{{"schema", kSchema}, {"search", identity}}.dump();
    if (text.empty()) return append(first);
    const std::size_t line = std::min(text.find('\n'), text.size());
    const std::string head = text.substr(0, line);
    const bool cut_off = line == text.size() && first.starts_with(head);  // while its first line was written
    if (!cut_off && head != first) fail("{}: {}", path_.string(), difference(head, identity));
    if (!resume && !cut_off)
      fail("{}: holds an earlier search; --resume goes on with it, or give another file", path_.string());
    text.resize(cut_off ? 0 : text.rfind('\n') + 1);
    if (::ftruncate(descriptor_, static_cast<off_t>(text.size())) != 0)
      fail_system("{}: cannot write the log of evaluations: {}", path_.string(), std::strerror(errno));
    if (cut_off) return append(first);
    text_ = text.substr(line + 1);
  }

  static std::string difference(const std::string& line, const json& identity) {
    const auto found = try_parse_json(line);
    if (!found || !found->is_object() || !found->contains("search") || !(*found)["search"].is_object())
      return "is no log of a search of schedules";
    const json& other = (*found)["search"];
    for (const auto& [name, value] : identity.items())
      if (!other.contains(name) || other[name] != value)
        return fmt::format("is of another search: '{}' is {} there and {} here; give another file", name,
                           other.contains(name) ? other[name].dump() : "nothing", value.dump());
    return "is of another search; give another file";
  }

  std::filesystem::path path_;
  int descriptor_ = -1;
  std::string text_;
};

/// Threads with a fitness each, for as long as the evaluator lives.
class Evaluator::Workers {
 public:
  Workers(const EvaluatorOptions& options, int count) {
    for (int i = 0; i < std::max(1, count); ++i) threads_.emplace_back([this, &options] { work(options); });
  }
  ~Workers() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  /// Calls `done` with (index, score) in the order of the requests, in the calling thread.
  template <typename Done>
  void run(const std::vector<EvaluationRequest>& requests, Done&& done) {
    {
      const std::lock_guard lock(mutex_);
      requests_ = &requests;
      scores_.assign(requests.size(), std::nullopt);
      next_ = 0;
      problem_ = nullptr;
    }
    wake_.notify_all();
    try {
      for (std::size_t i = 0; i < requests.size(); ++i) done(i, wait_for(i));
    } catch (...) {
      drain();
      throw;
    }
    drain();
  }

 private:
  double wait_for(std::size_t index) {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [&] { return scores_[index] || problem_; });
    if (!scores_[index]) std::rethrow_exception(problem_);
    return *scores_[index];
  }

  /// Hands out nothing more and waits for what is under way.
  void drain() {
    std::unique_lock lock(mutex_);
    if (requests_) next_ = requests_->size();
    ready_.wait(lock, [&] { return busy_ == 0; });
    requests_ = nullptr;
  }

  void work(const EvaluatorOptions& options) {
    at::set_num_threads(1);
    const at::NoGradGuard no_grad;
    std::unique_ptr<Fitness> fitness;
    std::unique_lock lock(mutex_);
    while (true) {
      wake_.wait(lock, [&] { return stop_ || (requests_ && next_ < requests_->size()); });
      if (stop_) return;
      const std::size_t index = next_++;
      const EvaluationRequest& request = (*requests_)[index];
      ++busy_;
      lock.unlock();
      double score = 0;
      std::exception_ptr problem;
      try {
        if (!fitness) fitness = options.make_fitness();
        score = (*fitness)(distinct(request.candidate), request.images, request.stream);
        if (std::isnan(score)) score = std::numeric_limits<double>::infinity();
      } catch (...) {
        problem = std::current_exception();
      }
      lock.lock();
      --busy_;
      if (problem) {
        problem_ = problem;
        next_ = requests_->size();
      } else {
        scores_[index] = score;
      }
      ready_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, ready_;
  const std::vector<EvaluationRequest>* requests_ = nullptr;
  std::vector<std::optional<double>> scores_;
  std::size_t next_ = 0;
  int busy_ = 0;
  bool stop_ = false;
  std::exception_ptr problem_;
  std::vector<std::thread> threads_;
};

Evaluator::Evaluator(EvaluatorOptions options) : options_(std::move(options)) {
  if (options_.collective && options_.collective->size() < 2) options_.collective = nullptr;
  const bool first = !options_.collective || options_.collective->rank() == 0;
  std::string text;
  Agreement(options_.collective, options_.device).together([&] {
    if (first && !options_.log.empty()) {
      log_ = std::make_unique<Log>(options_.log, options_.resume, options_.identity);
      text = log_->text();
    }
  });
  if (options_.collective) {
    const std::string identity = options_.identity.dump();  // 52 bits of its hash make a whole double
    const auto hash = static_cast<std::int64_t>(fnv1a(std::as_bytes(std::span(identity))) >> 12);
    Agreement(options_.collective, options_.device).require_equal(hash, "the search that is asked for");
    text = shared_text(*options_.collective, options_.device, text);
  }
  std::size_t number = 1;
  for (std::size_t at = 0; at < text.size(); ++number) {
    const std::size_t end = text.find('\n', at);
    const auto line = try_parse_json(std::string_view(text).substr(at, end - at));
    at = end + 1;
    try {
      if (!line) fail("not valid JSON");
      logged_[{line->at("key").get<std::string>(), line->at("images").get<std::int64_t>(),
               line->at("stream").get<std::uint64_t>()}] = from_json(line->at("fitness"));
    } catch (const std::exception&) {
      fail("{}: line {} is not that of an evaluation; start afresh in another folder", options_.log.string(),
           number + 1);
    }
  }
  workers_ = std::make_unique<Workers>(options_, options_.threads);
}

Evaluator::~Evaluator() = default;

std::vector<double> Evaluator::operator()(const std::vector<EvaluationRequest>& requests,
                                          Progress& progress) {
  std::vector<EvaluationRequest> fresh;
  std::int64_t replayed = 0;
  std::map<Key, bool> asked;
  const auto key = [](const EvaluationRequest& one) {
    return Key{key_of(one.candidate), one.images, one.stream};
  };
  for (const EvaluationRequest& one : requests) {
    if (known_.contains(key(one)) || !asked.emplace(key(one), true).second) {
      ++repeated_;
      continue;
    }
    ++evaluations_;
    calls_ += options_.calls(distinct(one.candidate)) * static_cast<double>(one.images - one.already);
    if (const auto found = logged_.find(key(one)); found != logged_.end()) {
      known_.insert(*found);
      if (std::isinf(found->second)) ++failed_;
      ++replayed;
    } else {
      fresh.push_back(one);
    }
  }
  progress.skip(replayed);
  score(fresh, progress);
  std::vector<double> out;
  for (const EvaluationRequest& one : requests) out.push_back(known_.at(key(one)));
  return out;
}

void Evaluator::remember(const EvaluationRequest& request, double value) {
  if (std::isinf(value)) ++failed_;
  known_[{key_of(request.candidate), request.images, request.stream}] = value;
  if (!log_) return;
  log_->append(json{{"key", key_of(request.candidate)},
                    {"genes", to_json(request.candidate)},
                    {"images", request.images},
                    {"stream", request.stream},
                    {"fitness", std::isinf(value) ? json() : json(value)}}
                   .dump());
}

void Evaluator::score(const std::vector<EvaluationRequest>& requests, Progress& progress) {
  if (options_.collective) return score_apart(requests, progress);
  workers_->run(requests, [&](std::size_t i, double value) {
    remember(requests[i], value);
    progress.advance();
  });
}

void Evaluator::score_apart(const std::vector<EvaluationRequest>& requests, Progress& progress) {
  Collective& collective = *options_.collective;
  const Agreement agreement(&collective, options_.device);
  const auto chunk =
      static_cast<std::size_t>(collective.size() * std::max(1, options_.threads) * kRequestsAtOnce);
  for (std::size_t begin = 0; begin < requests.size(); begin += chunk) {
    const std::size_t end = std::min(requests.size(), begin + chunk);
    std::vector<EvaluationRequest> own;
    std::vector<std::size_t> places;
    for (std::size_t i = begin; i < end; ++i) {
      const auto turn = static_cast<std::int64_t>(owners_.size()) % collective.size();
      const auto owner = owners_.emplace(key_of(requests[i].candidate), turn).first->second;
      if (owner != collective.rank()) continue;
      own.push_back(requests[i]);
      places.push_back(i - begin);
    }
    at::Tensor scores = at::zeros({static_cast<std::int64_t>(end - begin)}, at::kDouble);
    agreement.together([&] {
      double* values = scores.data_ptr<double>();
      workers_->run(own, [&](std::size_t i, double value) { values[places[i]] = value; });
    });
    scores = scores.to(options_.device);
    collective.sum(scores);
    scores = scores.to(at::kCPU);
    bool stop = false;
    agreement.together([&] {
      for (std::size_t i = begin; i < end; ++i) {
        remember(requests[i], scores.data_ptr<double>()[i - begin]);
        try {
          progress.advance();
        } catch (const Interrupted&) {
          stop = true;
        }
      }
    });
    if (agreement.any(stop)) throw Interrupted{};
  }
}

}  // namespace lithe
