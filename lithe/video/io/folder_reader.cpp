#include <algorithm>
#include <utility>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/video/io/file_reader.h"
#include "lithe/video/io/natural_order.h"
#include "lithe/video/io/picture_file.h"

namespace lithe {
namespace fs = std::filesystem;
namespace {

constexpr std::size_t kMaxFiles = 10'000'000;

class FolderReader : public VideoReader {
 public:
  FolderReader(const fs::path& folder, const ReadOptions& options) : options_(options) {
    const auto name = folder.string();
    if (options.folder_rate.numerator <= 0 || options.folder_rate.denominator <= 0)
      fail("{}: {}/{} frames a second are no rate; give a positive one", name, options.folder_rate.numerator,
           options.folder_rate.denominator);
    files_ = picture_files(folder);
    if (files_.empty()) fail("{}: there is no picture in the folder (png, jpg, bmp, tif, webp, ppm)", name);
    const auto count = static_cast<std::int64_t>(files_.size());
    if (options.start >= count)
      fail("{}: reading is to begin at frame {}, but there are only {}", name, options.start, count);
    last_ = options.most < 0 ? count : std::min(count, options.start + std::min(options.most, count));
    check_sizes();
    // What is not in the headers is taken from the first picture.
    first_ = read_picture(files_[at(options.start)]);
    info_.height = first_.frame.height;
    info_.width = first_.frame.width;
    info_.rate = options.folder_rate;
    info_.time_unit = {info_.rate.denominator, info_.rate.numerator};
    info_.frames = last_ - options.start;
    info_.seconds = static_cast<double>(info_.frames) / info_.rate.value();
    info_.bits = first_.bits;
    info_.alpha = first_.alpha;
    info_.folder = true;
    info_.codec = files_[at(options.start)].extension().string();
    info_.container = "folder";
    info_.pixel_format = info_.bits == 8 ? "rgb24" : "rgb48";
    info_.colour.range = 2;
    info_.colour.matrix = 0;
    number_ = options.start - 1;
  }

  bool read(Frame& frame) override {
    if (!skip()) return false;
    PictureFile picture = number_ == options_.start && !first_.frame.pixels.empty()
                              ? std::exchange(first_, {})
                              : read_picture(path());
    if (picture.frame.height != info_.height || picture.frame.width != info_.width)
      refuse_size(path(), picture.frame.height, picture.frame.width, info_.height, info_.width);
    if (!picture.opaque && !options_.drop_alpha)
      fail("{}: the picture is transparent in places, which is lost; leave that out (--drop-alpha)",
           path().string());
    frame = std::move(picture.frame);
    return true;
  }

  bool skip() override {
    if (number_ + 1 >= last_) return false;
    ++number_;
    name_ = path().filename().string();
    time_ = {number_, 1, info_.time_unit};
    return true;
  }

 private:
  static std::size_t at(std::int64_t number) { return static_cast<std::size_t>(number); }
  const fs::path& path() const { return files_[at(number_)]; }

  [[noreturn]] void refuse_size(const fs::path& path, std::uint64_t height, std::uint64_t width,
                                std::uint64_t first_height, std::uint64_t first_width) const {
    fail("{}: {}x{} pixels, but {} has {}x{}; frames must be of one size", path.string(), height, width,
         files_[at(options_.start)].filename().string(), first_height, first_width);
  }

  /// Before long work begins. Sizes with sides exchanged may turn out equal: cameras lay pictures on their
  /// side.
  void check_sizes() const {
    const PromisedSize first = picture_size(files_[at(options_.start)]);
    for (std::int64_t i = options_.start; i < last_; ++i) {
      const PromisedSize size = picture_size(files_[at(i)]);
      if (size != first && size != PromisedSize{first.width, first.height})
        refuse_size(files_[at(i)], size.height, size.width, first.height, first.width);
    }
  }

  ReadOptions options_;
  std::vector<fs::path> files_;
  std::int64_t last_ = 0;
  PictureFile first_;
};

}  // namespace

std::vector<fs::path> picture_files(const fs::path& folder) {
  std::vector<fs::path> files;
  std::error_code code;
  for (fs::directory_iterator entry(folder, code), end; !code && entry != end; entry.increment(code)) {
    const std::string name = entry->path().filename().string();
    std::error_code ignored;
    if (name.starts_with('.') || !is_image_name(entry->path()) || !entry->is_regular_file(ignored)) continue;
    files.push_back(entry->path());
    if (files.size() > kMaxFiles) fail("{}: more than {} pictures", folder.string(), kMaxFiles);
  }
  if (code) fail("{}: cannot list the folder: {}", folder.string(), code.message());
  std::sort(files.begin(), files.end(), [](const fs::path& a, const fs::path& b) {
    return natural_less(a.filename().string(), b.filename().string());
  });
  return files;
}

std::unique_ptr<VideoReader> open_picture_folder(const fs::path& folder, const ReadOptions& options) {
  return std::make_unique<FolderReader>(folder, options);
}

}  // namespace lithe
