#include "lithe/engine/fuse.h"

#include <array>

#include "lithe/base/error.h"

namespace lithe {
namespace {

constexpr std::int64_t kMaxFoldedBytes = 64 << 20;  // a larger result is computed anew in every run

bool is_random(const Node& node) {
  constexpr std::array kRandom{"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
                               "Multinomial",  "Bernoulli",        "Dropout"};
  return std::any_of(kRandom.begin(), kRandom.end(), [&](const char* type) { return node.is(type); });
}

/// Evaluates nodes that read only constants.
void fold_constants(const Program::Source& source, const Scope& scope, Fused& fused) {
  const at::NoGradGuard no_grad;
  for (const Node* node : source.nodes) {
    const auto keep = [&] { fused.nodes.push_back(*node); };
    const OpEntry* entry = native_entry(*node, scope.opset(node->domain));
    if (!entry || is_control_flow(*node, scope.opset("")) || is_random(*node)) {
      keep();
      continue;
    }
    std::vector<at::Tensor> inputs;
    std::vector<DType> types;
    bool constant = true;
    for (const std::string& name : node->inputs) {
      inputs.emplace_back();
      types.push_back(name.empty() ? DType::Undefined : source.type(name));
      if (name.empty()) continue;
      const auto folded = fused.constants.find(name);
      const at::Tensor* tensor = folded == fused.constants.end() ? source.constant(name) : &folded->second;
      if (!(constant = tensor != nullptr)) break;
      inputs.back() = *tensor;
    }
    if (!constant) {
      keep();
      continue;
    }
    std::vector<at::Tensor> results;
    try {
      results = entry->run(OpCall{.node = *node,
                                  .opset = scope.opset(node->domain),
                                  .inputs = inputs,
                                  .device = scope.device,
                                  .types = types});
    } catch (const std::exception&) {  // it will fail again, with its message, if it is really run
      keep();
      continue;
    }
    std::int64_t bytes = 0;
    bool complete = true;
    for (std::size_t i = 0; i < node->outputs.size(); ++i) {
      if (node->outputs[i].empty()) continue;
      complete = complete && i < results.size() && results[i].defined();
      if (complete) bytes += static_cast<std::int64_t>(results[i].nbytes());
    }
    if (!complete || bytes > kMaxFoldedBytes) {
      keep();
      continue;
    }
    for (std::size_t i = 0; i < node->outputs.size(); ++i)
      if (!node->outputs[i].empty()) fused.constants[node->outputs[i]] = results[i].to(scope.device);
  }
}

}  // namespace

Fused fuse(const Program::Source& source, const Scope& scope, const FuseOptions& options) {
  Fused fused;
  fold_constants(source, scope, fused);
  return fused;
}

const OpRegistry& fused_ops() {
  static const OpRegistry registry;
  return registry;
}

}  // namespace lithe
