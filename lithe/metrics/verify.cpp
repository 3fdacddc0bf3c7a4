#include "lithe/metrics/verify.h"

#include <algorithm>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/engine/onnxruntime.h"
#include "lithe/graph/onnx.h"
#include "lithe/graph/subset_function.h"

namespace lithe {
namespace {

/// Values made by quantising nodes, with the types of their codes. Codes below 8 bits cannot be fetched from
/// ONNX Runtime: those values are recomputed along with what reads them.
std::vector<ValueInfo> quantized_values(const Graph& graph) {
  std::vector<ValueInfo> values;
  for (const Node& node : graph.nodes) {
    DType dtype = DType::UInt8;
    if (is_static_subset(node) || is_dynamic_subset(node)) {
      dtype = DType::Float32;
    } else if (node.is("QuantizeLinear")) {
      if (const TensorData* zero_point = graph.constant(node.input(2))) dtype = zero_point->dtype();
    } else if (!node.is("DynamicQuantizeLinear")) {
      continue;
    }
    if (dtype_bits(dtype) >= 8) values.push_back({.name = node.outputs[0], .dtype = dtype});
  }
  return values;
}

constexpr double kSamePoint = 1e-5;  // of the largest value: points lie 1/1024 of it apart

const at::Tensor& same_shape(const at::Tensor& value, const at::Tensor& reference, const std::string& model,
                             const std::string& name) {
  if (value.sizes() != reference.sizes())
    fail("{}: '{}' has shape {} here but {} in ONNX Runtime", model, name, format_shape(value.sizes().vec()),
         format_shape(reference.sizes().vec()));
  return value;
}

void compare_codes(const std::string& name, const at::Tensor& ours, const at::Tensor& theirs,
                   double tolerance, CodeComparison& total) {
  // Points of a table are floats, and carry the last bits of dynamic statistics: another point is one step.
  const bool points = at::isFloatingType(theirs.scalar_type());
  const at::Tensor step = points ? (ours - theirs).abs().gt(kSamePoint * theirs.abs().max()).to(at::kLong)
                                 : (ours.to(at::kLong) - theirs.to(at::kLong)).abs();
  const std::int64_t differing = step.count_nonzero().item<std::int64_t>();
  const std::int64_t largest = step.numel() > 0 ? step.max().item<std::int64_t>() : 0;
  const double share =
      step.numel() > 0 ? static_cast<double>(differing) / static_cast<double>(step.numel()) : 0.0;
  // One code on an edge says nothing, however few there are.
  const bool pass = largest <= 1 && (share <= tolerance || differing <= 1);
  if (!pass || total.worst.empty() || share > total.largest_share) total.worst = name;
  total.values += 1;
  total.codes += step.numel();
  total.differing += differing;
  total.largest_step = std::max(total.largest_step, largest);
  total.largest_share = std::max(total.largest_share, share);
  total.pass = total.pass && pass;
}

}  // namespace

bool holds_means(const Graph& graph, const GraphIndex& index, const std::string& quantized) {
  const auto maker_of = [&](const std::string& value) -> const Node* {
    const int node = index.producer(value);
    return node < 0 ? nullptr : &graph.nodes[static_cast<std::size_t>(node)];
  };
  const Node* maker = maker_of(quantized);
  if (maker) maker = maker_of(maker->input(0));
  while (maker && (maker->is("Relu") || maker->is("Clip"))) maker = maker_of(maker->input(0));
  return maker && (maker->is("GlobalAveragePool") || maker->is("AveragePool") || maker->is("ReduceMean"));
}

Verification verify(Executor& executor, const std::filesystem::path& model, const Feeds& feeds,
                    const VerifyOptions& options) {
  const Graph& graph = executor.graph();
  const OnnxRuntimeOptions session{.threads = options.threads, .optimization = options.optimization};
  const std::vector<ValueInfo> quantized = quantized_values(graph);
  Verification result;
  Feeds ours;
  try {
    ours = executor.run(feeds);
  } catch (const Error& error) {
    throw Error(error.kind(), fmt::format("{}: {}", model.string(), error.what()));
  }
  const Feeds theirs = OnnxRuntime(model, session).run(feeds);

  Feeds with_codes = feeds, from_codes;
  if (!quantized.empty()) {
    Graph open = graph;
    for (const ValueInfo& value : quantized)
      if (std::none_of(graph.outputs.begin(), graph.outputs.end(),
                       [&](const ValueInfo& output) { return output.name == value.name; }))
        open.outputs.push_back(value);
    const TemporaryFolder folder;
    write_onnx(open, folder.path() / "open.onnx");
    Feeds codes = OnnxRuntime(folder.path() / "open.onnx", session).run(feeds);
    for (const ValueInfo& output : graph.outputs) from_codes[output.name] = codes.at(output.name);
    for (const ValueInfo& value : quantized) with_codes[value.name] = codes.at(value.name);
    const GraphIndex index(graph);
    for (const ValueInfo& value : quantized) {
      const double tolerance = holds_means(graph, index, value.name) ? 1.0 : options.code_tolerance;
      Feeds before = with_codes;
      before.erase(value.name);
      const at::Tensor recomputed = executor.run(before, {value.name}).at(value.name).to(at::kCPU);
      compare_codes(value.name, same_shape(recomputed, codes.at(value.name), model.string(), value.name),
                    codes.at(value.name), tolerance, result.codes);
    }
  }

  result.pass = result.codes.pass;
  for (const ValueInfo& output : graph.outputs) {
    const at::Tensor value = ours.at(output.name).to(at::kCPU), &reference = theirs.at(output.name);
    OutputComparison one{.name = output.name};
    one.end_to_end = difference(same_shape(value, reference, model.string(), output.name), reference);
    if (value.dim() >= 1 && value.numel() > 0) one.argmax_agreement = argmax_agreement(value, reference);
    one.judged = one.end_to_end;
    if (!quantized.empty() && with_codes.find(output.name) == with_codes.end())
      one.judged = difference(executor.run(with_codes, {output.name}).at(output.name).to(at::kCPU),
                              from_codes.at(output.name));
    one.pass = one.judged.finite && one.judged.max_rel <= options.tolerance;
    result.pass = result.pass && one.pass;
    result.outputs.push_back(one);
  }
  return result;
}

}  // namespace lithe
