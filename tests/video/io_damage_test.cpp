// Videos that are none, broken, cut short or too large; and disks that are full.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "lithe/base/error.h"
#include "message_of.h"
#include "mutation.h"
#include "video/io_fixtures.h"

namespace lithe {
namespace {
namespace fs = std::filesystem;
using test::message_of;
using test::read_video;
using testing::AllOf;
using testing::HasSubstr;

void put(const fs::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::vector<Frame> frames_of(int count, int height = 32, int width = 48) {
  std::vector<Frame> frames;
  for (int i = 0; i < count; ++i) frames.push_back(test::waves(height, width, 3 * i));
  return frames;
}

TEST(DamagedVideo, WhatIsNoneIsNamed) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "a.mp4";
  EXPECT_THAT(message_of([&] { VideoReader::open(path); }),
              AllOf(HasSubstr("a.mp4"), HasSubstr("does not exist")));
  put(path, "");
  EXPECT_THAT(message_of([&] { VideoReader::open(path); }), HasSubstr("a.mp4"));
  put(path, "this is a letter and no video at all, whatever its name says");
  EXPECT_THAT(message_of([&] { VideoReader::open(path); }), HasSubstr("not a video"));
  EXPECT_THAT(message_of([&] { VideoReader::open("/dev/zero"); }), HasSubstr("not a regular file"));
  test::write_tone(folder.path() / "tone.mkv", "pcm_s16le", 1);
  EXPECT_THAT(message_of([&] { VideoReader::open(folder.path() / "tone.mkv"); }),
              HasSubstr("no video in it"));
}

TEST(DamagedVideo, PlaylistsDoNotOpenOtherFiles) {
  const TemporaryFolder folder;
  test::write_video(folder.path() / "a.mkv", frames_of(3), {}, test::like_pictures(32, 48));
  put(folder.path() / "b.mp4", "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\na.mkv\n#EXT-X-ENDLIST\n");
  EXPECT_THROW(VideoReader::open(folder.path() / "b.mp4"), Error);
  put(folder.path() / "b.txt", "ffconcat version 1.0\nfile a.mkv\n");
  EXPECT_THROW(VideoReader::open(folder.path() / "b.txt"), Error);
}

TEST(DamagedVideo, ClaimsOfHugePicturesAreRefused) {
  const TemporaryFolder folder;
  for (const char* size : {"W20000 H16", "W16 H20000", "W16000 H16000", "W2000000000 H2000000000"}) {
    put(folder.path() / "a.y4m", std::string("YUV4MPEG2 ") + size + " F25:1 Ip A1:1 C420jpeg\nFRAME\nxxxx");
    EXPECT_THROW(VideoReader::open(folder.path() / "a.y4m"), Error) << size;
  }
  put(folder.path() / "a.y4m",
      "YUV4MPEG2 W20000 H16 F25:1 Ip A1:1 C420jpeg\nFRAME\n" + std::string(480000, 'x'));
  EXPECT_THAT(message_of([&] { VideoReader::open(folder.path() / "a.y4m"); }), HasSubstr("16x20000"));
  put(folder.path() / "b.y4m", "YUV4MPEG2 W16 H16 F25:1 Ip A1:1 C420jpeg\n");
  EXPECT_THAT(message_of([&] { VideoReader::open(folder.path() / "b.y4m"); }), HasSubstr("b.y4m"));
}

TEST(DamagedVideo, FilesCutShortAreNoticed) {
  const TemporaryFolder folder;
  for (const char* ending : {".mp4", ".mkv", ".webm"}) {
    const fs::path whole = folder.path() / ("whole" + std::string(ending)),
                   cut = folder.path() / ("cut" + std::string(ending));
    test::write_video(whole, frames_of(50), {.quality = 5}, test::like_pictures(32, 48));
    const std::string bytes = test::bytes_of(whole);
    for (const double share : {0.3, 0.6, 0.8}) {
      put(cut, bytes.substr(0, static_cast<std::size_t>(share * static_cast<double>(bytes.size()))));
      EXPECT_THAT(message_of([&] { count_frames(cut); }), HasSubstr("cut" + std::string(ending))) << share;
    }
  }
  // Where the index comes first, as in files for the web, the beginning could be played.
  const fs::path whole = folder.path() / "whole.mp4", web = folder.path() / "web.mp4";
  AVFormatContext *in = nullptr, *out = nullptr;
  ASSERT_GE(avformat_open_input(&in, whole.c_str(), nullptr, nullptr), 0);
  ASSERT_GE(avformat_find_stream_info(in, nullptr), 0);
  ASSERT_GE(avformat_alloc_output_context2(&out, nullptr, nullptr, web.c_str()), 0);
  avcodec_parameters_copy(avformat_new_stream(out, nullptr)->codecpar, in->streams[0]->codecpar);
  ASSERT_GE(avio_open(&out->pb, web.c_str(), AVIO_FLAG_WRITE), 0);
  AVDictionary* options = nullptr;
  av_dict_set(&options, "movflags", "faststart", 0);
  ASSERT_GE(avformat_write_header(out, &options), 0);
  AVPacket* packet = av_packet_alloc();
  while (av_read_frame(in, packet) >= 0) {
    av_packet_rescale_ts(packet, in->streams[0]->time_base, out->streams[0]->time_base);
    av_interleaved_write_frame(out, packet);
  }
  av_write_trailer(out);
  av_dict_free(&options);
  av_packet_free(&packet);
  avio_closep(&out->pb);
  avformat_free_context(out);
  avformat_close_input(&in);
  const std::string bytes = test::bytes_of(web);
  EXPECT_EQ(count_frames(web), 50);
  put(web, bytes.substr(0, bytes.size() - 1));
  EXPECT_THAT(message_of([&] { VideoReader::open(web); }),
              AllOf(HasSubstr("cut short"), HasSubstr("--accept-damage")));
  put(web, bytes.substr(0, bytes.size() * 2 / 3));
  const std::int64_t left = count_frames(web, {.accept_damage = true});
  EXPECT_GT(left, 5);
  EXPECT_LT(left, 50);
}

TEST(DamagedVideo, BrokenFramesAreNamed) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "a.mkv";
  for (const WriteOptions& options : {WriteOptions{.codec = "ffv1"}, WriteOptions{.quality = 1}}) {
    test::write_video(path, frames_of(12), options, test::like_pictures(32, 48));
    std::string bytes = test::bytes_of(path);
    const std::size_t middle = bytes.size() * 8 / 10;
    for (std::size_t i = middle; i < middle + 40; ++i) bytes[i] = static_cast<char>(i * 37);
    put(path, bytes);
    for (const int threads : {1, 0}) {
      const std::string message = message_of([&] { count_frames(path, {.threads = threads}); });
      EXPECT_THAT(message,
                  AllOf(HasSubstr("a.mkv"), testing::ContainsRegex("frame ([1-9]|1[01]), or one close"),
                        HasSubstr("--accept-damage")))
          << options.codec << threads;
    }
    EXPECT_GE(count_frames(path, {.accept_damage = true}), 3) << options.codec;
  }
}

TEST(DamagedVideo, ChangesOfSizeAreRefused) {
  const TemporaryFolder folder;
  test::write_video(folder.path() / "a.mjpeg", frames_of(3, 32, 48), {}, test::like_pictures(32, 48));
  test::write_video(folder.path() / "b.mjpeg", frames_of(3, 48, 32), {}, test::like_pictures(48, 32));
  put(folder.path() / "c.mjpeg",
      test::bytes_of(folder.path() / "a.mjpeg") + test::bytes_of(folder.path() / "b.mjpeg"));
  const auto reader = VideoReader::open(folder.path() / "c.mjpeg");
  Frame frame;
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(reader->read(frame)) << i;
  EXPECT_THAT(message_of([&] { reader->read(frame); }), AllOf(HasSubstr("frame 3"), HasSubstr("48x32")));
}

TEST(DamagedVideo, MutationsGiveErrorsOrFrames) {
  const TemporaryFolder folder;
  Rng rng(11);
  const std::vector<std::pair<const char*, WriteOptions>> kinds{
      {"a.mp4", {}}, {"a.mkv", {.codec = "ffv1"}}, {"a.webm", {.preset = "8"}}};
  for (const auto& [name, options] : kinds) {
    const fs::path path = folder.path() / name;
    test::write_video(path, frames_of(3, 16, 16), options, test::like_pictures(16, 16));
    const std::string whole = test::bytes_of(path);
    int read = 0, refused = 0;
    for (int i = 0; i < 120; ++i) {
      put(path, test::mutate(whole, rng));
      try {
        const auto reader = VideoReader::open(path, {.accept_damage = i % 2 == 0, .threads = 1});
        Frame frame;
        while (reader->read(frame)) ++read;
      } catch (const Error& error) {
        EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
        ++refused;
      }
    }
    EXPECT_GT(read, 0) << name;
    EXPECT_GT(refused, 0) << name;
  }
}

/// What a child process finds that may write files of up to 20,000 bytes.
int in_small_disk(const std::function<void()>& action) {
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{20000, 20000};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    int code = 0;
    try {
      action();
    } catch (const Error& error) {
      code = error.kind() == ErrorKind::System ? 42 : 43;
    }
    ::_exit(code);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(FullDisk, LeavesNothingBehind) {
  const TemporaryFolder folder;
  std::vector<Frame> frames;
  for (int i = 0; i < 4; ++i) frames.push_back(test::noise(96, 96, i, 4));
  for (const char* name : {"a.mp4", "a.mkv", "a.webm", "pictures"}) {
    EXPECT_EQ(in_small_disk([&] {
                test::write_video(folder.path() / name, frames,
                                  {.quality = fs::path(name).has_extension() ? 0.0 : -1.0, .threads = 1},
                                  test::like_pictures(96, 96));
              }),
              42)
        << name;
    EXPECT_TRUE(test::listing(folder.path()).empty()) << name;
  }
}

}  // namespace
}  // namespace lithe
