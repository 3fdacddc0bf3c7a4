#include "lithe/video/io/writer.h"

#include "lithe/base/error.h"
#include "lithe/video/io/file_writer.h"

namespace lithe {
namespace fs = std::filesystem;

std::unique_ptr<VideoWriter> VideoWriter::create(const fs::path& path, const WriteOptions& options,
                                                 const VideoInfo& like,
                                                 const std::optional<CopiedFile>& copied) {
  if (like.height <= 0 || like.width <= 0)
    fail("{}: cannot write frames of {}x{} pixels", path.string(), like.height, like.width);
  if (like.rate.numerator <= 0 || like.rate.denominator <= 0)
    fail("{}: {}/{} frames a second are no rate; give a positive one", path.string(), like.rate.numerator,
         like.rate.denominator);
  std::error_code ignored;
  if (path.filename().empty() || !path.has_extension() || fs::is_directory(path, ignored))
    return create_picture_folder(path, options, like);
  return create_video_file(path, options, like, copied);
}

}  // namespace lithe
