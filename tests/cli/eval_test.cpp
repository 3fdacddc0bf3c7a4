// `lithe eval` as a user runs it.
#include <gmock/gmock.h>

#include <cmath>

#include "cli/lithe.h"
#include "lithe/data/npz.h"
#include "lithe/graph/onnx.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kSheet = " --data sheet:" + (kExamples / "digits/digits.png").string() + ",cell=20x20";
const std::string kTestDigits = kSheet + ",columns=80:100";

TEST(Eval, ScoresTheBundledModel) {
  const Outcome eval = run_lithe("eval " + kDigits + kTestDigits + " --json --quiet");
  ASSERT_EQ(eval.status, 0) << eval.err;
  EXPECT_EQ(eval.err, "");
  const auto envelope = eval.json();
  EXPECT_EQ(envelope.at("schema"), 1);
  EXPECT_EQ(envelope.at("verb"), "eval");
  EXPECT_EQ(envelope.at("model"), kDigits);
  const auto result = eval.result();
  EXPECT_EQ(result.at("n"), 1000);
  EXPECT_GT(result.at("top1").get<double>(), 0.975);
  EXPECT_GE(result.at("top5").get<double>(), result.at("top1").get<double>());
  EXPECT_LT(result.at("loss").get<double>(), 0.3);
  EXPECT_GT(result.at("throughput").get<double>(), 0);
  EXPECT_TRUE(result.at("psnr_y").is_null());
  EXPECT_TRUE(result.at("ssim_y").is_null());
}

TEST(Eval, DoesNotDependOnBatchOrThreads) {
  const std::string call = "eval " + kDigits + kTestDigits + " --limit 150 --seed 3 --json --quiet";
  const auto first = run_lithe(call + " --batch 150 --threads 1").result();
  const auto second = run_lithe(call + " --batch 7 --threads 2").result();
  EXPECT_EQ(first.at("n"), 150);
  EXPECT_EQ(first.at("top1"), second.at("top1"));
  EXPECT_NEAR(first.at("loss").get<double>(), second.at("loss").get<double>(), 1e-5);
}

TEST(Eval, FlagsWinOverTheFileBesideTheModel) {
  const std::string call = "eval " + kDigits + kTestDigits + " --limit 200 --json --quiet";
  EXPECT_LT(run_lithe(call + " --mean 5").result().at("top1").get<double>(), 0.9);
  EXPECT_EQ(run_lithe(call + " --mean 0.5 --std 0.5 --colour gray").result().at("loss"),
            run_lithe(call).result().at("loss"));
}

TEST(Eval, AgreesWithItself) {
  const auto result =
      run_lithe("eval " + kDigits + kTestDigits + " --limit 50 --against " + kDigits + " --json --quiet")
          .result();
  EXPECT_EQ(result.at("against").at("argmax_agreement"), 1.0);
  EXPECT_EQ(result.at("against").at("max_abs"), 0.0);
}

TEST(Eval, WritesReportAndTable) {
  const TemporaryFolder folder;
  const fs::path report = folder.path() / "report";
  const Outcome eval = run_lithe("eval " + kDigits + kTestDigits + " --limit 50 --report " + report.string());
  ASSERT_EQ(eval.status, 0) << eval.err;
  EXPECT_THAT(eval.out, HasSubstr("top-1"));
  const auto written = nlohmann::json::parse(read_text_file(report / "report.json"));
  EXPECT_EQ(written.at("result").at("n"), 50);
  EXPECT_EQ(written.at("report").at("title"), "digits.onnx");
  EXPECT_THAT(read_text_file(report / "report.html"), HasSubstr("digits.onnx"));
}

TEST(Eval, RunsArrays) {
  const TemporaryFolder folder;
  const fs::path in = folder.path() / "in.npz", out = folder.path() / "out.npz";
  const std::string call = "eval " + kDigits + " --inputs " + in.string() + " --outputs " + out.string();
  expect_user_error(run_lithe(call), "in.npz");
  write_file(in, "PK nonsense");
  expect_user_error(run_lithe(call), "in.npz");
  write_npz({{"picture", at::zeros({3, 1, 20, 20})}}, in);
  expect_user_error(run_lithe(call), "'picture', which is no input of the model; its inputs are image");
  write_npz({{"image", at::zeros({3, 1, 20, 19})}}, in);
  expect_user_error(run_lithe(call),
                    in.string() + ": the array 'image' has the shape [3, 1, 20, 19], but the model takes");
  EXPECT_FALSE(fs::exists(out));
  write_npz({{"image", at::zeros({3, 1, 20, 20})}}, in);
  const Outcome eval = run_lithe(call + " --json");
  ASSERT_EQ(eval.status, 0) << eval.err;
  EXPECT_EQ(eval.result().at("n"), 3);
  EXPECT_EQ(eval.json().at("files"), nlohmann::json({out.string()}));
  const TensorMap written = read_npz(out);
  ASSERT_EQ(written.size(), 1u);
  EXPECT_EQ(written.at("logits").sizes(), (std::vector<std::int64_t>{3, 10}));
}

TEST(Eval, NanInTheOutputIsSaid) {
  const TemporaryFolder folder;
  Graph graph = read_onnx(kDigits);
  for (const Node& node : graph.nodes)
    if (node.is("Gemm")) {
      TensorData& bias = graph.constants.at(node.inputs[2]);
      std::vector<float> values = bias.to_floats();
      values[3] = std::nanf("");
      bias = TensorData::from<float>(bias.shape(), std::move(values));
    }
  const std::string model = (folder.path() / "nan.onnx").string();
  write_onnx(graph, model);
  const std::string rest = kTestDigits + " --mean 0.5 --std 0.5 --limit 20 --quiet";
  expect_user_error(run_lithe("eval " + model + rest),
                    "the output 'logits' holds 20 NaN in 20 of 20 samples");
  expect_user_error(run_lithe("eval " + kDigits + rest + " --against " + model), "the model compared with");
}

TEST(Eval, TellsHowToUseLabelsThatLieThere) {
  const TemporaryFolder folder;
  fs::copy_file(kExamples / "digits/digits.png", folder.path() / "7_sheet.png");
  write_file(folder.path() / "labels.tsv", "0\tzero\n1\tone\n");
  const std::string call = "eval " + kDigits + " --json --resize 20x20 --data " + folder.path().string();
  const Outcome without = run_lithe(call);
  ASSERT_EQ(without.status, 0) << without.err;
  EXPECT_TRUE(without.result().at("top1").is_null());
  EXPECT_THAT(without.err, HasSubstr("labels=prefix"));
  const Outcome with = run_lithe(call + ",labels=prefix");
  ASSERT_EQ(with.status, 0) << with.err;
  EXPECT_FALSE(with.result().at("top1").is_null());
  EXPECT_THAT(with.err, testing::Not(HasSubstr("warning")));
}

TEST(Eval, DamagedPicturesAreOneLine) {
  const TemporaryFolder folder;
  std::string png = read_text_file(kExamples / "digits/digits.png");
  png[png.size() / 2] = static_cast<char>(png[png.size() / 2] ^ 0x55);
  write_file(folder.path() / "bad.png", png);
  expect_user_error(run_lithe("eval " + kDigits + " --quiet --data sheet:" +
                              (folder.path() / "bad.png").string() + ",cell=20x20"),
                    "bad.png: the picture is damaged");
}

/// The digit classifier with the batch of an example in a constant, as some exporters leave it.
std::string write_baked_model(const TemporaryFolder& folder) {
  Graph graph = read_onnx(kDigits);
  const std::string logits = graph.outputs[0].name;
  Node reshape{.name = "baked", .op_type = "Reshape", .inputs = {logits}, .outputs = {"scores"}};
  reshape.inputs.push_back(graph.add_constant("one_row", TensorData::from<std::int64_t>({2}, {1, 10})));
  graph.nodes.push_back(reshape);
  graph.outputs[0].name = "scores";
  const fs::path model = folder.path() / "baked.onnx";
  write_onnx(graph, model);
  fs::copy_file(kExamples / "models/digits.json", folder.path() / "baked.json");
  return model.string();
}

TEST(Eval, FeedsSingleSamplesWhereTheBatchIsBakedIn) {
  const TemporaryFolder folder;
  const std::string model = write_baked_model(folder), rest = kTestDigits + " --limit 100 --json";
  const Outcome whole = run_lithe("eval " + kDigits + rest), single = run_lithe("eval " + model + rest);
  ASSERT_EQ(single.status, 0) << single.err;
  EXPECT_EQ(single.result().at("top1"), whole.result().at("top1"));
  EXPECT_EQ(single.result().at("batch"), 1);
  EXPECT_EQ(whole.result().at("batch"), 32);
  EXPECT_THAT(single.result().at("notes").at(0).get<std::string>(), HasSubstr("single samples only"));
  EXPECT_TRUE(whole.result().at("notes").empty());
  const Outcome against = run_lithe("eval " + kDigits + rest + " --against " + model);
  ASSERT_EQ(against.status, 0) << against.err;
  EXPECT_EQ(against.result().at("against").at("argmax_agreement"), 1.0);
}

TEST(Eval, SaysWhatIsAssumedOfThePreprocessing) {
  const TemporaryFolder folder;
  const std::string model = (folder.path() / "bare.onnx").string();
  fs::copy_file(kDigits, model);
  const std::string call = "eval " + model + kTestDigits + " --limit 20";
  const Outcome bare = run_lithe(call);
  ASSERT_EQ(bare.status, 0) << bare.err;
  EXPECT_THAT(bare.out,
              HasSubstr("note: nothing says what numbers " + model + " expects: pictures go in as 0 to 1"));
  EXPECT_THAT(bare.out, HasSubstr("bare.preprocess.json"));
  for (const std::string& told :
       {call + " --mean 0.5 --std 0.5", "eval " + kDigits + kTestDigits + " --limit 20"})
    EXPECT_THAT(run_lithe(told).out, testing::Not(HasSubstr("nothing says"))) << told;
  write_npz({{"image", at::zeros({3, 1, 20, 20})}}, folder.path() / "in.npz");
  const Outcome arrays = run_lithe("eval " + model + " --data " + (folder.path() / "in.npz").string());
  EXPECT_EQ(arrays.status, 0) << arrays.err;
  EXPECT_THAT(arrays.out, testing::Not(HasSubstr("nothing says"))) << "arrays are fed as they are";
}

TEST(Eval, PicturesThatDoNotFitAreNamedWithTheRemedy) {
  const Outcome photos = run_lithe("eval " + kDigits + " --quiet --data " + (kExamples / "photos").string());
  expect_user_error(photos, (kExamples / "photos").string());
  EXPECT_THAT(photos.err, HasSubstr("give --resize 20x20"));
  EXPECT_EQ(run_lithe("eval " + kDigits + " --quiet --resize 20x20 --data " + (kExamples / "photos").string())
                .status,
            0);
}

TEST(Eval, UserErrorsAreOneLine) {
  const TemporaryFolder folder;
  expect_user_error(run_lithe("eval " + kDigits), "--data or --inputs");
  expect_user_error(run_lithe("eval " + kDigits + kTestDigits + " --limit 0"), "give 1 or more");
  expect_user_error(run_lithe("eval " + kDigits + kTestDigits + " --limit -3"), "--limit");
  expect_user_error(
      run_lithe("eval /nowhere.onnx" + kTestDigits + " --report " + (folder.path() / "deep/report").string()),
      "/nowhere.onnx");
  EXPECT_TRUE(fs::is_empty(folder.path()));
  expect_user_error(run_lithe("eval " + kDigits + kTestDigits + " --report " + kDigits), "digits.onnx");
  expect_user_error(run_lithe("eval " + kDigits + " --data " + folder.path().string()), "holds no pictures");
  expect_user_error(run_lithe("eval " + kDigits + " --data /nowhere"), "/nowhere: no such file");
  expect_user_error(run_lithe("eval " + kDigits + kTestDigits + " --backend native"), "--backend");
  expect_user_error(run_lithe("eval " + kDigits + kTestDigits + " --mean a"), "--mean");
  expect_user_error(run_lithe("eval " + kDigits + kTestDigits + " --outputs o.npz"), "--inputs");
  expect_user_error(run_lithe("eval " + kDigits + kTestDigits + ",colums=1:2"), "colums");
  expect_user_error(run_lithe("eval " + kDigits + kSheet + ",label_offset=5"),
                    "does not fit a model of 10 classes");
  // Pictures of another size and colour than the model takes.
  const std::string photos = " --data " + (kExamples / "photos").string();
  expect_user_error(run_lithe("eval " + kDigits + photos + " --quiet"), "image");
  write_file(folder.path() / "a.png", "broken");
  expect_user_error(run_lithe("eval " + kDigits + " --data " + folder.path().string() + " --quiet"), "a.png");
}

}  // namespace
}  // namespace lithe
