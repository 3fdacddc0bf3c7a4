// What every verb shares: the common flags, the JSON envelope, progress, how results are printed.
#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "lithe/base/progress.h"

namespace lithe::cli {

using nlohmann::json;

/// Flags that mean the same in every verb. A verb takes those that it can honour.
enum class Flag { Output, Seed, Threads, Device, Limit, Memory, Resume };

struct CommonOptions {
  std::string model;
  std::string output;
  std::string report;  // folder; "" where none is wanted
  std::uint64_t seed = 1005;
  int threads = 0;  // 0: all cores
  std::string device = "cpu";
  std::int64_t limit = 0;         // images or items; 0: all
  std::int64_t memory_bytes = 0;  // 0: no bound
  bool resume = false;
  bool as_json = false;
  bool quiet = false;
};

/// One call of a verb, from its flags to its printed result.
class Invocation {
 public:
  explicit Invocation(std::string verb) : verb_(std::move(verb)) {}

  /// Adds --json, --quiet, --report and the flags asked for; `model` also adds the positional model file.
  void add_flags(CLI::App& app, const std::set<Flag>& flags, bool model = true);

  CommonOptions options;

  /// Number of threads to use: --threads, or every core.
  int threads() const;
  /// A console bar, or nothing under --quiet.
  Progress& progress();
  /// For people: goes to standard output; silent under --json and --quiet.
  template <typename... Args>
  void say(fmt::format_string<Args...> format, Args&&... args) {
    if (!options.as_json && !options.quiet)
      fmt::print("{}\n", fmt::format(format, std::forward<Args>(args)...));
  }
  /// One line on standard error that asks for attention; silent under --quiet.
  void warn(const std::string& text);
  /// Finds out before the work whether -o and --report, which may have plots, can be written. Throws Error.
  void check_outputs(bool plots = true) const;
  /// The envelope that --json prints and report.json repeats.
  json envelope(const json& result, const std::vector<std::string>& files = {}) const;
  /// Prints the envelope under --json.
  void finish(const json& result, const std::vector<std::string>& files = {}) const;

 private:
  std::string verb_;
  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  std::unique_ptr<Progress> progress_;
};

/// "512M", "4G", "1000000" as bytes; throws Error(Input).
std::int64_t parse_bytes(const std::string& text);
/// "1.4 MB"
std::string format_bytes(double bytes);
/// "1,3,224,224" as numbers; throws Error(Input) naming `what`.
std::vector<std::int64_t> parse_shape(const std::string& text, const std::string& what);

/// Repeated --shape NAME=1,3,224,224 flags by input name; throws Error(Input).
std::map<std::string, std::vector<std::int64_t>, std::less<>> parse_shape_flags(
    const std::vector<std::string>& flags);

/// A table for people: the first column is left-aligned, the others right-aligned.
std::string format_table(const std::vector<std::string>& header,
                         const std::vector<std::vector<std::string>>& rows);

using AddVerb = void (*)(CLI::App&);

/// Parses the command line with the given verbs and runs the one named; returns the exit status:
/// 0 done, 2 the user can mend it, 1 anything else. Prints errors as one line.
int run_command_line(int argc, char** argv, const std::vector<AddVerb>& verbs);

// One file a verb.
void add_inspect(CLI::App&);
void add_list_operators(CLI::App&);  // inspect --list-operators, which needs the registry
void add_eval(CLI::App&);
void add_verify(CLI::App&);
void add_quantize(CLI::App&);
void add_sparsify(CLI::App&);
void add_multibit(CLI::App&);
void add_tokens(CLI::App&);
void add_train(CLI::App&);
void add_sample(CLI::App&);
void add_schedule(CLI::App&);
void add_deflicker(CLI::App&);
void add_stylize(CLI::App&);
void add_superpoints(CLI::App&);

}  // namespace lithe::cli
