// What goes along with a video unchanged: sound, tags, chapters.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lithe/base/error.h"
#include "mutation.h"
#include "video/io_fixtures.h"

namespace lithe {
namespace {
namespace fs = std::filesystem;
using test::pieces;
using testing::ElementsAre;
using testing::HasSubstr;

class CopiedSound : public testing::Test {
 protected:
  /// A video of 3 seconds at 25 frames a second with a tone.
  fs::path source(const char* name, const char* encoder) {
    const fs::path tone = folder_.path() / ("tone" + fs::path(name).extension().string());
    fs::path path = folder_.path() / name;
    test::write_tone(tone, encoder, 3);
    std::vector<Frame> frames;
    for (int i = 0; i < 75; ++i) frames.push_back(test::waves(32, 32, i));
    EXPECT_TRUE(test::write_video(path, frames, {}, test::like_pictures(32, 32), CopiedFile{tone}).empty());
    return path;
  }
  std::vector<std::string> pass(const fs::path& from, const char* to, const ReadOptions& options = {}) {
    const auto reader = VideoReader::open(from, options);
    const auto writer = VideoWriter::create(folder_.path() / to, {}, reader->info(), reader->copied_file());
    for (Frame frame; reader->read(frame);) writer->write(frame, reader->time());
    writer->finish();
    return writer->notes();
  }
  TemporaryFolder folder_;
};

struct Tags {
  std::string title, language;
  std::vector<std::pair<double, std::string>> chapters;
};
Tags tags_of(const fs::path& path) {
  AVFormatContext* in = nullptr;
  Tags out;
  EXPECT_GE(avformat_open_input(&in, path.c_str(), nullptr, nullptr), 0);
  EXPECT_GE(avformat_find_stream_info(in, nullptr), 0);
  const auto tag = [](AVDictionary* from, const char* key) {
    const AVDictionaryEntry* entry = av_dict_get(from, key, nullptr, 0);
    return std::string(entry ? entry->value : "");
  };
  out.title = tag(in->metadata, "title");
  const int sound = av_find_best_stream(in, AVMEDIA_TYPE_AUDIO, -1, -1, nullptr, 0);
  if (sound >= 0) out.language = tag(in->streams[sound]->metadata, "language");
  for (unsigned i = 0; i < in->nb_chapters; ++i)
    out.chapters.emplace_back(
        static_cast<double>(in->chapters[i]->start) * av_q2d(in->chapters[i]->time_base),
        tag(in->chapters[i]->metadata, "title"));
  avformat_close_input(&in);
  return out;
}

TEST_F(CopiedSound, GoesAlongBitForBit) {
  for (const auto& [name, encoder] :
       {std::pair{"a.mp4", "aac"}, {"a.mkv", "pcm_s16le"}, {"a.mov", "pcm_s16le"}}) {
    const fs::path from = source(name, encoder);
    EXPECT_EQ(VideoReader::open(from)->info().audio_streams, 1);
    const std::string to = "b" + from.extension().string();
    EXPECT_THAT(pass(from, to.c_str()), ElementsAre()) << name;
    const auto before = pieces(from, AVMEDIA_TYPE_AUDIO),
               after = pieces(folder_.path() / to, AVMEDIA_TYPE_AUDIO);
    ASSERT_EQ(after.size(), before.size()) << name;
    ASSERT_GT(after.size(), 20u);
    for (std::size_t i = 0; i < before.size(); ++i) {
      EXPECT_EQ(after[i].bytes, before[i].bytes) << name << i;
      EXPECT_NEAR(after[i].time, before[i].time, 0.0011) << name << i;
    }
    const auto video = pieces(folder_.path() / to, AVMEDIA_TYPE_VIDEO);
    EXPECT_EQ(video.size(), 75u);
    EXPECT_EQ(test::seconds(test::read_video(folder_.path() / to).times),
              test::seconds(test::read_video(from).times));
  }
}

TEST_F(CopiedSound, IsCutToTheWrittenFrames) {
  const fs::path from = source("a.mkv", "pcm_s16le");
  pass(from, "b.mkv", {.start = 25, .most = 25});
  const auto all = pieces(from, AVMEDIA_TYPE_AUDIO),
             cut = pieces(folder_.path() / "b.mkv", AVMEDIA_TYPE_AUDIO);
  ASSERT_FALSE(cut.empty());
  EXPECT_NEAR(cut.front().time, 0, 0.022);
  EXPECT_NEAR(cut.back().time, 1, 0.044);
  EXPECT_LT(cut.back().time, 1);
  // The same sound to the same picture: a packet of the cut lies one second earlier than in the source.
  for (const auto& piece : all)
    if (piece.bytes == cut[3].bytes && std::abs(piece.time - cut[3].time - 1) < 0.002) return;
  FAIL() << "the sound moved against the picture";
}

TEST_F(CopiedSound, TagsAndChaptersGoAlong) {
  for (const auto& [name, encoder] : {std::pair{"a.mp4", "aac"}, {"a.mkv", "aac"}}) {
    const fs::path from = source(name, encoder);
    const std::string to = "b" + from.extension().string();
    EXPECT_THAT(pass(from, to.c_str()), ElementsAre());
    const Tags tags = tags_of(folder_.path() / to);
    EXPECT_EQ(tags.title, "tone");
    EXPECT_EQ(tags.language, "deu");
    ASSERT_EQ(tags.chapters.size(), 3u) << name;
    EXPECT_EQ(tags.chapters[2].second, "part 2");
    EXPECT_NEAR(tags.chapters[2].first, 2, 0.03);
    pass(from, ("c" + from.extension().string()).c_str(), {.start = 30, .most = 15});
    const Tags cut = tags_of(folder_.path() / ("c" + from.extension().string()));
    ASSERT_EQ(cut.chapters.size(), 1u) << name;
    EXPECT_EQ(cut.chapters[0].second, "part 1");
    EXPECT_EQ(cut.chapters[0].first, 0);
  }
}

TEST_F(CopiedSound, WhatTheContainerCannotCarryIsNamed) {
  const fs::path from = source("a.mkv", "pcm_s16le");
  for (const char* to : {"b.mp4", "b.webm"}) {
    EXPECT_THAT(pass(from, to),
                ElementsAre(testing::AllOf(HasSubstr("pcm_s16le"), HasSubstr("cannot carry"))))
        << to;
    EXPECT_EQ(VideoReader::open(folder_.path() / to)->info().audio_streams, 0);
    EXPECT_EQ(count_frames(folder_.path() / to), 75);
  }
}

TEST_F(CopiedSound, StaysWithAVideoThatBeginsLater) {
  const fs::path tone = folder_.path() / "tone.mkv";
  test::write_tone(tone, "pcm_s16le", 3);
  const auto writer =
      VideoWriter::create(folder_.path() / "a.mkv", {}, test::like_pictures(32, 32), CopiedFile{tone});
  for (int i = 0; i < 10; ++i) writer->write(test::waves(32, 32, i), {25 + i, 1, {1, 25}});
  writer->finish();
  const auto read = test::read_video(folder_.path() / "a.mkv");
  EXPECT_NEAR(read.times[0].seconds(), 1, 0.001);
  EXPECT_NEAR(pieces(folder_.path() / "a.mkv", AVMEDIA_TYPE_AUDIO)[0].time, 0, 0.001);
}

TEST_F(CopiedSound, OfDamagedFilesIsCopiedOrRefused) {
  Rng rng(3);
  for (const auto& [name, encoder] : {std::pair{"a.mp4", "aac"}, {"a.mkv", "pcm_s16le"}}) {
    const std::string whole = test::bytes_of(source(name, encoder));
    int copied = 0, refused = 0;
    for (int i = 0; i < 40; ++i) {
      const fs::path damaged = folder_.path() / ("damaged" + fs::path(name).extension().string());
      std::ofstream(damaged, std::ios::binary) << test::mutate(whole, rng);
      try {
        pass(damaged, "out.mkv", {.most = 10, .accept_damage = i % 2 == 0, .threads = 1});
        ++copied;
      } catch (const Error&) {
        ++refused;
      }
    }
    EXPECT_GT(copied, 0) << name;
    EXPECT_GT(refused, 0) << name;
  }
}

TEST_F(CopiedSound, FoldersHaveNone) {
  EXPECT_THAT(pass(source("a.mp4", "aac"), "pictures"), ElementsAre(HasSubstr("no sound")));
  EXPECT_EQ(VideoReader::open(folder_.path() / "pictures")->copied_file().has_value(), false);
}

}  // namespace
}  // namespace lithe
