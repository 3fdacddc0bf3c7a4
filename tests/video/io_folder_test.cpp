// Folders of pictures, and the spool.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <opencv2/core.hpp>
#include <opencv2/imgcodecs.hpp>

#include "lithe/base/error.h"
#include "lithe/video/io/natural_order.h"
#include "lithe/video/io/picture_file.h"
#include "lithe/video/io/spool.h"
#include "message_of.h"
#include "mutation.h"
#include "video/io_fixtures.h"

namespace lithe {
namespace {
namespace fs = std::filesystem;
using test::message_of;
using testing::ElementsAre;
using testing::HasSubstr;

void put(const fs::path& path, const Frame& frame, int bits = 8) {
  const auto bytes = encode_picture(frame, path.extension(), bits);
  write_file(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

TEST(NaturalOrder, NumbersCountAsNumbers) {
  std::vector<std::string> names{
      "f10", "f2", "g1", "f2b", "f02", "f", "f2.5", "f123456789012345678901234567890", "F3"};
  std::sort(names.begin(), names.end(), natural_less);
  EXPECT_THAT(names, ElementsAre("F3", "f", "f02", "f2", "f2.5", "f2b", "f10",
                                 "f123456789012345678901234567890", "g1"));
  for (const auto& a : names) EXPECT_FALSE(natural_less(a, a));
}

TEST(PictureFolder, FramesComeInNaturalOrderWithTheirNames) {
  const TemporaryFolder folder;
  for (const int number : {10, 2, 1, 33})
    put(folder.path() / ("f" + std::to_string(number) + ".png"), Frame(4, 6));
  write_file(folder.path() / "notes.txt", "not a picture");
  write_file(folder.path() / ".hidden.png", "not a picture");
  const auto read = test::read_video(folder.path(), {.folder_rate = {24000, 1001}});
  EXPECT_THAT(read.names, ElementsAre("f1.png", "f2.png", "f10.png", "f33.png"));
  EXPECT_EQ(read.info.frames, 4);
  EXPECT_EQ(read.times[3], (FrameTime{3, 1, {1001, 24000}}));
  const auto part = test::read_video(folder.path(), {.start = 1, .most = 2});
  EXPECT_THAT(part.names, ElementsAre("f2.png", "f10.png"));
  EXPECT_EQ(part.info.frames, 2);
  EXPECT_EQ(count_frames(folder.path(), {.start = 3}), 1);
}

TEST(PictureFolder, EveryDepthAndChannelIsRead) {
  const TemporaryFolder folder;
  const Frame quarter = test::noise(5, 7, 1), eight = test::noise(5, 7, 2, 4);
  for (const char* ending : {".png", ".tif"}) {
    put(folder.path() / ("a" + std::string(ending)), quarter, 16);
    EXPECT_EQ(read_picture(folder.path() / ("a" + std::string(ending))).frame, quarter) << ending;
    EXPECT_EQ(read_picture(folder.path() / ("a" + std::string(ending))).bits, 16);
  }
  for (const char* ending : {".png", ".tif", ".bmp"}) {
    put(folder.path() / ("b" + std::string(ending)), eight);
    EXPECT_EQ(read_picture(folder.path() / ("b" + std::string(ending))).frame, eight) << ending;
    EXPECT_EQ(read_picture(folder.path() / ("b" + std::string(ending))).bits, 8);
  }
  put(folder.path() / "c.jpg", test::waves(48, 64, 0));
  EXPECT_GT(test::psnr(read_picture(folder.path() / "c.jpg").frame, test::waves(48, 64, 0)), 35);
  cv::imwrite((folder.path() / "grey.png").string(), cv::Mat(2, 2, CV_16U, cv::Scalar(0x8080)));
  EXPECT_EQ(read_picture(folder.path() / "grey.png").frame.pixels, std::vector<std::int16_t>(12, 512));
}

TEST(PictureFolder, TransparencyIsRefusedOrLeftOut) {
  const TemporaryFolder folder;
  cv::imwrite((folder.path() / "1.png").string(), cv::Mat(2, 2, CV_8UC4, cv::Scalar(10, 20, 30, 255)));
  EXPECT_EQ(test::read_video(folder.path()).frames[0].pixels[0], 120);  // nothing is lost
  cv::imwrite((folder.path() / "2.png").string(), cv::Mat(2, 2, CV_8UC4, cv::Scalar(10, 20, 30, 254)));
  EXPECT_THAT(message_of([&] { test::read_video(folder.path()); }),
              testing::AllOf(HasSubstr("2.png"), HasSubstr("--drop-alpha")));
  EXPECT_EQ(test::read_video(folder.path(), {.drop_alpha = true}).frames[1].pixels[2], 40);
}

TEST(PictureFolder, WhatDoesNotFitIsNamed) {
  const TemporaryFolder folder;
  EXPECT_THAT(message_of([&] { VideoReader::open(folder.path()); }), HasSubstr("no picture"));
  for (int i = 1; i <= 3; ++i) put(folder.path() / (std::to_string(i) + ".png"), test::noise(8, 8, 1, 4));
  EXPECT_THAT(message_of([&] { VideoReader::open(folder.path(), {.start = 3}); }), HasSubstr("only 3"));
  EXPECT_THAT(message_of([&] {
                VideoReader::open(folder.path(), {.folder_rate = {0, 1}});
              }),
              HasSubstr("rate"));
  put(folder.path() / "2.png", test::noise(8, 9, 1));
  EXPECT_THAT(message_of([&] { VideoReader::open(folder.path()); }),
              testing::AllOf(HasSubstr("2.png"), HasSubstr("1.png"), HasSubstr("8x9")));
  put(folder.path() / "2.png", test::noise(8, 8, 1));
  std::string bytes = test::bytes_of(folder.path() / "2.png");
  bytes[bytes.size() / 2] ^= 0x55;
  write_file(folder.path() / "2.png", bytes);
  const auto reader = VideoReader::open(folder.path());
  Frame frame;
  EXPECT_TRUE(reader->read(frame));
  EXPECT_THAT(message_of([&] { reader->read(frame); }), HasSubstr("2.png"));
}

TEST(PictureFolder, DamagedPicturesGiveErrorsOrPictures) {
  const TemporaryFolder folder;
  Rng rng(5);
  for (const char* ending : {".png", ".jpg", ".bmp", ".tif"}) {
    const auto encoded = encode_picture(test::noise(6, 6, 3, 4), ending, 8);
    const std::string whole(reinterpret_cast<const char*>(encoded.data()), encoded.size());
    for (int i = 0; i < 60; ++i) {
      write_file(folder.path() / ("x" + std::string(ending)), test::mutate(whole, rng));
      message_of([&] {
        const PictureFile picture = read_picture(folder.path() / ("x" + std::string(ending)));
        for (const std::int16_t value : picture.frame.pixels) {
          ASSERT_GE(value, 0);
          ASSERT_LE(value, kFrameMaximum);
        }
      });
    }
  }
}

TEST(PictureFolder, IsWrittenWholeOrNotAtAll) {
  const TemporaryFolder folder;
  const fs::path out = folder.path() / "out";
  const std::vector<Frame> frames{test::noise(6, 4, 1, 4), test::noise(6, 4, 2, 4)};
  {
    const auto writer = VideoWriter::create(out, {}, test::like_pictures(6, 4));
    writer->write(frames[0], {});
  }
  EXPECT_THAT(test::listing(folder.path()), ElementsAre());
  test::write_video(out, frames, {}, test::like_pictures(6, 4));
  EXPECT_THAT(test::listing(out), ElementsAre("frame_000000.png", "frame_000001.png"));
  EXPECT_EQ(test::read_video(out).frames, frames);
  EXPECT_THAT(message_of([&] { VideoWriter::create(out, {}, test::like_pictures(6, 4)); }),
              HasSubstr("not empty"));
  EXPECT_THAT(message_of([&] { VideoWriter::create(out / "a" / "b", {}, test::like_pictures(6, 4)); }),
              HasSubstr("does not exist"));
  EXPECT_THAT(message_of([&] {
                VideoWriter::create(folder.path() / "n/", {.codec = "gif"}, test::like_pictures(6, 4));
              }),
              HasSubstr("png, jpg, tif or bmp"));
  fs::create_directory(folder.path() / "empty");
  const auto notes = test::write_video(folder.path() / "empty", {frames[0]}, {.codec = "tif"},
                                       test::like_pictures(6, 4, 10));
  EXPECT_THAT(test::listing(folder.path() / "empty"), ElementsAre("frame_000000.tif"));
  EXPECT_TRUE(notes.empty());
  EXPECT_EQ(test::read_video(folder.path() / "empty").info.bits, 16);
}

TEST(PictureFolder, NamesOfTheSourceAreKept) {
  const TemporaryFolder folder;
  const auto writer = VideoWriter::create(folder.path() / "out", {}, test::like_pictures(2, 2));
  writer->write(Frame(2, 2), {}, "shot_7.jpeg");
  EXPECT_THAT(message_of([&] { writer->write(Frame(2, 2), {}, "shot_7.bmp"); }), HasSubstr("shot_7.png"));
  EXPECT_THAT(message_of([&] { writer->write(Frame(2, 3), {}, "shot_8.bmp"); }), HasSubstr("2x3"));
  writer->finish();
  EXPECT_THAT(test::listing(folder.path() / "out"), ElementsAre("shot_7.png"));
}

TEST(Spool, KeepsFramesExactlyForTheSameWorkOnly) {
  const TemporaryFolder folder;
  const fs::path place = folder.path() / "spool";
  const Frame frame = test::noise(9, 5, 1);
  {
    Spool spool(place, {{"window", 15}, {"style", "a.mp4"}});
    EXPECT_FALSE(spool.resumed());
    EXPECT_EQ(spool.leading(), 0);
    spool.write(0, frame);
    spool.write(1, frame);
    spool.write(7, frame);
  }
  Spool spool(place, {{"style", "a.mp4"}, {"window", 15}});
  EXPECT_TRUE(spool.resumed());
  EXPECT_TRUE(spool.has(7));
  EXPECT_FALSE(spool.has(6));
  EXPECT_EQ(spool.leading(), 2);
  EXPECT_EQ(spool.read(7), frame);
  EXPECT_THAT(message_of([&] { spool.read(3); }), HasSubstr("000000003.png"));
  EXPECT_THAT(message_of([&] {
                Spool(place, {{"style", "a.mp4"}, {"window", 30}});
              }),
              HasSubstr("window is 15 there and 30 here"));
  write_file(place / "000000001.png", "rubbish");
  EXPECT_THAT(message_of([&] { spool.read(1); }), HasSubstr("000000001.png"));
  spool.remove();
  EXPECT_FALSE(fs::exists(place));
}

TEST(Spool, LeavesOtherFoldersAlone) {
  const TemporaryFolder folder;
  write_file(folder.path() / "mine.txt", "x");
  EXPECT_THAT(message_of([&] { Spool(folder.path(), {}); }), HasSubstr("something else"));
  EXPECT_THAT(message_of([&] { Spool(folder.path() / "a" / "b", {}); }), HasSubstr("cannot create"));
  EXPECT_THAT(message_of([&] { Spool(folder.path() / "mine.txt", {}); }), HasSubstr("not a folder"));
  Spool spool(folder.path() / "s", {{"a", 1}});
  write_file(folder.path() / "s" / "kept.png", "x");
  spool.remove();
  EXPECT_THAT(test::listing(folder.path() / "s"), ElementsAre("kept.png"));
}

}  // namespace
}  // namespace lithe
