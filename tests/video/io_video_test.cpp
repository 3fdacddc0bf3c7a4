// Files of videos there and back: pixels, times, colours and shapes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <opencv2/core.hpp>
#include <opencv2/imgcodecs.hpp>

#include "lithe/base/error.h"
#include "message_of.h"
#include "video/io_fixtures.h"

namespace lithe {
namespace {
namespace fs = std::filesystem;
using test::like_pictures;
using test::message_of;
using test::read_video;
using test::write_video;
using testing::HasSubstr;

std::vector<Frame> noisy_frames(int height, int width, int count, int step) {
  std::vector<Frame> frames;
  for (int i = 0; i < count; ++i) frames.push_back(test::noise(height, width, 100 + i, step));
  return frames;
}

std::vector<Frame> wave_frames(int height, int width, int count) {
  std::vector<Frame> frames;
  for (int i = 0; i < count; ++i) frames.push_back(test::waves(height, width, 2 * i));
  return frames;
}

TEST(VideoFile, LosslessCodecsGiveBackEveryBit) {
  const TemporaryFolder folder;
  const auto frames = noisy_frames(37, 51, 5, 4);
  write_video(folder.path() / "a.mkv", frames, {.codec = "ffv1"}, like_pictures(37, 51));
  const auto read = read_video(folder.path() / "a.mkv");
  EXPECT_EQ(read.frames, frames);
  EXPECT_EQ(read.info.codec, "ffv1");
  EXPECT_FALSE(read.info.folder);
  const auto even = noisy_frames(36, 52, 5, 4);
  for (const char* name : {"b.mp4", "b.mov", "b.mkv"}) {
    write_video(folder.path() / name, even, {.codec = "libx264rgb", .quality = 0}, like_pictures(36, 52));
    EXPECT_EQ(read_video(folder.path() / name).frames, even) << name;
  }
  const auto fine = noisy_frames(36, 52, 3, 1);
  write_video(folder.path() / "c.mkv", fine, {.codec = "ffv1"}, like_pictures(36, 52, 10));
  EXPECT_EQ(read_video(folder.path() / "c.mkv").frames, fine);
  EXPECT_GE(read_video(folder.path() / "c.mkv").info.bits, 10);
  for (const char* format : {"gbrp10le", "gbrp12le", "gbrp16le"}) {
    write_video(folder.path() / "d.mkv", fine, {.codec = "ffv1", .pixel_format = format},
                like_pictures(36, 52, 10));
    EXPECT_EQ(read_video(folder.path() / "d.mkv").frames, fine) << format;
  }
}

TEST(VideoFile, EveryContainerKeepsThePictureAndTheRate) {
  const TemporaryFolder folder;
  const auto frames = wave_frames(48, 64, 12);
  for (const char* name : {"a.mp4", "a.mov", "a.mkv", "a.webm", "a.avi"}) {
    const VideoInfo like = like_pictures(48, 64, 8, {30000, 1001});
    const auto writer = VideoWriter::create(folder.path() / name, {}, like);
    for (std::size_t i = 0; i < frames.size(); ++i)
      writer->write(frames[i], {static_cast<std::int64_t>(i), 1, {1001, 30000}});
    writer->finish();
    EXPECT_TRUE(writer->notes().empty()) << name;
    const auto read = read_video(folder.path() / name);
    ASSERT_EQ(read.frames.size(), frames.size()) << name;
    for (std::size_t i = 0; i < frames.size(); ++i) {
      EXPECT_GT(test::psnr(read.frames[i], frames[i]), 32) << name << " frame " << i;
      EXPECT_NEAR(read.times[i].seconds(), static_cast<double>(i) * 1001 / 30000, 0.0006) << name;
    }
    EXPECT_NEAR(read.info.rate.value(), 30000.0 / 1001, 0.01) << name;
    EXPECT_FALSE(read.info.variable_rate) << name;
    EXPECT_NEAR(read.info.seconds, 12 * 1001 / 30000.0, 0.04) << name;
    EXPECT_EQ(count_frames(folder.path() / name), 12) << name;
  }
}

TEST(VideoFile, UnchangedFramesOfAYuvVideoStayNearlyWhatTheyWere) {
  const TemporaryFolder folder;
  write_video(folder.path() / "a.mkv", wave_frames(48, 64, 3), {.codec = "ffv1", .pixel_format = "yuv420p"},
              like_pictures(48, 64));
  const auto first = read_video(folder.path() / "a.mkv");
  EXPECT_EQ(first.info.pixel_format, "yuv420p");
  write_video(folder.path() / "b.mkv", first.frames, {.codec = "ffv1"}, first.info);
  const auto second = read_video(folder.path() / "b.mkv");
  EXPECT_EQ(second.info.pixel_format, "yuv420p");
  EXPECT_EQ(second.info.colour, first.info.colour);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_GT(test::psnr(second.frames[i], first.frames[i]), 45);
}

TEST(VideoFile, UnevenTimesAreKept) {
  const TemporaryFolder folder;
  VideoInfo like = like_pictures(16, 16);
  like.variable_rate = true;
  like.time_unit = {1, 90000};
  const std::vector<std::int64_t> ticks{0, 3003, 3753, 12000, 12001, 40000, 90000};
  for (const char* name : {"a.mp4", "a.mov", "a.mkv", "a.webm"}) {
    const auto writer = VideoWriter::create(folder.path() / name, {}, like);
    for (std::size_t i = 0; i < ticks.size(); ++i)
      writer->write(test::waves(16, 16, static_cast<int>(i)), {ticks[i], 0, like.time_unit});
    EXPECT_THAT(message_of([&] {
                  writer->write(test::waves(16, 16, 0), {90000, 0, like.time_unit});
                }),
                HasSubstr("frame 7"));
    writer->finish();
    const auto read = read_video(folder.path() / name);
    ASSERT_EQ(read.times.size(), ticks.size()) << name;
    const bool exact = fs::path(name).extension() == ".mp4" || fs::path(name).extension() == ".mov";
    EXPECT_TRUE(read.info.variable_rate || !exact) << name;
    for (std::size_t i = 0; i < ticks.size(); ++i)
      EXPECT_NEAR(read.times[i].seconds(), static_cast<double>(ticks[i]) / 90000, exact ? 1e-9 : 0.00101)
          << name;
  }
  // And on to another file, with all that the reader says.
  const auto reader = VideoReader::open(folder.path() / "a.mp4");
  const auto writer = VideoWriter::create(folder.path() / "b.mp4", {}, reader->info());
  for (Frame frame; reader->read(frame);) writer->write(frame, reader->time());
  writer->finish();
  EXPECT_EQ(test::seconds(read_video(folder.path() / "b.mp4").times),
            test::seconds(read_video(folder.path() / "a.mp4").times));
}

TEST(VideoFile, TimesRoundedToMillisecondsGoBackToTheRate) {
  const TemporaryFolder folder;
  const VideoInfo like = like_pictures(16, 16, 8, {30000, 1001});
  write_video(folder.path() / "a.mkv", wave_frames(16, 16, 40), {}, like);
  const auto rounded = read_video(folder.path() / "a.mkv");
  EXPECT_EQ(rounded.times[1].unit, (Rational{1, 1000}));
  const auto writer = VideoWriter::create(folder.path() / "b.mp4", {}, rounded.info);
  for (std::size_t i = 0; i < rounded.frames.size(); ++i) writer->write(rounded.frames[i], rounded.times[i]);
  writer->finish();
  const auto read = read_video(folder.path() / "b.mp4");
  EXPECT_EQ(read.info.rate, (Rational{30000, 1001}));
  for (std::size_t i = 0; i < 40; ++i)
    EXPECT_NEAR(read.times[i].seconds(), static_cast<double>(i) * 1001 / 30000, 1e-9);
}

TEST(VideoFile, TenBitsStayTenBits) {
  const TemporaryFolder folder;
  std::vector<Frame> ramp(2, Frame(32, 64));
  for (Frame& frame : ramp)
    for (int y = 0; y < 32; ++y)
      for (int x = 0; x < 64; ++x)
        for (int c = 0; c < 3; ++c) frame.at(y, x)[c] = static_cast<std::int16_t>(400 + x);  // quarter levels
  write_video(folder.path() / "a.mkv", ramp, {.quality = 0}, like_pictures(32, 64, 16));
  const auto read = read_video(folder.path() / "a.mkv");
  EXPECT_EQ(read.info.pixel_format, "yuv420p10le");
  EXPECT_EQ(read.info.bits, 10);
  for (int x = 0; x < 64; ++x) EXPECT_NEAR(read.frames[0].at(5, x)[1], 400 + x, 1.5) << x;
  const auto notes =
      write_video(folder.path() / "b.mp4", read.frames, {.pixel_format = "yuv420p"}, read.info);
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_THAT(notes[0], HasSubstr("8 bits"));
}

TEST(VideoFile, ColourTagsAndShapeOfPixelsAreKeptAndUsed) {
  const TemporaryFolder folder;
  std::vector<Frame> frames(3, Frame(32, 32));
  for (Frame& frame : frames)
    for (std::size_t i = 0; i < frame.pixels.size(); ++i)
      frame.pixels[i] = static_cast<std::int16_t>(i % 3 == 0 ? 700 : i % 3 == 1 ? 300 : 400);
  for (const int matrix : {1, 6, 9})
    for (const int range : {1, 2}) {
      VideoInfo like = like_pictures(32, 32);
      like.folder = false;
      like.pixel_format = "yuv444p";
      like.colour = {range, matrix, matrix == 6 ? 6 : matrix, matrix == 9 ? 16 : 1, 1};
      like.sample_aspect = {4, 3};
      for (const char* name : {"a.mkv", "a.mp4"}) {
        write_video(folder.path() / name, frames, {.quality = 1}, like);
        const auto read = read_video(folder.path() / name);
        EXPECT_EQ(read.info.colour.range, range) << name;
        EXPECT_EQ(read.info.colour.matrix, matrix) << name;
        EXPECT_EQ(read.info.colour.primaries, like.colour.primaries) << name;
        EXPECT_EQ(read.info.colour.transfer, like.colour.transfer) << name;
        EXPECT_EQ(read.info.sample_aspect, (Rational{4, 3})) << name;
        EXPECT_GT(test::psnr(read.frames[2], frames[2]), 44) << name << matrix << range;
      }
    }
  VideoInfo like = like_pictures(32, 32);
  like.folder = false;
  like.pixel_format = "yuv444p";
  like.colour.matrix = 8;  // YCgCo
  EXPECT_THAT(message_of([&] { write_video(folder.path() / "b.mkv", frames, {}, like); }),
              HasSubstr("ycgco"));
}

TEST(VideoFile, OddSidesAreWrittenWithFullChromaOrRefused) {
  const TemporaryFolder folder;
  const auto frames = wave_frames(35, 37, 3);
  const auto notes = write_video(folder.path() / "a.mp4", frames, {}, like_pictures(35, 37));
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_THAT(notes[0], HasSubstr("yuv444p"));
  const auto read = read_video(folder.path() / "a.mp4");
  EXPECT_EQ(read.info.height, 35);
  EXPECT_EQ(read.info.width, 37);
  EXPECT_GT(test::psnr(read.frames[1], frames[1]), 35);
  EXPECT_THAT(message_of([&] {
                write_video(folder.path() / "b.mp4", frames, {.pixel_format = "yuv420p"},
                            like_pictures(35, 37));
              }),
              HasSubstr("even sides"));
  EXPECT_TRUE(write_video(folder.path() / "c.webm", frames, {}, like_pictures(35, 37)).empty());
  EXPECT_GT(test::psnr(read_video(folder.path() / "c.webm").frames[1], frames[1]), 32);
}

TEST(VideoFile, TurnedVideosAreReadUpright) {
  const TemporaryFolder folder;
  Frame frame(20, 32);
  for (int y = 0; y < 20; ++y)
    for (int x = 0; x < 32; ++x)
      frame.at(y, x)[0] = static_cast<std::int16_t>(4 * (y * 8 + x % 8)),
                  frame.at(y, x)[1] = static_cast<std::int16_t>(x * 8);
  VideoInfo like = like_pictures(20, 32);
  like.sample_aspect = {3, 2};
  write_video(folder.path() / "a.mp4", {frame, frame}, {.codec = "libx264rgb", .quality = 0}, like);
  for (const int degrees : {0, 90, 180, 270})
    for (const bool mirrored : {false, true}) {
      test::mark_turned(folder.path() / "a.mp4", folder.path() / "b.mp4", degrees, mirrored);
      const auto read = read_video(folder.path() / "b.mp4");
      EXPECT_EQ(read.info.rotation, degrees) << mirrored;
      EXPECT_EQ(read.info.mirrored, mirrored) << degrees;
      const bool lying = degrees % 180 != 0;
      ASSERT_EQ(read.frames[0].height, lying ? 32 : 20);
      ASSERT_EQ(read.info.width, lying ? 20 : 32);
      EXPECT_EQ(read.info.sample_aspect, lying ? (Rational{2, 3}) : (Rational{3, 2}));
      // Where the top left corner went.
      int y = degrees == 180 || degrees == 270 ? read.info.height - 1 : 0;
      int x = degrees == 90 || degrees == 180 ? read.info.width - 1 : 0;
      if (mirrored) x = read.info.width - 1 - x;
      EXPECT_EQ(read.frames[1].at(y, x)[0], 0) << degrees << mirrored;
      EXPECT_EQ(read.frames[1].at(y, x)[1], 0) << degrees << mirrored;
      write_video(folder.path() / "c.mp4", read.frames, {.codec = "libx264rgb", .quality = 0}, read.info);
      EXPECT_EQ(read_video(folder.path() / "c.mp4").frames, read.frames);
      EXPECT_EQ(read_video(folder.path() / "c.mp4").info.rotation, 0);
    }
}

TEST(VideoFile, PartsAreTheFramesOfTheWhole) {
  const TemporaryFolder folder;
  write_video(folder.path() / "a.mp4", wave_frames(32, 48, 30), {}, like_pictures(32, 48));
  const auto whole = read_video(folder.path() / "a.mp4");
  const auto part = read_video(folder.path() / "a.mp4", {.start = 11, .most = 7});
  ASSERT_EQ(part.frames.size(), 7u);
  for (std::size_t i = 0; i < 7; ++i) {
    EXPECT_EQ(part.frames[i], whole.frames[i + 11]);
    EXPECT_EQ(part.times[i], whole.times[i + 11]);
  }
  EXPECT_EQ(count_frames(folder.path() / "a.mp4", {.start = 25, .most = 100}), 5);
  EXPECT_THAT(message_of([&] { read_video(folder.path() / "a.mp4", {.start = 30}); }), HasSubstr("only 30"));
  EXPECT_THAT(message_of([&] { read_video(folder.path() / "a.mp4", {.most = 0}); }),
              HasSubstr("at least one"));
  EXPECT_EQ(read_video(folder.path() / "a.mp4", {.threads = 1}).frames, whole.frames);
}

TEST(VideoFile, TransparencyIsRefusedOrLeftOut) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "a.png";  // FFmpeg reads a picture as a video of one frame
  cv::imwrite(path.string(), cv::Mat(2, 2, CV_8UC4, cv::Scalar(10, 20, 30, 255)));
  EXPECT_EQ(read_video(path).frames.at(0).pixels[0], 120);  // nothing is lost
  EXPECT_TRUE(read_video(path).info.alpha);
  cv::imwrite(path.string(), cv::Mat(2, 2, CV_8UC4, cv::Scalar(10, 20, 30, 254)));
  EXPECT_THAT(message_of([&] { read_video(path); }),
              testing::AllOf(HasSubstr("frame 0"), HasSubstr("--drop-alpha")));
  EXPECT_EQ(read_video(path, {.drop_alpha = true}).frames.at(0).pixels[2], 40);
}

}  // namespace
}  // namespace lithe
