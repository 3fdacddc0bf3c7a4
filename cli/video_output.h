// Where verbs write videos: a file, or a folder of pictures.
#pragma once

#include <vector>

#include "cli/overwrite.h"

namespace lithe::cli {

/// `check_overwriting` for a video at -o, which may be a folder that is there or ends in "/". Throws
/// Error(Input) as that does; whether a folder is empty is for the writer to say.
void check_video_output(Invocation& call, const std::vector<NamedFile>& reads);

}  // namespace lithe::cli
