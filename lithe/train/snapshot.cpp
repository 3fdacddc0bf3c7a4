#include "lithe/train/snapshot.h"

namespace lithe {

Snapshot::Snapshot(const Executor& executor) {
  const auto take = [&](const std::string& name) {
    values_.emplace_back(name, executor.constant(name).detach().clone());
  };
  for (const auto& [name, data] : executor.graph().constants)
    if (data.dtype() != DType::String) take(name);
  for (const Node& node : executor.graph().nodes)
    if (node.is("Constant") && node.find<TensorData>("value")) take(node.output(0));
}

void Snapshot::restore(Executor& executor, const std::set<std::string>& learnt) const {
  const at::NoGradGuard no_grad;
  for (const auto& [name, value] : values_) {
    const at::Tensor now = executor.constant(name);
    if (learnt.contains(name))
      now.detach().copy_(value);
    else if (!now.is_same(value) && !at::equal(now, value))
      executor.set_constant(name, value);
  }
}

}  // namespace lithe
