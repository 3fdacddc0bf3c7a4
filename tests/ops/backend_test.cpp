// The ONNX project's own backend tests, for every operator that the registry and the engine claim.
// The data is Debian's package libonnx-testdata (LITHE_ONNX_TESTDATA names another place).
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <set>

#include "lithe/engine/executor.h"
#include "lithe/graph/onnx.h"
#include "ops/op_testing.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;

constexpr double kRelativeTolerance = 1e-3,
                 kAbsoluteTolerance = 1e-5;  // those of onnx's own runner, or stricter

constexpr const char* kNoBfloat16 = "the data stores bfloat16 as truncated uint16";

fs::path data_folder() {
  const char* folder = std::getenv("LITHE_ONNX_TESTDATA");
  return folder ? folder : "/usr/share/libonnx-testdata/data";
}

/// Calls `visit` for the nodes of a list, of their sub-graphs and of the model's functions.
template <typename Visit>
void visit_nodes(const std::vector<Node>& nodes, const Visit& visit) {
  for (const Node& node : nodes) {
    visit(node);
    for (const auto& [name, attribute] : node.attributes)
      if (const auto* graph = std::get_if<GraphPtr>(&attribute)) visit_nodes((*graph)->nodes, visit);
  }
}

bool is_numeric(const ValueInfo& value) {
  switch (value.dtype) {
    case DType::String:
    case DType::Complex64:
    case DType::Complex128:
    case DType::Float8E4M3FN:
    case DType::Float8E4M3FNUZ:
    case DType::Float8E5M2:
    case DType::Float8E5M2FNUZ:
    case DType::Float8E8M0:
    case DType::Float4E2M1:
      return false;
    default:
      return value.other_type.empty();
  }
}

/// Older versions of the data store bfloat16 as uint16, truncated where conversion should round.
bool is_disguised(const ValueInfo& value, const fs::path& file) {
  return value.dtype == DType::BFloat16 && read_onnx_tensor(file).dtype() != DType::BFloat16;
}

/// Why the test cannot be put to an engine that computes numbers; "" where it can.
std::string outside_scope(const Graph& model, const Feeds& feeds) {
  for (const auto* values : {&model.inputs, &model.outputs})
    for (const ValueInfo& value : *values)
      if (!is_numeric(value))
        return "an input or output is not a tensor of a type that the engine computes with";
  std::string reason;
  const auto visit = [&](const Node& node) {
    static const std::set<std::string, std::less<>> kRandom{
        "RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Bernoulli", "Multinomial"};
    if (kRandom.count(node.op_type)) reason = "the expected output is one draw of another random generator";
    const auto fed = [&](std::size_t index) {
      const auto found = feeds.find(node.input(index));
      if (found != feeds.end()) return found->second;
      const TensorData* constant = model.constant(node.input(index));
      return constant ? to_tensor(*constant) : at::Tensor();
    };
    if (!node.is("Dropout")) return;
    const at::Tensor ratio = fed(1), training = fed(2);
    if (training.defined() && training.item<bool>() && !(ratio.defined() && ratio.item<double>() == 0))
      reason = "the expected output is one draw of another random generator";
  };
  visit_nodes(model.nodes, visit);
  for (const Function& function : model.header.functions) visit_nodes(function.nodes, visit);
  return reason;
}

/// "" if the output is as expected.
std::string difference(const at::Tensor& actual, const at::Tensor& expected) {
  if (!actual.defined()) return "is missing";
  if (actual.scalar_type() != expected.scalar_type())
    return fmt::format("has type {}, expected {}", c10::toString(actual.scalar_type()),
                       c10::toString(expected.scalar_type()));
  if (actual.sizes() != expected.sizes())
    return fmt::format("has shape {}, expected {}", format_shape(actual.sizes().vec()),
                       format_shape(expected.sizes().vec()));
  const bool exact = !at::isFloatingType(expected.scalar_type());
  const at::Tensor a = actual.to(at::kDouble), b = expected.to(at::kDouble);
  if (at::allclose(a, b, exact ? 0 : kRelativeTolerance, exact ? 0 : kAbsoluteTolerance, /*equal_nan=*/true))
    return "";
  return fmt::format(
      "differs by up to {:.3g}",
      at::where(a == b, at::zeros_like(a), (a - b).abs()).nan_to_num(INFINITY).max().item<double>());
}

std::vector<fs::path> numbered(const fs::path& folder, const std::string& prefix) {
  std::vector<fs::path> files;
  while (true) {
    const fs::path file = folder / fmt::format("{}{}.pb", prefix, files.size());
    if (!fs::exists(file)) return files;
    files.push_back(file);
  }
}

struct Outcome {
  bool claimed = false;
  std::string reason;  // of not being claimed, or of failing; "" where the test passed
};

Outcome run_data_set(const Graph& model, const fs::path& folder) {
  Feeds feeds;
  const auto inputs = numbered(folder, "input_"), outputs = numbered(folder, "output_");
  for (const auto* values : {&model.inputs, &model.outputs})
    for (const ValueInfo& value : *values)
      if (!is_numeric(value)) return {false, outside_scope(model, feeds)};
  for (std::size_t i = 0; i < inputs.size(); ++i)
    if (is_disguised(model.inputs.at(i), inputs[i])) return {false, kNoBfloat16};
  for (std::size_t i = 0; i < outputs.size(); ++i)
    if (is_disguised(model.outputs.at(i), outputs[i])) return {false, kNoBfloat16};
  for (std::size_t i = 0; i < inputs.size(); ++i)
    feeds.emplace(model.inputs.at(i).name, to_tensor(read_onnx_tensor(inputs[i])));
  if (std::string reason = outside_scope(model, feeds); !reason.empty()) return {false, reason};
  Feeds results = Executor(model).run(feeds);
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    const std::string& name = model.outputs.at(i).name;
    if (std::string reason = difference(results[name], to_tensor(read_onnx_tensor(outputs[i])));
        !reason.empty())
      return {true, fmt::format("output '{}' {}", name, reason)};
  }
  return {true, ""};
}

/// Tests whose expected outputs stock runtimes do not give either, with the reason.
const std::map<std::string, std::string, std::less<>> kDisputed{
    {"test_resize_downsample_scales_cubic_align_corners",
     "ONNX Runtime aligns corners of the whole-numbered size"},
    {"test_resize_downsample_scales_linear_align_corners",
     "ONNX Runtime aligns corners of the whole-numbered size"},
};

Outcome run_test(const fs::path& folder) {
  if (const auto found = kDisputed.find(folder.filename().string()); found != kDisputed.end())
    return {false, found->second};
  const Graph model = read_onnx(folder / "model.onnx");
  if (const auto missing = missing_operators(model); !missing.empty()) return {false, missing.front()};
  Outcome outcome{true, ""};
  try {
    for (int set = 0; fs::exists(folder / fmt::format("test_data_set_{}", set)); ++set) {
      outcome = run_data_set(model, folder / fmt::format("test_data_set_{}", set));
      if (!outcome.claimed || !outcome.reason.empty()) return outcome;
    }
  } catch (const std::exception& error) {
    return {true, error.what()};
  }
  return outcome;
}

/// Runs one group of tests. At least `least` must be claimed, so that a registry that forgot operators, or a
/// folder without data, does not pass.
void run_group(const fs::path& root, int least) {
  if (!fs::exists(root))
    GTEST_SKIP() << root << " is missing; install libonnx-testdata or set LITHE_ONNX_TESTDATA";
  at::set_num_threads(1);
  const at::NoGradGuard no_grad;
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(root))
    if (fs::exists(entry.path() / "model.onnx")) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());

  int passed = 0, claimed = 0;
  std::map<std::string, int> unclaimed;
  for (const fs::path& folder : folders) {
    const Outcome outcome = run_test(folder);
    if (!outcome.claimed) {
      ++unclaimed[outcome.reason.substr(0, outcome.reason.find(','))];
      continue;
    }
    ++claimed;
    if (outcome.reason.empty())
      ++passed;
    else
      ADD_FAILURE() << folder.filename().string() << ": " << outcome.reason;
  }
  std::cout << "ONNX backend tests, " << root.string() << ": " << passed << " passed / " << claimed
            << " claimed / " << folders.size() << " all\n";
  for (const auto& [reason, count] : unclaimed)
    std::cout << "  not claimed: " << count << " x " << reason << "\n";
  EXPECT_EQ(passed, claimed);
  EXPECT_GE(claimed, least);
}

TEST(OnnxBackend, NodeTests) {
  run_group(data_folder() / "node", 745);
}
TEST(OnnxBackend, ConvertedModels) {
  run_group(data_folder() / "pytorch-converted", 66);
}
TEST(OnnxBackend, ExportedOperators) {
  run_group(data_folder() / "pytorch-operator", 24);
}
TEST(OnnxBackend, SimpleModels) {
  run_group(data_folder() / "simple", 7);
}

}  // namespace
}  // namespace lithe
