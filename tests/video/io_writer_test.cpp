// What writers refuse, and what they leave behind.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "message_of.h"
#include "video/io_fixtures.h"

namespace lithe {
namespace {
using test::like_pictures;
using test::message_of;
using testing::HasSubstr;

TEST(VideoWriter, SettingsOfEncodersAreChecked) {
  const TemporaryFolder folder;
  const auto attempt = [&](const char* name, const WriteOptions& options) {
    return message_of([&] { VideoWriter::create(folder.path() / name, options, like_pictures(16, 16)); });
  };
  EXPECT_THAT(attempt("a.mp4", {.codec = "h266"}), testing::AllOf(HasSubstr("h266"), HasSubstr("libx264")));
  EXPECT_THAT(attempt("a.webm", {.codec = "libx264"}),
              testing::AllOf(HasSubstr("webm"), HasSubstr("libvpx-vp9")));
  EXPECT_THAT(attempt("a.mp4", {.codec = "aac"}), HasSubstr("no encoder aac"));
  EXPECT_THAT(attempt("a.mp4", {.quality = 99}), HasSubstr("99"));
  EXPECT_THAT(attempt("a.mkv", {.codec = "ffv1", .quality = 20}), HasSubstr("lossless"));
  EXPECT_THAT(attempt("a.mp4", {.pixel_format = "rgb24"}),
              testing::AllOf(HasSubstr("rgb24"), HasSubstr("yuv420p")));
  EXPECT_THAT(attempt("a.mp4", {.preset = "leisurely"}), HasSubstr("leisurely"));
  EXPECT_THAT(attempt("a.mkv", {.codec = "ffv1", .preset = "slow"}), HasSubstr("no presets"));
  EXPECT_THAT(attempt("a.xyz", {}), HasSubstr(".mp4, .mkv"));
  EXPECT_THAT(attempt("a.png", {}), HasSubstr("folder for pictures"));
  EXPECT_THAT(attempt("none/a.mp4", {}), HasSubstr("does not exist"));
  EXPECT_THAT(message_of([&] { VideoWriter::create(folder.path() / "a.mp4", {}, VideoInfo{}); }),
              HasSubstr("0x0"));
  EXPECT_TRUE(test::listing(folder.path()).empty());
  EXPECT_EQ(attempt("a.mp4", {.codec = "h264", .quality = 30, .preset = "ultrafast"}), "");
  EXPECT_EQ(attempt("a.webm", {.preset = "5"}), "");
}

TEST(VideoWriter, IsWrittenWholeOrNotAtAll) {
  const TemporaryFolder folder;
  write_file(folder.path() / "a.mp4", "as it was");
  {
    const auto writer = VideoWriter::create(folder.path() / "a.mp4", {}, like_pictures(16, 16));
    writer->write(Frame(16, 16), {0, 1, {1, 25}});
    EXPECT_THAT(message_of([&] { writer->write(Frame(16, 18), {1, 1, {1, 25}}); }), HasSubstr("16x18"));
  }
  EXPECT_EQ(test::bytes_of(folder.path() / "a.mp4"), "as it was");
  EXPECT_EQ(test::listing(folder.path()).size(), 1u);
  const auto writer = VideoWriter::create(folder.path() / "a.mp4", {}, like_pictures(16, 16));
  EXPECT_THAT(message_of([&] { writer->finish(); }), HasSubstr("no frame"));
}

}  // namespace
}  // namespace lithe
