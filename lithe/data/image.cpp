#include "lithe/data/image.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>
#include <string_view>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/png_chunks.h"

namespace lithe {
namespace {

constexpr std::size_t kMaxFileBytes = std::size_t{1} << 30;
constexpr std::uint64_t kMaxPixels = std::uint64_t{1} << 28;
constexpr std::string_view kPngSignature("\x89PNG\r\n\x1a\n", 8);

cv::Mat with_colour(const cv::Mat& picture, ColourOrder colour) {
  cv::Mat out;
  const bool gray = picture.channels() == 1;
  switch (colour) {
    case ColourOrder::Auto:
      return picture;
    case ColourOrder::Gray:
      if (gray) return picture;
      cv::cvtColor(picture, out, cv::COLOR_RGB2GRAY);
      return out;
    case ColourOrder::Rgb:
      if (!gray) return picture;
      cv::cvtColor(picture, out, cv::COLOR_GRAY2RGB);
      return out;
    case ColourOrder::Bgr:
      cv::cvtColor(picture, out, gray ? cv::COLOR_GRAY2BGR : cv::COLOR_RGB2BGR);
      return out;
  }
  return picture;
}

int cv_interpolation(Interpolation interpolation) {
  switch (interpolation) {
    case Interpolation::Nearest:
      return cv::INTER_NEAREST;
    case Interpolation::Bilinear:
      return cv::INTER_LINEAR;
    case Interpolation::Bicubic:
      return cv::INTER_CUBIC;
    case Interpolation::Area:
      return cv::INTER_AREA;
  }
  return cv::INTER_LINEAR;
}

cv::Mat resized(const cv::Mat& picture, const Preprocess& preprocess, const std::string& name) {
  std::int64_t height = picture.rows, width = picture.cols;
  if (preprocess.resize) {
    height = preprocess.resize->height;
    width = preprocess.resize->width;
  } else if (preprocess.resize_shorter) {
    const std::int64_t shorter = std::min(height, width), wanted = *preprocess.resize_shorter;
    height = height * wanted / shorter;
    width = width * wanted / shorter;
  }
  if (height == picture.rows && width == picture.cols) return picture;
  if (height * width > static_cast<std::int64_t>(kMaxPixels))
    fail("{}: resizing {}x{} gives {}x{}, which is too large; give an exact size (--resize HxW)", name,
         picture.rows, picture.cols, height, width);
  cv::Mat out;
  cv::resize(picture, out, cv::Size(static_cast<int>(width), static_cast<int>(height)), 0, 0,
             cv_interpolation(preprocess.interpolation));
  return out;
}

cv::Mat cropped(const cv::Mat& picture, const PixelSize& size, const std::string& name) {
  if (picture.rows < size.height || picture.cols < size.width)
    fail("{}: {}x{} is smaller than the crop {}x{}; resize first (--resize) or crop less", name, picture.rows,
         picture.cols, size.height, size.width);
  const int top = static_cast<int>(picture.rows - size.height) / 2;
  const int left = static_cast<int>(picture.cols - size.width) / 2;
  return picture(cv::Rect(left, top, static_cast<int>(size.width), static_cast<int>(size.height)));
}

}  // namespace

cv::Mat decode_image(std::span<const std::byte> bytes, const std::string& name, Channels channels) {
  if (bytes.empty()) fail("{}: the file is empty", name);
  if (bytes.size() > kMaxFileBytes) fail("{}: {} bytes are too many for a picture", name, bytes.size());
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (cut_short(text)) fail("{}: the picture is cut short; replace or remove it", name);
  const auto size = promised_size(text);
  if (!size) fail("{}: does not decode as a picture; replace or remove it", name);
  if (size->width != 0 && size->height > kMaxPixels / size->width)
    fail("{}: {}x{} pixels are too many for a picture", name, size->height, size->width);
  std::string_view whole = text;
  std::optional<std::string> needed;
  if (text.starts_with(kPngSignature)) {
    needed = needed_png_chunks(text);
    if (!needed) fail("{}: the picture is damaged; replace or remove it", name);
    whole = *needed;
  }
  const cv::Mat raw(1, static_cast<int>(whole.size()), CV_8U, const_cast<char*>(whole.data()));
  cv::Mat picture;
  try {
    picture = cv::imdecode(raw, channels == Channels::Colour ? cv::IMREAD_COLOR : cv::IMREAD_ANYCOLOR);
  } catch (const cv::Exception& error) {
    fail("{}: does not decode as a picture ({}); replace or remove it", name, error.err);
  }
  if (picture.empty()) fail("{}: does not decode as a picture; replace or remove it", name);
  if (picture.channels() == 3) cv::cvtColor(picture, picture, cv::COLOR_BGR2RGB);
  return picture;
}

cv::Mat read_image(const std::filesystem::path& path, Channels channels) {
  const MappedFile file(path);
  return decode_image(file.bytes(), path.string(), channels);
}

at::Tensor to_tensor(const cv::Mat& picture, const Preprocess& preprocess, const std::string& name) {
  cv::Mat pixels = resized(with_colour(picture, preprocess.colour), preprocess, name);
  if (preprocess.crop) pixels = cropped(pixels, *preprocess.crop, name);
  const std::int64_t channels = pixels.channels(), height = pixels.rows, width = pixels.cols;
  for (const auto* numbers : {&preprocess.mean, &preprocess.std})
    if (numbers->size() > 1 && static_cast<std::int64_t>(numbers->size()) != channels)
      fail("{}: the picture has {} channel(s) but mean or std {} numbers; see --colour, --mean, --std", name,
           channels, numbers->size());

  // A table of 256 values a channel: the same rounding for every picture and thread.
  std::vector<std::array<float, 256>> table(static_cast<std::size_t>(channels));
  for (std::int64_t c = 0; c < channels; ++c)
    for (int value = 0; value < 256; ++value)
      table[static_cast<std::size_t>(c)][static_cast<std::size_t>(value)] =
          static_cast<float>((value * preprocess.scale - preprocess.mean_of(c)) / preprocess.std_of(c));

  const bool planar = preprocess.layout == ImageLayout::Nchw;
  at::Tensor out = planar ? at::empty({channels, height, width}, at::kFloat)
                          : at::empty({height, width, channels}, at::kFloat);
  float* values = out.data_ptr<float>();
  for (std::int64_t y = 0; y < height; ++y) {
    const unsigned char* row = pixels.ptr<unsigned char>(static_cast<int>(y));
    for (std::int64_t x = 0; x < width; ++x)
      for (std::int64_t c = 0; c < channels; ++c) {
        const std::int64_t at = planar ? (c * height + y) * width + x : (y * width + x) * channels + c;
        values[at] = table[static_cast<std::size_t>(c)][row[x * channels + c]];
      }
  }
  return out;
}

}  // namespace lithe
