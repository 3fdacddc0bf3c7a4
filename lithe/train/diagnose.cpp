#include "lithe/train/diagnose.h"

#include <fmt/format.h>

#include <algorithm>

namespace lithe {
namespace {

bool all_finite(const at::Tensor& tensor) {
  if (!tensor.defined() || !tensor.is_floating_point()) return true;
  return at::isfinite(tensor).all().item<bool>();
}

}  // namespace

std::string describe_non_finite(Executor& executor, const Feeds& feeds, const std::vector<std::string>& fetch,
                                const std::vector<Parameter>& parameters) {
  const at::NoGradGuard no_grad;
  for (const Parameter& one : parameters)
    if (!all_finite(one.tensor))
      return fmt::format("the constant '{}' is the first that is not finite", one.name);
  std::string first;
  executor.run(feeds, fetch, [&](const std::string& name, const at::Tensor& value) {
    if (first.empty() && !all_finite(value)) first = name;
  });
  if (!first.empty()) {
    if (feeds.contains(first))
      return fmt::format("the input '{}' is the first tensor that is not finite", first);
    const auto& nodes = executor.graph().nodes;
    const auto maker = std::find_if(nodes.begin(), nodes.end(), [&](const Node& node) {
      return std::find(node.outputs.begin(), node.outputs.end(), first) != node.outputs.end();
    });
    return fmt::format("'{}'{} is the first tensor that is not finite", first,
                       maker == nodes.end() ? "" : " (" + describe(*maker) + ")");
  }
  for (const Parameter& one : parameters)
    if (!all_finite(one.tensor.grad()))
      return fmt::format("the gradient of '{}' is the first tensor that is not finite", one.name);
  return "all tensors of the model are finite, the loss itself is not";
}

}  // namespace lithe
