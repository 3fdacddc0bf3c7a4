// Inferred types against the stored outputs of the ONNX project's backend node tests.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/graph/onnx.h"
#include "tests/graph/shape_test.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;

/// Gives every tensor input of the model the shape of its stored value, and small ones their value as a
/// constant default, since some operators' output shapes depend on it.
void bind_inputs(Graph& graph, const fs::path& data, bool with_values) {
  std::vector<std::size_t> bound;
  for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
    const fs::path file = data / fmt::format("input_{}.pb", i);
    if (!graph.inputs[i].other_type.empty() || !fs::exists(file)) continue;
    TensorData tensor = read_onnx_tensor(file);
    DimVector dims;
    for (const std::int64_t size : tensor.shape()) dims.push_back({size, ""});
    graph.inputs[i].shape = dims;
    // Not the ones that stand for another type: bfloat16 is stored as the integers of its bits.
    if (with_values && tensor.count() <= 64 && tensor.dtype() == graph.inputs[i].dtype) {
      graph.constants[graph.inputs[i].name] = tensor;
      bound.push_back(i);
    }
  }
  for (std::size_t i = bound.size(); i-- > 0;)
    graph.inputs.erase(graph.inputs.begin() + static_cast<std::ptrdiff_t>(bound[i]));
}

TEST(NodeTests, InferredShapesAgreeWithStoredOutputs) {
  if (!fs::exists(test::node_test_folder())) GTEST_SKIP() << "libonnx-testdata is not installed";
  int outputs = 0, with_type = 0, with_shape = 0;
  std::set<std::string> without;
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(test::node_test_folder())) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  for (const fs::path& folder : folders) {
    SCOPED_TRACE(folder.filename().string());
    const fs::path data = folder / "test_data_set_0";
    for (const bool with_values : {false, true}) {
      Graph graph = read_onnx(folder / "model.onnx");
      bind_inputs(graph, data, with_values);
      // What the file declares would hide what inference does not know.
      for (ValueInfo& output : graph.outputs) {
        output.shape.reset();
        output.dtype = DType::Undefined;
      }
      ASSERT_NO_THROW(infer_shapes(graph));
      for (std::size_t i = 0; i < graph.outputs.size(); ++i) {
        const fs::path file = data / fmt::format("output_{}.pb", i);
        const ValueInfo& inferred = graph.outputs[i];
        if (!inferred.other_type.empty() || !fs::exists(file)) continue;
        const TensorData stored = read_onnx_tensor(file);
        // The test data store bfloat16 as the integers of its bits.
        const bool disguised = inferred.dtype == DType::BFloat16 && stored.dtype() == DType::UInt16;
        if (inferred.dtype != DType::Undefined && !disguised) {
          EXPECT_EQ(dtype_name(inferred.dtype), dtype_name(stored.dtype()));
        }
        bool complete = inferred.shape.has_value();
        if (inferred.shape) {
          EXPECT_EQ(inferred.shape->size(), stored.shape().size());
          if (inferred.shape->size() == stored.shape().size())
            for (std::size_t axis = 0; axis < stored.shape().size(); ++axis) {
              const Dim& dim = (*inferred.shape)[axis];
              complete = complete && dim.known();
              if (dim.known()) {
                EXPECT_EQ(dim.value, stored.shape()[axis]);
              }
            }
        }
        if (!with_values) continue;
        ++outputs;
        with_type += inferred.dtype != DType::Undefined ? 1 : 0;
        with_shape += complete ? 1 : 0;
        if (!complete) without.insert(graph.nodes.empty() ? "" : graph.nodes.back().op_type);
      }
    }
  }
  std::string names;
  for (const std::string& name : without) names += " " + name;
  fmt::print("{} outputs: type inferred for {}, the whole shape for {}; not for:{}\n", outputs, with_type,
             with_shape, names);
  EXPECT_GT(outputs, 800);
  EXPECT_GT(with_type, outputs * 95 / 100);
  EXPECT_GT(with_shape, outputs * 92 / 100);
}

TEST(NodeTests, FoldedValuesAgreeWithStoredOutputs) {
  if (!fs::exists(test::node_test_folder())) GTEST_SKIP() << "libonnx-testdata is not installed";
  int folded = 0;
  std::set<std::string> operators;
  for (const auto& entry : fs::directory_iterator(test::node_test_folder())) {
    SCOPED_TRACE(entry.path().filename().string());
    const fs::path stored_file = entry.path() / "test_data_set_0/output_0.pb";
    Graph graph = read_onnx(entry.path() / "model.onnx");
    if (graph.outputs.empty() || !graph.outputs[0].other_type.empty() || !fs::exists(stored_file)) continue;
    bind_inputs(graph, entry.path() / "test_data_set_0", true);
    const std::string value = graph.outputs[0].name, type = graph.nodes.back().op_type;
    // Graph outputs are not folded away, so the value is watched through one more node.
    graph.nodes.push_back({.name = "watch", .op_type = "Neg", .inputs = {value}, .outputs = {"watched"}});
    graph.outputs = {{.name = "watched"}};
    fold_shape_constants(graph);
    const TensorData* constant = graph.constant(value);
    if (!constant) continue;
    const TensorData stored = read_onnx_tensor(stored_file);
    EXPECT_EQ(constant->shape(), stored.shape());
    EXPECT_EQ(constant->dtype(), stored.dtype());
    const std::vector<double> have = constant->to_doubles(), want = stored.to_doubles();
    ASSERT_EQ(have.size(), want.size());
    for (std::size_t i = 0; i < have.size(); ++i) EXPECT_NEAR(have[i], want[i], 1e-6 * std::abs(want[i]));
    ++folded;
    operators.insert(type);
  }
  fmt::print("{} outputs of {} operators were computed\n", folded, operators.size());
  EXPECT_GT(operators.size(), 35u);
}

}  // namespace
}  // namespace lithe
