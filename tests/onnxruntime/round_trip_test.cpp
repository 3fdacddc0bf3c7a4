// Reading a model and writing it again changes no output in stock ONNX Runtime.
#include <gtest/gtest.h>

#include <filesystem>

#include "lithe/base/file.h"
#include "lithe/engine/onnxruntime.h"
#include "lithe/engine/random_inputs.h"
#include "lithe/graph/onnx.h"
#include "lithe/models/models.h"
#include "lithe/ops/registry.h"
#include "onnxruntime/need.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;

void expect_equal_outputs(const fs::path& before, const fs::path& after, const Feeds& feeds) {
  OnnxRuntime a(before), b(after);
  const Feeds one = a.run(feeds), two = b.run(feeds);
  ASSERT_EQ(one.size(), two.size());
  for (const auto& [name, value] : one) {
    const bool equal =
        at::allclose(value.to(at::kDouble), two.at(name).to(at::kDouble), 0, 0, /*equal_nan=*/true);
    EXPECT_TRUE(equal) << before << " " << name;
  }
}

TEST(RoundTrip, BackendNodeTestsGiveTheSameOutputs) {
  LITHE_NEED_ONNX_RUNTIME();
  const fs::path folder = "/usr/share/libonnx-testdata/data/node";
  if (!fs::exists(folder)) GTEST_SKIP() << "libonnx-testdata is not installed";
  const TemporaryFolder work;
  int compared = 0;
  // One of each kind of content: sub-graphs, functions, strings of attributes, typed initialisers, dynamic
  // shapes.
  for (const char* name :
       {"test_if", "test_loop11", "test_conv_with_strides_padding", "test_batchnorm_example",
        "test_sce_mean_expanded", "test_resize_upsample_sizes_nearest", "test_quantizelinear_axis",
        "test_qlinearconv", "test_layer_normalization_default_axis_expanded", "test_celu_expanded",
        "test_dynamicquantizelinear_expanded", "test_lstm_defaults"}) {
    const fs::path model = folder / name / "model.onnx";
    ASSERT_TRUE(fs::exists(model)) << model;
    const Graph graph = read_onnx(model);
    const fs::path copy = work.path() / "copy.onnx";
    write_onnx(graph, copy);
    Feeds feeds;
    for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
      const fs::path input = folder / name / "test_data_set_0" / ("input_" + std::to_string(i) + ".pb");
      feeds[graph.inputs[i].name] = to_tensor(read_onnx_tensor(input));
    }
    expect_equal_outputs(model, copy, feeds);
    ++compared;
  }
  EXPECT_EQ(compared, 12);
}

TEST(RoundTrip, ExternalDataGivesTheSameOutputs) {
  LITHE_NEED_ONNX_RUNTIME();
  const TemporaryFolder work;
  const Graph graph = build_resnet20();
  write_onnx(graph, work.path() / "embedded.onnx");
  write_onnx(graph, work.path() / "external.onnx", {.external_threshold = 256});
  const Graph again = read_onnx(work.path() / "external.onnx");
  write_onnx(again, work.path() / "again.onnx");
  const Feeds feeds = random_inputs(graph, 2);
  expect_equal_outputs(work.path() / "embedded.onnx", work.path() / "external.onnx", feeds);
  expect_equal_outputs(work.path() / "embedded.onnx", work.path() / "again.onnx", feeds);
}

TEST(RoundTrip, RealModelsGiveTheSameOutputs) {
  LITHE_NEED_ONNX_RUNTIME();
  const char* root = std::getenv("LITHE_DATA");
  if (!root) GTEST_SKIP() << "LITHE_DATA does not name a folder of real models";
  const TemporaryFolder work;
  for (const auto& entry : fs::directory_iterator(fs::path(root) / "models")) {
    const Graph graph = read_onnx(entry.path());
    ShapeOverrides shapes;
    for (const ValueInfo* input : graph.required_inputs())
      if (input->shape && input->shape->size() == 4) {
        auto& shape = shapes[input->name];
        for (const Dim& dim : *input->shape)
          shape.push_back(dim.known() ? dim.value : shape.empty() ? 1 : 32);
      }
    write_onnx(graph, work.path() / "copy.onnx");
    expect_equal_outputs(entry.path(), work.path() / "copy.onnx", random_inputs(graph, 3, shapes));
  }
}

}  // namespace
}  // namespace lithe
