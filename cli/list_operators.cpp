// `lithe inspect --list-operators`: what the registry holds.
#include <memory>

#include "cli/verb.h"
#include "cli/verbs.h"
#include "lithe/ops/registry.h"
#include "lithe/report/report.h"

namespace lithe::cli {
namespace {

void run_list_operators(Invocation& call) {
  call.check_outputs(false);
  json operators = json::array();
  std::vector<std::vector<std::string>> rows;
  for (const auto& [key, entry] : op_registry().entries()) {
    const auto& [domain, op] = key;
    operators.push_back({{"op", op}, {"domain", domain}, {"since", entry.since}, {"until", entry.until}});
    rows.push_back(
        {domain.empty() ? op : domain + "." + op, std::to_string(entry.since), std::to_string(entry.until)});
  }
  const json result{{"operators", operators}};
  std::vector<std::string> files;
  if (!call.options.report.empty()) {
    Report report{.title = "Operators", .subtitle = "lithe inspect --list-operators"};
    report.add(Table{.columns = {{"operator", false}, {"since opset"}, {"until opset"}}, .rows = rows});
    files = write_report(report, call.envelope(result), call.options.report);
  }
  call.say("{}", format_table({"operator", "since opset", "until opset"}, rows));
  call.finish(result, files);
}

}  // namespace

void add_list_operators(CLI::App& app) {
  auto call = std::make_shared<Invocation>("inspect");
  CLI::App* verb = app.add_subcommand("inspect", summary_of("inspect"));
  call->add_flags(*verb, {Flag::Seed, Flag::Threads}, false);
  verb->add_flag("--list-operators")->description("the operators that Lithe runs")->required();
  verb->callback([call] { run_list_operators(*call); });
}

}  // namespace lithe::cli
