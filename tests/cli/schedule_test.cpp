// lithe sample and lithe schedule with the embedded model.
#include <gmock/gmock.h>

#include <algorithm>

#include "cli/lithe.h"
#include "lithe/base/file.h"
#include "lithe/data/npz.h"
#include "lithe/graph/onnx.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kReal =
    " --data sheet:" + (kExamples / "digits/digits.png").string() + ",cell=20x20 --reference 300";
const std::string kFew = " --images 50 --batch 50 --finalists 2 --final-images 50 --final-streams 1 ";
const std::string kSearch = "schedule search" + kReal + kFew + "--rounds 1 --children 4 ";

class Sample : public testing::Test {
 protected:
  std::string file(const std::string& name) const { return (folder_.path() / name).string(); }
  void expect_refused(const std::string& arguments, const std::string& why) const {
    const Outcome outcome = run_lithe(arguments);
    EXPECT_EQ(outcome.status, 2) << arguments;
    EXPECT_THAT(outcome.err, HasSubstr(why)) << arguments;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  }
  TemporaryFolder folder_;
};
using Schedule = Sample;

TEST_F(Sample, MakesAGridWithoutAnyFile) {
  const Outcome made = run_lithe("sample -n 9 --steps 3 --threads 1 --json --quiet -o " + file("grid.png"));
  ASSERT_EQ(made.status, 0) << made.err;
  EXPECT_EQ(made.result()["nfe"], 3);
  EXPECT_EQ(made.result()["n"], 9);
  EXPECT_EQ(made.result()["timesteps"], (nlohmann::json{833, 500, 166}));
  EXPECT_TRUE(fs::exists(file("grid.png")));
}

TEST_F(Sample, ImagesDependOnSeedAndNumberAlone) {
  const auto images = [&](const std::string& flags) {
    const Outcome made = run_lithe("sample --steps 2 --threads 1 --quiet -o " + file("i.npz") + " " + flags);
    EXPECT_EQ(made.status, 0) << made.err;
    return read_npz(file("i.npz")).at("images");
  };
  const at::Tensor ten = images("-n 10"), four = images("-n 4"), small = images("-n 10 --batch 3");
  EXPECT_TRUE(at::allclose(ten.narrow(0, 0, 4), four, 1e-4, 1e-4));
  EXPECT_TRUE(at::allclose(ten, small, 1e-4, 1e-4));
  EXPECT_TRUE(at::equal(ten, images("-n 10")));
  EXPECT_FALSE(at::allclose(ten, images("-n 10 --seed 7"), 1e-2, 1e-2));
}

TEST_F(Sample, EverySamplerAndAFolderOfPictures) {
  for (const char* sampler : {"ddim --eta 0.5", "ddpm", "plms", "dpmpp2m"}) {
    const Outcome made = run_lithe("sample -n 2 --steps 4 --quiet --threads 1 --sampler " +
                                   std::string(sampler) + " -o " + file("pictures"));
    EXPECT_EQ(made.status, 0) << made.err;
  }
  EXPECT_TRUE(fs::exists(file("pictures") + "/000001.png"));
}

TEST_F(Sample, SaysWhatIsWrong) {
  expect_refused("sample", "-o");
  expect_refused("sample -o " + file("x.jpg"), ".png");
  expect_refused("sample -o " + file("x.png") + " --steps 2000", "2000");
  expect_refused("sample -o " + file("x.png") + " --spacing even", "even");
  expect_refused("sample -o " + file("x.png") + " --sampler euler", "euler");
  expect_refused("sample -o " + file("x.png") + " --timesteps 5,5", "twice");
  expect_refused("sample -o " + file("x.png") + " --timesteps 1000", "1000");
  expect_refused("sample -o " + file("x.png") + " --timesteps 100 --spacing centred", "one of");
  expect_refused("sample -o " + file("x.png") + " --labels 0", "no labels");
  expect_refused("sample -o " + file("x.png") + " --timesteps 5,-1", "not negative");
  expect_refused("sample -o " + file("x.png") + " --guidance-scale 3", "--null-label");
  expect_refused("sample " + kDigits + " -o " + file("x.png"), "--noise-schedule");
  expect_refused("sample " + kDigits + " --noise-schedule linear -o " + file("x.png"), "training step");
  expect_refused("sample --sampler dpmpp2m --steps 1 -o " + file("x.png"), "dpm");
}

TEST_F(Schedule, SearchesShowsTransfersAndExports) {
  const std::string found = file("s.json");
  const Outcome search = run_lithe(kSearch + "--steps 3 --threads 1 --no-clip --json --quiet -o " + found +
                                   " --log " + file("log.jsonl") + " --report " + file("report"));
  ASSERT_EQ(search.status, 0) << search.err;
  EXPECT_EQ(search.result()["timesteps"].size(), 3u);
  EXPECT_EQ(search.result()["nfe"], 3);
  EXPECT_GT(search.result()["noise_floor"], 0);
  EXPECT_GT(search.result()["judged"].size(), 8u);
  EXPECT_TRUE(fs::exists(file("report") + "/report.html"));

  // Killed in the middle and gone on with, and by two threads: the same.
  const std::string log = read_text_file(file("log.jsonl"));
  write_file(file("log.jsonl"), log.substr(0, log.size() / 2));
  const Outcome again = run_lithe(kSearch + "--steps 3 --no-clip --json --quiet --resume --threads 2 -o " +
                                  file("again.json") + " --log " + file("log.jsonl"));
  ASSERT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(read_text_file(file("log.jsonl")), log);
  EXPECT_EQ(read_text_file(file("again.json")), read_text_file(found));

  const Outcome shown = run_lithe("schedule show " + found + " --json");
  ASSERT_EQ(shown.status, 0) << shown.err;
  EXPECT_EQ(shown.result()["timesteps"], search.result()["timesteps"]);
  EXPECT_EQ(run_lithe("sample -n 1 --timesteps 500,0 --quiet -o " + file("grid.png")).status, 0);
  const Outcome sampled =
      run_lithe("sample -n 4 --no-clip --quiet --json --schedule " + found + " -o " + file("grid.png"));
  ASSERT_EQ(sampled.status, 0) << sampled.err;
  EXPECT_EQ(sampled.result()["timesteps"], search.result()["timesteps"]);

  const Outcome moved =
      run_lithe("schedule transfer " + found + " --noise-schedule linear --json -o " + file("linear.json"));
  ASSERT_EQ(moved.status, 0) << moved.err;
  for (std::size_t i = 0; i < 3; ++i) {  // as far as that schedule goes
    const double wanted = shown.result()["lambdas"][i], least = -5.06;
    EXPECT_NEAR(moved.result()["lambdas"][i], std::max(wanted, least), 0.05);
    if (wanted < least - 0.2) EXPECT_THAT(moved.err, HasSubstr("half log-SNR"));
  }
  expect_refused("sample --schedule " + file("linear.json") + " -o " + file("x.png"), "schedule transfer");

  const Outcome exported = run_lithe("schedule export " + found + " --json -o " + file("diffusers.json"));
  ASSERT_EQ(exported.status, 0) << exported.err;
  EXPECT_EQ(exported.result()["diffusers"]["timesteps"], search.result()["timesteps"]);
}

TEST_F(Schedule, SkipsLayersUnderABudgetAndExportsAModelForEachSet) {
  const std::string found = file("s.json"), model = (kExamples / "models/digits_unet.onnx").string();
  const Outcome search = run_lithe(kSearch + "--steps 3 --threads 1 " + model + " --features " +
                                   (kExamples / "models/digits_features_a.onnx").string() +
                                   " --budget '50 layers' --json --quiet -o " + found);
  ASSERT_EQ(search.status, 0) << search.err;
  EXPECT_LT(search.result()["macs"], search.result()["full_macs"]);
  const Outcome exported = run_lithe("schedule export " + found + " --format onnx --model " + model +
                                     " --json -o " + file("models"));
  ASSERT_EQ(exported.status, 0) << exported.err;
  const auto steps = nlohmann::json::parse(read_text_file(file("models") + "/steps.json"))["steps"];
  EXPECT_EQ(steps.size(), search.result()["timesteps"].size());
  for (const auto& step : steps)  // a file each
    EXPECT_NO_THROW(read_onnx(file("models") + "/" + step["model"].get<std::string>()));
  expect_refused("schedule export " + found + " -o " + file("d.json"), "lipped");

  const Outcome reusing =
      run_lithe(kSearch + "--steps 3 --threads 1 --budget '50 layers' --reuse --json --quiet -o " +
                file("reused.json"));
  ASSERT_EQ(reusing.status, 0) << reusing.err;
  EXPECT_EQ(reusing.result()["skip_layers"][0].size(), 0u);  // the first step has nothing to reuse
  EXPECT_LT(reusing.result()["macs"], reusing.result()["full_macs"]);
  const Outcome sampled =
      run_lithe("sample -n 4 --quiet --schedule " + file("reused.json") + " -o " + file("grid.png"));
  EXPECT_EQ(sampled.status, 0) << sampled.err;
  expect_refused(
      "schedule export " + file("reused.json") + " --format onnx --model " + model + " -o " + file("other"),
      "reused");
}

TEST_F(Schedule, SaysWhatIsWrong) {
  const std::string out = " -o " + file("s.json");
  expect_refused("schedule search" + out, "--data");
  expect_refused("schedule search" + kReal, "-o");
  expect_refused(kSearch + "--steps 1001" + out, "1001");
  expect_refused(kSearch + "--budget '10 apples'" + out, "--budget");
  expect_refused(kSearch + "--budget '3 layers'" + out, "budget");
  expect_refused(kSearch + "--method magic" + out, "magic");
  expect_refused(kSearch + "--population 10" + out, "--population");
  expect_refused("schedule search" + kReal + " --faithful --rounds 3" + out, "--rounds");
  expect_refused(kSearch + "--metric psnr" + out, "psnr");
  expect_refused(kSearch + "--steps 3 --budget '5 calls'" + out, "--steps");
  expect_refused(kSearch + "--budget 'inf calls'" + out, "--budget");
  expect_refused(kSearch + "--sampler plms --budget '5 calls'" + out, "plms");
  expect_refused(kSearch + "--mean 0 --std 1" + out, "-1..1");
  expect_refused(kSearch + "--verdict " + file("none.onnx") + out, "none.onnx");
  write_file(file("notes.txt"), "not a log");  // which stays as it is
  expect_refused(kSearch + "--log " + file("notes.txt") + out, "no log");
  EXPECT_EQ(read_text_file(file("notes.txt")), "not a log");
  EXPECT_FALSE(fs::exists(file("s.json")));
  expect_refused("schedule show " + kDigits, "JSON");
  write_file(file("bad.json"), "{\"kind\": \"sampling schedule\", \"schema\": 1}");
  expect_refused("schedule show " + file("bad.json"), "bad.json");
  expect_refused("schedule transfer " + file("bad.json") + out, "bad.json");
}

}  // namespace
}  // namespace lithe
