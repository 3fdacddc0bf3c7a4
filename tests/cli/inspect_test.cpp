// `lithe inspect` as a user runs it.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include <cmath>

#include "cli/lithe.h"
#include "lithe/graph/onnx.h"
#include "lithe/models/models.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class Inspect : public testing::Test {
 protected:
  std::string save(const Graph& graph, const std::string& name) {
    const fs::path path = folder_.path() / name;
    write_onnx(graph, path);
    return path.string();
  }
  TemporaryFolder folder_;
};

const nlohmann::json* find_block(const nlohmann::json& blocks, const std::string& name) {
  for (const auto& block : blocks) {
    if (block.at("name") == name) return &block;
    if (const auto* inner = find_block(block.at("children"), name)) return inner;
  }
  return nullptr;
}

TEST_F(Inspect, CountsWhatAResNetCosts) {
  const std::string model = save(build_resnet18(), "resnet18.onnx");
  const Outcome outcome = run_lithe("inspect " + model + " --json");
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  const auto result = outcome.result();
  EXPECT_EQ(result.at("parameters"), 11689512);
  EXPECT_NEAR(result.at("macs").get<double>(), 1.814e9, 2e6);
  EXPECT_EQ(result.at("inputs")[0].at("shape"), nlohmann::json({"batch", 3, 224, 224}));
  EXPECT_EQ(result.at("outputs")[0].at("shape"), nlohmann::json({"batch", 1000}));
  ASSERT_EQ(result.at("blocks").size(), 8u);
  EXPECT_EQ(result.at("blocks")[0].at("name"), "layer1.0");
  EXPECT_EQ(result.at("blocks")[0].at("kind"), "residual");
  EXPECT_EQ(result.at("blocks")[2].at("skippable"), false);
  std::int64_t convolutions = 0;
  for (const auto& one : result.at("operators"))
    if (one.at("op") == "Conv") convolutions = one.at("count");
  EXPECT_EQ(convolutions, 20);
  // Twice the batch: twice the work.
  const Outcome two = run_lithe("inspect " + model + " --json --shape input=2,3,224,224");
  EXPECT_EQ(two.result().at("macs").get<std::int64_t>(), 2 * result.at("macs").get<std::int64_t>());
  EXPECT_EQ(two.result().at("activation_bytes").get<std::int64_t>(),
            2 * result.at("activation_bytes").get<std::int64_t>());
}

TEST_F(Inspect, PrintsATableForPeople) {
  const std::string model = save(build_edsr({.channels = 8, .blocks = 2}), "edsr.onnx");
  const Outcome outcome = run_lithe("inspect " + model);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  for (const char* text : {"[batch, 3, 48, 48]", "DepthToSpace", "body", "  body.1", "multiply-adds"})
    EXPECT_THAT(outcome.out, HasSubstr(text));
  EXPECT_EQ(run_lithe("inspect " + model + " --quiet").out, "");
}

TEST_F(Inspect, TellsWhatItCanOfFreeSizes) {
  Graph graph = build_edsr({.channels = 8, .blocks = 2});
  graph.inputs[0].shape = DimVector{{-1, "n"}, {3, ""}, {-1, "h"}, {-1, "w"}};
  graph.outputs[0].shape.reset();
  const std::string model = save(graph, "free.onnx");
  const Outcome open = run_lithe("inspect " + model + " --json");
  ASSERT_EQ(open.status, 0) << open.err;
  EXPECT_TRUE(open.result().at("macs").is_null());
  EXPECT_THAT(open.result().at("note").get<std::string>(), HasSubstr("--shape input="));
  EXPECT_NE(find_block(open.result().at("blocks"), "body.1"), nullptr);
  EXPECT_EQ(open.result().at("outputs")[0].at("shape"), nlohmann::json({"n", 3, "2*h", "2*w"}));
  const Outcome given = run_lithe("inspect " + model + " --json --shape input=1,3,10,20");
  EXPECT_GT(given.result().at("macs").get<std::int64_t>(), 0);
}

TEST_F(Inspect, FindsABatchThatIsFixedInside) {
  Graph graph;
  graph.inputs = {{.name = "x", .dtype = DType::Float32, .shape = DimVector{{-1, "batch"}, {6, ""}}}};
  graph.outputs = {{.name = "y", .dtype = DType::Float32}};
  graph.constants["shape"] = TensorData::from<std::int64_t>({3}, {4, 3, 2});
  graph.nodes = {
      {.name = "bend", .op_type = "Reshape", .inputs = {"x", "shape"}, .outputs = {"r"}},
      {.name = "up", .op_type = "Relu", .inputs = {"r"}, .outputs = {"y"}},
  };
  const std::string model = save(graph, "baked.onnx");
  const Outcome outcome = run_lithe("inspect " + model + " --json --seed 3 --threads 1");
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.result().at("shapes").at("x"), nlohmann::json({4, 6}));
  EXPECT_THAT(outcome.result().at("note").get<std::string>(), HasSubstr("fixed to 4 inside"));
  EXPECT_EQ(outcome.json().at("seed"), 3);
  expect_user_error(run_lithe("inspect " + model + " --shape x=1,6"), "bend");
}

TEST_F(Inspect, ChecksSparsity) {
  Graph graph = build_resnet20({.classes = 10, .image_size = 32, .width = 0.5, .batch_norm = false});
  const std::string dense = save(graph, "dense.onnx");
  for (auto& [name, constant] : graph.constants) {
    if (!name.ends_with("weight")) continue;
    std::vector<float> values = constant.to_floats();
    const std::int64_t channels = constant.shape()[1];
    std::int64_t inner = 1;
    for (std::size_t i = 2; i < constant.shape().size(); ++i) inner *= constant.shape()[i];
    for (std::size_t i = 0; i < values.size(); ++i)
      if (static_cast<std::int64_t>(i) / inner % channels % 4 < 2) values[i] = 0;
    constant = TensorData::from<float>(constant.shape(), std::move(values));
  }
  const std::string sparse = save(graph, "sparse.onnx");
  const Outcome outcome = run_lithe("inspect " + dense + " --json --check-sparsity 2:4");
  EXPECT_EQ(outcome.status, 2);
  EXPECT_THAT(outcome.err,
              HasSubstr("19 weights break 2:4, the first is 'layer1.0.conv1.weight' in 144 of 144"));
  const auto bad = outcome.result();
  EXPECT_EQ(bad.at("pattern"), "2:4");
  EXPECT_EQ(bad.at("violations").size(), 19u);
  EXPECT_EQ(bad.at("violations")[0].at("tensor"), "layer1.0.conv1.weight");
  EXPECT_EQ(bad.at("violations")[0].at("groups"), 8 * 2 * 9);
  EXPECT_EQ(bad.at("violations")[0].at("offending"), 8 * 2 * 9);
  EXPECT_EQ(bad.at("skipped")[0].at("tensor"), "conv1.weight");
  const Outcome fine = run_lithe("inspect " + sparse + " --json --check-sparsity 2:4");
  EXPECT_EQ(fine.status, 0) << fine.err;
  const auto good = fine.result();
  EXPECT_TRUE(good.at("violations").empty());
  EXPECT_EQ(good.at("checked"), 20);  // with the first, whose three channels keep one
  EXPECT_THAT(run_lithe("inspect " + dense + " --check-sparsity 2:4").out,
              HasSubstr("0 of 19 weights follow 2:4"));
  expect_user_error(run_lithe("inspect " + dense + " --check-sparsity 5:4"), "5:4");
}

TEST_F(Inspect, RefusesShapesThatDoNotFit) {
  const std::string model = save(build_resnet20(), "resnet20.onnx");
  expect_user_error(run_lithe("inspect " + model + " --shape input=1,4,32,32"), "input 'input'");
  expect_user_error(run_lithe("inspect " + model + " --shape image=1,3,32,32"), "no input 'image'");
  expect_user_error(run_lithe("inspect " + model + " --shape input=1,3"), "dimensions");
  Graph broken = build_resnet20();
  broken.constants["fc.weight"] = TensorData::from<float>({10, 7}, std::vector<float>(70));
  expect_user_error(run_lithe("inspect " + save(broken, "broken.onnx")), "broken.onnx: Gemm node 'fc'");
}

TEST_F(Inspect, ListsOperatorsThatDoNotRun) {
  const Outcome fine = run_lithe("inspect " + kDigits + " --json");
  EXPECT_EQ(fine.result().at("unsupported"), nlohmann::json::array());
  Graph graph = build_resnet20();
  for (Node& node : graph.nodes)
    if (node.is("Relu")) node.op_type = "FancyOp";
  const std::string model = save(graph, "fancy.onnx");
  const Outcome outcome = run_lithe("inspect " + model + " --json");
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto list = outcome.result().at("unsupported");
  ASSERT_EQ(list.size(), 1u);
  EXPECT_EQ(list[0].at("op"), "FancyOp");
  EXPECT_EQ(list[0].at("domain"), "");
  EXPECT_EQ(list[0].at("opset"), graph.opset());
  EXPECT_EQ(list[0].at("count"), 19);
  EXPECT_EQ(list[0].at("node"), "relu");
  EXPECT_THAT(run_lithe("inspect " + model).out,
              HasSubstr(fmt::format("note: Lithe does not run FancyOp (opset {}), 19 nodes, first 'relu'",
                                    graph.opset())));
  // Known operators of an opset that is not.
  graph = build_resnet20();
  graph.header.opsets[""] = 99;
  const auto newer = run_lithe("inspect " + save(graph, "newer.onnx") + " --json").result().at("unsupported");
  EXPECT_GE(newer.size(), 4u);
  for (const auto& one : newer) EXPECT_EQ(one.at("opset"), 99);
}

TEST_F(Inspect, SaysWhichConstantsAreUnusable) {
  Graph graph = build_resnet20();
  auto values = graph.constants.at("fc.weight").to_floats();
  values[3] = NAN;
  graph.constants["fc.weight"] = TensorData::from<float>(graph.constants.at("fc.weight").shape(), values);
  const Outcome outcome = run_lithe("inspect " + save(graph, "nan.onnx") + " --json");
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.result().at("note"), "the constant 'fc.weight' holds NaN at element 3");
}

TEST_F(Inspect, WritesAReport) {
  const std::string model = save(build_resnet20(), "resnet20.onnx");
  const fs::path report = folder_.path() / "report";
  const Outcome outcome = run_lithe("inspect " + model + " --json --report " + report.string());
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_EQ(outcome.json().at("files").size(), 2u);
  const auto written = nlohmann::json::parse(read_text_file(report / "report.json"));
  EXPECT_EQ(written.at("result"), outcome.result());
  EXPECT_THAT(read_text_file(report / "report.html"), HasSubstr("layer3.2"));
}

}  // namespace
}  // namespace lithe
