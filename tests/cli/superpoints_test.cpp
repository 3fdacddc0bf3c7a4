// lithe superpoints on a small mesh and on its points.
#include <gmock/gmock.h>

#include <set>

#include "cli/lithe.h"
#include "lithe/base/json.h"
#include "points/shapes.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;

/// The torus of golden case G6 as ASCII, in centimetres, its y up if asked for.
std::string torus_text(bool y_up, const std::string& first = "") {
  const PointCloud torus = golden_torus();
  std::string text = "ply\nformat ascii 1.0\nelement vertex " + std::to_string(torus.size()) +
                     "\nproperty double x\nproperty double y\nproperty double z\nelement face " +
                     std::to_string(torus.faces.size()) +
                     "\nproperty list uchar int vertex_indices\nend_header\n";
  for (std::size_t i = 0; i < torus.positions.size(); ++i) {
    const auto& p = torus.positions[i];
    const auto number = [](float x) { return std::to_string(100.0 * static_cast<double>(x)); };
    if (i == 0 && !first.empty())
      text += first;
    else
      text += number(p[0]) + " " +
              (y_up ? number(p[2]) + " " + number(-p[1]) : number(p[1]) + " " + number(p[2]));
    text += "\n";
  }
  for (const auto& f : torus.faces)
    text += "3 " + std::to_string(f[0]) + " " + std::to_string(f[1]) + " " + std::to_string(f[2]) + "\n";
  return text;
}

class SuperpointsVerb : public testing::Test {
 protected:
  SuperpointsVerb() {
    write_file(file("torus.ply"), torus_text(false));
    write_file(file("upright.ply"), torus_text(true));
  }
  std::string file(const std::string& name) const { return (folder_.path() / name).string(); }
  std::vector<int> segments(const std::string& name) const {
    return parse_json(read_text_file(file(name)), name).at("segIndices").get<std::vector<int>>();
  }
  TemporaryFolder folder_;
};

TEST_F(SuperpointsVerb, WritesAColouredMeshAndSegments) {
  const Outcome made =
      run_lithe("superpoints " + file("torus.ply") + " --scale 0.01 --least 5 --threads 2 -o " +
                file("out.ply") + " --report " + file("report") + " --json");
  ASSERT_EQ(made.status, 0) << made.err;
  const auto result = made.result();
  EXPECT_EQ(result["superpoints"], 5);
  EXPECT_EQ(result["points"], 96);
  EXPECT_EQ(result["from"], "mesh");
  EXPECT_EQ(result["sizes"]["largest"], 31);
  EXPECT_EQ(made.json()["files"][1], file("out.0.010000.segs.json"));
  EXPECT_TRUE(fs::exists(file("report/report.html")));
  const auto ids = segments("out.0.010000.segs.json");
  EXPECT_EQ(ids.size(), 96u);
  EXPECT_EQ(std::set<int>(ids.begin(), ids.end()).size(), 5u);
  const std::string coloured = read_text_file(file("out.ply"));
  EXPECT_NE(coloured.find("property uchar red"), std::string::npos);
  EXPECT_NE(coloured.find("element face 192"), std::string::npos);
}

TEST_F(SuperpointsVerb, AxesAndThreadsChangeNothing) {
  const std::string rest = " --scale 0.01 --threshold 0.5 --least 1 --quiet";
  ASSERT_EQ(run_lithe("superpoints " + file("torus.ply") + rest + " --threads 1 -o " + file("z.json")).status,
            0);
  ASSERT_EQ(
      run_lithe("superpoints " + file("upright.ply") + rest + " --up y --threads 3 -o " + file("y.json"))
          .status,
      0);
  EXPECT_EQ(segments("z.json"), segments("y.json"));
  EXPECT_FALSE(fs::exists(file("z.0.500000.segs.json")));
  const auto params = parse_json(read_text_file(file("z.json")), "z").at("params");
  EXPECT_EQ(params.at("kThresh"), "0.5");
}

TEST_F(SuperpointsVerb, TakesCloudsAndSaysWhatItLeftOut) {
  write_file(file("hole.ply"), torus_text(false, "nan 0 0"));
  const Outcome made =
      run_lithe("superpoints " + file("hole.ply") +
                " --cloud --neighbours 6 --viewpoint 0,0,9 --colour 0.1 --json -o " + file("c.json"));
  ASSERT_EQ(made.status, 0) << made.err;
  EXPECT_EQ(made.result()["from"], "cloud");
  EXPECT_EQ(made.result()["points"], 95);
  EXPECT_EQ(made.result()["dropped_points"], 1);
  EXPECT_NE(made.err.find("1 point"), std::string::npos) << made.err;
  EXPECT_NE(made.err.find("no colours"), std::string::npos) << made.err;
  EXPECT_EQ(segments("c.json").size(), 95u);
}

TEST_F(SuperpointsVerb, RefusesInOneLine) {
  const std::string scene = "superpoints " + file("torus.ply");
  expect_user_error(run_lithe(scene), "needs -o");
  expect_user_error(run_lithe(scene + " -o " + file("x.obj")), ".ply nor in .json");
  expect_user_error(run_lithe(scene + " -o " + file("torus.ply")), "the scene itself");
  expect_user_error(run_lithe(scene + " -o " + file("none/x.ply")), "none");
  expect_user_error(run_lithe(scene + " --least 0 -o " + file("x.ply")), "--least");
  expect_user_error(run_lithe(scene + " --up x -o " + file("x.ply")), "--up");
  expect_user_error(run_lithe(scene + " --neighbors 4 -o " + file("x.ply")), "--neighbours");
  expect_user_error(run_lithe("superpoints " + file("absent.ply") + " -o " + file("x.ply")), "absent.ply");
  write_file(file("short.ply"), torus_text(false).substr(0, 900));
  expect_user_error(run_lithe("superpoints " + file("short.ply") + " -o " + file("x.ply")), "short.ply");
  EXPECT_FALSE(fs::exists(file("x.ply")));
}

}  // namespace
}  // namespace lithe
