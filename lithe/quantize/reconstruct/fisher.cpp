#include "lithe/quantize/reconstruct/fisher.h"

#include <torch/csrc/autograd/autograd.h>

#include "lithe/base/error.h"
#include "lithe/metrics/evaluate.h"

namespace lithe {
namespace {

constexpr double kLeastProbability = 1e-30;

}  // namespace

std::map<std::string, SampleCachePtr> fisher_importance(Executor& network, const CacheMap& values,
                                                        const SampleCache& logits,
                                                        const std::vector<std::string>& outputs,
                                                        std::int64_t samples, std::int64_t run_batch,
                                                        std::int64_t step_samples, CacheArena& arena) {
  const std::string& last = network.graph().outputs.at(0).name;
  const at::Device device = network.options().device;
  const bool probabilities = is_probability(network.graph(), last);
  std::map<std::string, SampleCachePtr> importance;
  for (const std::string& name : outputs)
    importance[name] = std::make_shared<SampleCache>(arena, name + "/importance", samples);
  for (std::int64_t first = 0; first < samples; first += run_batch) {
    const at::AutoGradMode grad(true);
    Feeds feeds;
    for (const auto& [name, cache] : values) feeds.emplace(name, cache->range(first, run_batch).to(device));
    torch::autograd::variable_list leaves;
    for (const std::string& name : outputs) {
      at::Tensor& leaf = feeds.at(name);
      leaf = leaf.detach().clone().requires_grad_(true);
      leaves.push_back(leaf);
    }
    const at::Tensor said = network.run(feeds, {last}).at(last);
    if (said.dim() != 2 || said.size(1) < 2)
      fail("Fisher weights need a classifier, but the output '{}' is of shape {}; use --fisher none", last,
           fmt::join(said.sizes(), "x"));
    const at::Tensor truth = logits.range(first, run_batch).to(device);
    const at::Tensor wanted = probabilities ? truth : at::softmax(truth, 1);
    const at::Tensor log_said =
        probabilities ? said.clamp_min(kLeastProbability).log() : at::log_softmax(said, 1);
    const at::Tensor divergence = (wanted * (wanted.clamp_min(kLeastProbability).log() - log_said)).sum() /
                                  static_cast<double>(step_samples);
    const auto gradients = torch::autograd::grad({divergence}, leaves, {}, false, false, true);
    const at::NoGradGuard no_grad;
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      const at::Tensor gradient = gradients[i].defined() ? gradients[i] : at::zeros_like(leaves[i]);
      importance.at(outputs[i])->append((gradient.abs() + 1).to(at::kCPU), run_batch);
    }
  }
  return importance;
}

}  // namespace lithe
