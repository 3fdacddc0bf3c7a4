#include <gmock/gmock.h>

#include <cmath>

#include "cli/lithe.h"
#include "lithe/graph/onnx.h"
#include "onnxruntime/need.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kSheet = "sheet:" + (kExamples / "digits/digits.png").string() + ",cell=20x20";
const std::string kCalibration = " --calib " + kSheet + ",columns=70:80";
const std::string kTest = " --data " + kSheet + ",columns=80:100";

class QuantizeTool : public testing::Test {
 protected:
  TemporaryFolder folder_;
  std::string out_ = (folder_.path() / "out.onnx").string();
  bool nothing_written() const { return fs::is_empty(folder_.path()); }
};

TEST_F(QuantizeTool, EightBitsKeepTheAccuracy) {
  LITHE_NEED_ONNX_RUNTIME();
  const Outcome quantize =
      run_lithe("quantize " + kDigits + kCalibration + kTest + " -o " + out_ + " --json");
  ASSERT_EQ(quantize.status, 0) << quantize.err;
  const auto result = quantize.result();
  ASSERT_FALSE(result.at("layers").empty());
  for (const auto& layer : result.at("layers"))
    for (const char* key : {"name", "weight_bits", "activation_bits", "sqnr_db", "bytes"})
      EXPECT_TRUE(layer.contains(key)) << key;
  const double before = result.at("before").at("top1"), after = result.at("after").at("top1");
  EXPECT_GT(before, 0.97);
  EXPECT_NEAR(after, before, 0.005);
  EXPECT_TRUE(result.contains("file_bytes"));
  EXPECT_EQ(quantize.json().at("files").at(0), out_);

  const Outcome verify = run_lithe("verify " + out_ + " --json");
  EXPECT_EQ(verify.status, 0) << verify.err;
  const Outcome engine = run_lithe("eval " + out_ + kTest + " --json"),
                stock = run_lithe("eval " + out_ + kTest + " --backend ort --json");
  ASSERT_EQ(engine.status, 0) << engine.err;
  ASSERT_EQ(stock.status, 0) << stock.err;
  EXPECT_NEAR(engine.result().at("top1").get<double>(), after, 1e-9);
  EXPECT_NEAR(stock.result().at("top1").get<double>(), after, 0.003);
}

TEST_F(QuantizeTool, EqualSeedsGiveEqualBytes) {
  const std::string again = (folder_.path() / "again.onnx").string();
  for (const std::string& out : {out_, again}) {
    const Outcome outcome = run_lithe("quantize " + kDigits + kCalibration +
                                      " --method mse --weight-bits 4 "
                                      "--activation-bits 4 --threads 1 --limit 64 -o " +
                                      out);
    ASSERT_EQ(outcome.status, 0) << outcome.err;
  }
  EXPECT_EQ(read_text_file(out_), read_text_file(again));
}

TEST_F(QuantizeTool, DryRunShowsTheUnitsAndWritesNothing) {
  const Outcome outcome = run_lithe("quantize " + kDigits + " --dry-run --json");
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto units = outcome.result().at("units");
  ASSERT_GT(units.size(), 2u);
  for (const char* key : {"name", "ops", "weights", "macs", "modcap"})
    EXPECT_TRUE(units[0].contains(key)) << key;
  EXPECT_TRUE(outcome.result().contains("groups"));
  EXPECT_TRUE(nothing_written());
}

TEST_F(QuantizeTool, DryRunShowsTheBitsThatAreWritten) {
  for (const std::string flags :
       {"", " --weight-bits 4 --activation-bits 4 --bits-for 'block3*=w7a6'", " --reduce-range off",
        " --target tensorrt", " --weight-bits 3 --activation-bits off --opset 21"}) {
    const Outcome dry = run_lithe("quantize " + kDigits + " --dry-run --json" + flags);
    const Outcome wet =
        run_lithe("quantize " + kDigits + kCalibration + " --limit 32 --json -o " + out_ + flags);
    ASSERT_EQ(dry.status, 0) << dry.err;
    ASSERT_EQ(wet.status, 0) << wet.err;
    const auto planned = dry.result(), made = wet.result();
    ASSERT_EQ(planned.at("layers").size(), made.at("layers").size());
    for (std::size_t i = 0; i < made.at("layers").size(); ++i)
      for (const char* key : {"name", "weight_bits", "activation_bits", "bytes", "float_bytes"})
        EXPECT_EQ(planned.at("layers")[i].at(key), made.at("layers")[i].at(key)) << flags << key << i;
    for (const char* key : {"profile", "placement", "reduce_range"})
      EXPECT_EQ(planned.at(key), made.at(key)) << flags;
  }
  const Outcome table = run_lithe("quantize " + kDigits + " --dry-run");
  EXPECT_THAT(table.out, HasSubstr("weight bits"));
  EXPECT_THAT(table.out, HasSubstr("keep to 7 bits"));
}

TEST_F(QuantizeTool, WeightsAloneNeedNoData) {
  const std::string call = "quantize " + kDigits + " --activation-bits off --weight-bits 4 --json -o " + out_;
  const Outcome blind = run_lithe(call);
  ASSERT_EQ(blind.status, 0) << blind.err;
  EXPECT_TRUE(blind.result().at("after").is_null());
  EXPECT_TRUE(blind.result().at("layers")[0].at("sqnr_db").is_null());
  EXPECT_EQ(blind.result().at("calibration_samples"), 0);
  for (const Node& node : read_onnx(out_).nodes) EXPECT_FALSE(node.is("QuantizeLinear")) << node.name;
  const std::string bytes = read_text_file(out_);
  const Outcome measured = run_lithe(call + kTest + " --limit 200");
  ASSERT_EQ(measured.status, 0) << measured.err;
  EXPECT_GT(measured.result().at("after").at("top1").get<double>(), 0.9);
  EXPECT_FALSE(measured.result().at("layers")[0].at("sqnr_db").is_null());
  EXPECT_EQ(read_text_file(out_), bytes);
  fs::remove(out_);
  expect_user_error(run_lithe(call + " --correct-bias"), "--calib");
  expect_user_error(run_lithe(call + " --bits-for '*=a8'"), "--calib");
  expect_user_error(run_lithe(call + " --sweep 8,4"), "--calib or --data");
  EXPECT_TRUE(nothing_written());
}

TEST_F(QuantizeTool, WarnsWhereTheAccuracyIsLost) {
  const std::string call = "quantize " + kDigits + kCalibration + kTest + " --limit 200 --json -o " + out_;
  const Outcome poor = run_lithe(call + " --weight-bits 2 --activation-bits 2 --first-last same");
  ASSERT_EQ(poor.status, 0) << poor.err;
  ASSERT_EQ(poor.result().at("warnings").size(), 1u);
  for (const char* flag : {"--equalize", "--correct-bias", "--first-last 8", "--weight-bits"})
    EXPECT_THAT(poor.err, HasSubstr(flag));
  EXPECT_EQ(poor.err.find("warning: "), poor.err.rfind("warning: "));
  EXPECT_FALSE(poor.result().at("minmax_sqnr_db").is_null());
  for (const auto& one : poor.result().at("activations")) {
    EXPECT_GE(one.at("saturated").get<double>(), 0);
    EXPECT_LT(one.at("saturated").get<double>(), 0.2) << one;
  }
  const Outcome good = run_lithe(call);
  EXPECT_TRUE(good.result().at("warnings").empty());
  EXPECT_THAT(good.err, testing::Not(HasSubstr("warning")));
}

TEST_F(QuantizeTool, AnInterruptLeavesNothingBehind) {
  const TemporaryFolder elsewhere;
  const fs::path error = elsewhere.path() / "err", script = elsewhere.path() / "interrupt.sh";
  // The sweep is more work than the wait for its first line of progress.
  write_file(script, std::string(LITHE_PROGRAM) + " quantize " + kDigits + " --calib " + kSheet + " -o " +
                         out_ +
                         " --calib-samples 2000 --batch 1 --sweep 8,7,6,5,4,3,2 --threads 1 > /dev/null 2> " +
                         error.string() + " &\n" + "until grep -q . " + error.string() +
                         "; do sleep 0.05; done\nkill -INT $!\nwait $!\n");
  const int status = std::system(("bash " + script.string()).c_str());
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_TRUE(read_text_file(error).ends_with("lithe: interrupted\n")) << read_text_file(error);
  EXPECT_TRUE(nothing_written());
}

TEST_F(QuantizeTool, BadFlagsAreNamed) {
  const std::string base = "quantize " + kDigits + kCalibration + " -o " + out_;
  expect_user_error(run_lithe(base + " --weight-bits 1"), "--weight-bits");
  expect_user_error(run_lithe(base + " --activation-bits 9"), "--activation-bits");
  expect_user_error(run_lithe(base + " --method magic"), "--method");
  expect_user_error(run_lithe(base + " --target toaster"), "--target");
  expect_user_error(run_lithe(base + " --exclude 'no/such/layer*'"), "no/such/layer*");
  expect_user_error(run_lithe("quantize " + kDigits + kCalibration), "-o");
  expect_user_error(run_lithe("quantize " + kDigits + " -o " + out_), "--calib");
  EXPECT_TRUE(nothing_written());
}

TEST_F(QuantizeTool, ADryRunHasAReport) {
  const fs::path report = folder_.path() / "report";
  const Outcome outcome = run_lithe("quantize " + kDigits + " --dry-run --json --report " + report.string());
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const auto written = nlohmann::json::parse(read_text_file(report / "report.json"));
  EXPECT_EQ(written.at("result"), outcome.result());
  EXPECT_EQ(outcome.json().at("files").size(), 2u);
  const auto items = written.at("report").at("items");
  EXPECT_EQ(items.at(0).at("title"), "Units");
  EXPECT_EQ(items.at(0).at("rows").size(), outcome.result().at("units").size());
  EXPECT_EQ(items.at(1).at("rows").size(), outcome.result().at("layers").size());
  EXPECT_THAT(read_text_file(report / "report.html"), HasSubstr(outcome.result().at("layers")[0].at("name")));
}

TEST_F(QuantizeTool, FilesForOtherRuntimesSayThatThisOneMaySaturate) {
  const std::string note = "stock ONNX Runtime on x86 without VNNI would saturate";
  const auto notes = [&](const std::string& flags) {
    return run_lithe("quantize " + kDigits + " --dry-run --json" + flags).result().at("notes").dump();
  };
  EXPECT_THAT(notes(" --target openvino"), HasSubstr("the file is for OpenVINO: " + note));
  EXPECT_THAT(notes(" --target tensorrt"), HasSubstr("the file is for TensorRT: " + note));
  for (const char* safe :
       {"", " --target openvino --reduce-range all", " --target openvino --activation-bits off",
        " --target openvino --weight-bits 4 --first-last same"})
    EXPECT_THAT(notes(safe), testing::Not(HasSubstr("would saturate"))) << safe;
  const Outcome whole =
      run_lithe("quantize " + kDigits + kCalibration + " --limit 32 --target openvino -o " + out_);
  ASSERT_EQ(whole.status, 0) << whole.err;
  EXPECT_THAT(whole.out, HasSubstr(note));
}

TEST_F(QuantizeTool, WarnsWhereNothingIsQuantized) {
  const std::string call = "quantize " + kDigits + " --json";
  for (const char* none : {" --exclude '*'", " --bits-for '*=off'"}) {
    const Outcome dry = run_lithe(call + " --dry-run" + none);
    ASSERT_EQ(dry.status, 0) << dry.err;
    EXPECT_THAT(dry.err, HasSubstr("warning: nothing is quantised"));
    const Outcome whole = run_lithe(call + kCalibration + " --limit 32 -o " + out_ + none);
    ASSERT_EQ(whole.status, 0) << whole.err;
    EXPECT_THAT(whole.result().at("warnings").dump(), HasSubstr("nothing is quantised"));
  }
  EXPECT_THAT(run_lithe(call + " --dry-run --exclude 'stem*'").err, testing::Not(HasSubstr("warning")));
}

TEST_F(QuantizeTool, EachStepIsToldOnce) {
  const Outcome outcome =
      run_lithe("quantize " + kDigits + kCalibration + kTest + " --limit 32 --method mse -o " + out_);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  const std::size_t first = outcome.err.find("compare with float: done");
  ASSERT_NE(first, std::string::npos) << outcome.err;
  EXPECT_EQ(outcome.err.find("compare with float: done", first + 1), std::string::npos) << outcome.err;
}

TEST_F(QuantizeTool, OutputsThatAreNotMeasuredAreNamed) {
  Graph graph = read_onnx(kDigits);
  for (const Node& node : graph.nodes)
    if (node.is("Gemm")) graph.outputs.push_back({.name = node.inputs[0], .dtype = DType::Float32});
  const fs::path model = folder_.path() / "two.onnx";
  write_onnx(graph, model);
  const Outcome outcome = run_lithe("quantize " + model.string() + kCalibration + " --limit 32 -o " + out_);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("what is measured is the output '" + graph.outputs[0].name +
                                     "'; not checked: '" + graph.outputs[1].name + "'"));
}

TEST_F(QuantizeTool, SaysWhatIsAssumedOfThePreprocessing) {
  const fs::path model = folder_.path() / "bare.onnx";
  fs::copy_file(kDigits, model);
  const std::string call = "quantize " + model.string() + kCalibration + " --limit 32 --json -o " + out_;
  EXPECT_THAT(run_lithe(call).result().at("notes").dump(), HasSubstr("nothing says what numbers"));
  EXPECT_THAT(run_lithe(call + " --mean 0.5 --std 0.5").result().at("notes").dump(),
              testing::Not(HasSubstr("nothing says")));
}

TEST_F(QuantizeTool, TheModelIsNotOverwritten) {
  const fs::path model = folder_.path() / "model.onnx";
  fs::copy_file(kDigits, model);
  const std::string before = read_text_file(model);
  expect_user_error(run_lithe("quantize " + model.string() + kCalibration + " -o " +
                              (folder_.path() / "." / "model.onnx").string()),
                    "is the model itself");
  EXPECT_EQ(read_text_file(model), before);
}

TEST_F(QuantizeTool, BadCalibrationDataAreNamed) {
  const fs::path empty = folder_.path() / "empty", broken = folder_.path() / "broken";
  fs::create_directory(empty);
  fs::create_directory(broken);
  write_file(broken / "a.png", "this is no picture");
  const std::string base = "quantize " + kDigits + " -o " + out_ + " --calib ";
  expect_user_error(run_lithe(base + empty.string()), "empty");
  expect_user_error(run_lithe(base + broken.string()), "a.png");
  expect_user_error(run_lithe(base + "/nowhere"), "/nowhere");
  expect_user_error(run_lithe(base + (kExamples / "photos").string()), "shape");
  EXPECT_FALSE(fs::exists(out_));
}

TEST_F(QuantizeTool, WhatFailsAfterwardsLeavesNoFile) {
  const std::string photos = (kExamples / "photos").string();
  expect_user_error(
      run_lithe("quantize " + kDigits + kCalibration + " --quiet -o " + out_ + " --data " + photos), "shape");
  expect_user_error(
      run_lithe("quantize " + kDigits + kCalibration + " -o " + out_ + " --report /proc/report"),
      "/proc/report");
  expect_user_error(run_lithe("quantize " + kDigits + kCalibration + " -o " + kDigits), "would be lost");
  EXPECT_TRUE(nothing_written());
}

TEST_F(QuantizeTool, IntegerProfileHasEightBitsEverywhere) {
  const Outcome outcome =
      run_lithe("quantize " + kDigits + kCalibration +
                " --limit 32 --activation-bits 4 --bits-for '*=a8' --profile int8 --json -o " + out_);
  ASSERT_EQ(outcome.status, 0) << outcome.err;
  for (const Node& node : read_onnx(out_).nodes) EXPECT_FALSE(node.is("Clip")) << node.name;
}

TEST_F(QuantizeTool, NanInTheDataIsSaid) {
  const std::string npy = (folder_.path() / "nan.npy").string();
  std::string bytes("\x93NUMPY\x01\x00", 8);
  std::string header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1, 20, 20), }";
  header.resize(118 - 1, ' ');
  header += '\n';
  bytes += static_cast<char>(118);
  bytes += '\0';
  bytes += header;
  const float nan = NAN;
  for (int i = 0; i < 400; ++i) bytes.append(reinterpret_cast<const char*>(&nan), sizeof nan);
  write_file(npy, bytes);
  expect_user_error(run_lithe("quantize " + kDigits + " --calib " + npy + " -o " + out_), "NaN or infinity");
  EXPECT_FALSE(fs::exists(out_));
}

TEST_F(QuantizeTool, NanWeightsAreNamed) {
  Graph graph = read_onnx(kDigits);
  std::string poisoned;
  for (const Node& node : graph.nodes)
    if (node.is("Conv")) poisoned = node.inputs[1];
  auto values = graph.constants.at(poisoned).to_floats();
  values[0] = NAN;
  graph.constants.at(poisoned) = TensorData::from<float>(graph.constants.at(poisoned).shape(), values);
  const fs::path model = folder_.path() / "nan.onnx";
  write_onnx(graph, model);
  expect_user_error(run_lithe("quantize " + model.string() + kCalibration + " -o " + out_),
                    "nan.onnx: the constant '" + poisoned + "' holds NaN");
  EXPECT_FALSE(fs::exists(out_));
}

TEST_F(QuantizeTool, WhatDoesNotFitIsRefusedWithoutDataToo) {
  const Graph sound = read_onnx(kDigits);
  std::size_t layer = 0;
  while (!sound.nodes[layer].is("Conv")) ++layer;
  const std::string weight = sound.nodes[layer].inputs[1];
  const fs::path model = folder_.path() / "odd.onnx";
  const auto refused = [&](const Graph& graph, const std::string& reason) {
    write_onnx(graph, model);
    for (const std::string& rest : {" --activation-bits off -o " + out_, std::string(" --dry-run")}) {
      const Outcome outcome = run_lithe("quantize " + model.string() + rest);
      expect_user_error(outcome, "odd.onnx: " + describe(sound.nodes[layer]));
      EXPECT_THAT(outcome.err, HasSubstr(reason));
    }
    EXPECT_FALSE(fs::exists(out_));
  };
  Graph graph = sound;
  auto shape = sound.constants.at(weight).shape();
  shape[1] += 2;
  graph.constants[weight] = TensorData::from<float>(
      shape, std::vector<float>(static_cast<std::size_t>(shape[0] * shape[1] * shape[2] * shape[3]), 0.1f));
  refused(graph, "channels");
  graph = sound;
  graph.nodes[layer].attributes["group"] = std::int64_t{0};
  refused(graph, "group");
  graph = sound;
  graph.nodes[layer].attributes["strides"] = std::vector<std::int64_t>{0, 0};
  refused(graph, "strides");
  graph = sound;
  graph.nodes[layer].attributes["pads"] = std::vector<std::int64_t>(4, 1 << 30);
  refused(graph, "more than 2^32 elements");
}

TEST_F(QuantizeTool, ErrorsNameTheModelOnce) {
  Graph graph;
  graph.inputs = {{.name = "x", .dtype = DType::Float32, .shape = DimVector{{1, ""}, {4, ""}}}};
  graph.outputs = {{.name = "y", .dtype = DType::Float32}};
  graph.nodes = {{.name = "relu", .op_type = "Relu", .inputs = {"x"}, .outputs = {"y"}}};
  const fs::path model = folder_.path() / "bare.onnx";
  write_onnx(graph, model);
  expect_user_error(run_lithe("quantize " + model.string() + " --dry-run"), "bare.onnx: the model has no");
  // What is about the command line or another file stays as it is.
  for (const char* rest : {"", " --weight-bits 9 --dry-run", " --calib /nowhere -o "}) {
    const std::string out = std::string(rest).ends_with("-o ") ? out_ : "";
    const Outcome outcome = run_lithe("quantize " + model.string() + rest + out);
    EXPECT_EQ(outcome.status, 2);
    EXPECT_THAT(outcome.err, testing::Not(HasSubstr("bare.onnx"))) << rest;
  }
}

TEST_F(QuantizeTool, AFullDiskIsStatusOneAndLeavesNothing) {
  // A file size limit makes the kernel refuse further bytes, as a full disk does.
  const fs::path script = folder_.path() / "limited.sh";
  write_file(script, std::string("trap '' XFSZ\nulimit -f 4\nexec ") + LITHE_PROGRAM + " quantize " +
                         kDigits + kCalibration + " --limit 32 --quiet -o " + out_ + "\n");
  const TemporaryFolder elsewhere;  // the limit holds for the captured output too, which is small
  const std::string error = (elsewhere.path() / "err").string();
  const int status = std::system(("bash " + script.string() + " 2> " + error).c_str());
  EXPECT_EQ(WEXITSTATUS(status), 1);
  EXPECT_THAT(read_text_file(error), HasSubstr("cannot write"));
  fs::remove(script);
  EXPECT_TRUE(nothing_written());
}

}  // namespace
}  // namespace lithe
