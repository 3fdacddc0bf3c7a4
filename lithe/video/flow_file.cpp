#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <opencv2/core.hpp>
#include <string>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/video/flow.h"
#include "lithe/video/io/natural_order.h"

namespace lithe {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kHeader = 12;
constexpr int kMaxSide = 16384;
constexpr float kUnknown = 1e9F;
constexpr char kMagic[] = "PIEH";  // 202021.25 in little-endian float32

struct Header {
  char magic[4];
  std::int32_t width, height;
};
static_assert(sizeof(Header) == kHeader);

}  // namespace

Flow read_flow(const fs::path& path) {
  const MappedFile file(path);
  const auto bytes = file.bytes();
  Header header{};
  if (bytes.size() >= kHeader) std::memcpy(&header, bytes.data(), kHeader);
  if (std::memcmp(header.magic, kMagic, 4) != 0)
    fail("{}: not a flow of Middlebury's kind, which begins with \"PIEH\"", path.string());
  if (header.width < 1 || header.height < 1 || header.width > kMaxSide || header.height > kMaxSide)
    fail("{}: a flow of {}x{} pixels; sides are 1 to {}", path.string(), header.width, header.height,
         kMaxSide);
  const std::size_t whole = kHeader + std::size_t{8} * static_cast<std::size_t>(header.width) *
                                          static_cast<std::size_t>(header.height);
  if (bytes.size() != whole)
    fail("{}: {} bytes, but a flow of {}x{} pixels has {}; write the file again", path.string(), bytes.size(),
         header.width, header.height, whole);
  Flow flow{cv::Mat(header.height, header.width, CV_32FC2), cv::Mat(header.height, header.width, CV_8U)};
  std::memcpy(flow.displacement.data, bytes.data() + kHeader, whole - kHeader);
  for (int y = 0; y < header.height; ++y)
    for (int x = 0; x < header.width; ++x) {
      auto& d = flow.displacement.at<cv::Vec2f>(y, x);
      const bool known = std::abs(d[0]) <= kUnknown && std::abs(d[1]) <= kUnknown;  // false for NaN
      if (!known) d = {0, 0};
      flow.valid.at<std::uint8_t>(y, x) = known ? 255 : 0;
    }
  return flow;
}

void write_flow(const Flow& flow, const fs::path& path) {
  Header header{
      .magic = {'P', 'I', 'E', 'H'}, .width = flow.displacement.cols, .height = flow.displacement.rows};
  cv::Mat written = flow.displacement.clone();
  written.setTo(cv::Scalar::all(10 * kUnknown), flow.valid == 0);
  AtomicFile file(path);
  file.write(&header, kHeader);
  file.write(written.data, written.total() * written.elemSize());
  file.commit();
}

std::vector<fs::path> flow_files(const fs::path& folder) {
  std::error_code error;
  std::vector<fs::path> files;
  fs::directory_iterator entry(folder, error);
  for (; !error && entry != fs::directory_iterator(); entry.increment(error)) {
    const std::string name = entry->path().filename().string();
    if (!name.starts_with('.') && entry->path().extension() == ".flo") files.push_back(entry->path());
  }
  if (error) fail("{}: cannot be listed ({}); give a folder of .flo files", folder.string(), error.message());
  if (files.empty()) fail("{}: there is no .flo file in the folder", folder.string());
  std::sort(files.begin(), files.end(), [](const fs::path& a, const fs::path& b) {
    return natural_less(a.filename().string(), b.filename().string());
  });
  return files;
}

}  // namespace lithe
