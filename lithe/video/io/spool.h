// Finished frames kept on disk without loss, so that interrupted work goes on where it stopped.
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "lithe/video/frame.h"

namespace lithe {

/// A folder with one 16-bit PNG file a frame, which any viewer shows, and manifest.json, which says what the
/// frames are the result of.
class Spool {
 public:
  /// Creates `folder` (the one above must exist), or goes on with it. Throws Error(Input) if it holds
  /// something other than a spool, or the manifest there differs from `manifest`; the error names what
  /// differs.
  Spool(const std::filesystem::path& folder, const nlohmann::json& manifest);

  /// Whether the folder was there with the same manifest.
  bool resumed() const { return resumed_; }
  /// Frames are written whole or not at all; the file says nothing of other frames.
  bool has(std::int64_t number) const;
  /// Of numbers 0, 1, 2, ... how many are there before the first that is not.
  std::int64_t leading() const;
  void write(std::int64_t number, const Frame& frame);
  /// Equal to what was written. Throws Error(Input) if it is not there, or damaged.
  Frame read(std::int64_t number) const;
  /// Removes the frames and the manifest, and the folder if nothing else is in it.
  void remove();

 private:
  std::filesystem::path file_of(std::int64_t number) const;
  std::filesystem::path folder_;
  bool resumed_ = false;
};

}  // namespace lithe
