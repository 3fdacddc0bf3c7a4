#include "lithe/quantize/reconstruct/step_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "lithe/base/error.h"

namespace lithe {
namespace {

constexpr std::int64_t kPerValue = 3;   // itself, its quantised form, its gradient
constexpr std::int64_t kPerWeight = 6;  // soft weight, base, variable, two moments, gradient

std::int64_t elements_of(const Graph& graph, const std::string& value) {
  const ValueInfo* info = value.empty() ? nullptr : graph.info(value);
  if (!info || !info->shape) return 0;
  std::int64_t elements = 1;
  for (const Dim& dim : *info->shape) elements *= dim.known() ? dim.value : 1;
  return elements;
}

}  // namespace

StepMemory::StepMemory(const Graph& shaped, const std::vector<Unit>& units, std::int64_t samples)
    : samples_(samples) {
  constexpr auto kSize = static_cast<std::int64_t>(sizeof(float));
  for (const Unit& unit : units) {
    std::int64_t values = 0;
    for (const int node : unit.nodes)
      for (const std::string& name : shaped.nodes[static_cast<std::size_t>(node)].outputs)
        values += elements_of(shaped, name);
    values_.push_back(kPerValue * kSize * values);
    weights_.push_back(kPerWeight * kSize * unit_weights(shaped, unit));
  }
}

std::int64_t StepMemory::bytes(int first, int last, std::int64_t samples) const {
  const auto sum = [&](const std::vector<std::int64_t>& bytes) {
    return std::accumulate(bytes.begin() + first, bytes.begin() + last + 1, std::int64_t{0});
  };
  return sum(weights_) + sum(values_) / samples_ * samples;
}

StepBatch choose_step_batch(const StepMemory& step, const std::vector<Unit>& units,
                            const std::vector<std::vector<int>>& groups, std::int64_t batch,
                            std::int64_t unit_batch, std::int64_t memory) {
  if (memory <= 0 || groups.empty()) return {.samples = batch};
  const auto need = [&](const std::vector<int>& group, std::int64_t samples) {
    return step.bytes(group.front(), group.back(), samples);
  };
  const auto largest = [&](std::int64_t samples) {
    return *std::max_element(groups.begin(), groups.end(), [&](const auto& a, const auto& b) {
      return need(a, samples) < need(b, samples);
    });
  };
  for (std::int64_t samples = batch; samples >= unit_batch; --samples) {
    if (batch % samples != 0 || samples % unit_batch != 0) continue;
    const std::int64_t bytes = need(largest(samples), samples);
    if (bytes <= step_share(memory) || (samples == unit_batch && bytes <= memory)) return {samples, bytes};
  }
  const std::vector<int> group = largest(unit_batch);
  const std::string& first = units[static_cast<std::size_t>(group.front())].name;
  const std::string& last = units[static_cast<std::size_t>(group.back())].name;
  fail("--memory: a step of {} on {} holds {:.1f} MB, more than the {:.1f} MB allowed; allow more{}",
       group.size() == 1 ? fmt::format("unit '{}'", first)
                         : fmt::format("units '{}' to '{}' together", first, last),
       unit_batch == 1 ? "a single sample" : fmt::format("{} samples", unit_batch),
       static_cast<double>(need(group, unit_batch)) / 1e6, static_cast<double>(memory) / 1e6,
       group.size() == units.size() && group.size() > 1 ? ", or leave out --polish" : "");
}

}  // namespace lithe
