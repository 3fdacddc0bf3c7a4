#include "lithe/sparsify/verify.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "lithe/base/error.h"
#include "lithe/data/loader.h"
#include "lithe/engine/random_inputs.h"
#include "lithe/kernels/nm_mask.h"
#include "lithe/metrics/metrics.h"

namespace lithe {
namespace {

TensorData widened(const TensorData& data) {
  return data.dtype() == DType::Float32 ? TensorData::from(data.shape(), data.to_doubles()) : data;
}

/// The graph with float64 in the place of float32.
Graph in_double(const Graph& graph) {
  Graph out = graph;
  for (auto& [name, data] : out.constants) data = widened(data);
  for (ValueInfo& input : out.inputs)
    if (input.dtype == DType::Float32) input.dtype = DType::Float64;
  for (Node& node : out.nodes) {
    if (node.find<TensorData>("value")) {
      auto& value = std::get<TensorData>(node.attributes.find("value")->second);
      value = widened(value);
    }
    if (node.is("Cast") && node.attr("to", std::int64_t{0}) == static_cast<std::int64_t>(DType::Float32))
      node.attributes["to"] = static_cast<std::int64_t>(DType::Float64);
  }
  out.values.clear();
  return out;
}

/// Shapes for inputs that leave more than their batch open.
ShapeOverrides free_sizes(const Graph& graph) {
  constexpr std::int64_t kSize = 32;
  ShapeOverrides shapes;
  for (const ValueInfo* input : graph.required_inputs()) {
    if (!input->shape) continue;
    std::vector<std::int64_t> shape;
    for (std::size_t d = 0; d < input->shape->size(); ++d) {
      const Dim& dim = (*input->shape)[d];
      shape.push_back(dim.known() ? dim.value : d == 0 ? 1 : kSize);
    }
    shapes[input->name] = std::move(shape);
  }
  return shapes;
}

struct Compared {
  double worst = 0, scale = 1;
};

Compared compare(const Graph& learnt, const Graph& folded, const std::vector<Feeds>& samples, bool wide) {
  Executor a(learnt), b(folded);
  Compared result;
  for (const Feeds& sample : samples) {
    Feeds feeds = sample;
    if (wide)
      for (auto& [name, value] : feeds)
        if (value.scalar_type() == at::kFloat) value = value.to(at::kDouble);
    const Feeds wanted = a.run(feeds), got = b.run(feeds);
    for (const ValueInfo& output : learnt.outputs) {
      const at::Tensor& value = wanted.at(output.name);
      if (!value.is_floating_point() || value.numel() == 0) continue;
      const Difference difference = lithe::difference(got.at(output.name), value);
      if (!difference.finite)
        fail("the output of the trained model is not finite; train again with a lower rate");
      result.worst = std::max(result.worst, difference.max_abs);
      result.scale = std::max(result.scale, value.abs().max().item<double>());
    }
  }
  return result;
}

}  // namespace

FoldDifference fold_difference(const Graph& learnt, const Graph& folded, const DatasetPtr& data,
                               std::int64_t samples) {
  const at::NoGradGuard no_grad;
  std::vector<Feeds> feeds;
  if (data) {
    const std::int64_t fixed = fixed_batch(learnt);
    Loader loader(seeded_subset(data, std::max(samples, fixed), 1),
                  {.batch = std::max<std::int64_t>(fixed, 1), .threads = 1, .drop_last = fixed > 0});
    for (Batch batch; loader.next(batch);) feeds.push_back(bind_inputs(learnt, batch.inputs));
  } else {
    feeds.push_back(random_inputs(learnt, 1, free_sizes(learnt)));
  }
  const Compared single = compare(learnt, folded, feeds, false);
  FoldDifference result{.absolute = single.worst,
                        .scale = single.scale,
                        .relative = single.worst / single.scale,
                        .exact = std::nullopt};
  try {
    result.exact = compare(in_double(learnt), in_double(folded), feeds, true).worst;
  } catch (const Error&) {
    // An operator that float64 does not suit: what float32 shows must do.
  }
  return result;
}

void check_patterns(const Graph& folded, const std::vector<MaskedLayer>& layers) {
  std::map<std::pair<std::int64_t, std::int64_t>, std::vector<SparsityCheck>> by_pattern;
  for (const MaskedLayer& one : layers) {
    const TensorData& weight = folded.constants.at(one.layer.weight);
    const auto [n, m] = *one.layer.pattern;
    const std::vector<float> values = weight.to_floats();
    if (const std::int64_t bad = count_nm_violations(values.data(), one.layer.groups, n, m); bad > 0)
      fail("'{}' of layer '{}' breaks {}:{} in {} groups after folding; nothing is written", one.layer.weight,
           one.layer.name, n, m, bad);
    const auto negative =
        std::find_if(values.begin(), values.end(), [](float v) { return v == 0 && std::signbit(v); });
    if (negative != values.end())
      fail("'{}' of layer '{}' holds -0 at element {}; nothing is written", one.layer.weight, one.layer.name,
           negative - values.begin());
    // And as `inspect --check-sparsity` sees it; it leaves out what does not divide.
    auto& checks = by_pattern[{n, m}];
    if (checks.empty()) checks = check_sparsity(folded, *one.layer.pattern);
    for (const SparsityCheck& check : checks)
      if (check.tensor == one.layer.weight && check.violations > 0)
        fail("'{}' of layer '{}' breaks {}:{} in {} groups; nothing is written", check.tensor, check.node, n,
             m, check.violations);
  }
}

}  // namespace lithe
