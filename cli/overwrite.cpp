#include "cli/overwrite.h"

#include <system_error>

#include "lithe/base/error.h"
#include "lithe/base/file.h"

namespace lithe::cli {
namespace {

namespace fs = std::filesystem;

/// The path in "kind:path,key=value" and "file#part", or the text itself if there is such a file.
std::string path_of(const std::string& specification) {
  if (std::error_code missing; specification.empty() || fs::exists(specification, missing))
    return specification;
  const auto colon = specification.find(':');
  const std::string path = colon == std::string::npos ? specification : specification.substr(colon + 1);
  return path.substr(0, path.find_first_of(",#"));
}

/// What a training writes into its folder, without ".safetensors".
constexpr const char* kTrainingCheckpoints[] = {"last", "previous", "next", "best"};

fs::path checkpoint_in(const fs::path& folder, const char* name) {
  return folder / (std::string(name) + ".safetensors");
}

bool same_file(const std::string& a, const std::string& b) {
  if (a.empty() || b.empty()) return false;
  std::error_code error;
  if (fs::equivalent(a, b, error)) return true;
  const fs::path first = fs::weakly_canonical(a, error), second = fs::weakly_canonical(b, error);
  return !first.empty() && first == second;
}

}  // namespace

void check_overwriting(const Invocation& call, const std::vector<NamedFile>& reads,
                       const std::vector<NamedFile>& writes, bool plots) {
  call.check_outputs(plots);
  std::vector<NamedFile> results{{"-o", call.options.output}};
  for (const NamedFile& result : writes) {
    if (same_file(result.path, call.options.model))
      fail("{} {} is the model itself, which would be lost; give another file", result.flag, result.path);
    if (!result.path.empty()) require_writable(result.path);
    results.push_back(result);
  }
  for (std::size_t i = 0; i < results.size(); ++i) {
    const auto& [flag, path] = results[i];
    for (const NamedFile& read : reads)
      if (same_file(path, path_of(read.path)))
        fail("{} {} is the file of {}, which would be lost; give another file", flag, path, read.flag);
    for (std::size_t other = 0; other < i; ++other)
      if (same_file(path, results[other].path))
        fail("{} and {} name one file, {}; give another file", results[other].flag, flag, path);
  }
}

std::string default_checkpoints(const std::string& output) {
  return output + ".checkpoints";
}

void check_checkpoints(Invocation& call, const fs::path& folder, const std::vector<NamedFile>& reads) {
  for (const char* name : kTrainingCheckpoints)
    for (const NamedFile& read : reads)
      if (same_file(checkpoint_in(folder, name).string(), path_of(read.path)))
        fail(
            "{} {} is a checkpoint that this training writes over; copy it elsewhere, or give another -o or "
            "--checkpoints",
            read.flag, read.path);
  std::error_code missing;
  if (const fs::path last = checkpoint_in(folder, "last"); !call.options.resume && fs::exists(last, missing))
    call.warn(fmt::format("{} is of an earlier run, which is replaced; --resume would go on from it",
                          last.string()));
}

void remove_checkpoints(const fs::path& folder) {
  std::error_code ignored;
  for (const char* name : kTrainingCheckpoints) fs::remove(checkpoint_in(folder, name), ignored);
  fs::remove(checkpoint_in(folder, "reconstruction"), ignored);
  if (fs::is_empty(folder, ignored) && !ignored) fs::remove(folder, ignored);
}

}  // namespace lithe::cli
