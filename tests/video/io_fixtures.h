// Small videos made while the tests run.
#pragma once

extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/channel_layout.h>
#include <libavutil/display.h>
}

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <numbers>
#include <string>
#include <vector>

#include "lithe/base/file.h"
#include "lithe/base/random.h"
#include "lithe/video/io/reader.h"
#include "lithe/video/io/writer.h"

namespace lithe::test {

/// Every pixel drawn at random, in steps of `step` quarter levels.
inline Frame noise(int height, int width, std::uint64_t seed, int step = 1) {
  Frame frame(height, width);
  Rng rng(seed);
  for (std::int16_t& value : frame.pixels)
    value = static_cast<std::int16_t>(rng.below(kFrameMaximum / step + 1) * step);
  return frame;
}

/// A soft pattern that moves with the number.
inline Frame waves(int height, int width, int number) {
  Frame frame(height, width);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      for (int c = 0; c < 3; ++c)
        frame.at(y, x)[c] = static_cast<std::int16_t>(
            std::lround(510 + 300 * std::sin(0.1 * (x + number) + 0.07 * y + 0.5 * c)));
  return frame;
}

/// Mean of squares of differences, as PSNR in dB; 99 if equal.
inline double psnr(const Frame& a, const Frame& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.pixels.size(); ++i) sum += std::pow(a.pixels[i] - b.pixels[i], 2);
  const double mean = sum / static_cast<double>(a.pixels.size());
  return mean > 0 ? 10 * std::log10(std::pow(kFrameMaximum, 2) / mean) : 99;
}

/// Of RGB pictures, as if from a folder.
inline VideoInfo like_pictures(int height, int width, int bits = 8, Rational rate = {25, 1}) {
  VideoInfo info;
  info.height = height;
  info.width = width;
  info.bits = bits;
  info.rate = rate;
  info.folder = true;
  return info;
}

/// Writes frames one after the other at the rate of `like`.
inline std::vector<std::string> write_video(const std::filesystem::path& path,
                                            const std::vector<Frame>& frames, const WriteOptions& options,
                                            const VideoInfo& like,
                                            const std::optional<CopiedFile>& copied = std::nullopt) {
  const auto writer = VideoWriter::create(path, options, like, copied);
  std::int64_t number = 0;
  for (const Frame& frame : frames)
    writer->write(frame, {number++, 1, {like.rate.denominator, like.rate.numerator}});
  writer->finish();
  return writer->notes();
}

struct Read {
  std::vector<Frame> frames;
  std::vector<FrameTime> times;
  std::vector<std::string> names;
  VideoInfo info;
};

inline Read read_video(const std::filesystem::path& path, const ReadOptions& options = {}) {
  const auto reader = VideoReader::open(path, options);
  Read out{{}, {}, {}, reader->info()};
  for (Frame frame; reader->read(frame);) {
    out.frames.push_back(frame);
    out.times.push_back(reader->time());
    out.names.push_back(reader->name());
  }
  return out;
}

inline std::vector<double> seconds(const std::vector<FrameTime>& times) {
  std::vector<double> out;
  for (const FrameTime& time : times) out.push_back(time.seconds());
  return out;
}

/// One packet of a stream.
struct Piece {
  double time = 0;
  std::string bytes;
};

/// The packets of the first stream of that type, and the tags of the file.
inline std::vector<Piece> pieces(const std::filesystem::path& path, AVMediaType type) {
  AVFormatContext* in = nullptr;
  std::vector<Piece> out;
  EXPECT_GE(avformat_open_input(&in, path.c_str(), nullptr, nullptr), 0) << path;
  EXPECT_GE(avformat_find_stream_info(in, nullptr), 0);
  const int index = av_find_best_stream(in, type, -1, -1, nullptr, 0);
  AVPacket* packet = av_packet_alloc();
  while (index >= 0 && av_read_frame(in, packet) >= 0) {
    if (packet->stream_index == index)
      out.push_back({static_cast<double>(packet->pts) * av_q2d(in->streams[index]->time_base),
                     std::string(reinterpret_cast<const char*>(packet->data), packet->size)});
    av_packet_unref(packet);
  }
  av_packet_free(&packet);
  avformat_close_input(&in);
  return out;
}

/// A tone of 440 Hz and nothing else; chapters at each second; title "tone".
inline void write_tone(const std::filesystem::path& path, const char* encoder, double length) {
  AVFormatContext* out = nullptr;
  ASSERT_GE(avformat_alloc_output_context2(&out, nullptr, nullptr, path.c_str()), 0);
  const AVCodec* codec = avcodec_find_encoder_by_name(encoder);
  ASSERT_TRUE(codec) << encoder;
  AVCodecContext* c = avcodec_alloc_context3(codec);
  c->sample_rate = 48000;
  c->sample_fmt = codec->sample_fmts[0];
  av_channel_layout_default(&c->ch_layout, 1);
  c->time_base = {1, 48000};
  if (out->oformat->flags & AVFMT_GLOBALHEADER) c->flags |= AV_CODEC_FLAG_GLOBAL_HEADER;
  ASSERT_GE(avcodec_open2(c, codec, nullptr), 0);
  AVStream* stream = avformat_new_stream(out, nullptr);
  avcodec_parameters_from_context(stream->codecpar, c);
  stream->time_base = c->time_base;
  av_dict_set(&stream->metadata, "language", "deu", 0);
  av_dict_set(&out->metadata, "title", "tone", 0);
  for (int second = 0; second < length; ++second) {
    auto* chapter = static_cast<AVChapter*>(av_mallocz(sizeof(AVChapter)));
    chapter->id = second + 1;
    chapter->time_base = {1, 1};
    chapter->start = second;
    chapter->end = second + 1;
    av_dict_set(&chapter->metadata, "title", ("part " + std::to_string(second)).c_str(), 0);
    av_dynarray_add(&out->chapters, reinterpret_cast<int*>(&out->nb_chapters), chapter);
  }
  ASSERT_GE(avio_open(&out->pb, path.c_str(), AVIO_FLAG_WRITE), 0);
  ASSERT_GE(avformat_write_header(out, nullptr), 0);
  const int size = c->frame_size > 0 ? c->frame_size : 1024;
  AVPacket* packet = av_packet_alloc();
  const auto drain = [&] {
    while (avcodec_receive_packet(c, packet) >= 0) {
      av_packet_rescale_ts(packet, c->time_base, stream->time_base);
      EXPECT_GE(av_interleaved_write_frame(out, packet), 0);
    }
  };
  for (std::int64_t at = 0; at < length * 48000; at += size) {
    AVFrame* frame = av_frame_alloc();
    frame->format = c->sample_fmt;
    frame->sample_rate = 48000;
    frame->nb_samples = size;
    av_channel_layout_copy(&frame->ch_layout, &c->ch_layout);
    ASSERT_GE(av_frame_get_buffer(frame, 0), 0);
    for (int i = 0; i < size; ++i) {
      const double value = 0.5 * std::sin(2 * std::numbers::pi * 440 * static_cast<double>(at + i) / 48000);
      if (c->sample_fmt == AV_SAMPLE_FMT_S16)
        reinterpret_cast<std::int16_t*>(frame->data[0])[i] = static_cast<std::int16_t>(value * 32767);
      else
        reinterpret_cast<float*>(frame->data[0])[i] = static_cast<float>(value);
    }
    frame->pts = at;
    EXPECT_GE(avcodec_send_frame(c, frame), 0);
    av_frame_free(&frame);
    drain();
  }
  avcodec_send_frame(c, nullptr);
  drain();
  EXPECT_GE(av_write_trailer(out), 0);
  av_packet_free(&packet);
  avcodec_free_context(&c);
  avio_closep(&out->pb);
  avformat_free_context(out);
}

/// The same video, marked as to be turned clockwise, and then mirrored left to right or not.
inline void mark_turned(const std::filesystem::path& from, const std::filesystem::path& to, int degrees,
                        bool mirrored) {
  AVFormatContext *in = nullptr, *out = nullptr;
  ASSERT_GE(avformat_open_input(&in, from.c_str(), nullptr, nullptr), 0);
  ASSERT_GE(avformat_find_stream_info(in, nullptr), 0);
  ASSERT_GE(avformat_alloc_output_context2(&out, nullptr, nullptr, to.c_str()), 0);
  AVStream* stream = avformat_new_stream(out, nullptr);
  avcodec_parameters_copy(stream->codecpar, in->streams[0]->codecpar);
  stream->codecpar->codec_tag = 0;
  stream->time_base = in->streams[0]->time_base;
#if LIBAVFORMAT_VERSION_INT >= AV_VERSION_INT(60, 15, 100)
  std::uint8_t* data =
      av_packet_side_data_new(&stream->codecpar->coded_side_data, &stream->codecpar->nb_coded_side_data,
                              AV_PKT_DATA_DISPLAYMATRIX, 36, 0)
          ->data;
#else
  std::uint8_t* data = av_stream_new_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, 36);
#endif
  auto* matrix = reinterpret_cast<std::int32_t*>(data);
  av_display_rotation_set(matrix, degrees);  // clockwise
  av_display_matrix_flip(matrix, mirrored, 0);
  ASSERT_GE(avio_open(&out->pb, to.c_str(), AVIO_FLAG_WRITE), 0);
  ASSERT_GE(avformat_write_header(out, nullptr), 0);
  AVPacket* packet = av_packet_alloc();
  while (av_read_frame(in, packet) >= 0) {
    av_packet_rescale_ts(packet, in->streams[0]->time_base, stream->time_base);
    EXPECT_GE(av_interleaved_write_frame(out, packet), 0);
  }
  EXPECT_GE(av_write_trailer(out), 0);
  av_packet_free(&packet);
  avio_closep(&out->pb);
  avformat_free_context(out);
  avformat_close_input(&in);
}

inline std::string bytes_of(const std::filesystem::path& path) {
  return std::string(MappedFile(path).text());
}

/// Names in a folder, hidden ones too.
inline std::vector<std::string> listing(const std::filesystem::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder))
    names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace lithe::test
