// Nothing that is read is written over, and of checkpoints only what a run has written is taken away.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cli/verb.h"

namespace lithe::cli {

/// A file and the flag that names it; the path may be a data specification ("kind:path,key=value"), or empty.
struct NamedFile {
  std::string flag, path;
};

/// `Invocation::check_outputs`, and besides whether the further results `writes` can be written, and that no
/// result is the model, a file of `reads`, or another result. Throws Error(Input) naming both flags.
void check_overwriting(const Invocation& call, const std::vector<NamedFile>& reads,
                       const std::vector<NamedFile>& writes = {}, bool plots = true);

/// Where checkpoints lie if --checkpoints does not say: "OUTPUT.checkpoints".
std::string default_checkpoints(const std::string& output);

/// Before the work: says that a run which stopped is about to be replaced, where `folder` holds one and
/// --resume is not given. Throws Error(Input) naming the flag if a file of `reads` is a checkpoint that a
/// training in `folder` writes over.
void check_checkpoints(Invocation& call, const std::filesystem::path& folder,
                       const std::vector<NamedFile>& reads = {});

/// Removes the checkpoints of a training or a reconstruction from `folder`, and the folder if nothing else is
/// in it. What cannot be removed stays and does no harm.
void remove_checkpoints(const std::filesystem::path& folder);

}  // namespace lithe::cli
