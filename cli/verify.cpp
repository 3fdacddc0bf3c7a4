// `lithe verify`: the engine against stock ONNX Runtime on the same inputs.
#include <algorithm>

#include "cli/torch_setup.h"
#include "cli/verbs.h"
#include "lithe/base/error.h"
#include "lithe/data/loader.h"
#include "lithe/data/npz.h"
#include "lithe/engine/executor.h"
#include "lithe/engine/onnxruntime.h"
#include "lithe/engine/random_inputs.h"
#include "lithe/graph/onnx.h"
#include "lithe/metrics/metrics.h"

namespace lithe::cli {
namespace {

struct VerifyFlags {
  Invocation call{"verify"};
  std::string inputs;
  std::vector<std::string> shapes;
  std::int64_t batch = 1;
  double tolerance = 0;
  std::string optimization = "all";
};

// Float nets differ by rounding alone. Where values are quantised, a difference in the last bit can move a
// code by one step, and the step travels on through the net.
constexpr double kFloatTolerance = 1e-3, kQuantizedTolerance = 0.1;

bool is_quantized(const Graph& graph) {
  return std::any_of(graph.nodes.begin(), graph.nodes.end(), [](const Node& node) {
    return node.op_type.starts_with("Quantize") || node.op_type.starts_with("QLinear") ||
           node.op_type.starts_with("DynamicQuantize");
  });
}

void run_verify(VerifyFlags& flags) {
  Invocation& call = flags.call;
  const at::Device device = set_up_torch(call);
  const Graph graph = read_onnx(call.options.model);
  const at::NoGradGuard no_grad;
  Executor executor(graph, {.device = device});
  const Feeds feeds = flags.inputs.empty() ? random_inputs(graph, call.options.seed,
                                                           parse_shape_flags(flags.shapes), flags.batch)
                                           : bind_inputs(graph, read_npz(flags.inputs));
  const Feeds ours = executor.run(feeds);
  OnnxRuntime judge(call.options.model, {.threads = call.threads(), .optimization = flags.optimization});
  const Feeds theirs = judge.run(feeds);

  const double tolerance = flags.tolerance > 0   ? flags.tolerance
                           : is_quantized(graph) ? kQuantizedTolerance
                                                 : kFloatTolerance;
  json outputs = json::array();
  std::vector<std::vector<std::string>> rows;
  bool pass = true;
  for (const ValueInfo& output : graph.outputs) {
    const at::Tensor value = ours.at(output.name).to(at::kCPU), reference = theirs.at(output.name);
    if (value.sizes() != reference.sizes())
      fail("{}: output '{}' has shape {} here but {} in ONNX Runtime", call.options.model, output.name,
           format_shape(value.sizes().vec()), format_shape(reference.sizes().vec()));
    const Difference gap = difference(value, reference);
    const bool one_passes = gap.finite && gap.max_rel <= tolerance;
    pass = pass && one_passes;
    const bool has_classes = value.dim() >= 1 && value.numel() > 0;
    const double agreement = has_classes ? argmax_agreement(value, reference) : 1.0;
    outputs.push_back({{"name", output.name},
                       {"max_abs", gap.max_abs},
                       {"max_rel", gap.max_rel},
                       {"argmax_agreement", agreement},
                       {"pass", one_passes}});
    rows.push_back({output.name, fmt::format("{:.3g}", gap.max_abs), fmt::format("{:.3g}", gap.max_rel),
                    fmt::format("{:.4f}", agreement), one_passes ? "yes" : "NO"});
  }
  call.say("{}", format_table({"output", "max_abs", "max_rel", "argmax agreement", "pass"}, rows));
  call.say("{}: the engine and stock ONNX Runtime {} (largest relative difference allowed: {:g})",
           call.options.model, pass ? "agree" : "DISAGREE", tolerance);
  call.finish(
      {{"outputs", outputs}, {"tolerance", tolerance}, {"optimization", flags.optimization}, {"pass", pass}});
  if (!pass)
    throw Error(ErrorKind::System, call.options.model + ": the engine and stock ONNX Runtime disagree");
}

}  // namespace

void add_verify(CLI::App& app) {
  auto flags = std::make_shared<VerifyFlags>();
  CLI::App* verb = app.add_subcommand("verify", summary_of("verify"));
  flags->call.add_flags(*verb, {Flag::Seed, Flag::Threads, Flag::Device});
  verb->add_option("--inputs", flags->inputs,
                   "a .npz file with one array an input (default: random inputs by --seed)");
  verb->add_option("--shape", flags->shapes, "NAME=1,3,224,224: shape of an input that leaves it open");
  verb->add_option("--batch", flags->batch, "size of a free first dimension")->check(CLI::PositiveNumber);
  verb->add_option("--tolerance", flags->tolerance,
                   "largest difference allowed, relative to the output's largest value "
                   "(default: 0.001, or 0.1 for quantised models)");
  verb->add_option("--optimization", flags->optimization, "how far ONNX Runtime may rewrite the graph")
      ->check(CLI::IsMember({"disabled", "basic", "extended", "all"}))
      ->capture_default_str();
  verb->callback([flags] { run_verify(*flags); });
}

}  // namespace lithe::cli
