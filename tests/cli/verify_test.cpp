#include <gmock/gmock.h>

#include <cmath>

#include "cli/lithe.h"
#include "lithe/graph/onnx.h"
#include "onnxruntime/need.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;

TEST(Verify, TheBundledModelAgrees) {
  LITHE_NEED_ONNX_RUNTIME();
  const Outcome verify = run_lithe("verify " + kDigits + " --json --seed 3 --batch 4");
  ASSERT_EQ(verify.status, 0) << verify.err;
  EXPECT_TRUE(verify.result().at("pass").get<bool>());
  const auto output = verify.result().at("outputs").at(0);
  EXPECT_LT(output.at("max_rel").get<double>(), 1e-4);
  EXPECT_EQ(output.at("argmax_agreement"), 1.0);
  EXPECT_TRUE(output.contains("name") && output.contains("max_abs"));
  EXPECT_EQ(verify.json().at("seed"), 3);
}

TEST(Verify, ATighterToleranceThanRoundingFails) {
  LITHE_NEED_ONNX_RUNTIME();
  const Outcome verify = run_lithe("verify " + kDigits + " --json --tolerance 1e-12 --batch 16");
  EXPECT_EQ(verify.status, 1);
  EXPECT_FALSE(verify.result().at("pass").get<bool>());
  EXPECT_THAT(verify.err, testing::HasSubstr("disagree"));
  const TemporaryFolder folder;
  const Outcome plain = run_lithe("verify " + kDigits + " --tolerance 1e-12 --batch 16 --report " +
                                  (folder.path() / "report").string());
  const std::string said = without_progress(plain.err);
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  EXPECT_THAT(plain.out, testing::Not(testing::HasSubstr("isagree")));
  EXPECT_THAT(read_text_file(folder.path() / "report/report.html"), testing::HasSubstr("disagree"));
}

TEST(Verify, BadInputsAreNamed) {
  LITHE_NEED_ONNX_RUNTIME();
  expect_user_error(run_lithe("verify " + kDigits + " --shape nothing=1,1,20,20"), "no input of that name");
  expect_user_error(run_lithe("verify " + kDigits + " --shape input=1x"), "not a shape");
  for (const char* verb : {"verify ", "inspect ", "quantize --dry-run "})
    expect_user_error(run_lithe(verb + kDigits + " --shape image=0,1,20,20"), "a dimension of 0");
  const Outcome wrong = run_lithe("verify " + kDigits + " --shape image=1,1,19,20");
  expect_user_error(wrong, "digits.onnx: ");
  EXPECT_THAT(wrong.err, testing::HasSubstr("--shape"));
  expect_user_error(run_lithe("verify " + kDigits + " --inputs /nowhere.npz"), "/nowhere.npz");
  expect_user_error(run_lithe("verify " + kDigits + " --device cuda"), "--device cpu");
}

TEST(Verify, ABatchThatIsBakedInIsSaid) {
  const TemporaryFolder folder;
  Graph graph = read_onnx(kDigits);
  Node reshape{
      .name = "baked", .op_type = "Reshape", .inputs = {graph.outputs[0].name}, .outputs = {"scores"}};
  reshape.inputs.push_back(graph.add_constant("one_row", TensorData::from<std::int64_t>({2}, {1, 10})));
  graph.nodes.push_back(reshape);
  graph.outputs[0].name = "scores";
  const std::string model = (folder.path() / "baked.onnx").string();
  write_onnx(graph, model);
  expect_user_error(
      run_lithe("verify " + model + " --batch 3"),
      "baked.onnx: the model runs single samples only, although it declares its batch free; leave "
      "out --batch");
}

TEST(Verify, OperatorsThatAreMissingAreListed) {
  const TemporaryFolder folder;
  Graph graph = read_onnx(kDigits);
  Node node;
  node.op_type = "Frobnicate";
  node.name = "odd";
  node.inputs = {graph.outputs[0].name};
  node.outputs = {"result"};
  graph.nodes.push_back(node);
  graph.outputs = {{.name = "result", .dtype = DType::Float32}};
  write_onnx(graph, folder.path() / "odd.onnx");
  const Outcome outcome = run_lithe("verify " + (folder.path() / "odd.onnx").string());
  expect_user_error(outcome, "odd.onnx: ");
  EXPECT_THAT(outcome.err, testing::HasSubstr("Frobnicate"));
  EXPECT_THAT(outcome.err, testing::HasSubstr("odd"));
  EXPECT_THAT(outcome.err, testing::HasSubstr("opset"));
}

TEST(Verify, NanAndInfiniteWeightsAreNamed) {
  const TemporaryFolder folder;
  const std::string model = (folder.path() / "bad.onnx").string();
  for (const float value : {NAN, INFINITY}) {
    Graph graph = read_onnx(kDigits);
    const auto layer = std::find_if(graph.nodes.begin(), graph.nodes.end(),
                                    [](const Node& node) { return node.is("Conv"); });
    ASSERT_NE(layer, graph.nodes.end());
    TensorData& weight = graph.constants.at(layer->inputs[1]);
    auto values = weight.to_floats();
    values[2] = value;
    weight = TensorData::from<float>(weight.shape(), values);
    write_onnx(graph, model);
    const Outcome outcome = run_lithe("verify " + model);
    expect_user_error(outcome, "bad.onnx: ");
    EXPECT_THAT(outcome.err, testing::HasSubstr(layer->inputs[1]));
    EXPECT_THAT(outcome.err, testing::HasSubstr(std::isnan(value) ? "holds NaN at element 2"
                                                                  : "holds infinity at element 2"));
  }
}

TEST(Verify, AMissingOnnxRuntimeIsTheSurroundingsFault) {
  const TemporaryFolder folder;
  ::setenv("LITHE_ORT", folder.path().c_str(), 1);
  const Outcome without = run_lithe("verify " + kDigits);
  ::unsetenv("LITHE_ORT");
  EXPECT_EQ(without.status, 1);
  EXPECT_THAT(without.err, testing::HasSubstr("scripts/install-ort.sh"));
}

}  // namespace
}  // namespace lithe
