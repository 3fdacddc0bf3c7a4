#include "cli/video_output.h"

#include <filesystem>
#include <system_error>
#include <utility>

#include "lithe/base/error.h"

namespace lithe::cli {

void check_video_output(Invocation& call, const std::vector<NamedFile>& reads) {
  namespace fs = std::filesystem;
  std::error_code error;
  const std::string output = call.options.output;
  if (!output.ends_with('/') && !fs::is_directory(output, error)) return check_overwriting(call, reads);
  for (const NamedFile& read : reads)
    if (!read.path.empty() && fs::equivalent(output, read.path, error))
      fail("-o {} is {} itself, which would be lost; give another folder", output, read.flag);
  // The checks of files, for what else is written.
  call.options.output.clear();
  check_overwriting(call, reads);
  call.options.output = output;
}

}  // namespace lithe::cli
