// lithe train on the bundled sheet of digits.
#include <gtest/gtest.h>

#include <fstream>

#include "cli/lithe.h"
#include "lithe/base/file.h"
#include "lithe/data/preprocess.h"
#include "lithe/graph/onnx.h"
#include "lithe/graph/safetensors.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;

/// 20x20 digits; a few of each.
std::string digits(const std::string& columns) {
  return "sheet:" + (kExamples / "digits/digits.png").string() + ",cell=20x20,classes=10,columns=" + columns;
}

std::string recipe(const std::string& model, const fs::path& out) {
  return "train " + model + " --data " + digits("0:4") + " -o " + out.string() +
         " --threads 1 --batch 40 --lr 0.1 --mean 0.5 --std 0.5 ";
}

TEST(Train, WritesAModelThatEvalRuns) {
  const TemporaryFolder folder;
  const fs::path out = folder.path() / "net.onnx", report = folder.path() / "report",
                 weights = folder.path() / "net.safetensors";
  const Outcome trained =
      run_lithe(recipe("resnet20_x0.25", out) + "--val " + digits("90:91") + " --epochs 3 --padded-crop 2" +
                " --json --quiet --report " + report.string() + " --save-weights " + weights.string());
  ASSERT_EQ(trained.status, 0) << trained.err;
  const auto result = trained.result();
  ASSERT_EQ(result["epochs"].size(), 3u);
  EXPECT_LT(result["epochs"][2]["loss"], result["epochs"][0]["loss"]);
  EXPECT_TRUE(result["complete"]);
  EXPECT_GT(result["images_per_second"], 0);
  EXPECT_TRUE(fs::exists(report / "report.html"));
  EXPECT_FALSE(fs::exists(out.string() + ".checkpoints"));
  // The file holds its preprocessing: the same accuracy without flags.
  const Outcome scored = run_lithe("eval " + out.string() + " --data " + digits("90:91") + " --json --quiet");
  ASSERT_EQ(scored.status, 0) << scored.err;
  EXPECT_NEAR(scored.result()["top1"], result["best"]["validation_top1"], 1e-9);
  EXPECT_NEAR(scored.result()["loss"], result["best"]["validation_loss"], 1e-4);
  EXPECT_EQ(read_safetensors(weights).tensors.at("fc.weight").to_floats(),
            read_onnx(out).constants.at("fc.weight").to_floats());

  // The model is a start for another training, and so are its weights alone.
  // What others have put beside the checkpoints stays.
  const fs::path second = folder.path() / "second.onnx", beside = second.string() + ".checkpoints";
  fs::create_directories(beside);
  write_file(beside / "notes.txt", "mine");
  const Outcome again =
      run_lithe(recipe(out.string(), second) + "--epochs 1 --json --quiet --freeze fc.weight");
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_LT(again.result()["epochs"][0]["loss"], result["epochs"][0]["loss"]);
  EXPECT_EQ(read_onnx(second).constants.at("fc.weight").to_floats(),
            read_onnx(out).constants.at("fc.weight").to_floats());
  const Outcome loaded = run_lithe(recipe("resnet20_x0.25", second) +
                                   "--epochs 1 --json --quiet --freeze fc.weight --init " + weights.string());
  ASSERT_EQ(loaded.status, 0) << loaded.err;
  EXPECT_TRUE(fs::exists(beside / "notes.txt"));
  EXPECT_FALSE(fs::exists(beside / "last.safetensors"));
  expect_user_error(run_lithe(recipe(out.string(), second) + "--save-weights " + second.string()),
                    "one file");
  expect_user_error(run_lithe(recipe("resnet20_x0.25", second) + "--init " + weights.string() +
                              " --save-weights " + weights.string()),
                    "the file of --init");
  EXPECT_EQ(loaded.result()["epochs"][0]["loss"], again.result()["epochs"][0]["loss"]);
  EXPECT_EQ(read_onnx(second).constants.at("fc.weight").to_floats(),
            read_onnx(out).constants.at("fc.weight").to_floats());
}

TEST(Train, NoisePredictorsSayHowTheyWereTrained) {
  const TemporaryFolder folder;
  const fs::path out = folder.path() / "unet.onnx", second = folder.path() / "second.onnx";
  const std::string data = " --data " + digits("0:4") + " --threads 1 --batch 40 --json --quiet -o ";
  const Outcome trained = run_lithe("train unet" + data + out.string() +
                                    " --resize 8x8 --val-share 0.2 --epochs 2 --ema 0.9 --prediction v" +
                                    " --noise-schedule linear --diffusion-steps 200 --class-conditional");
  ASSERT_EQ(trained.status, 0) << trained.err;
  const auto epochs = trained.result()["epochs"];
  EXPECT_LT(epochs[1]["validation_loss"], epochs[0]["validation_loss"]);
  EXPECT_TRUE(epochs[1]["validation_psnr"].is_null());
  const Graph net = read_onnx(out);
  EXPECT_EQ(net.header.metadata.at("lithe.diffusion.noise_schedule"), "linear");
  EXPECT_EQ(net.header.metadata.at("lithe.diffusion.steps"), "200");
  EXPECT_EQ(net.header.metadata.at("lithe.diffusion.prediction"), "v");
  EXPECT_EQ(net.header.metadata.at("lithe.diffusion.low"), "-1");
  EXPECT_EQ(net.constants.at("label.table").shape()[0], 10);
  // It is trained on as it was; what it says cannot be said otherwise.
  const Outcome again = run_lithe("train " + out.string() + data + second.string() + " --epochs 1");
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(read_onnx(second).header.metadata.at("lithe.diffusion.prediction"), "v");
  expect_user_error(run_lithe("train " + out.string() + data + second.string() + " --prediction x0"),
                    "--prediction has no effect");
  expect_user_error(run_lithe("train unet" + data + second.string() + " --resize 8x8 --loss l1"),
                    "--loss has no effect");
  expect_user_error(run_lithe("train resnet20" + data + second.string() + " --diffusion-steps 9"),
                    "--diffusion-steps has no effect");
}

TEST(Train, StopsAndResumes) {
  const TemporaryFolder folder;
  const fs::path straight = folder.path() / "straight.onnx", resumed = folder.path() / "resumed.onnx";
  const std::string common = "--epochs 2 --flip --val-share 0.2 --json --quiet ";
  ASSERT_EQ(run_lithe(recipe("resnet20_x0.25", straight) + common).status, 0);
  const Outcome stopped = run_lithe(recipe("resnet20_x0.25", resumed) + common + "--time-budget 0.000001");
  ASSERT_EQ(stopped.status, 0) << stopped.err;
  EXPECT_FALSE(stopped.result()["complete"]);
  EXPECT_TRUE(fs::exists(resumed.string() + ".checkpoints/last.safetensors"));
  const Outcome done = run_lithe(recipe("resnet20_x0.25", resumed) + common + "--resume");
  ASSERT_EQ(done.status, 0) << done.err;
  EXPECT_TRUE(done.result()["complete"]);
  const Graph a = read_onnx(straight), b = read_onnx(resumed);
  for (const auto& [name, data] : a.constants)
    EXPECT_TRUE(std::equal(data.bytes().begin(), data.bytes().end(), b.constants.at(name).bytes().begin()))
        << name;
}

TEST(Train, LeavesACheckpointWhenInterrupted) {
  const TemporaryFolder folder;
  const fs::path out = folder.path() / "net.onnx";
  const std::string text = interrupt_in_epoch(recipe("resnet20_x0.25", out) + "--epochs 100000");
  EXPECT_NE(text.find("--resume goes on from there"), std::string::npos) << text;
  EXPECT_NE(text.find("lithe: interrupted"), std::string::npos) << text;
  EXPECT_TRUE(fs::exists(out.string() + ".checkpoints/last.safetensors"));
  EXPECT_FALSE(fs::exists(out));
}

TEST(Train, TellsWhatIsWrong) {
  const TemporaryFolder folder;
  const fs::path out = folder.path() / "net.onnx";
  for (const auto& [flags, flag] :
       std::vector<std::pair<std::string, std::string>>{{"--distil 0.9", "--distil"},
                                                        {"--optimiser adamw --nesterov", "--nesterov"},
                                                        {"--from-scratch", "--from-scratch"}})
    expect_user_error(run_lithe(recipe("resnet20_x0.25", out) + flags), flag + " has no effect");
  expect_user_error(run_lithe(recipe(kDigits, out) + "--classes 3"), "--classes has no effect");
  // A checkpoint of the last run as the start of the next: it would be written over.
  const fs::path best = out.string() + ".checkpoints/best.safetensors";
  fs::create_directories(best.parent_path());
  write_file(best, "weights");
  expect_user_error(run_lithe(recipe("resnet20_x0.25", out) + "--init " + best.string()),
                    "a checkpoint that this training writes over");
  EXPECT_EQ(read_text_file(best), "weights");
  fs::remove_all(best.parent_path());
  // A teacher that was trained on other numbers.
  Graph teacher = read_onnx(kDigits);
  keep_preprocess(teacher, {.mean = {0.9}, .std = {0.1}});
  const fs::path taught = folder.path() / "teacher.onnx";
  write_onnx(teacher, taught);
  expect_user_error(run_lithe(recipe(kDigits, out) + "--epochs 1 --teacher " + taught.string()),
                    "expects --mean 0.9 --std 0.1");
  expect_user_error(run_lithe("train resnet20 --data " + digits("0:4")), "needs -o");
  expect_user_error(run_lithe("train resnet20 -o " + out.string()), "needs --data");
  expect_user_error(run_lithe(recipe("resnet21", out)), "there is no network 'resnet21'");
  expect_user_error(run_lithe(recipe("missing.onnx", out)), "missing.onnx");
  expect_user_error(run_lithe(recipe("resnet20", out) + "--classes 5 --epochs 1"),
                    "but the model has 5 classes");
  expect_user_error(run_lithe(recipe("resnet20", out) + "--freeze nothing"), "no constant of that name");
  expect_user_error(run_lithe(recipe("resnet20", out) + "--init " + kDigits), "safetensors");
  expect_user_error(run_lithe("train edsr --data " + digits("0:4") + " -o " + out.string()),
                    "needs data with target images");
  EXPECT_FALSE(fs::exists(out));
}

}  // namespace
}  // namespace lithe
