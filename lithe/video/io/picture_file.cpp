#include "lithe/video/io/picture_file.h"

#include <opencv2/core.hpp>
#include <opencv2/imgcodecs.hpp>
#include <optional>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/png_chunks.h"

namespace lithe {
namespace fs = std::filesystem;
namespace {

constexpr std::uint64_t kMaxFileBytes = std::uint64_t{1} << 30;
constexpr std::uint64_t kMaxSide = 16384, kMaxPixels = std::uint64_t{1} << 27;

PromisedSize checked_size(const MappedFile& file) {
  const std::string name = file.path().string();
  if (file.bytes().empty()) fail("{}: the file is empty", name);
  if (file.bytes().size() > kMaxFileBytes)
    fail("{}: {} bytes are too many for a picture", name, file.bytes().size());
  if (cut_short(file.text())) fail("{}: the picture is cut short; replace or remove it", name);
  const auto size = promised_size(file.text());
  if (!size || size->height == 0 || size->width == 0)
    fail("{}: does not decode as a picture; replace or remove it", name);
  if (size->height > kMaxSide || size->width > kMaxSide || size->height * size->width > kMaxPixels)
    fail("{}: {}x{} pixels are too many; at most {} a side and 2^27 in all", name, size->height, size->width,
         kMaxSide);
  return *size;
}

template <typename T>
void copy_pixels(const cv::Mat& picture, PictureFile& out) {
  // Channels of OpenCV: grey, or blue, green, red and perhaps alpha.
  constexpr std::uint32_t kTop = std::numeric_limits<T>::max();
  const int channels = picture.channels();
  const int red = channels >= 3 ? 2 : 0, green = channels >= 3 ? 1 : 0;
  const auto level = [](T value) {
    return static_cast<std::int16_t>((value * std::uint32_t{kFrameMaximum} + kTop / 2) / kTop);
  };
  for (int y = 0; y < picture.rows; ++y) {
    const T* in = picture.ptr<T>(y);
    std::int16_t* to = out.frame.at(y, 0);
    for (int x = 0; x < picture.cols; ++x, in += channels, to += 3) {
      to[0] = level(in[red]);
      to[1] = level(in[green]);
      to[2] = level(in[0]);
      if (channels == 4) out.opaque &= in[3] == kTop;
    }
  }
}

}  // namespace

PictureFile read_picture(const fs::path& path) {
  const MappedFile file(path);
  const std::string name = path.string();
  checked_size(file);
  std::string_view whole = file.text();
  std::optional<std::string> needed;
  const bool png = whole.starts_with("\x89PNG"), jpeg = whole.starts_with("\xff\xd8");
  if (png) {
    needed = needed_png_chunks(whole);
    if (!needed) fail("{}: the picture is damaged; replace or remove it", name);
    whole = *needed;
  }
  const cv::Mat raw(1, static_cast<int>(whole.size()), CV_8U, const_cast<char*>(whole.data()));
  cv::Mat picture;
  try {
    // Without alpha to look for, OpenCV also turns the picture as its file says.
    constexpr int kTurned = cv::IMREAD_ANYDEPTH | cv::IMREAD_ANYCOLOR;
    picture = cv::imdecode(raw, jpeg ? kTurned : cv::IMREAD_UNCHANGED);
    if (png && picture.channels() != 4 && whole.find("eXIf") != std::string_view::npos)
      picture = cv::imdecode(raw, kTurned);
  } catch (const cv::Exception& error) {
    fail("{}: does not decode as a picture ({}); replace or remove it", name, error.err);
  }
  if (picture.empty()) fail("{}: does not decode as a picture; replace or remove it", name);
  const int channels = picture.channels();
  if ((picture.depth() != CV_8U && picture.depth() != CV_16U) || channels == 2 || channels > 4)
    fail("{}: only pictures of 8 or 16 bits, grey or in colour, are read; convert it", name);
  PictureFile out;
  out.frame = Frame(picture.rows, picture.cols);
  out.bits = picture.depth() == CV_8U ? 8 : 16;
  out.alpha = channels == 4;
  if (picture.depth() == CV_8U)
    copy_pixels<std::uint8_t>(picture, out);
  else
    copy_pixels<std::uint16_t>(picture, out);
  return out;
}

PromisedSize picture_size(const fs::path& path) {
  return checked_size(MappedFile(path));
}

std::vector<unsigned char> encode_picture(const Frame& frame, const std::string& ending, int bits,
                                          int quality) {
  cv::Mat picture(frame.height, frame.width, bits == 16 ? CV_16UC3 : CV_8UC3);
  for (int y = 0; y < frame.height; ++y) {
    const std::int16_t* in = frame.at(y, 0);
    for (int i = 0; i < frame.width * 3; ++i) {
      const int value = in[i - i % 3 + 2 - i % 3];
      if (bits == 16)
        picture.ptr<std::uint16_t>(y)[i] = static_cast<std::uint16_t>((value * 257 + 2) / 4);
      else
        picture.ptr<std::uint8_t>(y)[i] = static_cast<std::uint8_t>((value + 2) / 4);
    }
  }
  std::vector<int> settings;
  if (ending == ".jpg") settings = {cv::IMWRITE_JPEG_QUALITY, quality};
  if (ending == ".png")
    settings = {cv::IMWRITE_PNG_COMPRESSION, 1, cv::IMWRITE_PNG_STRATEGY, cv::IMWRITE_PNG_STRATEGY_RLE};
  std::vector<unsigned char> bytes;
  if (!cv::imencode(ending, picture, bytes, settings)) fail("pictures cannot be encoded as {}", ending);
  return bytes;
}

}  // namespace lithe
