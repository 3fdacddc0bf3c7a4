// lithe deflicker on folders of small pictures and a video made of them.
#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "cli/lithe.h"
#include "lithe/base/file.h"
#include "lithe/data/picture_grid.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class DeflickerVerb : public testing::Test {
 protected:
  DeflickerVerb() {
    for (const char* folder : {"in", "guide", "wide", "short"}) fs::create_directory(folder_.path() / folder);
    for (int t = 0; t < 6; ++t) {
      at::Tensor picture = at::empty({3, 36, 48}, at::kByte);
      for (int y = 0; y < 36; ++y)
        for (int x = 0; x < 48; ++x)
          for (int c = 0; c < 3; ++c)
            picture[c][y][x] = static_cast<int>(110 + 60 * std::sin(0.3 * (x - t) + c) * std::cos(0.25 * y));
      const std::string name = "/f" + std::to_string(t + 7) + ".png";  // f10 comes after f9
      write_file(file("guide" + name), picture_png(picture));
      write_file(file("in" + name), picture_png(picture + (t % 2) * 40));
      write_file(file("wide" + name), picture_png(at::cat({picture, picture}, 2).contiguous()));
      if (t < 4) write_file(file("short" + name), picture_png(picture));
    }
  }
  std::string file(const std::string& name) const { return (folder_.path() / name).string(); }
  std::string arguments(const std::string& rest, const char* guide = "guide") const {
    return "deflicker " + file("in") + " --guide " + file(guide) + " --window 3 --threads 1 " + rest;
  }
  /// The bytes of all pictures of a folder.
  std::string pictures(const std::string& folder) const {
    std::string all;
    for (int t = 0; t < 6; ++t) all += read_text_file(file(folder + "/f" + std::to_string(t + 7) + ".png"));
    return all;
  }
  TemporaryFolder folder_;
};

TEST_F(DeflickerVerb, CalmsAFolder) {
  const Outcome made =
      run_lithe(arguments("--json --quiet -o " + file("out") + " --report " + file("report")));
  ASSERT_EQ(made.status, 0) << made.err;
  const auto result = made.result();
  EXPECT_EQ(result["frames"], 6);
  EXPECT_EQ(result["mode"], "fast");
  EXPECT_LT(result["after"]["warp_error"].get<double>(), 0.2 * result["before"]["warp_error"].get<double>());
  EXPECT_LT(result["after"]["flicker"].get<double>(), 0.2 * result["before"]["flicker"].get<double>());
  EXPECT_FALSE(pictures("out").empty());
  EXPECT_TRUE(fs::exists(file("report/report.html")));
  EXPECT_FALSE(fs::exists(file("out.frames")));
}

TEST_F(DeflickerVerb, PublishedAndPartsOfItMakeOtherPictures) {
  ASSERT_EQ(run_lithe(arguments("--quiet -o " + file("all"))).status, 0);
  ASSERT_EQ(run_lithe(arguments("--quiet --published -o " + file("published"))).status, 0);
  ASSERT_EQ(run_lithe(arguments("--quiet --without colours,detail -o " + file("without"))).status, 0);
  EXPECT_NE(pictures("all"), pictures("published"));
  EXPECT_NE(pictures("all"), pictures("without"));
}

TEST_F(DeflickerVerb, WithoutFramesOnDiskTheResultIsTheSame) {
  ASSERT_EQ(run_lithe(arguments("--quiet -o " + file("whole"))).status, 0);
  const Outcome direct = run_lithe(arguments("--quiet --direct -o " + file("direct")));
  ASSERT_EQ(direct.status, 0) << direct.err;
  EXPECT_EQ(pictures("direct"), pictures("whole"));
}

TEST_F(DeflickerVerb, WritesAVideoAndSaysWhatItWouldTake) {
  ASSERT_EQ(run_lithe(arguments("--quiet --fps 12.5 -o " + file("out.mkv"))).status, 0);
  const Outcome plan = run_lithe("deflicker " + file("out.mkv") + " --dry-run --json --quiet --window 3");
  ASSERT_EQ(plan.status, 0) << plan.err;
  EXPECT_EQ(plan.result()["frames"], 6);
  EXPECT_EQ(plan.result()["width"], 48);
  EXPECT_GT(plan.result()["pairs"], 6);
  EXPECT_FALSE(fs::exists(file("out.mkv.frames")));
}

TEST_F(DeflickerVerb, FitsGuidesOnlyWhenAsked) {
  const auto refused = [&](const std::string& rest, const char* guide, const std::string& why) {
    expect_user_error(run_lithe(arguments("--quiet -o " + file("refused") + rest, guide)), why);
    EXPECT_FALSE(fs::exists(file("refused"))) << why;
  };
  refused("", "wide", "--fit");
  refused("", "short", "--fit");
  refused(" --patch 4", "guide", "odd");
  refused(" --window 2000", "guide", "--window");
  refused(" --direct --resume", "guide", "--direct");
  refused(" --published --without detail", "guide", "--published");
  refused(" --mode accurate --memory 1M", "guide", "--memory");
  refused("", "nowhere", "nowhere");
  EXPECT_EQ(run_lithe(arguments("--quiet --fit -o " + file("fitted"), "wide")).status, 0);
  const Outcome cut = run_lithe(arguments("--json --quiet --fit -o " + file("cut"), "short"));
  ASSERT_EQ(cut.status, 0) << cut.err;
  EXPECT_EQ(cut.result()["frames"], 4);
}

}  // namespace
}  // namespace lithe
