#include "lithe/multibit/self_check.h"

#include <algorithm>

#include "lithe/base/error.h"
#include "lithe/multibit/deploy.h"
#include "lithe/multibit/multibit_info.h"

namespace lithe {
namespace {

double largest(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

/// Node by node: what a run time merges it rounds in its own way.
Feeds run_plainly(const Graph& graph, const Feeds& feeds, const std::vector<std::string>& fetch) {
  return Executor(graph, {.fuse = false}).run(feeds, fetch);
}

bool selects(const Graph& graph) {
  const auto inputs = graph.required_inputs();
  return std::any_of(inputs.begin(), inputs.end(), [](const ValueInfo* input) {
    return input->name == "bits" && input->dtype == DType::Int64;
  });
}

/// What the cascade that chooses a bit-width makes.
std::string selected_exit(const Graph& graph) {
  for (const Node& node : graph.nodes)
    if (node.is("If")) return node.output(0);
  fail("the model '{}' chooses no bit-width", graph.name);
}

at::Tensor through_body(MultibitSession& session, const at::Tensor& entry, const at::Tensor& like) {
  const at::Tensor from = entry.contiguous();
  at::Tensor exit = at::empty(like.sizes());
  const std::int64_t count = from.size(0);
  if (from.numel() != count * session.entry_count() || exit.numel() != count * session.exit_count())
    fail("the body of the exported model has other sizes than that of the integer run time");
  for (std::int64_t i = 0; i < count; ++i)
    session.run_body(from[i].data_ptr<float>(), exit[i].data_ptr<float>());
  return exit;
}

}  // namespace

ExportCheck check_export(const Graph& graph, MultibitSession* session, const Graph& exported, int bits,
                         const Feeds& inputs) {
  const at::NoGradGuard no_grad;
  const MultibitInfo info = multibit_info(graph);
  const BitPath& path = info.path(bits);
  const bool chooses = selects(exported);
  const std::string exit = chooses ? selected_exit(exported) : path.exit,
                    scores = exported.outputs.at(0).name;
  Feeds feeds = inputs;
  if (chooses) feeds["bits"] = at::full({}, bits, at::kLong);
  const Feeds values = run_plainly(exported, feeds, {info.entry, exit, scores});
  const at::Tensor& y = values.at(scores);
  const at::Tensor reference = run_plainly(extract_bits(graph, bits), inputs, {path.output}).at(path.output);
  ExportCheck check{.bits = bits,
                    .to_float = largest(y, reference),
                    .agreement = (y.argmax(1) == reference.argmax(1)).to(at::kDouble).mean().item<double>()};
  if (session) {
    session->set_bits(bits);
    check.to_integer =
        largest(values.at(exit), through_body(*session, values.at(info.entry), values.at(exit)));
  }
  const auto exact = [](const Node& node) { return node.is("ConvInteger"); };
  if (chooses || std::none_of(exported.nodes.begin(), exported.nodes.end(), exact))
    check.to_static =
        largest(y, run_plainly(deploy_static(graph, bits), inputs, {path.output}).at(path.output));
  return check;
}

}  // namespace lithe
