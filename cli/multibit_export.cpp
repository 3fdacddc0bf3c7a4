// `lithe multibit export`: integer models for stock runtimes.
#include <filesystem>

#include "cli/json.h"
#include "cli/multibit.h"
#include "cli/overwrite.h"
#include "cli/torch_setup.h"
#include "cli/validators.h"
#include "cli/verb.h"
#include "lithe/base/error.h"
#include "lithe/data/preprocess.h"
#include "lithe/engine/random_inputs.h"
#include "lithe/graph/onnx.h"
#include "lithe/multibit/deploy.h"
#include "lithe/multibit/multibit_info.h"
#include "lithe/multibit/self_check.h"
#include "lithe/report/report.h"

namespace lithe::cli {
namespace {

namespace fs = std::filesystem;

struct MultibitExportFlags {
  Invocation call{"multibit export"};
  std::string bits, form = "selectable", mode = "exact";
};

constexpr std::int64_t kSamples = 4;  // that exported models are checked on

std::string path_for(const std::string& output, int bits) {
  const fs::path path(output);
  return (path.parent_path() / fmt::format("{}.b{}{}", path.stem().string(), bits, path.extension().string()))
      .string();
}

void run_export(MultibitExportFlags& flags) {
  Invocation& call = flags.call;
  if (call.options.output.empty()) fail("multibit export needs -o FILE");
  set_up_torch(call);
  const Graph graph = read_onnx(call.options.model);
  const MultibitInfo info = multibit_info(graph);
  std::vector<int> bits = flags.bits.empty() ? info.bits : parse_bits(flags.bits);
  for (const int one : bits) info.path(one);
  const bool fast = flags.mode == "fast", selectable = flags.form == "selectable";
  if (fast && selectable)
    fail(
        "--mode fast scales the weights of every bit-width by its norms, so that they cannot be stored once; "
        "give --form static");
  std::vector<NamedFile> written;
  if (!selectable && bits.size() > 1)
    for (const int one : bits)
      written.push_back({fmt::format("-o at {} bits,", one), path_for(call.options.output, one)});
  check_overwriting(call, {}, written, false);
  std::vector<std::pair<std::string, Graph>> results;
  if (selectable) {
    results.emplace_back(call.options.output, deploy_selectable(graph, bits));
  } else {
    for (const int one : bits)
      results.emplace_back(bits.size() == 1 ? call.options.output : path_for(call.options.output, one),
                           fast ? deploy_fast(graph, one) : deploy_static(graph, one));
  }
  std::vector<std::string> notes;
  std::optional<MultibitSession> session = integer_session(graph, notes);
  const Feeds inputs = random_inputs(extract_bits(graph, bits.back()), call.options.seed, {}, kSamples);
  std::vector<ExportCheck> checks;
  for (std::size_t i = 0; i < bits.size(); ++i) {
    checks.push_back(check_export(graph, session ? &*session : nullptr, results[selectable ? 0 : i].second,
                                  bits[i], inputs));
    if (!fast && checks.back().to_integer && *checks.back().to_integer != 0)
      notes.push_back(
          fmt::format("at {} bits the body differs from Lithe's integer run time: average pools and "
                      "convolutions in float are added up in other orders",
                      bits[i]));
  }
  std::vector<std::string> files;
  json sizes = json::array(), compared = json::array();
  for (auto& [path, exported] : results) {
    write_onnx(exported, path);
    files.push_back(path);
    sizes.push_back({{"file", path}, {"bytes", fs::file_size(path)}});
  }
  std::vector<std::vector<std::string>> rows;
  const auto number = [](const std::optional<double>& value) {
    return value ? fmt::format("{:.2g}", *value) : std::string();
  };
  for (const ExportCheck& one : checks) {
    compared.push_back({{"bits", one.bits},
                        {"to_float", or_null(one.to_float)},
                        {"to_integer", or_null(one.to_integer)},
                        {"to_static", or_null(one.to_static)},
                        {"argmax_agreement", one.agreement}});
    rows.push_back({std::to_string(one.bits), number(one.to_float), number(one.to_static),
                    number(one.to_integer), fmt::format("{:.0f} %", 100 * one.agreement)});
  }
  const std::vector<std::string> header{"bits", "from the float graph", "from exact integers",
                                        "body, from the integer run time", "class of the float graph"};
  const json object{{"form", flags.form}, {"mode", flags.mode},      {"bits", bits},
                    {"sizes", sizes},     {"differences", compared}, {"notes", notes}};
  std::vector<std::string> reports;
  if (!call.options.report.empty()) {
    Report report{.title = fs::path(call.options.model).filename().string(),
                  .subtitle = fmt::format("lithe multibit export, {}, {}", flags.form, flags.mode),
                  .facts = {},
                  .items = {}};
    Table table{.title = "Largest differences on random inputs", .columns = {}, .rows = rows, .note = ""};
    for (const std::string& column : header) table.columns.push_back({column, true});
    report.add(std::move(table));
    for (const std::string& note : notes) report.add(Text{note});
    reports = write_report(report, call.envelope(object, files), call.options.report);
    files.insert(files.end(), reports.begin(), reports.end());
  }
  call.say("{}", format_table(header, rows));
  for (const std::string& note : notes) call.say("note: {}", note);
  for (const json& one : sizes)
    call.say("wrote {} ({})", one.at("file").get<std::string>(), format_bytes(one.at("bytes").get<double>()));
  for (const std::string& file : reports) call.say("wrote {}", file);
  call.finish(object, files);
}

}  // namespace

void add_multibit_export(CLI::App& parent) {
  auto flags = std::make_shared<MultibitExportFlags>();
  CLI::App* verb = parent.add_subcommand("export", "integer ONNX models for stock runtimes");
  flags->call.add_flags(*verb, {Flag::Output, Flag::Seed, Flag::Threads});
  verb->add_option("--bits", flags->bits, "bit-widths to export, for example 4 or 2,8 (default: all)");
  verb->add_option(
          "--form", flags->form,
          "selectable (one file whose input 'bits' chooses) or static (one file a bit-width, FILE.bN.onnx)")
      ->check(CLI::IsMember({"selectable", "static"}))
      ->capture_default_str();
  verb->add_option("--mode", flags->mode,
                   "exact (ConvInteger, equal to the integer run time) or fast (QLinearConv, rounds to 8 "
                   "bits between layers)")
      ->check(CLI::IsMember({"exact", "fast"}))
      ->capture_default_str();
  verb->callback([flags] { run_export(*flags); });
}

}  // namespace lithe::cli
