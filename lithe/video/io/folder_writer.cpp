#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <set>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/video/io/file_writer.h"
#include "lithe/video/io/picture_file.h"

namespace lithe {
namespace fs = std::filesystem;
namespace {

class FolderWriter : public VideoWriter {
 public:
  FolderWriter(const fs::path& folder, const WriteOptions& options, const VideoInfo& like)
      : like_(like), folder_(folder) {
    if (folder_.filename().empty()) folder_ = folder_.parent_path();  // a trailing /
    const std::string name = folder.string();
    ending_ = ending(options.codec, name);
    bits_ = depth(options.pixel_format, name);
    if (!options.preset.empty()) fail("{}: pictures have no presets; leave --preset out", name);
    if (options.quality >= 0 && ending_ != ".jpg")
      fail("{}: {} pictures are lossless and take no quality; leave --quality out", name, ending_);
    if (options.quality > 100) fail("{}: the quality of JPEG goes from 0 to 100", name);
    if (options.quality >= 0) quality_ = static_cast<int>(std::lround(options.quality));
    encoder_ = ending_.substr(1);
    pixel_format_ = bits_ == 16 ? "rgb48" : "rgb24";
    if (bits_ < std::min(like.bits, 10))
      notes_.push_back(fmt::format("written with {} bits a channel, the source has {}", bits_, like.bits));
    if (like.variable_rate) notes_.emplace_back("pictures do not keep the times of a variable frame rate");

    if (like.audio_streams > 0) notes_.emplace_back("pictures carry no sound");

    std::error_code code;
    if (fs::exists(folder_, code) && !fs::is_directory(folder_, code))
      fail("{}: is a file; give the name of a folder for pictures", name);
    if (fs::is_directory(folder_, code) && !fs::is_empty(folder_, code))
      fail("{}: the folder is not empty; give a new one, or empty it", name);
    fs::path above = fs::absolute(folder_).parent_path();
    if (!fs::is_directory(above, code))
      fail("{}: the folder {} does not exist; create it first", name, above.string());
    std::string pattern = (above / ("." + folder_.filename().string() + ".XXXXXX")).string();
    if (!::mkdtemp(pattern.data()))
      fail("{}: cannot write: {}; give another place, or the right to write there", name,
           std::strerror(errno));
    temporary_ = pattern;
  }

  ~FolderWriter() override {
    std::error_code ignored;
    if (!temporary_.empty()) fs::remove_all(temporary_, ignored);
  }

  void write(const Frame& frame, const FrameTime&, const std::string& name) override {
    if (frame.height != like_.height || frame.width != like_.width)
      fail("{}: a frame has {}x{} pixels, the video {}x{}", folder_.string(), frame.height, frame.width,
           like_.height, like_.width);
    std::string stem = name.empty() ? fmt::format("frame_{:06}", written_) : fs::path(name).stem().string();
    if (!stems_.insert(stem).second)
      fail("{}: two pictures would be named {}{}; rename one of the input", folder_.string(), stem, ending_);
    const std::vector<unsigned char> bytes = encode_picture(frame, ending_, bits_, quality_);
    AtomicFile file(temporary_ / (stem + ending_));
    file.write(bytes.data(), bytes.size());
    file.commit();
    ++written_;
  }

  void finish() override {
    if (written_ == 0) fail("{}: no frame was written", folder_.string());
    const mode_t mask = ::umask(0);
    ::umask(mask);
    fs::permissions(temporary_, static_cast<fs::perms>(0777 & ~mask));
    std::error_code code;
    fs::rename(temporary_, folder_, code);
    if (code) fail_system("{}: cannot give the folder its name: {}", folder_.string(), code.message());
    temporary_.clear();
  }

 private:
  static std::string ending(const std::string& codec, const std::string& name) {
    if (codec.empty() || codec == "png") return ".png";
    if (codec == "jpg" || codec == "jpeg" || codec == "mjpeg") return ".jpg";
    if (codec == "tif" || codec == "tiff") return ".tif";
    if (codec == "bmp") return ".bmp";
    fail("{}: pictures are written as png, jpg, tif or bmp, not {} (--codec)", name, codec);
  }

  int depth(const std::string& format, const std::string& name) const {
    const bool can16 = ending_ == ".png" || ending_ == ".tif";
    if (format.empty()) return can16 && like_.bits > 8 ? 16 : 8;
    if (format == "rgb24") return 8;
    if (format == "rgb48" && can16) return 16;
    fail("{}: {} pictures are written as rgb24{}, not {} (--pixel-format)", name, ending_,
         can16 ? " or rgb48" : "", format);
  }

  VideoInfo like_;
  fs::path folder_, temporary_;
  std::string ending_;
  int bits_ = 8, quality_ = 95;
  std::int64_t written_ = 0;
  std::set<std::string> stems_;
};

}  // namespace

std::unique_ptr<VideoWriter> create_picture_folder(const fs::path& folder, const WriteOptions& options,
                                                   const VideoInfo& like) {
  return std::make_unique<FolderWriter>(folder, options, like);
}

}  // namespace lithe
