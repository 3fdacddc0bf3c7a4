#include "lithe/engine/random_inputs.h"

#include "lithe/base/error.h"
#include "lithe/base/math.h"
#include "lithe/base/random.h"
#include "lithe/ops/registry.h"

namespace lithe {
namespace {

constexpr std::int64_t kMaxElements = std::int64_t{1} << 30;

std::vector<std::int64_t> shape_of(const ValueInfo& input, const ShapeOverrides& shapes, std::int64_t batch) {
  if (const auto given = shapes.find(input.name); given != shapes.end()) {
    const std::vector<std::int64_t>& wanted = given->second;
    bool fits = !input.shape || wanted.size() == input.shape->size();
    for (std::size_t i = 0; input.shape && fits && i < wanted.size(); ++i)
      fits = !(*input.shape)[i].known() || (*input.shape)[i].value == wanted[i];
    if (!fits)
      fail("--shape {}={}: the model takes {}; only what it leaves open can be chosen", input.name,
           format_shape(wanted), format_type(input));
    return wanted;
  }
  if (!input.shape)
    fail("input '{}' declares no shape; give one with --shape {}=...", input.name, input.name);
  std::vector<std::int64_t> shape;
  for (std::size_t i = 0; i < input.shape->size(); ++i) {
    const Dim& dim = (*input.shape)[i];
    if (!dim.known() && i > 0)
      fail("input '{}' is {}; give its shape with --shape {}=...", input.name, format_type(input),
           input.name);
    shape.push_back(dim.known() ? dim.value : batch);
  }
  return shape;
}

}  // namespace

Feeds random_inputs(const Graph& graph, std::uint64_t seed, const ShapeOverrides& shapes,
                    std::int64_t batch) {
  for (const auto& [name, shape] : shapes) {
    const ValueInfo* info = nullptr;
    for (const ValueInfo& input : graph.inputs)
      if (input.name == name) info = &input;
    if (!info) fail("--shape {}: the model has no input of that name", name);
  }
  Feeds feeds;
  std::uint64_t stream = 0;
  for (const ValueInfo* input : graph.required_inputs()) {
    const auto shape = shape_of(*input, shapes, batch);
    const auto count = element_count(shape);
    if (!count || *count > kMaxElements)
      fail("input '{}': the shape {} is too large", input->name, format_shape(shape));
    Rng rng(seed, stream++);
    std::vector<double> values(static_cast<std::size_t>(*count));
    for (double& value : values)
      value = is_float(input->dtype) ? rng.normal() : static_cast<double>(rng.below(2));
    feeds[input->name] = at::tensor(values, at::kDouble).reshape(shape).to(scalar_type_of(input->dtype));
  }
  return feeds;
}

}  // namespace lithe
