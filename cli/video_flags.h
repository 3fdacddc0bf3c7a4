// The flags of verbs that read and write videos.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "lithe/video/io/reader.h"
#include "lithe/video/io/writer.h"

namespace lithe::cli {

struct VideoFlags {
  WriteOptions write;
  ReadOptions read;
  std::string rate;  // of folders
};

/// --codec, --quality, --pixel-format, --preset, --fps, --start, --drop-alpha, --accept-damage.
void add_video_flags(CLI::App& verb, VideoFlags& flags);

/// The reading options, with --fps read; throws Error(Input) for a rate that is none.
ReadOptions read_options(const VideoFlags& flags);

}  // namespace lithe::cli
