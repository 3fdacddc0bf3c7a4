// `lithe verify`: the engine against stock ONNX Runtime on the same inputs.
#include "lithe/metrics/verify.h"

#include <filesystem>

#include "cli/data_flags.h"
#include "cli/model_errors.h"
#include "cli/torch_setup.h"
#include "cli/validators.h"
#include "cli/verbs.h"
#include "lithe/base/error.h"
#include "lithe/data/loader.h"
#include "lithe/data/usable_batch.h"
#include "lithe/engine/executor.h"
#include "lithe/engine/random_inputs.h"
#include "lithe/graph/finite.h"
#include "lithe/graph/onnx.h"
#include "lithe/report/report.h"

namespace lithe::cli {
namespace {

struct VerifyFlags {
  Invocation call{"verify"};
  std::string inputs;
  std::vector<std::string> shapes;
  std::int64_t batch = 1;
  double tolerance = 1e-3;
  std::string optimization = "all";
};

/// Refuses --batch where the batch of an exporter's example is baked into a constant; other errors of a run
/// are left to whoever runs the model next.
void check_batch(Executor& executor, const VerifyFlags& flags, const Feeds& feeds) {
  if (flags.batch == 1 || !flags.inputs.empty() || fixed_batch(executor.graph()) > 0) return;
  try {
    executor.run(feeds);
    return;
  } catch (const Error&) {
    Feeds one = feeds;
    for (auto& [name, value] : one)
      if (value.dim() > 0) value = value.narrow(0, 0, 1);
    try {
      executor.run(one);
    } catch (const Error&) {
      return;
    }
  }
  fail("{}: {}; leave out --batch", flags.call.options.model, kSingleSamplesOnly);
}

void run_verify(VerifyFlags& flags) {
  Invocation& call = flags.call;
  call.check_outputs(false);
  const at::Device device = set_up_torch(call);
  const Graph graph = read_onnx(call.options.model);
  require_usable_constants(graph);
  const at::NoGradGuard no_grad;
  Executor executor(graph, {.device = device});
  const Feeds feeds = flags.inputs.empty() ? random_inputs(graph, call.options.seed,
                                                           parse_shape_flags(flags.shapes), flags.batch)
                                           : read_feeds(graph, flags.inputs);
  check_batch(executor, flags, feeds);
  const Verification verification =
      verify(executor, call.options.model, feeds,
             {.threads = call.threads(), .optimization = flags.optimization, .tolerance = flags.tolerance});

  json outputs = json::array();
  std::vector<std::vector<std::string>> rows;
  const CodeComparison& codes = verification.codes;
  const bool quantized = codes.values > 0;
  std::vector<std::string> lines;
  for (const OutputComparison& one : verification.outputs) {
    outputs.push_back({{"name", one.name},
                       {"max_abs", one.end_to_end.max_abs},
                       {"max_rel", one.end_to_end.max_rel},
                       {"argmax_agreement", one.argmax_agreement},
                       {"judged_max_rel", one.judged.max_rel},
                       {"pass", one.pass}});
    rows.push_back({one.name, fmt::format("{:.3g}", one.end_to_end.max_abs),
                    fmt::format("{:.3g}", one.end_to_end.max_rel),
                    fmt::format("{:.4f}", one.argmax_agreement), fmt::format("{:.3g}", one.judged.max_rel),
                    one.pass ? "yes" : "NO"});
  }
  json result = {{"outputs", outputs},
                 {"tolerance", flags.tolerance},
                 {"optimization", flags.optimization},
                 {"pass", verification.pass}};
  const std::vector<std::string> header{
      "output", "max_abs", "max_rel", "argmax agreement", quantized ? "from equal codes" : "judged", "pass"};
  call.say("{}", format_table(header, rows));
  std::string verdict = fmt::format("{}: the engine and stock ONNX Runtime {}", call.options.model,
                                    verification.pass ? "agree" : "disagree");
  if (quantized) {
    result["codes"] = {{"values", codes.values},       {"codes", codes.codes},
                       {"differing", codes.differing}, {"largest_step", codes.largest_step},
                       {"worst", codes.worst},         {"pass", codes.pass}};
    const std::string line = fmt::format(
        "{} quantised values, each from equal codes before it: {} of {} codes differ, by at most {}",
        codes.values, codes.differing, codes.codes, codes.largest_step);
    call.say("{}", line);
    lines.push_back(line);
    if (verification.pass && verification.outputs.front().end_to_end.max_rel > flags.tolerance)
      lines.emplace_back(
          "max_abs, max_rel and argmax agreement are of whole runs, in which a code that differs grows from "
          "layer to layer; what is judged starts from equal codes");
    if (lines.size() > 1) call.say("{}", lines.back());
  }
  std::vector<std::string> files;
  if (!call.options.report.empty()) {
    Report report{.title = std::filesystem::path(call.options.model).filename().string(),
                  .subtitle = "lithe verify: the engine against stock ONNX Runtime"};
    report.facts = {{"result", verification.pass ? "agree" : "disagree"}};
    Table table{.title = "Outputs", .rows = rows};
    for (std::size_t i = 0; i < header.size(); ++i) table.columns.push_back({header[i], i > 0});
    report.add(std::move(table));
    for (const std::string& line : lines) report.add(Text{line});
    files = write_report(report, call.envelope(result), call.options.report);
  }
  call.finish(result, files);
  if (!codes.pass) verdict += fmt::format(", most at '{}'", codes.worst);
  if (!verification.pass) fail_system("{}", verdict);
  call.say("{}", verdict);
}

}  // namespace

void add_verify(CLI::App& app) {
  auto flags = std::make_shared<VerifyFlags>();
  CLI::App* verb = app.add_subcommand("verify", summary_of("verify"));
  flags->call.add_flags(*verb, {Flag::Seed, Flag::Threads, Flag::Device});
  verb->add_option("--inputs", flags->inputs,
                   "a .npz file with one array an input (default: random inputs by --seed)");
  verb->add_option("--shape", flags->shapes, "NAME=1,3,224,224: shape of an input that leaves it open");
  verb->add_option("--batch", flags->batch, "size of a free first dimension")->check(at_least(1));
  verb->add_option(
          "--tolerance", flags->tolerance,
          "largest difference allowed, relative to the output's largest value; for quantised models, from "
          "equal codes")
      ->check(at_least(0))
      ->capture_default_str();
  verb->add_option("--optimization", flags->optimization, "how far ONNX Runtime may rewrite the graph")
      ->check(CLI::IsMember({"disabled", "basic", "extended", "all"}))
      ->capture_default_str();
  verb->callback([flags] { naming_model("verify", flags->call.options.model, [&] { run_verify(*flags); }); });
}

}  // namespace lithe::cli
