// Reading a model and writing it again changes no output in stock ONNX Runtime.
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <iostream>
#include <map>
#include <optional>
#include <set>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/engine/onnxruntime.h"
#include "lithe/engine/random_inputs.h"
#include "lithe/graph/onnx.h"
#include "lithe/models/models.h"
#include "lithe/ops/registry.h"
#include "onnxruntime/need.h"
#include "real_models.h"

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

/// The stored inputs of each data set of a node test; nothing where one is not a tensor that Lithe holds.
std::optional<std::vector<Feeds>> stored_inputs(const Graph& graph, const fs::path& folder) {
  std::vector<Feeds> sets;
  for (int set = 0; fs::exists(folder / fmt::format("test_data_set_{}", set)); ++set) {
    Feeds feeds;
    for (std::size_t i = 0; i < graph.inputs.size(); ++i) {
      const fs::path file = folder / fmt::format("test_data_set_{}/input_{}.pb", set, i);
      if (!fs::exists(file)) continue;
      const DType dtype = graph.inputs[i].dtype;
      if (!graph.inputs[i].other_type.empty() || dtype == DType::String || dtype == DType::BFloat16)
        return std::nullopt;
      feeds[graph.inputs[i].name] = to_tensor(read_onnx_tensor(file));
    }
    sets.push_back(std::move(feeds));
  }
  return sets;
}

struct Outcome {
  std::vector<Feeds> outputs;
  std::string error;  // why there are none
};

Outcome run_sets(OnnxRuntime& runtime, const std::vector<Feeds>& sets) {
  Outcome out;
  try {
    for (const Feeds& feeds : sets) out.outputs.push_back(runtime.run(feeds));
  } catch (const Error& error) {
    const std::string text = error.what();
    out.error = text.substr(text.find(": ONNX Runtime: "));  // without the name of the file
  }
  return out;
}

bool same_bits(const Outcome& a, const Outcome& b) {
  if (a.error != b.error || a.outputs.size() != b.outputs.size()) return false;
  for (std::size_t set = 0; set < a.outputs.size(); ++set) {
    if (a.outputs[set].size() != b.outputs[set].size()) return false;
    for (const auto& [name, one] : a.outputs[set]) {
      const auto found = b.outputs[set].find(name);
      if (found == b.outputs[set].end()) return false;
      const at::Tensor& two = found->second;
      if (one.scalar_type() != two.scalar_type() || one.sizes() != two.sizes() ||
          std::memcmp(one.data_ptr(), two.data_ptr(), one.nbytes()) != 0)
        return false;
    }
  }
  return true;
}

TEST(RoundTrip, EveryBackendNodeTestGivesTheSameOutputs) {
  LITHE_NEED_ONNX_RUNTIME();
  const fs::path root = "/usr/share/libonnx-testdata/data/node";
  if (!fs::exists(root)) GTEST_SKIP() << "libonnx-testdata is not installed";
  const TemporaryFolder work;
  const fs::path copy = work.path() / "copy.onnx";
  std::set<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(root)) folders.insert(entry.path());
  OnnxRuntime runtime(root / "test_abs" / "model.onnx");
  int loaded = 0, equal = 0;
  std::map<std::string, int> others;
  for (const fs::path& folder : folders) {
    SCOPED_TRACE(folder.filename().string());
    try {
      runtime.load(folder / "model.onnx");
    } catch (const Error&) {
      ++others["not loaded by ONNX Runtime"];
      continue;
    }
    ++loaded;
    const Graph graph = read_onnx(folder / "model.onnx");
    const auto sets = stored_inputs(graph, folder);
    Outcome before, again;
    if (sets) {
      before = run_sets(runtime, *sets);
      again = run_sets(runtime, *sets);
    }
    write_onnx(graph, copy);
    ASSERT_NO_THROW(runtime.load(copy));
    if (!sets) {
      ++others["loaded, inputs are not numbers"];
    } else if (!same_bits(before, again)) {
      ++others["random"];
    } else {
      EXPECT_TRUE(same_bits(before, run_sets(runtime, *sets)));
      if (before.error.empty())
        ++equal;
      else
        ++others["loaded, same message" + before.error.substr(0, 60)];
    }
  }
  std::cout << "node tests read, written and run again: " << equal << " bit-equal of " << loaded
            << " that ONNX Runtime loads, " << folders.size() << " in all\n";
  for (const auto& [reason, count] : others) std::cout << "  " << count << " x " << reason << "\n";
  EXPECT_GE(equal, 860);
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
  const TemporaryFolder work;
  for (const fs::path& path : test::real_models()) {
    SCOPED_TRACE(path.string());
    const Graph graph = read_onnx(path);
    ShapeOverrides shapes;
    for (const ValueInfo* input : graph.required_inputs())
      if (input->shape && input->shape->size() == 4) {
        auto& shape = shapes[input->name];
        for (const Dim& dim : *input->shape)
          shape.push_back(dim.known() ? dim.value : shape.empty() ? 1 : 32);
      }
    write_onnx(graph, work.path() / "copy.onnx");
    expect_equal_outputs(path, work.path() / "copy.onnx", random_inputs(graph, 3, shapes));
  }
}

}  // namespace
}  // namespace lithe
