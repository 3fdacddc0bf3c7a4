// `lithe inspect`: what a model consists of and costs.
#include <memory>

#include "cli/inspect_operators.h"
#include "cli/inspect_report.h"
#include "cli/inspect_sparsity.h"
#include "cli/verb.h"
#include "cli/verbs.h"
#include "lithe/base/error.h"
#include "lithe/graph/onnx.h"
#include "lithe/report/report.h"

namespace lithe::cli {
namespace {

struct InspectFlags {
  Invocation call{"inspect"};
  std::vector<std::string> shapes;
  std::string sparsity;
  bool spatial = false;
};

std::string format_count(const json& value) {
  if (value.is_null()) return "?";
  const double number = value.get<double>();
  if (number < 1e3) return fmt::format("{:.0f}", number);
  if (number < 1e6) return fmt::format("{:.2f} K", number / 1e3);
  if (number < 1e9) return fmt::format("{:.2f} M", number / 1e6);
  return fmt::format("{:.2f} G", number / 1e9);
}

std::string format_memory(const json& value) {
  return value.is_null() ? "?" : format_bytes(value.get<double>());
}

std::string format_shape_json(const json& shape) {
  if (shape.is_null()) return "of unknown rank";
  std::string text = "[";
  for (const json& dim : shape) {
    if (text.size() > 1) text += ", ";
    text += dim.is_null()     ? "?"
            : dim.is_string() ? dim.get<std::string>()
                              : std::to_string(dim.get<std::int64_t>());
  }
  return text + "]";
}

using Rows = std::vector<std::vector<std::string>>;

Rows value_rows(const json& result) {
  Rows rows;
  for (const char* side : {"inputs", "outputs"})
    for (const json& value : result.at(side))
      rows.push_back({value.at("name"), std::string(side).substr(0, std::string(side).size() - 1),
                      value.at("dtype"), format_shape_json(value.at("shape"))});
  return rows;
}

Rows operator_rows(const json& result) {
  Rows rows;
  for (const json& one : result.at("operators")) {
    const std::string domain = one.at("domain"), op = one.at("op");
    rows.push_back(
        {domain.empty() ? op : domain + "." + op, std::to_string(one.at("count").get<std::int64_t>())});
  }
  return rows;
}

void add_block_rows(const json& blocks, Rows& rows) {
  for (const json& block : blocks) {
    rows.push_back(
        {std::string(2 * block.at("depth").get<std::size_t>(), ' ') + block.at("name").get<std::string>(),
         block.at("kind"), std::to_string(block.at("nodes").get<std::size_t>()),
         format_count(block.at("parameters")), format_count(block.at("macs")),
         block.at("skippable").get<bool>() ? "yes" : "no"});
    add_block_rows(block.at("children"), rows);
  }
}

Rows violation_rows(const json& result) {
  Rows rows;
  for (const json& one : result.at("violations"))
    rows.push_back({one.at("tensor"), std::to_string(one.at("offending").get<std::int64_t>()),
                    std::to_string(one.at("groups").get<std::int64_t>()),
                    fmt::format("{:.1f} %", 100 * one.at("zeros").get<double>())});
  return rows;
}

const std::vector<std::string> kValueHeader{"value", "side", "type", "shape"};
const std::vector<std::string> kOperatorHeader{"operator", "nodes"};
const std::vector<std::string> kBlockHeader{"block", "kind", "nodes", "parameters", "MACs", "skippable"};
const std::vector<std::string> kViolationHeader{"tensor", "offending groups", "groups", "zeros"};

std::string sparsity_line(const json& result) {
  const std::size_t bad = result.at("violations").size();
  const auto checked = result.at("checked").get<std::size_t>();
  std::string line = fmt::format(
      "{} of {} weights follow {}; {} are not checked (input channels do not divide)", checked - bad, checked,
      result.at("pattern").get<std::string>(), result.at("skipped").size());
  if (!result.at("recorded").empty())
    line += fmt::format("; {} others are dense, {} layers are recorded as pruned", result.at("dense").size(),
                        result.at("recorded").size());
  return line;
}

void show(Invocation& call, const json& result) {
  call.say("{}\n", format_table(kValueHeader, value_rows(result)));
  call.say("{}\n", format_table(kOperatorHeader, operator_rows(result)));
  Rows blocks;
  add_block_rows(result.at("blocks"), blocks);
  if (!blocks.empty()) call.say("{}\n", format_table(kBlockHeader, blocks));
  call.say("parameters          {}", format_count(result.at("parameters")));
  call.say("multiply-adds       {}", format_count(result.at("macs")));
  call.say("activations, peak   {}", format_memory(result.at("activation_bytes")));
  call.say("activations, sum    {}", format_memory(result.at("activation_bytes_sum")));
  if (result.contains("note")) call.say("note: {}", result.at("note").get<std::string>());
  for (const std::string& line : unsupported_lines(result.at("unsupported"))) call.say("note: {}", line);
  if (result.contains("spatial_sparsity"))
    call.say("\n{}", spatial_sparsity_table(result.at("spatial_sparsity")));
  if (!result.contains("pattern")) return;
  if (const Rows rows = violation_rows(result); !rows.empty())
    call.say("\n{}", format_table(kViolationHeader, rows));
  call.say("\n{}", sparsity_line(result));
}

Table table(const std::string& title, const std::vector<std::string>& header, Rows rows, std::size_t words) {
  Table made{.title = title, .rows = std::move(rows)};
  for (std::size_t i = 0; i < header.size(); ++i) made.columns.push_back({header[i], i >= words});
  return made;
}

std::vector<std::string> write(const Invocation& call, const json& result) {
  if (call.options.report.empty()) return {};
  Report report{.title = "Inspection", .subtitle = call.options.model};
  report.facts = {{"parameters", format_count(result.at("parameters"))},
                  {"multiply-adds", format_count(result.at("macs"))},
                  {"activations, peak", format_memory(result.at("activation_bytes"))}};
  report.add(table("Inputs and outputs", kValueHeader, value_rows(result), 4));
  report.add(table("Operators", kOperatorHeader, operator_rows(result), 1));
  Rows blocks;
  add_block_rows(result.at("blocks"), blocks);
  if (!blocks.empty()) {
    BarPlot plot{.title = "Multiply-adds by block", .y_label = "millions", .bars = {{"MACs", {}}}};
    for (const json& block : result.at("blocks")) {
      if (block.at("macs").is_null()) continue;
      plot.categories.push_back(block.at("name"));
      plot.bars[0].values.push_back(block.at("macs").get<double>() / 1e6);
    }
    if (!plot.categories.empty()) report.add(std::move(plot));
    report.add(table("Blocks", kBlockHeader, std::move(blocks), 2));
  }
  if (result.contains("note")) report.add(Text{result.at("note").get<std::string>()});
  for (const std::string& line : unsupported_lines(result.at("unsupported"))) report.add(Text{line});
  if (result.contains("pattern")) {
    report.add(Text{sparsity_line(result)});
    if (Rows rows = violation_rows(result); !rows.empty())
      report.add(table("Weights that break " + result.at("pattern").get<std::string>(), kViolationHeader,
                       std::move(rows), 1));
  }
  if (result.contains("spatial_sparsity")) add_spatial_sparsity(report, result.at("spatial_sparsity"));
  return write_report(report, call.envelope(result), call.options.report);
}

void run_inspect(InspectFlags& flags) {
  Invocation& call = flags.call;
  call.check_outputs();
  InspectOptions options{.shapes = parse_shape_flags(flags.shapes)};
  if (!flags.sparsity.empty()) options.sparsity = parse_sparsity(flags.sparsity);
  Graph graph = read_onnx(call.options.model);
  json result;
  try {
    json spatial;
    if (flags.spatial) spatial = spatial_sparsity_json(graph);
    result = inspect_model(std::move(graph), options);
    if (flags.spatial) result["spatial_sparsity"] = std::move(spatial);
  } catch (const Error& error) {
    throw Error(error.kind(), call.options.model + ": " + error.what());
  }
  const auto files = write(call, result);
  show(call, result);
  call.finish(result, files);
  if (options.sparsity) require_sparsity(result, call.options.model);
}

}  // namespace

void add_inspect(CLI::App& app) {
  auto flags = std::make_shared<InspectFlags>();
  CLI::App* verb = app.add_subcommand("inspect", summary_of("inspect"));
  flags->call.add_flags(*verb, {Flag::Seed, Flag::Threads});
  verb->add_option("--shape", flags->shapes,
                   "NAME=1,3,224,224: shape of an input (a free first dimension is 1)");
  verb->add_option("--check-sparsity", flags->sparsity,
                   "N:M: which weights keep more than N of M in a group; exit status 2 if any does");
  verb->add_flag("--spatial-sparsity", flags->spatial,
                 "how magnitude pruning would spread over the positions of convolution kernels");
  verb->add_flag("--list-operators")->description("instead of a model: the operators that Lithe runs");
  verb->callback([flags] { run_inspect(*flags); });
}

}  // namespace lithe::cli
