#include "lithe/video/io/copied_streams.h"

extern "C" {
#include <libavutil/mathematics.h>
#include <libavutil/mem.h>
}

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "lithe/base/error.h"

namespace lithe::av {
namespace {

constexpr AVRational kMicroseconds{1, AV_TIME_BASE};
constexpr std::int64_t kLargest = std::int64_t{1} << 60;  // of times that can be reckoned with

bool is_large(std::int64_t ticks) {
  return ticks != AV_NOPTS_VALUE && (ticks > kLargest || ticks < -kLargest);
}

/// Tags that tell of the container that was, or of what has changed, are left behind.
void copy_tags(AVDictionary* from, AVDictionary** to) {
  constexpr std::array<std::string_view, 7> kStale{
      "major_brand", "minor_version", "compatible_brands", "encoder", "duration", "rotate", "alpha_mode"};
  const AVDictionaryEntry* entry = nullptr;
  while ((entry = av_dict_get(from, "", entry, AV_DICT_IGNORE_SUFFIX))) {
    std::string key = entry->key;
    std::transform(key.begin(), key.end(), key.begin(), [](unsigned char c) { return std::tolower(c); });
    const bool statistics = key.starts_with("_statistics") || key.starts_with("number_of_") ||
                            key.starts_with("bps") || key.starts_with("duration-");
    const bool stale = std::find(kStale.begin(), kStale.end(), key) != kStale.end();
    if (!stale && !statistics) av_dict_set(to, entry->key, entry->value, 0);
  }
}

std::string_view kind_of(AVMediaType type) {
  switch (type) {
    case AVMEDIA_TYPE_AUDIO:
      return "sound";
    case AVMEDIA_TYPE_SUBTITLE:
      return "subtitles";
    case AVMEDIA_TYPE_VIDEO:
      return "video";
    case AVMEDIA_TYPE_ATTACHMENT:
      return "attachment";
    default:
      return "data";
  }
}

bool is_mp4(const AVOutputFormat* container) {
  const std::string_view name = container->name;
  return name == "mp4" || name == "mov" || name == "ipod" || name == "3gp" || name == "3g2";
}

bool can_carry(const AVOutputFormat* container, const AVCodecParameters* p) {
  if (p->codec_type == AVMEDIA_TYPE_ATTACHMENT)
    return std::string_view(container->name) == "matroska" && p->extradata_size > 0;
  if (p->codec_type != AVMEDIA_TYPE_AUDIO && p->codec_type != AVMEDIA_TYPE_SUBTITLE) return false;
  return p->codec_id != AV_CODEC_ID_NONE &&
         avformat_query_codec(container, p->codec_id, FF_COMPLIANCE_NORMAL) != 0;
}

/// Chapters of MP4 files are a stream too.
bool is_chapter_track(const AVStream* stream) {
  return stream->codecpar->codec_type == AVMEDIA_TYPE_DATA &&
         stream->codecpar->codec_id == AV_CODEC_ID_BIN_DATA && stream->discard == AVDISCARD_ALL;
}

}  // namespace

CopiedStreams::CopiedStreams(const CopiedFile& copied, Muxer& muxer, std::vector<std::string>& notes)
    : copied_(copied),
      file_(copied.path),
      muxer_(muxer),
      tracks_(file_->nb_streams),
      keeps_lead_in_(is_mp4(muxer.get()->oformat) && !copied.cut_start),
      notes_(notes) {
  video_ = av_find_best_stream(file_.get(), AVMEDIA_TYPE_VIDEO, -1, -1, nullptr, 0);
  for (int i = 0; i < static_cast<int>(file_->nb_streams); ++i) add(i, notes);
  copy_tags(file_->metadata, &muxer_.get()->metadata);
}

void CopiedStreams::add(int index, std::vector<std::string>& notes) {
  AVStream* from = file_.stream(index);
  const AVCodecParameters* p = from->codecpar;
  const bool chapters = is_chapter_track(from);
  const bool wanted = index != video_ && !chapters;
  const AVOutputFormat* container = muxer_.get()->oformat;
  if (!wanted || !can_carry(container, p)) {
    from->discard = AVDISCARD_ALL;
    if (wanted)
      notes.push_back(fmt::format(
          "stream {} ({}, {}) was left out: {}", index, kind_of(p->codec_type), avcodec_get_name(p->codec_id),
          p->codec_type == AVMEDIA_TYPE_VIDEO ? std::string("one video is written")
                                              : fmt::format("{} files cannot carry it", container->name)));
    return;
  }
  AVStream* to = muxer_.add_stream();
  const int code = avcodec_parameters_copy(to->codecpar, p);
  if (code < 0) refuse(code, muxer_.name());
  // The short name of a codec is the container's own.
  unsigned tag = 0;
  const bool known = container->codec_tag && av_codec_get_tag2(container->codec_tag, p->codec_id, &tag);
  to->codecpar->codec_tag =
      known && av_codec_get_id(container->codec_tag, p->codec_tag) == p->codec_id ? p->codec_tag : 0;
  to->time_base = from->time_base;
  to->disposition = from->disposition;
  to->sample_aspect_ratio = from->sample_aspect_ratio;
  copy_tags(from->metadata, &to->metadata);
  copy_presentation(from, to);
  tracks_[static_cast<std::size_t>(index)].to = to->index;
}

void CopiedStreams::describe_video(AVStream* to) const {
  if (video_ < 0) return;
  const AVStream* from = file_.stream(video_);
  copy_tags(from->metadata, &to->metadata);
  to->disposition = from->disposition;
  copy_presentation(from, to);
}

std::int64_t CopiedStreams::start() const {
  return file_->start_time == AV_NOPTS_VALUE || is_large(file_->start_time) ? 0 : file_->start_time;
}

void CopiedStreams::begin(std::int64_t zero) {
  zero_ = zero;
  copy_chapters();
}

void CopiedStreams::copy_chapters() {
  const auto longest = copied_.longest >= 0 ? static_cast<std::int64_t>(copied_.longest * AV_TIME_BASE)
                                            : std::numeric_limits<std::int64_t>::max();
  AVFormatContext* out = muxer_.get();
  for (unsigned i = 0; i < file_->nb_chapters; ++i) {
    const AVChapter* from = file_->chapters[i];
    std::int64_t start = av_rescale_q(from->start, from->time_base, kMicroseconds);
    std::int64_t end = av_rescale_q(from->end, from->time_base, kMicroseconds);
    if (is_large(start) || is_large(end) || end < start) continue;
    start -= zero_;
    end -= zero_;
    if (end <= 0 || start >= longest) continue;
    auto* to = static_cast<AVChapter*>(av_mallocz(sizeof(AVChapter)));
    if (!to || av_dynarray_add_nofree(&out->chapters, reinterpret_cast<int*>(&out->nb_chapters), to) < 0) {
      av_free(to);
      fail_system("out of memory for a video");
    }
    to->id = from->id;
    to->time_base = kMicroseconds;
    to->start = std::max<std::int64_t>(start, 0);
    to->end = std::min(end, longest);
    av_dict_copy(&to->metadata, from->metadata, 0);
  }
}

bool CopiedStreams::fetch() {
  while (!held_ && !ended_) {
    try {
      ended_ = !file_.read(packet_.get());
    } catch (const Error&) {
      if (!copied_.accept_damage) throw;
      notes_.emplace_back("sound and subtitles end early: the file is damaged there");
      ended_ = true;
    }
    if (ended_) break;
    if (static_cast<std::size_t>(packet_->stream_index) >= tracks_.size()) continue;  // came up while reading
    if (tracks_[static_cast<std::size_t>(packet_->stream_index)].to < 0) continue;
    if (is_large(packet_->pts) || is_large(packet_->dts)) continue;  // damage
    packet_->duration = std::clamp<std::int64_t>(packet_->duration, 0, kLargest);
    place(packet_.get());
    held_ = true;
  }
  return held_;
}

/// Gives the packet times from `zero` on, in microseconds where they are compared and else in its own unit.
void CopiedStreams::place(AVPacket* packet) {
  Track& track = tracks_[static_cast<std::size_t>(packet->stream_index)];
  const AVRational unit = file_.stream(packet->stream_index)->time_base;
  const std::int64_t shift = av_rescale_q(zero_, kMicroseconds, unit);
  if (packet->dts == AV_NOPTS_VALUE) packet->dts = packet->pts;
  if (packet->dts == AV_NOPTS_VALUE) packet->dts = track.next + shift;
  if (packet->pts == AV_NOPTS_VALUE) packet->pts = packet->dts;
  packet->dts -= shift;
  packet->pts -= shift;
  track.next = packet->dts + std::max<std::int64_t>(packet->duration, 1);
}

/// Writes the packet that is held, or drops it where it lies outside of what is kept.
void CopiedStreams::put() {
  held_ = false;
  AVPacket* packet = packet_.get();
  const AVStream* from = file_.stream(packet->stream_index);
  Track& track = tracks_[static_cast<std::size_t>(packet->stream_index)];
  if (packet->pts < 0 && from->codecpar->codec_type == AVMEDIA_TYPE_SUBTITLE) {  // what is on screen stays on
    packet->duration += packet->pts;
    if (packet->duration <= 0) return;
    packet->pts = packet->dts = 0;
  }
  if (packet->pts < 0 && !keeps_lead_in_) return;
  const std::int64_t end = end_ == std::numeric_limits<std::int64_t>::max()
                               ? end_
                               : av_rescale_q(end_, kMicroseconds, from->time_base);
  if (packet->pts >= end) return;
  if (from->codecpar->codec_type == AVMEDIA_TYPE_SUBTITLE)
    packet->duration = std::min(packet->duration, end - packet->pts);
  packet->stream_index = track.to;
  packet->pos = -1;
  av_packet_rescale_ts(packet, from->time_base, muxer_.get()->streams[track.to]->time_base);
  // Containers want rising times, which damaged or rounded ones may not be.
  if (packet->dts <= track.last_dts) packet->dts = track.last_dts + 1;
  packet->pts = std::max(packet->pts, packet->dts);
  track.last_dts = packet->dts;
  muxer_.write(packet);
}

void CopiedStreams::copy_until(std::int64_t time) {
  while (fetch()) {
    const AVRational unit = file_.stream(packet_->stream_index)->time_base;
    if (av_compare_ts(packet_->dts, unit, time, kMicroseconds) >= 0) return;
    put();
  }
}

void CopiedStreams::finish(std::int64_t end) {
  if (copied_.cut_end) end_ = end;
  while (fetch()) put();
}

}  // namespace lithe::av
