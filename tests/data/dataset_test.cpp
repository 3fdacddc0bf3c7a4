#include "lithe/data/dataset.h"

#include <gmock/gmock.h>
#include <zlib.h>

#include <set>

#include "data/files.h"
#include "lithe/data/npz.h"

namespace lithe {
namespace {

using test::message_of;
using test::write_bytes;
using test::write_picture;
using testing::ElementsAre;
using testing::HasSubstr;

const Preprocess kRaw{.scale = 1};

std::string complaint(const std::string& spec, const Preprocess& preprocess = kRaw) {
  return message_of([&] { open_dataset(spec, preprocess); });
}

float red(const Sample& sample) {
  return sample.inputs.at("")[0][0][0].item<float>();
}

std::vector<std::int64_t> labels_of(const DatasetPtr& data) {
  std::vector<std::int64_t> out;
  for (std::int64_t i = 0; i < data->size(); ++i) out.push_back(data->get(i).label);
  return out;
}

TEST(DataSpec, TakesApart) {
  DataSpec spec = parse_data_spec("sheet:a/b.png,cell=20x20,rows=0:5");
  EXPECT_EQ(spec.kind, "sheet");
  EXPECT_EQ(spec.path, "a/b.png");
  EXPECT_THAT(spec.options, ElementsAre(std::pair("cell", "20x20"), std::pair("rows", "0:5")));
  spec = parse_data_spec("strange:folder, with comma=1,labels=x,y.tsv");
  EXPECT_EQ(spec.kind, "");
  EXPECT_EQ(spec.path, "strange:folder, with comma=1");
  EXPECT_THAT(spec.options, ElementsAre(std::pair("labels", "x,y.tsv")));
  EXPECT_THAT(message_of([] { parse_data_spec("idx:"); }), HasSubstr("path is missing"));
}

TEST(DataSpec, Ranges) {
  EXPECT_THAT(select_range("2:5", 10), ElementsAre(2, 3, 4));
  EXPECT_THAT(select_range("-2:", 10), ElementsAre(8, 9));
  EXPECT_THAT(select_range(":7:3", 10), ElementsAre(0, 3, 6));
  EXPECT_THAT(select_range("8:100", 10), ElementsAre(8, 9));
  EXPECT_TRUE(select_range("5:2", 10).empty());
  EXPECT_THAT(select_range("1::9223372036854775807", 10), ElementsAre(1));
  EXPECT_THAT(message_of([] { select_range("1:2:0", 10); }), HasSubstr("step"));
  EXPECT_THAT(message_of([] { select_range("3", 10); }), HasSubstr("start:stop"));
  EXPECT_THAT(message_of([] { select_range("a:b", 10); }), HasSubstr("'a:b'"));
}

TEST(Folder, OneSubFolderAClass) {
  const TemporaryFolder folder;
  write_picture(folder.path() / "dog/1.png", 4, 5, {10, 0, 0});
  write_picture(folder.path() / "cat/2.png", 4, 5, {20, 0, 0});
  write_picture(folder.path() / "cat/deep/1.png", 4, 5, {30, 0, 0});
  write_bytes(folder.path() / "cat/notes.txt", "hello");
  const auto data = open_dataset(folder.path().string(), kRaw);
  EXPECT_TRUE(data->labelled());
  EXPECT_THAT(data->class_names(), ElementsAre("cat", "dog"));
  EXPECT_THAT(labels_of(data), ElementsAre(0, 0, 1));
  EXPECT_EQ(red(data->get(0)), 20);
  EXPECT_EQ(red(data->get(2)), 10);
  EXPECT_EQ(data->get(0).inputs.at("").sizes(), (std::vector<std::int64_t>{3, 4, 5}));
  write_bytes(folder.path() / "classes.txt", "dog\nhorse\ncat\n");
  EXPECT_THAT(labels_of(open_dataset(folder.path().string(), kRaw)), ElementsAre(2, 2, 0));
  EXPECT_THAT(labels_of(open_dataset(folder.path().string() + ",slice=1:,label_offset=1", kRaw)),
              ElementsAre(3, 1));
}

TEST(Folder, NumbersAreLabels) {
  const TemporaryFolder folder;
  for (const char* name : {"10", "9", "0"})
    write_picture(folder.path() / "test" / name / "x.png", 2, 2, {1, 1, 1});
  EXPECT_THAT(labels_of(open_dataset(folder.path().string() + ",split=test", kRaw)), ElementsAre(0, 10, 9));
}

TEST(Folder, LabelsByFile) {
  const TemporaryFolder folder;
  for (const char* name : {"3_a.png", "1_b.png", "2_c.png"})
    write_picture(folder.path() / name, 2, 2, {1, 1, 1});
  const std::string path = folder.path().string();
  EXPECT_FALSE(open_dataset(path, kRaw)->labelled());
  EXPECT_THAT(labels_of(open_dataset(path + ",labels=prefix", kRaw)), ElementsAre(1, 2, 3));
  write_bytes(folder.path() / "labels.tsv", "0\tn01440764\ttench\n");  // class names, not files
  EXPECT_FALSE(open_dataset(path, kRaw)->labelled());
  write_bytes(folder.path() / "labels.tsv", "# file, label\n3_a.png\twolf\r\n1_b.png\tape\n");
  const auto data = open_dataset(path, kRaw);
  EXPECT_THAT(labels_of(data), ElementsAre(1, 0));
  EXPECT_THAT(data->class_names(), ElementsAre("ape", "wolf"));
  EXPECT_FALSE(open_dataset(path + ",labels=none", kRaw)->labelled());
  write_bytes(folder.path() / "other.txt", "2_c.png 7\n");
  EXPECT_THAT(labels_of(open_dataset(path + ",labels=other.txt", kRaw)), ElementsAre(7));
  write_bytes(folder.path() / "other.txt", "gone.png 7\n");
  EXPECT_THAT(complaint(path + ",labels=other.txt"), HasSubstr("names 'gone.png'"));
}

TEST(Folder, ClearErrors) {
  const TemporaryFolder folder;
  const std::string path = folder.path().string();
  EXPECT_THAT(complaint(path), HasSubstr("holds no pictures"));
  EXPECT_THAT(complaint(path + "/nowhere"), HasSubstr("no such file or folder"));
  EXPECT_THAT(complaint(path + ",split=test"), HasSubstr("split=test"));
  write_picture(folder.path() / "a.png", 2, 2, {1, 1, 1});
  EXPECT_THAT(complaint(path + ",colour=red"), HasSubstr("no option 'colour'"));
  EXPECT_THAT(complaint(path + ",slice=5:"), HasSubstr("no samples are left"));
  EXPECT_THAT(complaint(path + ",label_offset=x"), HasSubstr("whole number"));
  write_bytes(folder.path() / "b.png", "broken");
  const auto data = open_dataset(path, kRaw);
  EXPECT_THAT(message_of([&] { data->get(1); }), HasSubstr("b.png: does not decode"));
  write_bytes(folder.path() / "c.xyz", "?");
  EXPECT_THAT(complaint(path + "/c.xyz"), HasSubstr("kind:path"));
  EXPECT_EQ(open_dataset(path + "/a.png", kRaw)->size(), 1);
}

TEST(Pairs, MatchesLowAndHighResolution) {
  const TemporaryFolder folder;
  for (int i = 1; i <= 2; ++i) {
    write_picture(folder.path() / ("img_" + std::to_string(i) + "_LR.png"), 3, 4, {i * 10.0, 0, 0});
    write_picture(folder.path() / ("img_" + std::to_string(i) + "_HR.png"), 6, 8, {i * 20.0, 0, 0});
  }
  const auto data = open_dataset(folder.path().string(), kRaw);
  ASSERT_EQ(data->size(), 2);
  EXPECT_TRUE(data->has_targets());
  EXPECT_EQ(red(data->get(1)), 20);
  EXPECT_EQ(data->get(1).target.sizes(), (std::vector<std::int64_t>{3, 6, 8}));
  EXPECT_EQ(data->get(1).target[0][0][0].item<float>(), 40);
  EXPECT_THAT(complaint(folder.path().string(), {.crop = PixelSize{2, 2}}), HasSubstr("--crop"));
  std::filesystem::remove(folder.path() / "img_2_HR.png");
  EXPECT_THAT(complaint(folder.path().string()), HasSubstr("img_2_LR.png: has no counterpart"));
  write_picture(folder.path() / "hr/img_1.png", 6, 8, {0, 0, 0});
  write_picture(folder.path() / "lr/img_1.png", 3, 4, {0, 0, 0});
  EXPECT_EQ(
      open_dataset("pairs:" + (folder.path() / "lr").string() + ",target=" + (folder.path() / "hr").string(),
                   kRaw)
          ->size(),
      1);
}

TEST(Pairs, RefusesTargetsWithoutInputs) {
  const TemporaryFolder folder;
  for (const char* name : {"a_LR", "a_HR", "b_HR", "c_HR"})
    write_picture(folder.path() / (std::string(name) + ".png"), 4, 4, {0, 0, 0});
  EXPECT_THAT(complaint(folder.path().string()),
              HasSubstr("b_HR.png: has no counterpart whose name ends with _LR"));
  write_picture(folder.path() / "lr/x.png", 4, 4, {0, 0, 0});
  for (const char* name : {"hr/x.png", "hr/y.png"}) write_picture(folder.path() / name, 8, 8, {0, 0, 0});
  EXPECT_THAT(
      complaint("pairs:" + (folder.path() / "lr").string() + ",target=" + (folder.path() / "hr").string()),
      HasSubstr("y.png: has no counterpart in " + (folder.path() / "lr").string()));
}

TEST(Sheet, CutsCells) {
  const TemporaryFolder folder;
  // 4 rows x 3 columns of cells of 2x5; each cell has its own gray.
  cv::Mat sheet(8, 15, CV_8U);
  for (int y = 0; y < 8; ++y)
    for (int x = 0; x < 15; ++x) sheet.at<uchar>(y, x) = static_cast<uchar>(y / 2 * 10 + x / 5);
  const std::string path = (folder.path() / "s.png").string();
  cv::imwrite(path, sheet);
  const auto data = open_dataset(path + ",cell=2x5,classes=2", kRaw);
  ASSERT_EQ(data->size(), 12);
  EXPECT_EQ(data->get(7).inputs.at("").sizes(), (std::vector<std::int64_t>{1, 2, 5}));
  EXPECT_EQ(red(data->get(7)), 21);
  EXPECT_EQ(data->get(7).label, 1);
  const auto part = open_dataset("sheet:" + path + ",cell=2x5,columns=2:,rows=1:3", kRaw);
  ASSERT_EQ(part->size(), 2);
  EXPECT_FALSE(part->labelled());
  EXPECT_EQ(red(part->get(0)), 12);
  EXPECT_EQ(red(part->get(1)), 22);
  EXPECT_THAT(complaint("sheet:" + path), HasSubstr("cell=20x20"));
  EXPECT_THAT(complaint(path + ",cell=3x5"), HasSubstr("do not divide into cells"));
  EXPECT_THAT(complaint(path + ",cell=2x5,classes=3"), HasSubstr("3 classes"));
  EXPECT_THAT(complaint(path + ",cell=0x5"), HasSubstr("cell=0x5"));
}

std::string cifar_record(char label, char r, char g, char b) {
  return std::string(1, label) + std::string(1024, r) + std::string(1024, g) + std::string(1024, b);
}

TEST(Cifar, ReadsRecordsOfSeveralFiles) {
  const TemporaryFolder folder;
  write_bytes(folder.path() / "data_batch_1.bin", cifar_record(3, 1, 2, 3) + cifar_record(9, 4, 5, 6));
  write_bytes(folder.path() / "test_batch.bin", cifar_record(0, 7, 8, 9));
  const std::string path = folder.path().string();
  const auto data = open_dataset(path, kRaw);
  EXPECT_THAT(labels_of(data), ElementsAre(3, 9, 0));
  EXPECT_EQ(data->get(1).inputs.at("")[2][31][31].item<float>(), 6);
  EXPECT_EQ(open_dataset(path + ",split=train", kRaw)->size(), 2);
  EXPECT_EQ(open_dataset(path + "/test_batch.bin", kRaw)->size(), 1);
  write_bytes(folder.path() / "x.bin", cifar_record(3, 1, 2, 3).substr(1));
  EXPECT_THAT(complaint(path + "/x.bin"), HasSubstr("cut short"));
  write_bytes(folder.path() / "x.bin", cifar_record(30, 1, 2, 3));
  EXPECT_THAT(complaint(path + "/x.bin"), HasSubstr("label above 9"));
  write_bytes(folder.path() / "x.bin", "\x05" + cifar_record(77, 1, 2, 3));
  EXPECT_THAT(labels_of(open_dataset("cifar100:" + path + "/x.bin", kRaw)), ElementsAre(77));
}

std::string idx_bytes(const std::vector<int>& shape, const std::string& data) {
  std::string out{0, 0, 8, static_cast<char>(shape.size())};
  for (const int dim : shape)
    for (const int shift : {24, 16, 8, 0}) out += static_cast<char>(dim >> shift & 0xFF);
  return out + data;
}

TEST(Idx, PlainAndCompressed) {
  const TemporaryFolder folder;
  const std::string path = (folder.path() / "t10k-images-idx3-ubyte").string();
  write_bytes(path, idx_bytes({2, 2, 3}, std::string("\1\2\3\4\5\6\7\x8\x9\xa\xb\xc", 12)));
  EXPECT_FALSE(open_dataset(path, kRaw)->labelled());
  write_bytes(folder.path() / "t10k-labels-idx1-ubyte", idx_bytes({2}, "\4\2"));
  const auto data = open_dataset(folder.path().string() + ",split=test", kRaw);
  EXPECT_THAT(labels_of(data), ElementsAre(4, 2));
  EXPECT_EQ(data->get(1).inputs.at("").sizes(), (std::vector<std::int64_t>{1, 2, 3}));
  EXPECT_EQ(data->get(1).inputs.at("")[0][1][2].item<float>(), 12);
  const std::string zipped = path + ".gz";
  const gzFile file = gzopen(zipped.c_str(), "wb");
  const std::string bytes = idx_bytes({1, 2, 2}, "abcd");
  gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(file);
  EXPECT_EQ(red(open_dataset(zipped, kRaw)->get(0)), 'a');
}

TEST(Idx, RefusesMalformedFiles) {
  const TemporaryFolder folder;
  const std::string path = (folder.path() / "x-idx3-ubyte").string();
  const auto with = [&](const std::string& bytes) {
    write_bytes(path, bytes);
    return complaint(path);
  };
  EXPECT_THAT(with(""), HasSubstr("cut short"));
  EXPECT_THAT(with("hello world, hello world"), HasSubstr("not an IDX file"));
  EXPECT_THAT(with(idx_bytes({2, 2, 3}, "short")), HasSubstr("cut short"));
  EXPECT_THAT(with(idx_bytes({2147483647, 60000, 60000}, "short")), HasSubstr("more bytes than"));
  EXPECT_THAT(with(idx_bytes({1, 0, 3}, "")), HasSubstr("0 pixels"));
  EXPECT_THAT(with(idx_bytes({0, 2, 3}, "")), HasSubstr("no samples"));
  write_bytes(folder.path() / "l", idx_bytes({3}, "abc"));
  write_bytes(path, idx_bytes({1, 1, 1}, "a"));
  EXPECT_THAT(complaint(path + ",labels=" + (folder.path() / "l").string()),
              HasSubstr("3 labels for 1 images"));
}

TEST(Arrays, InputsByName) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "x.npz";
  write_npz(
      {{"x", at::arange(6).reshape({3, 2})}, {"t", at::tensor({5, 6, 7})}, {"labels", at::tensor({0, 1, 2})}},
      path);
  const auto data = open_dataset(path.string());
  EXPECT_EQ(data->size(), 3);
  EXPECT_EQ(data->get(2).inputs.at("t").item<std::int64_t>(), 7);
  EXPECT_THAT(labels_of(data), ElementsAre(0, 1, 2));
  EXPECT_EQ(open_dataset(path.string() + ",labels=none")->get(0).inputs.size(), 3u);
  EXPECT_THAT(complaint(path.string() + ",labels=y"), HasSubstr("holds no array 'y'"));
  write_npz({{"x", at::zeros({3, 2})}, {"y", at::zeros({2})}}, path);
  EXPECT_THAT(complaint(path.string()), HasSubstr("first dimensions must agree"));
  write_npy(at::zeros({4, 1, 2, 2}), folder.path() / "x.npy");
  EXPECT_EQ(open_dataset((folder.path() / "x.npy").string())->get(3).inputs.at("").dim(), 3);
}

TEST(Subsets, SeededAndInOrder) {
  const DatasetPtr data = tensor_dataset({{"", at::arange(100)}}, at::arange(100));
  const auto chosen = labels_of(seeded_subset(data, 10, 3));
  EXPECT_EQ(chosen, labels_of(seeded_subset(data, 10, 3)));
  EXPECT_NE(chosen, labels_of(seeded_subset(data, 10, 4)));
  EXPECT_TRUE(std::is_sorted(chosen.begin(), chosen.end()));
  EXPECT_EQ(std::set(chosen.begin(), chosen.end()).size(), 10u);
  EXPECT_EQ(seeded_subset(data, -1, 0)->size(), 100);
  EXPECT_THAT(message_of([&] { subset(data, {100}); }), HasSubstr("sample 100"));
}

}  // namespace
}  // namespace lithe
