#include "lithe/points/ply.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "lithe/base/file.h"
#include "points/shapes.h"
#include "tests/message_of.h"
#include "tests/mutation.h"

namespace lithe {
namespace {

using test::message_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

using Colour = std::array<std::uint8_t, 3>;
using Face = std::array<std::int32_t, 3>;

PlyScene parse(const std::string& text, const PlyOptions& options = {}) {
  return parse_ply(text, "a.ply", options);
}

std::string refusal(const std::string& text) {
  const std::string message = message_of([&] { parse(text); });
  EXPECT_THAT(message, HasSubstr("a.ply"));
  return message;
}

/// A header of ASCII: lines after the format.
std::string ascii(const std::string& lines, const std::string& body) {
  return "ply\nformat ascii 1.0\n" + lines + "end_header\n" + body;
}

const std::string kXyz = "property float x\nproperty float y\nproperty float z\n";

/// Binary values of either byte order.
class Bytes {
 public:
  explicit Bytes(bool big) : big_(big) {}
  template <typename T>
  Bytes& put(T value) {
    std::string raw(sizeof(T), '\0');
    std::memcpy(raw.data(), &value, sizeof(T));
    if (big_ == (std::endian::native == std::endian::little)) std::reverse(raw.begin(), raw.end());
    text += raw;
    return *this;
  }
  std::string text;

 private:
  bool big_;
};

TEST(ReadPly, AsciiWithEverything) {
  const PlyScene scene = parse(ascii(
      "comment made by hand\r\nelement vertex 4\nproperty double x\nproperty list uchar int others\n"
      "property float y\nproperty float z\nproperty uchar red\nproperty uchar green\nproperty uchar "
      "blue\nproperty uchar alpha\nproperty ushort label\nproperty float nx\nproperty float ny\nproperty "
      "float nz\nelement edge 2\nproperty int a\nelement nothing 7\nelement face 2\nproperty uchar "
      "flags\nproperty list uchar int vertex_indices\n",
      "0 2 7 8 0 0 255 0 1 9 3 0 0 1\n1 0 0 0 0 0 0 0 4 0 0 1\n+1 0 1. 0 0 0 0 0 5 0 0 1\r\n"
      "0 0 1e0 .5 1 2 3 0 6 0 1 0\n5\n6\n1 4 0 1 2 3\n0 3 0 1 3"));
  EXPECT_THAT(scene.cloud.positions,
              ElementsAre(Float3{0, 0, 0}, Float3{1, 0, 0}, Float3{1, 1, 0}, Float3{0, 1, .5f}));
  EXPECT_EQ(scene.cloud.colours[0], (Colour{255, 0, 1}));
  EXPECT_EQ(scene.cloud.colours[3], (Colour{1, 2, 3}));
  EXPECT_EQ(scene.cloud.normals[3], (Float3{0, 1, 0}));
  EXPECT_THAT(scene.cloud.faces, ElementsAre(Face{0, 1, 2}, Face{0, 2, 3}, Face{0, 1, 3}));
  EXPECT_TRUE(scene.notes().empty());
  EXPECT_TRUE(scene.properties.empty());
}

TEST(ReadPly, BinaryOfBothByteOrders) {
  for (const bool big : {false, true}) {
    Bytes bytes(big);
    for (int i = 0; i < 3; ++i)
      bytes.put(float(i))
          .put(double(i) / 4)
          .put(std::int16_t(-i))
          .put(std::uint16_t(257 * 100 * i % 65536))
          .put(std::uint16_t(65535))
          .put(std::uint16_t(0))
          .put(std::uint32_t(4000000000u))
          .put(std::int8_t(-1));
    bytes.put(std::uint16_t(3)).put(std::uint32_t(2)).put(std::uint32_t(1)).put(std::uint32_t(0));
    const PlyScene scene = parse(
        std::string("ply\r\nformat ") + (big ? "binary_big_endian" : "binary_little_endian") +
            " 1.0\r\nelement vertex 3\r\nproperty float32 x\r\nproperty float64 y\r\nproperty int16 "
            "z\r\nproperty uint16 red\r\nproperty uint16 green\r\nproperty uint16 blue\r\nproperty uint32 "
            "label\r\nproperty int8 flag\r\nelement face 1\r\nproperty list uint16 uint32 "
            "vertex_index\r\nend_header\r\n" +
            bytes.text,
        {.wanted = {"label", "flag", "absent"}});
    EXPECT_THAT(scene.cloud.positions, ElementsAre(Float3{0, 0, 0}, Float3{1, .25f, -1}, Float3{2, .5f, -2}));
    EXPECT_EQ(scene.cloud.colours[1], (Colour{100, 255, 0}));
    EXPECT_THAT(scene.cloud.faces, ElementsAre(Face{2, 1, 0}));
    EXPECT_THAT(scene.properties.at("label"), ElementsAre(4e9, 4e9, 4e9));
    EXPECT_THAT(scene.properties.at("flag"), ElementsAre(-1, -1, -1));
    EXPECT_EQ(scene.properties.count("absent"), 0u);
  }
}

TEST(ReadPly, ColoursAsFractionsOrAsBytesInFloats) {
  const std::string lines =
      "element vertex 2\n" + kXyz + "property float red\nproperty float green\nproperty float blue\n";
  EXPECT_EQ(parse(ascii(lines, "0 0 0 1 0.5 0\n0 0 0 0 0 nan")).cloud.colours[0], (Colour{255, 128, 0}));
  EXPECT_EQ(parse(ascii(lines, "0 0 0 1 0.5 0\n0 0 0 200 -4 300")).cloud.colours[1], (Colour{200, 0, 255}));
}

TEST(ReadPly, PointsWithoutAPlaceGoWithTheirFaces) {
  const PlyScene scene =
      parse(ascii("element vertex 5\n" + kXyz +
                      "property int label\nelement face 4\nproperty list uchar int "
                      "vertex_indices\n",
                  "0 0 0 1\nnan 0 0 2\n1 0 0 3\n0 1e30 0 4\n1 1 1 5\n3 0 2 4\n3 0 1 2\n2 0 2\n3 2 3 4\n"),
            {.wanted = {"label"}});
  EXPECT_EQ(scene.cloud.size(), 3);
  EXPECT_THAT(scene.cloud.faces, ElementsAre(Face{0, 1, 2}));
  EXPECT_THAT(scene.properties.at("label"), ElementsAre(1, 3, 5));
  EXPECT_EQ(scene.dropped_points, 2);
  EXPECT_EQ(scene.dropped_faces, 3);
  EXPECT_THAT(scene.notes(), ElementsAre(HasSubstr("2 points"), HasSubstr("3 faces")));
}

TEST(ReadPly, FarSceneKeepsItsMillimetres) {
  const std::string lines = "element vertex 3\nproperty double x\nproperty double y\nproperty double z\n";
  const PlyScene scene =
      parse(ascii(lines, "500000.001 4649776.25 31\n500001.002 4649777.5 32\n500002.003 4649778.75 33\n"));
  EXPECT_THAT(scene.offset, ElementsAre(500001, 4649778, 32));
  EXPECT_NEAR(scene.cloud.positions[0][0], -0.999, 1e-6);
  EXPECT_NEAR(scene.cloud.positions[2][0], 1.003, 1e-6);
  EXPECT_THAT(scene.notes(), ElementsAre(HasSubstr("500001")));
  const TemporaryFolder folder;
  write_ply(folder.path() / "far.ply", scene.cloud, scene.offset);
  const PlyScene again = read_ply(folder.path() / "far.ply");
  EXPECT_EQ(again.offset, scene.offset);
  EXPECT_EQ(again.cloud.positions, scene.cloud.positions);
}

TEST(ReadPly, OneStrayPointMovesNothing) {
  const PlyScene scene = parse(ascii("element vertex 4\n" + kXyz, "0 0 0\n1 0 0\n0 1 0\n1e7 0 0\n"));
  EXPECT_THAT(scene.offset, ElementsAre(0, 0, 0));
  EXPECT_EQ(scene.cloud.positions[3][0], 1e7f);
}

TEST(ReadPly, ScaleAndAxes) {
  const PlyScene scene =
      parse(ascii("element vertex 1\n" + kXyz + "property float nx\nproperty float ny\nproperty float nz\n",
                  "100 200 300 0 1 0"),
            {.scale = 0.01, .y_up = true});
  EXPECT_THAT(scene.cloud.positions[0], ElementsAre(1, -3, 2));
  EXPECT_THAT(scene.cloud.normals[0], ElementsAre(0, 0, 1));
  EXPECT_THAT(message_of([&] { parse("", {.scale = 0}); }), HasSubstr("scale"));
}

TEST(ReadPly, RefusesInOneLineThatNamesThePlace) {
  EXPECT_THAT(refusal("solid cube\n"), HasSubstr("not a PLY file"));
  EXPECT_THAT(refusal(""), HasSubstr("not a PLY file"));
  EXPECT_THAT(refusal("ply\nformat ascii 1.0\nelement vertex 3\n"), HasSubstr("does not end"));
  EXPECT_THAT(refusal("ply\nformat utf8 1.0\nend_header\n"), HasSubstr("line 2"));
  EXPECT_THAT(refusal("ply\nelement vertex 1\n" + kXyz + "end_header\n0 0 0"), HasSubstr("no line says"));
  EXPECT_THAT(refusal(ascii("element vertex -1\n" + kXyz, "")), HasSubstr("line 3"));
  EXPECT_THAT(refusal(ascii("element vertex 99999999999999999999\n", "")), HasSubstr("no number"));
  EXPECT_THAT(refusal(ascii("property float x\n", "")), HasSubstr("before the first element"));
  EXPECT_THAT(refusal(ascii("element vertex 1\nproperty quad x\n", "")), HasSubstr("quad"));
  EXPECT_THAT(refusal(ascii("element vertex 1\n" + kXyz + "property float x\n", "0 0 0 0")),
              HasSubstr("twice"));
  EXPECT_THAT(refusal(ascii("element vertex 1\nproperty list float int a\n", "")),
              HasSubstr("length of list"));
  EXPECT_THAT(refusal(ascii("shape round\n", "")), HasSubstr("shape"));
  EXPECT_THAT(refusal(ascii("element vertex 0\n" + kXyz, "")), HasSubstr("no points"));
  EXPECT_THAT(refusal(ascii("element vertex 1\nproperty float x\nproperty float y\n", "0 0")),
              HasSubstr("x, y, z"));
  EXPECT_THAT(refusal(ascii("element vertex 1\n" + kXyz + "element vertex 1\n" + kXyz, "0 0 0 0 0 0")),
              HasSubstr("two elements"));
  EXPECT_THAT(refusal(ascii("element vertex 2\n" + kXyz, "0 0 0\n0 zero 0\n")),
              HasSubstr("vertex 1, property y"));
  EXPECT_THAT(refusal(ascii("element vertex 2\n" + kXyz, "0 0 0\n0 100000")),
              HasSubstr("vertex 1, property z"));
  EXPECT_THAT(refusal(ascii("element vertex 1\n" + kXyz, "nan nan nan")), HasSubstr("no numbers"));
  const std::string faces =
      "element vertex 1\n" + kXyz + "element face 1\nproperty list char int vertex_index\n";
  EXPECT_THAT(refusal(ascii(faces, "0 0 0\n3 0 0 1")), HasSubstr("face 0"));
  EXPECT_THAT(refusal(ascii(faces, "0 0 0\n3 0 0 -1")), HasSubstr("no point -1"));
  EXPECT_THAT(refusal(ascii(faces, "0 0 0\n-3 0 0 0")), HasSubstr("-3 values"));
  EXPECT_THAT(refusal(ascii(faces, "0 0 0\n1e9 0 0 0")), HasSubstr("ends before"));
}

TEST(ReadPly, ChecksSizesBeforeItAllocates) {
  const auto binary = [](const std::string& count) {
    return "ply\nformat binary_little_endian 1.0\nelement vertex " + count + "\n" + kXyz + "end_header\n";
  };
  EXPECT_THAT(refusal(binary("2000000000") + std::string(24, 'a')), HasSubstr("12 bytes"));
  EXPECT_THAT(refusal(binary("9223372036854775807") + std::string(24, 'a')), HasSubstr("too many"));
  EXPECT_THAT(refusal(ascii("element vertex 2000000000\n" + kXyz, "0 0 0")), HasSubstr("cut off"));
  const std::string lists =
      "ply\nformat binary_little_endian 1.0\nelement odd 1\nproperty list uint double "
      "a\nelement vertex 1\n" +
      kXyz + "end_header\n";
  EXPECT_THAT(refusal(lists + std::string(16, '\xff')), HasSubstr("odd 0, property a"));
}

TEST(WritePly, ReadsBackTheSame) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "a.ply";
  PointCloud cloud = golden_torus();
  write_ply(path, cloud);
  EXPECT_EQ(read_ply(path).cloud.positions, cloud.positions);
  EXPECT_EQ(read_ply(path).cloud.faces, cloud.faces);
  EXPECT_TRUE(read_ply(path).cloud.colours.empty());
  Rng rng(1);
  for (std::size_t i = 0; i < cloud.positions.size(); ++i) {
    cloud.colours.push_back(
        {static_cast<std::uint8_t>(rng.below(256)), static_cast<std::uint8_t>(rng.below(256)), 0});
    cloud.normals.push_back({0, static_cast<float>(rng.uniform()), 1});
  }
  cloud.faces.clear();
  write_ply(path, cloud);
  const PointCloud again = read_ply(path).cloud;
  EXPECT_EQ(again.positions, cloud.positions);
  EXPECT_EQ(again.colours, cloud.colours);
  EXPECT_EQ(again.normals, cloud.normals);
  EXPECT_TRUE(again.faces.empty());
  EXPECT_THAT(message_of([&] { write_ply(folder.path() / "none" / "a.ply", cloud); }), HasSubstr("none"));
}

TEST(ReadPly, DamagedFilesAreReadOrRefused) {
  const TemporaryFolder folder;
  PointCloud cloud = golden_torus();
  cloud.colours.assign(cloud.positions.size(), {1, 2, 3});
  write_ply(folder.path() / "a.ply", cloud);
  const std::string whole = read_text_file(folder.path() / "a.ply"),
                    text = ascii("element vertex 3\n" + kXyz +
                                     "element face 1\nproperty list uchar int "
                                     "vertex_indices\n",
                                 "0 0 0\n1 0 0\n0 1 0\n3 0 1 2\n");
  Rng rng(77);
  int read = 0, refused = 0;
  for (int i = 0; i < 4000; ++i) {
    const std::string damaged = test::mutate(i % 2 ? whole : text, rng);
    const std::string message = message_of([&] {
      const PlyScene scene = parse(damaged);
      for (const auto& face : scene.cloud.faces)
        for (const std::int32_t corner : face) EXPECT_LT(corner, scene.cloud.size());
    });
    ++(message.empty() ? read : refused);
  }
  EXPECT_GT(read, 100);
  EXPECT_GT(refused, 100);
}

}  // namespace
}  // namespace lithe
