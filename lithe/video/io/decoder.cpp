#include "lithe/video/io/decoder.h"

#include <algorithm>
#include <string_view>

#include "lithe/base/error.h"

namespace lithe::av {
namespace {

bool is_matroska(const AVFormatContext* format) {
  return std::string_view(format->iformat->name).find("matroska") != std::string_view::npos;
}

bool is_mp4(const AVFormatContext* format) {
  return std::string_view(format->iformat->name).find("mp4") != std::string_view::npos;
}

/// MP4 files say where each picture lies.
void check_whole(const InputFile& file, AVStream* stream) {
  if (!is_mp4(file.get())) return;
  const std::int64_t size = avio_size(file->pb);
  const int entries = avformat_index_get_entries_count(stream);
  for (int i = 0; i < entries; ++i) {
    const AVIndexEntry* entry = avformat_index_get_entry(stream, i);
    if (size > 0 && entry->pos > size - entry->size)
      fail(
          "{}: cut short: frame {} lies beyond the end of the file; get the whole file, or accept damage "
          "(--accept-damage)",
          file.name(), i);
  }
}

}  // namespace

Decoder::Decoder(const std::filesystem::path& path, int threads, bool accept_damage)
    : file_(path), accept_damage_(accept_damage) {
  index_ = av_find_best_stream(file_.get(), AVMEDIA_TYPE_VIDEO, -1, -1, &codec_, 0);
  if (index_ == AVERROR_DECODER_NOT_FOUND)
    fail("{}: this FFmpeg has no decoder for the video; convert it first", file_.name());
  if (index_ < 0 || (stream()->disposition & AV_DISPOSITION_ATTACHED_PIC))
    fail("{}: there is no video in it", file_.name());
  const AVCodecParameters* parameters = stream()->codecpar;
  if (parameters->width > kMaxSide || parameters->height > kMaxSide ||
      std::int64_t{parameters->width} * parameters->height > kMaxPixels)
    fail("{}: {}x{} pixels are too many; at most {} a side and 2^27 in all", file_.name(), parameters->height,
         parameters->width, kMaxSide);
  if (!accept_damage) check_whole(file_, stream());

  context_ = new_codec(codec_);
  int code = avcodec_parameters_to_context(context_.get(), parameters);
  if (code >= 0) {
    context_->pkt_timebase = stream()->time_base;
    context_->thread_count = threads;
    context_->max_pixels = kMaxPixels;
    context_->err_recognition = AV_EF_CRCCHECK;
    count_errors(context_.get(), &errors_);
    code = avcodec_open2(context_.get(), codec_, nullptr);
  }
  if (code < 0) refuse(code, file_.name() + ": the video cannot be decoded");
  // Decoders such as that of FFV1 return frames whose checksums fail as if nothing had happened. (Those of
  // lossy codecs complain of much that cannot be seen, and mark damaged frames.)
  const AVCodecDescriptor* kind = avcodec_descriptor_get(parameters->codec_id);
  told_only_ = kind && !(kind->props & AV_CODEC_PROP_LOSSY);
  // Whether a Matroska file is whole shows in the times of all its streams.
  for (unsigned i = 0; i < file_->nb_streams && !is_matroska(file_.get()); ++i)
    if (static_cast<int>(i) != index_) file_.stream(static_cast<int>(i))->discard = AVDISCARD_ALL;
}

void Decoder::refuse_damage(std::int64_t number, const std::string& why) const {
  fail(
      "{}: frame {}, or one close to it, is damaged: {}; repair the file, or accept damage (--accept-damage)",
      file_.name(), number, why);
}

void Decoder::check_end() const {
  if (accept_damage_ || !is_matroska(file_.get()) ||
      file_->duration_estimation_method != AVFMT_DURATION_FROM_STREAM || file_->duration <= 0)
    return;
  const double promised = static_cast<double>(file_->duration) / AV_TIME_BASE;
  const double frame = decoded_ > 0 ? last_end_ / static_cast<double>(decoded_) : 0;
  if (last_end_ < promised - std::max(0.25, 2 * frame))
    fail(
        "{}: cut short: it ends after {:.2f} of {:.2f} seconds, at about frame {}; get the whole file, or "
        "accept "
        "damage (--accept-damage)",
        file_.name(), last_end_, promised, decoded_);
}

void Decoder::feed() {
  for (;;) {
    bool more = false;
    try {
      more = file_.read(packet_.get());
    } catch (const Error& error) {
      if (!accept_damage_)
        fail("{}, at about frame {}; get the whole file, or accept damage (--accept-damage)", error.what(),
             sent_);
    }
    // The reader of Matroska passes over what it does not understand.
    if (file_.errors() > 0 && is_matroska(file_.get()) && !accept_damage_)
      refuse_damage(sent_, reason(AVERROR_INVALIDDATA));
    if (!more) {
      check_end();
      avcodec_send_packet(context_.get(), nullptr);
      flushed_ = true;
      return;
    }
    const std::int64_t start = packet_->pts != AV_NOPTS_VALUE ? packet_->pts : packet_->dts;
    if (start != AV_NOPTS_VALUE) {
      const AVRational unit = file_.stream(packet_->stream_index)->time_base;
      last_end_ = std::max(last_end_, static_cast<double>(start + packet_->duration) * av_q2d(unit));
    }
    if (packet_->stream_index != index_) continue;
    if ((packet_->flags & AV_PKT_FLAG_CORRUPT) && !accept_damage_) refuse_damage(sent_, "its end is missing");
    const int code = avcodec_send_packet(context_.get(), packet_.get());
    if (code == AVERROR(ENOMEM)) refuse(code, file_.name());
    if (code < 0 && !accept_damage_) refuse_damage(sent_, reason(code));
    ++sent_;
    return;
  }
}

const AVFrame* Decoder::next() {
  for (;;) {
    const int code = avcodec_receive_frame(context_.get(), picture_.get());
    if (code == AVERROR_EOF) return nullptr;
    if (code == AVERROR(EAGAIN) && !flushed_) {
      feed();
      continue;
    }
    if (code == AVERROR(EAGAIN)) return nullptr;
    if (code == AVERROR(ENOMEM)) refuse(code, file_.name());
    const bool damaged = code < 0 || (told_only_ && errors_ > 0) || picture_->decode_error_flags != 0 ||
                         (picture_->flags & AV_FRAME_FLAG_CORRUPT);
    if (damaged && !accept_damage_) refuse_damage(decoded_, reason(code < 0 ? code : AVERROR_INVALIDDATA));
    if (code < 0) continue;
    ++decoded_;
    return picture_.get();
  }
}

}  // namespace lithe::av
