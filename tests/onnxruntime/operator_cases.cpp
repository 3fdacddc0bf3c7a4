#include "onnxruntime/operator_cases.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <numeric>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/engine/onnxruntime.h"
#include "lithe/graph/onnx.h"
#include "lithe/ops/registry.h"

namespace lithe {
namespace {

std::int64_t product_of(const Ints& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
}

Graph empty_graph(std::int64_t opset) {
  Graph graph;
  graph.header.ir_version = opset > 22 ? 11 : 10;
  graph.header.opsets = {{"", opset}};
  return graph;
}

/// Inputs become constants, so that any element type can be given; names are unique by `prefix`.
void add_case(Graph& graph, const OperatorCase& one, const std::string& prefix) {
  Node node{.name = prefix, .op_type = one.op_type, .attributes = one.attributes};
  for (const Operand& input : one.inputs) {
    node.inputs.push_back(input.data ? fmt::format("{}/x{}", prefix, node.inputs.size()) : "");
    if (input.data) graph.constants[node.inputs.back()] = *input.data;
  }
  std::vector<Node> casts;
  for (std::size_t i = 0; i < one.outputs; ++i) {
    std::string value = fmt::format("{}/y{}", prefix, i);
    node.outputs.push_back(value);
    if (one.cast != DType::Undefined) {
      casts.push_back({.name = value + "/cast",
                       .op_type = "Cast",
                       .inputs = {value},
                       .outputs = {value + "/cast"},
                       .attributes = {{"to", static_cast<std::int64_t>(one.cast)}}});
      value = casts.back().outputs[0];
    }
    graph.outputs.push_back({.name = value});
  }
  graph.nodes.push_back(std::move(node));
  graph.nodes.insert(graph.nodes.end(), casts.begin(), casts.end());
}

/// Optimisations are off: the kernels are asked, not the folding of constants.
Feeds judge(const Graph& graph, const std::filesystem::path& file) {
  write_onnx(graph, file);
  return OnnxRuntime(file, {.optimization = "disabled"}).run({});
}

void expect_equal(const at::Tensor& actual, const at::Tensor& expected, const std::string& where) {
  ASSERT_TRUE(actual.defined()) << where;
  EXPECT_EQ(actual.scalar_type(), expected.scalar_type()) << where;
  ASSERT_EQ(actual.sizes(), expected.sizes()) << where;
  const bool exact = !at::isFloatingType(expected.scalar_type()), half = expected.scalar_type() == at::kHalf;
  const double rtol = exact ? 0 : half ? 2e-3 : 1e-4, atol = exact ? 0 : half ? 2e-3 : 1e-5;
  EXPECT_TRUE(at::allclose(actual.to(at::kDouble), expected.to(at::kDouble), rtol, atol, /*equal_nan=*/true))
      << where << "\nLithe:\n"
      << actual << "\nONNX Runtime:\n"
      << expected;
}

}  // namespace

Operand::Operand(const at::Tensor& tensor) {
  if (tensor.defined()) data = to_tensor_data(tensor);
}

at::Tensor Operands::floats(const Ints& shape, double low, double high) {
  std::vector<float> values(static_cast<std::size_t>(product_of(shape)));
  for (float& value : values) value = static_cast<float>(low + (high - low) * rng_.uniform());
  return at::tensor(values, at::kFloat).reshape(shape);
}

at::Tensor Operands::ints(const Ints& shape, std::int64_t low, std::int64_t high) {
  Ints values(static_cast<std::size_t>(product_of(shape)));
  for (std::int64_t& value : values)
    value = low + static_cast<std::int64_t>(rng_.below(static_cast<std::uint64_t>(high - low)));
  return at::tensor(values, at::kLong).reshape(shape);
}

TensorData Operands::codes(DType dtype, const Ints& shape, std::int64_t low, std::int64_t high) {
  const at::Tensor values = ints(shape, low, high);
  const int bits = dtype_bits(dtype);
  auto bytes =
      std::make_shared<std::vector<std::byte>>(static_cast<std::size_t>(packed_bytes(dtype, values.numel())));
  for (std::int64_t i = 0; i < values.numel(); ++i)
    for (int bit = 0; bit < bits; ++bit) {
      const std::int64_t place = i * bits + bit;
      if ((values.data_ptr<std::int64_t>()[i] >> bit) & 1)
        (*bytes)[static_cast<std::size_t>(place / 8)] |= std::byte{1} << (place % 8);
    }
  return TensorData(dtype, shape, *bytes, bytes);
}

void expect_as_onnx_runtime(const std::vector<OperatorCase>& cases) {
  at::set_num_threads(1);
  const at::NoGradGuard no_grad;
  const TemporaryFolder work;
  const std::filesystem::path file = work.path() / "operators.onnx";
  std::map<std::int64_t, Graph> together;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const auto at = together.try_emplace(cases[i].opset, empty_graph(cases[i].opset)).first;
    add_case(at->second, cases[i], fmt::format("{}", i));
  }
  Feeds expected;
  std::map<std::int64_t, bool> judged;
  for (const auto& [opset, graph] : together) try {
      expected.merge(judge(graph, file));
      judged[opset] = true;
    } catch (const Error&) {  // one by one, to say which one is refused
    }
  for (std::size_t i = 0; i < cases.size(); ++i) {
    const std::string where = fmt::format("case {}: {}, opset {}", i, cases[i].op_type, cases[i].opset);
    Graph graph = empty_graph(cases[i].opset);
    add_case(graph, cases[i], fmt::format("{}", i));
    try {
      if (!judged[cases[i].opset]) expected.merge(judge(graph, file));
      for (const auto& [name, value] : Executor(graph).run({}))
        expect_equal(value, expected.at(name), fmt::format("{}, output {}", where, name));
    } catch (const Error& error) {
      ADD_FAILURE() << where << ": " << error.what();
    }
  }
}

}  // namespace lithe
