#include "cli/verb.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <new>
#include <string_view>
#include <thread>
#include <vector>

#include "cli/validators.h"
#include "cli/verbs.h"
#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/version.h"
#include "lithe/report/gnuplot.h"

namespace lithe::cli {
namespace {

constexpr int kUserError = 2, kOtherError = 1;

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  while (!text.empty() && text.back() == ' ') text.pop_back();
  return text;
}

std::int64_t parse_memory(const std::string& text) {
  constexpr std::int64_t kLeast = 1'000'000;
  const std::int64_t bytes = parse_bytes(text);
  if (bytes < kLeast)
    fail("--memory {} is {} bytes, too few to work in; write it with a unit, for example 512M or 4G", text,
         bytes);
  return bytes;
}

bool has_verb(CLI::App& app, const std::string& name) {
  return !app.get_subcommands([&](CLI::App* verb) { return verb->get_name() == name; }).empty();
}

/// The first word names the verb; before it only flags without values can stand.
void check_verb(CLI::App& app, int argc, char** argv) {
  const auto is_word = [](std::string_view text) { return !text.empty() && text[0] != '-'; };
  const auto word = std::find_if(argv + 1, argv + argc, is_word);
  if (word == argv + argc || has_verb(app, *word)) return;
  std::string names;
  for (const VerbInfo& verb : kVerbs) names += (names.empty() ? "" : ", ") + std::string(verb.name);
  fail("unknown verb '{}'; verbs: {}; see 'lithe --help'", *word, names);
}

/// Letters to insert, remove, replace or swap with the next one to make `b` of `a`.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::vector<std::size_t>> steps(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i)
    for (std::size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        steps[i][j] = i + j;
        continue;
      }
      steps[i][j] = std::min(
          {steps[i - 1][j] + 1, steps[i][j - 1] + 1, steps[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        steps[i][j] = std::min(steps[i][j], steps[i - 2][j - 2] + 1);
    }
  return steps[a.size()][b.size()];
}

/// The flag of the verb that is meant, or "": one that begins with `flag`, else the nearest.
std::string nearest_flag(const CLI::App& verb, std::string_view flag) {
  std::string best;
  std::size_t least = 1 + flag.size() / 3;
  for (const CLI::Option* option : verb.get_options())
    for (const std::string& name : option->get_lnames()) {
      std::string full = "--" + name;
      if (flag.size() > 4 && full.starts_with(flag)) return full;
      if (const std::size_t distance = edit_distance(flag, full); distance < least) {
        least = distance;
        best = full;
      }
    }
  return best;
}

/// Flags that the verb does not know, and values that were given twice, told better than by the parser.
void check_flags(CLI::App& app, int argc, char** argv) {
  const auto is_word = [](std::string_view text) { return !text.empty() && text[0] != '-'; };
  char** const word = std::find_if(argv + 1, argv + argc, is_word);
  if (word == argv + argc) return;
  CLI::App* verb = app.get_subcommand(*word);
  std::string name = verb->get_name();
  char** first = word + 1;
  for (; first < argv + argc && has_verb(*verb, *first); ++first) {  // an action of the verb
    verb = verb->get_subcommand(*first);
    name += " " + verb->get_name();
  }
  std::map<const CLI::Option*, int> given;
  for (char** at = first; at < argv + argc; ++at) {
    std::string flag = *at;
    if (flag == "--") break;
    if (!flag.starts_with("--") || flag.size() < 3) continue;
    flag = flag.substr(0, flag.find('='));
    const CLI::Option* option = verb->get_option_no_throw(flag);
    if (!option) {
      const std::string meant = nearest_flag(*verb, flag);
      fail("{} has no flag {}{}; see 'lithe {} --help'", name, flag,
           meant.empty() ? "" : "; did you mean " + meant + "?", name);
    }
    if (++given[option] > 1 && option->get_expected_max() == 1)
      fail("{} is given twice; leave one of them out", flag);
  }
}

int report_error(const std::string& text, int status) {
  fmt::print(stderr, "lithe: {}\n", one_line(text));
  return status;
}

}  // namespace

void Invocation::add_flags(CLI::App& app, const std::set<Flag>& flags, bool model) {
  if (model) app.add_option("model", options.model, "the ONNX file")->required();
  if (flags.contains(Flag::Output))
    app.add_option("-o,--output", options.output, "where the result is written");
  if (flags.contains(Flag::Seed))
    app.add_option("--seed", options.seed, "seed of everything random")->capture_default_str();
  if (flags.contains(Flag::Threads))
    app.add_option("--threads", options.threads, "threads to use (default: all cores)")
        ->check(in_range(0, 1024));
  if (flags.contains(Flag::Device))
    app.add_option("--device", options.device, "cpu or cuda")
        ->check(CLI::IsMember({"cpu", "cuda"}))
        ->capture_default_str();
  if (flags.contains(Flag::Limit))
    app.add_option("--limit", options.limit, "use only N items of the data, chosen by --seed")
        ->check([](const std::string& text) {
          const bool digits = text.find_first_not_of("0123456789") == std::string::npos;
          const bool positive = digits && text.find_first_not_of('0') != std::string::npos;
          return positive ? "" : fmt::format("{} is no number of samples; give 1 or more", text);
        });
  if (flags.contains(Flag::Memory))
    app.add_option_function<std::string>(
        "--memory", [this](const std::string& text) { options.memory_bytes = parse_memory(text); },
        "memory to stay within, with a unit: 512M, 4G (at least 1M)");
  if (flags.contains(Flag::Resume))
    app.add_flag("--resume", options.resume, "continue from the last checkpoint");
  app.add_flag("--json", options.as_json, "print the result as one JSON object");
  app.add_flag("--quiet", options.quiet, "print errors only");
  app.add_option("--report", options.report, "write report.json and report.html into this folder");
}

int Invocation::threads() const {
  if (options.threads > 0) return options.threads;
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

Progress& Invocation::progress() {
  if (!progress_)
    progress_ = options.quiet ? std::make_unique<Progress>() : std::make_unique<ConsoleProgress>();
  return *progress_;
}

void Invocation::warn(const std::string& text) {
  if (!options.quiet) fmt::print(stderr, "warning: {}\n", text);
}

void Invocation::check_outputs(bool plots) const {
  if (!options.output.empty()) {
    std::error_code missing;
    if (!options.model.empty() && std::filesystem::equivalent(options.model, options.output, missing))
      fail("-o {} is the model itself, which would be lost; give another file", options.output);
    require_writable(options.output);
  }
  if (options.report.empty()) return;
  require_writable_folder(options.report);
  if (plots) require_gnuplot();
}

json Invocation::envelope(const json& result, const std::vector<std::string>& files) const {
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - started_;
  return {{"schema", 1},          {"verb", verb_},    {"model", options.model}, {"seed", options.seed},
          {"threads", threads()}, {"result", result}, {"files", files},         {"seconds", elapsed.count()}};
}

void Invocation::finish(const json& result, const std::vector<std::string>& files) const {
  if (options.as_json) fmt::print("{}\n", envelope(result, files).dump());
}

std::int64_t parse_bytes(const std::string& text) {
  std::size_t used = 0;
  double number = 0;
  try {
    number = std::stod(text, &used);
  } catch (const std::exception&) {
    used = 0;
  }
  const std::string unit = text.substr(used);
  const double scale = unit.empty() || unit == "B"   ? 1
                       : unit == "K" || unit == "KB" ? 1e3
                       : unit == "M" || unit == "MB" ? 1e6
                       : unit == "G" || unit == "GB" ? 1e9
                                                     : 0;
  if (used == 0 || scale == 0 || !(number > 0) || number * scale > 1e15)
    fail("'{}' is not an amount of memory; write for example 512M or 4G", text);
  return static_cast<std::int64_t>(number * scale);
}

std::string format_bytes(double bytes) {
  if (bytes < 1e3) return fmt::format("{:.0f} B", bytes);
  if (bytes < 1e6) return fmt::format("{:.1f} KB", bytes / 1e3);
  if (bytes < 1e9) return fmt::format("{:.1f} MB", bytes / 1e6);
  return fmt::format("{:.2f} GB", bytes / 1e9);
}

std::vector<std::int64_t> parse_shape(const std::string& text, const std::string& what) {
  std::vector<std::int64_t> shape;
  std::string_view rest = text;
  while (true) {
    const auto end = rest.find_first_of(",x");
    const std::string part{rest.substr(0, end)};
    if (part.empty() || part.size() > 9 || part.find_first_not_of("0123456789") != std::string::npos)
      fail("{}: '{}' is not a shape; write for example 1,3,224,224", what, text);
    shape.push_back(std::stoll(part));
    if (shape.back() == 0) fail("{}: a dimension of 0 holds nothing; write for example 1,3,224,224", what);
    if (end == std::string_view::npos) return shape;
    rest.remove_prefix(end + 1);
  }
}

std::map<std::string, std::vector<std::int64_t>, std::less<>> parse_shape_flags(
    const std::vector<std::string>& flags) {
  std::map<std::string, std::vector<std::int64_t>, std::less<>> shapes;
  for (const std::string& flag : flags) {
    const auto equals = flag.rfind('=');
    if (equals == std::string::npos) fail("--shape {}: write NAME=1,3,224,224", flag);
    shapes[flag.substr(0, equals)] = parse_shape(flag.substr(equals + 1), "--shape " + flag);
  }
  return shapes;
}

std::string format_table(const std::vector<std::string>& header,
                         const std::vector<std::vector<std::string>>& rows) {
  std::vector<std::size_t> widths;
  for (const std::string& cell : header) widths.push_back(cell.size());
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  std::string text;
  const auto add = [&](const std::vector<std::string>& row) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      if (i > 0) text += "  ";
      text += i == 0 ? fmt::format("{:<{}}", row[i], widths[i]) : fmt::format("{:>{}}", row[i], widths[i]);
    }
    text += '\n';
  };
  add(header);
  std::size_t total = 2 * (widths.size() - 1);
  for (const std::size_t width : widths) total += width;
  text += std::string(total, '-') + '\n';
  for (const auto& row : rows) add(row);
  text.pop_back();
  return text;
}

int run_command_line(int argc, char** argv, const std::vector<AddVerb>& verbs) {
  CLI::App app{"Lithe makes trained vision models thin and quick.", "lithe"};
  app.require_subcommand(1);
  app.set_version_flag("--version", kVersion);
  app.get_formatter()->column_width(34);
  for (const AddVerb add : verbs) add(app);
  for (const VerbInfo& verb : kVerbs)  // named in --help although another module runs them
    if (!has_verb(app, verb.name)) app.add_subcommand(verb.name, verb.summary);
  try {
    catch_interrupts();
    check_verb(app, argc, argv);
    check_flags(app, argc, argv);
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::CallForHelp& call) {
    return app.exit(call);
  } catch (const CLI::CallForAllHelp& call) {
    return app.exit(call);
  } catch (const CLI::CallForVersion& call) {
    return app.exit(call);
  } catch (const CLI::ExtrasError&) {
    const auto chosen = app.get_subcommands();
    std::string rest;
    if (!chosen.empty())
      for (const std::string& word : chosen.front()->remaining())
        rest += (rest.empty() ? "'" : ", '") + word + "'";
    return report_error(
        fmt::format("{} {} not belong here: give one model, and values behind their flags; see "
                    "'lithe{} --help'",
                    rest.empty() ? "what follows" : rest,
                    rest.find(", ") == std::string::npos ? "does" : "do",
                    chosen.empty() ? "" : " " + chosen.front()->get_name()),
        kUserError);
  } catch (const CLI::ParseError& error) {
    const auto chosen = app.get_subcommands();
    const std::string verb = chosen.empty() ? "" : " " + chosen.front()->get_name();
    return report_error(fmt::format("{}; see 'lithe{} --help'", one_line(error.what()), verb), kUserError);
  } catch (const Error& error) {
    return report_error(error.what(), error.kind() == ErrorKind::Input ? kUserError : kOtherError);
  } catch (const Interrupted&) {
    return report_error("interrupted", kOtherError);
  } catch (const std::bad_alloc&) {
    return report_error("not enough memory", kOtherError);
  } catch (const std::exception& error) {
    return report_error(fmt::format("internal error: {}", error.what()), kOtherError);
  }
}

}  // namespace lithe::cli
