// `lithe multibit export`: integer models for stock runtimes.
#include <filesystem>

#include "cli/multibit.h"
#include "cli/torch_setup.h"
#include "cli/validators.h"
#include "cli/verb.h"
#include "lithe/base/error.h"
#include "lithe/data/preprocess.h"
#include "lithe/engine/random_inputs.h"
#include "lithe/graph/onnx.h"
#include "lithe/multibit/branch_graph.h"
#include "lithe/multibit/deploy.h"

namespace lithe::cli {
namespace {

namespace fs = std::filesystem;

struct MultibitExportFlags {
  Invocation call{"multibit export"};
  std::string bits, form = "selectable", mode = "exact";
};

/// Largest difference of the scores to the float graph and to the exact integer form, on random inputs.
struct Differences {
  int bits = 0;
  double to_float = 0, to_exact = 0, agreement = 1;
};

Differences compare(const Graph& graph, const Graph& exported, int bits, bool fast, std::uint64_t seed) {
  const at::NoGradGuard no_grad;
  Executor source(extract_bits(graph, bits)), result(exported);
  Executor exact(fast ? deploy_static(graph, bits) : exported);
  const Feeds feeds = random_inputs(source.graph(), seed, {}, 4);
  Feeds with_bits = feeds;
  if (exported.required_inputs().size() > 1) with_bits["bits"] = at::full({}, bits, at::kLong);
  const auto first = [](const Feeds& outputs) { return outputs.begin()->second; };
  const at::Tensor y = first(result.run(with_bits)), reference = first(source.run(feeds)),
                   integer = fast ? first(exact.run(feeds)) : y;
  const auto largest = [](const at::Tensor& a, const at::Tensor& b) {
    return (a - b).abs().max().item<double>();
  };
  return {bits, largest(y, reference), largest(y, integer),
          (y.argmax(1) == integer.argmax(1)).to(at::kDouble).mean().item<double>()};
}

std::string path_for(const std::string& output, int bits) {
  const fs::path path(output);
  return (path.parent_path() / fmt::format("{}.b{}{}", path.stem().string(), bits, path.extension().string()))
      .string();
}

void run_export(MultibitExportFlags& flags) {
  Invocation& call = flags.call;
  if (call.options.output.empty()) fail("multibit export needs -o FILE");
  call.check_outputs(false);
  set_up_torch(call);
  const Graph graph = read_onnx(call.options.model);
  const MultibitInfo info = multibit_info(graph);
  std::vector<int> bits = flags.bits.empty() ? info.bits : parse_bits(flags.bits);
  for (const int one : bits) info.path(one);
  const bool fast = flags.mode == "fast", selectable = flags.form == "selectable";
  if (fast && selectable)
    fail(
        "--mode fast scales the weights of every bit-width by its norms, so that they cannot be stored once; "
        "give "
        "--form static");
  std::vector<std::pair<std::string, Graph>> results;
  if (selectable) {
    results.emplace_back(call.options.output, deploy_selectable(graph, bits));
  } else {
    for (const int one : bits)
      results.emplace_back(bits.size() == 1 ? call.options.output : path_for(call.options.output, one),
                           fast ? deploy_fast(graph, one) : deploy_static(graph, one));
  }
  std::vector<Differences> differences;
  for (std::size_t i = 0; i < bits.size(); ++i)
    differences.push_back(
        compare(graph, results[selectable ? 0 : i].second, bits[i], fast, call.options.seed));
  std::vector<std::string> files;
  json sizes = json::array(), compared = json::array();
  for (auto& [path, exported] : results) {
    write_onnx(exported, path);
    files.push_back(path);
    sizes.push_back({{"file", path}, {"bytes", fs::file_size(path)}});
  }
  std::vector<std::vector<std::string>> rows;
  for (const Differences& one : differences) {
    compared.push_back({{"bits", one.bits},
                        {"to_float", one.to_float},
                        {"to_exact", one.to_exact},
                        {"argmax_agreement", one.agreement}});
    rows.push_back({std::to_string(one.bits), fmt::format("{:.2g}", one.to_float),
                    fmt::format("{:.2g}", one.to_exact), fmt::format("{:.0f} %", 100 * one.agreement)});
  }
  call.say("{}", format_table({"bits", "from the float graph", "from exact integers", "same class"}, rows));
  for (const json& one : sizes)
    call.say("wrote {} ({})", one.at("file").get<std::string>(), format_bytes(one.at("bytes").get<double>()));
  call.finish({{"form", flags.form},
               {"mode", flags.mode},
               {"bits", bits},
               {"sizes", sizes},
               {"differences", compared}},
              files);
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
                   "exact (ConvInteger, equal to the integer reference) or fast (QLinearConv, rounds to 8 "
                   "bits between "
                   "layers)")
      ->check(CLI::IsMember({"exact", "fast"}))
      ->capture_default_str();
  verb->callback([flags] { run_export(*flags); });
}

}  // namespace lithe::cli
