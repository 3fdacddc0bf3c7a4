#include "lithe/video/io/av.h"

extern "C" {
#include <libavutil/display.h>
#include <libavutil/log.h>
}

#include <algorithm>
#include <cerrno>
#include <cstdarg>
#include <cstring>
#include <mutex>
#include <vector>

#include "lithe/base/error.h"

namespace lithe::av {
namespace fs = std::filesystem;
namespace {

// Decoders tell of errors in threads of their own, so that the last one is kept for all threads together.
std::mutex last_error_mutex;
std::string last_error;

void keep_error(void* source, int level, const char* format, va_list values) {
  if (level > AV_LOG_ERROR) return;
  // Threads of a decoder have copies of its context, with the same opaque pointer.
  const AVClass* kind = source ? *static_cast<const AVClass* const*>(source) : nullptr;
  void* errors = nullptr;
  if (kind && kind == avcodec_get_class()) errors = static_cast<AVCodecContext*>(source)->opaque;
  if (kind && kind == avformat_get_class()) errors = static_cast<AVFormatContext*>(source)->opaque;
  if (errors) ++*static_cast<std::atomic<int>*>(errors);
  char line[400];
  int prefix = 0;
  av_log_format_line2(source, level, format, values, line, sizeof(line), &prefix);
  std::string text(line);
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ' || text.back() == '.')) text.pop_back();
  if (text.empty()) return;
  const std::lock_guard lock(last_error_mutex);
  last_error = text;
}

int refuse_to_open(AVFormatContext*, AVIOContext**, const char*, int, AVDictionary**) {
  return AVERROR(EPERM);
}

template <typename T>
T* need(T* pointer) {
  if (!pointer) fail_system("out of memory for a video");
  return pointer;
}

}  // namespace

Packet new_packet() {
  return Packet(need(av_packet_alloc()));
}
Picture new_picture() {
  return Picture(need(av_frame_alloc()));
}
Codec new_codec(const AVCodec* codec) {
  return Codec(need(avcodec_alloc_context3(codec)));
}

void hush() {
  static std::once_flag once;
  std::call_once(once, [] { av_log_set_callback(keep_error); });
}

void count_errors(AVCodecContext* codec, std::atomic<int>* errors) {
  codec->opaque = errors;
}

std::string reason(int code) {
  char text[AV_ERROR_MAX_STRING_SIZE] = {};
  av_strerror(code, text, sizeof(text));
  const std::lock_guard lock(last_error_mutex);
  std::string out = text;
  if (!last_error.empty()) out += " (" + last_error + ")";
  last_error.clear();
  return out;
}

void refuse(int code, const std::string& what) {
  const bool system = code == AVERROR(ENOSPC) || code == AVERROR(EIO) || code == AVERROR(EFBIG) ||
                      code == AVERROR(EDQUOT) || code == AVERROR(ENOMEM);
  if (system) fail_system("{}: {}", what, reason(code));
  fail("{}: {}", what, reason(code));
}

InputFile::InputFile(const fs::path& path) : name_(path.string()) {
  hush();
  std::error_code ignored;
  if (!fs::exists(path, ignored)) fail("{}: does not exist", name_);
  if (!fs::is_regular_file(path, ignored)) fail("{}: not a regular file", name_);
  try {
    int code = avio_open2(&io_, ("file:" + name_).c_str(), AVIO_FLAG_READ, nullptr, nullptr);
    if (code < 0) refuse(code, name_ + ": cannot open");
    format_ = need(avformat_alloc_context());
    format_->pb = io_;
    format_->flags |= AVFMT_FLAG_CUSTOM_IO;
    format_->io_open = refuse_to_open;
    code = avformat_open_input(&format_, nullptr, nullptr, nullptr);
    if (code < 0) refuse(code, name_ + ": not a video that can be read");
    // Decoders are tried out here: they must not allocate what a damaged header promises.
    std::vector<AVDictionary*> options(format_->nb_streams);
    for (AVDictionary*& option : options) {
      av_dict_set_int(&option, "max_pixels", kMaxPixels, 0);
      av_dict_set_int(&option, "threads", 1, 0);
    }
    code = avformat_find_stream_info(format_, options.empty() ? nullptr : options.data());
    for (AVDictionary*& option : options) av_dict_free(&option);
    if (code < 0) refuse(code, name_ + ": not a video that can be read");
    format_->opaque = &errors_;
  } catch (...) {
    close();
    throw;
  }
}

InputFile::~InputFile() {
  close();
}

void InputFile::close() {
  avformat_close_input(&format_);
  avio_closep(&io_);
}

bool InputFile::read(AVPacket* packet) {
  av_packet_unref(packet);
  const int code = av_read_frame(format_, packet);
  if (code == AVERROR_EOF) return false;
  if (code < 0) refuse(code, name_ + ": the file is damaged or cut short");
  return true;
}

// Side data of streams moved into their parameters with libavformat 60.15.
#if LIBAVFORMAT_VERSION_INT >= AV_VERSION_INT(60, 15, 100)

const std::int32_t* display_matrix(const AVStream* stream) {
  const AVPacketSideData* found = av_packet_side_data_get(
      stream->codecpar->coded_side_data, stream->codecpar->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);
  return found && found->size >= 36 ? reinterpret_cast<const std::int32_t*>(found->data) : nullptr;
}

namespace {
void copy_side_data(const AVStream* from, AVStream* to, AVPacketSideDataType type) {
  const AVPacketSideData* found =
      av_packet_side_data_get(from->codecpar->coded_side_data, from->codecpar->nb_coded_side_data, type);
  if (!found) return;
  AVPacketSideData* made = need(av_packet_side_data_new(
      &to->codecpar->coded_side_data, &to->codecpar->nb_coded_side_data, type, found->size, 0));
  std::memcpy(made->data, found->data, found->size);
}
}  // namespace

#else

const std::int32_t* display_matrix(const AVStream* stream) {
  std::size_t size = 0;
  const std::uint8_t* found = av_stream_get_side_data(stream, AV_PKT_DATA_DISPLAYMATRIX, &size);
  return found && size >= 36 ? reinterpret_cast<const std::int32_t*>(found) : nullptr;
}

namespace {
void copy_side_data(const AVStream* from, AVStream* to, AVPacketSideDataType type) {
  std::size_t size = 0;
  const std::uint8_t* found = av_stream_get_side_data(from, type, &size);
  if (found) std::memcpy(need(av_stream_new_side_data(to, type, size)), found, size);
}
}  // namespace

#endif

void copy_presentation(const AVStream* from, AVStream* to) {
  for (const AVPacketSideDataType type :
       {AV_PKT_DATA_MASTERING_DISPLAY_METADATA, AV_PKT_DATA_CONTENT_LIGHT_LEVEL, AV_PKT_DATA_SPHERICAL,
        AV_PKT_DATA_STEREO3D, AV_PKT_DATA_REPLAYGAIN})
    copy_side_data(from, to, type);
}

AVRational av_rational(Rational value) {
  AVRational out{0, 1};
  av_reduce(&out.num, &out.den, value.numerator, value.denominator, INT_MAX);
  return out;
}

}  // namespace lithe::av
