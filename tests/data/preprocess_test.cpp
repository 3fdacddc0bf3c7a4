#include "lithe/data/preprocess.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include "data/files.h"
#include "lithe/data/image.h"

namespace lithe {
namespace {

using nlohmann::json;
using test::message_of;
using testing::HasSubstr;

TEST(Preprocess, FlagsSetEveryField) {
  const Preprocess p = apply_flags({}, {.mean = "0.5,0.4,0.3",
                                        .std = "0.2",
                                        .scale = "1/127.5",
                                        .resize = "256",
                                        .crop = "224x192",
                                        .layout = "NHWC",
                                        .colour = "bgr",
                                        .interpolation = "bicubic"});
  EXPECT_EQ(p.mean, (std::vector<double>{0.5, 0.4, 0.3}));
  EXPECT_EQ(p.std, std::vector<double>{0.2});
  EXPECT_DOUBLE_EQ(p.scale, 1 / 127.5);
  EXPECT_EQ(p.resize_shorter, 256);
  EXPECT_FALSE(p.resize.has_value());
  EXPECT_EQ(p.crop, (PixelSize{224, 192}));
  EXPECT_EQ(p.layout, ImageLayout::Nhwc);
  EXPECT_EQ(p.colour, ColourOrder::Bgr);
  EXPECT_EQ(p.interpolation, Interpolation::Bicubic);
  const Preprocess none = apply_flags(p, {.resize = "none", .crop = "none"});
  EXPECT_FALSE(none.resize_shorter || none.resize || none.crop);
  EXPECT_EQ(apply_flags(p, {}), p);
}

TEST(Preprocess, RefusesBadFlags) {
  EXPECT_THAT(message_of([] { apply_flags({}, {.mean = "0.5,x"}); }), HasSubstr("--mean: 'x'"));
  EXPECT_THAT(message_of([] { apply_flags({}, {.mean = "1,2,3,4,5"}); }), HasSubstr("--mean: 5 numbers"));
  EXPECT_THAT(message_of([] { apply_flags({}, {.std = "0"}); }), HasSubstr("--std"));
  EXPECT_THAT(message_of([] { apply_flags({}, {.scale = "1/0"}); }), HasSubstr("--scale"));
  EXPECT_THAT(message_of([] { apply_flags({}, {.resize = "1x2x3"}); }), HasSubstr("--resize"));
  EXPECT_THAT(message_of([] { apply_flags({}, {.crop = "99999999"}); }), HasSubstr("--crop"));
  EXPECT_THAT(message_of([] { apply_flags({}, {.crop = "-3"}); }), HasSubstr("--crop"));
  EXPECT_THAT(message_of([] { apply_flags({}, {.colour = "pink"}); }), HasSubstr("rgb, bgr, gray"));
}

TEST(Preprocess, JsonRoundTrip) {
  const Preprocess p{.scale = 0.25,
                     .mean = {1, 2, 3},
                     .std = {4, 5, 6},
                     .resize = PixelSize{10, 12},
                     .crop = PixelSize{8, 9},
                     .interpolation = Interpolation::Area,
                     .colour = ColourOrder::Gray,
                     .layout = ImageLayout::Nhwc,
                     .label_offset = 1};
  EXPECT_EQ(preprocess_from_json(to_json(p), "x"), p);
  EXPECT_EQ(preprocess_from_json(to_json(Preprocess{}), "x"), Preprocess{});
}

TEST(Preprocess, RefusesBadJson) {
  const auto complaint = [](const char* text) {
    return message_of([&] { preprocess_from_json(json::parse(text), "m.json"); });
  };
  EXPECT_THAT(complaint("[]"), HasSubstr("m.json"));
  EXPECT_THAT(complaint(R"({"maen": 1})"), HasSubstr("unknown key \"maen\""));
  EXPECT_THAT(complaint(R"({"mean": "half"})"), HasSubstr("\"mean\""));
  EXPECT_THAT(complaint(R"({"mean": [1,2,3,4,5,6]})"), HasSubstr("too many"));
  EXPECT_THAT(complaint(R"({"std": [1, -1, 1]})"), HasSubstr("positive"));
  EXPECT_THAT(complaint(R"({"resize": 0.5})"), HasSubstr("\"resize\""));
  EXPECT_THAT(complaint(R"({"crop": [1, 2, 3]})"), HasSubstr("\"crop\""));
  EXPECT_THAT(complaint(R"({"layout": 3})"), HasSubstr("\"layout\""));
}

TEST(Preprocess, FilesBesideTheModel) {
  const TemporaryFolder folder;
  const auto model = folder.path() / "net.onnx";
  Graph graph;
  EXPECT_EQ(preprocess_for(model, graph), Preprocess{});
  keep_preprocess(graph, {.mean = {0.125}, .colour = ColourOrder::Bgr});
  EXPECT_EQ(preprocess_for(model, graph), (Preprocess{.mean = {0.125}, .colour = ColourOrder::Bgr}));
  EXPECT_EQ(preprocess_for(model, graph, {.mean = "0.25"}).mean, std::vector<double>{0.25});
  // A JSON file that speaks of something else is not for us.
  test::write_bytes(folder.path() / "net.json", R"({"layers": 3})");
  EXPECT_FALSE(find_preprocess(model).has_value());
  test::write_bytes(folder.path() / "net.json",
                    R"({"preprocess": {"mean": 0.5, "crop": 20}, "classes": ["a"]})");
  EXPECT_EQ(preprocess_for(model, graph).mean, std::vector<double>{0.5});
  EXPECT_EQ(preprocess_for(model, graph, {.mean = "0.25"}).mean, std::vector<double>{0.25});
  EXPECT_EQ(preprocess_for(model, graph, {.mean = "0.25"}).crop, (PixelSize{20, 20}));
  test::write_bytes(folder.path() / "net.preprocess.json", R"({"mean": 0.75})");
  EXPECT_EQ(preprocess_for(model, graph).mean, std::vector<double>{0.75});
  test::write_bytes(folder.path() / "net.preprocess.json", "{\"mean\": ");
  EXPECT_THAT(message_of([&] { preprocess_for(model, graph); }),
              HasSubstr("net.preprocess.json: not valid JSON"));
  test::write_bytes(folder.path() / "net.preprocess.json", std::string(100000, '['));
  EXPECT_THAT(message_of([&] { preprocess_for(model, graph); }), HasSubstr("not valid JSON"));
  std::filesystem::remove(folder.path() / "net.preprocess.json");
  std::filesystem::remove(folder.path() / "net.json");
  graph.header.metadata["lithe.preprocess"] = "{";
  EXPECT_THAT(message_of([&] { preprocess_for(model, graph); }), HasSubstr("net.onnx: metadata"));
}

// A 2x4 picture whose channels are told apart: red counts pixels, green is 100, blue 200.
cv::Mat counting_picture() {
  cv::Mat picture(2, 4, CV_8UC3);
  for (int i = 0; i < 8; ++i)
    picture.at<cv::Vec3b>(i / 4, i % 4) = cv::Vec3b(static_cast<uchar>(i), 100, 200);
  return picture;
}

TEST(ToTensor, NormalisesByChannel) {
  const Preprocess p{.scale = 0.5, .mean = {1, 2, 3}, .std = {1, 4, 0.5}};
  const at::Tensor x = to_tensor(counting_picture(), p, "p");
  ASSERT_EQ(x.sizes(), (std::vector<std::int64_t>{3, 2, 4}));
  EXPECT_FLOAT_EQ(x[0][1][2].item<float>(), 6 * 0.5f - 1);
  EXPECT_FLOAT_EQ(x[1][0][0].item<float>(), (100 * 0.5f - 2) / 4);
  EXPECT_FLOAT_EQ(x[2][1][3].item<float>(), (200 * 0.5f - 3) / 0.5f);
}

TEST(ToTensor, LayoutAndColour) {
  const at::Tensor rgb = to_tensor(counting_picture(), {.scale = 1}, "p");
  const at::Tensor hwc = to_tensor(counting_picture(), {.scale = 1, .layout = ImageLayout::Nhwc}, "p");
  EXPECT_TRUE(at::equal(hwc.permute({2, 0, 1}), rgb));
  const at::Tensor bgr = to_tensor(counting_picture(), {.scale = 1, .colour = ColourOrder::Bgr}, "p");
  EXPECT_TRUE(at::equal(bgr.flip(0), rgb));
  const at::Tensor gray = to_tensor(counting_picture(), {.scale = 1, .colour = ColourOrder::Gray}, "p");
  ASSERT_EQ(gray.sizes(), (std::vector<std::int64_t>{1, 2, 4}));
  EXPECT_NEAR(gray[0][0][0].item<float>(), 0.587 * 100 + 0.114 * 200, 1);
  const cv::Mat plane(2, 2, CV_8U, cv::Scalar(7));
  EXPECT_EQ(to_tensor(plane, {}, "p").size(0), 1);
  EXPECT_TRUE(
      at::equal(to_tensor(plane, {.scale = 1, .colour = ColourOrder::Rgb}, "p"), at::full({3, 2, 2}, 7.f)));
}

TEST(ToTensor, ResizesAndCropsTheCentre) {
  const Preprocess crop{.scale = 1, .crop = PixelSize{2, 2}};
  const at::Tensor centre = to_tensor(counting_picture(), crop, "p")[0];
  EXPECT_TRUE(at::equal(centre, at::tensor({1.f, 2.f, 5.f, 6.f}).reshape({2, 2})));
  EXPECT_EQ(to_tensor(counting_picture(), {.resize_shorter = 6}, "p").sizes(),
            (std::vector<std::int64_t>{3, 6, 12}));
  EXPECT_EQ(to_tensor(counting_picture(), {.resize = PixelSize{5, 3}}, "p").sizes(),
            (std::vector<std::int64_t>{3, 5, 3}));
  // Exact 2x2 means under area interpolation.
  const Preprocess half{.scale = 1, .resize = PixelSize{1, 2}, .interpolation = Interpolation::Area};
  const at::Tensor small = to_tensor(counting_picture(), half, "p")[0];
  EXPECT_NEAR(small[0][0].item<float>(), (0 + 1 + 4 + 5) / 4.0, 0.51);
  EXPECT_THAT(message_of([] {
                to_tensor(counting_picture(), {.crop = PixelSize{3, 3}}, "pic.png");
              }),
              HasSubstr("pic.png: 2x4 is smaller than the crop 3x3"));
  EXPECT_THAT(message_of([] {
                to_tensor(counting_picture(), {.mean = {1, 2}}, "pic.png");
              }),
              HasSubstr("3 channel(s)"));
}

TEST(DecodeImage, NamesWhatDoesNotDecode) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "a.jpg";
  cv::Mat noise(64, 64, CV_8UC3);
  cv::randu(noise, 0, 255);
  cv::imwrite(path.string(), noise);
  EXPECT_EQ(read_image(path, Channels::Colour).rows, 64);
  const std::string whole = read_text_file(path);
  test::write_bytes(path, whole.substr(0, whole.size() / 2));
  EXPECT_THAT(message_of([&] { read_image(path, Channels::Colour); }),
              HasSubstr("a.jpg: the picture is cut short"));
  test::write_bytes(path, "");
  EXPECT_THAT(message_of([&] { read_image(path, Channels::Colour); }), HasSubstr("a.jpg: the file is empty"));
  test::write_bytes(path, "not a picture at all");
  EXPECT_THAT(message_of([&] { read_image(path, Channels::Colour); }), HasSubstr("a.jpg: does not decode"));
  const auto png = folder.path() / "b.png";
  cv::imwrite(png.string(), noise);
  const std::string png_bytes = read_text_file(png);
  test::write_bytes(png, png_bytes.substr(0, png_bytes.size() / 2));
  EXPECT_THAT(message_of([&] { read_image(png, Channels::Colour); }),
              HasSubstr("b.png: the picture is cut short"));
  std::string huge = png_bytes;
  huge[16] = huge[20] = 0x7f;
  test::write_bytes(png, huge);
  EXPECT_THAT(message_of([&] { read_image(png, Channels::Colour); }), HasSubstr("pixels are too many"));
}

}  // namespace
}  // namespace lithe
