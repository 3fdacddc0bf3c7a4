#include "lithe/base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "lithe/base/error.h"

namespace lithe {
namespace fs = std::filesystem;

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a pipe must not block
  if (descriptor < 0) fail("{}: cannot open: {}", path.string(), std::strerror(errno));
  struct stat info {};
  if (::fstat(descriptor, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(descriptor);
    fail("{}: not a regular file", path.string());
  }
  size_ = static_cast<std::size_t>(info.st_size);
  if (size_ > 0) {
    void* mapped = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, descriptor, 0);
    if (mapped == MAP_FAILED) {
      ::close(descriptor);
      fail_system("{}: cannot map into memory: {}", path.string(), std::strerror(errno));
    }
    data_ = static_cast<const std::byte*>(mapped);
  }
  ::close(descriptor);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(const_cast<std::byte*>(data_), size_);
}

std::string read_text_file(const fs::path& path, std::uint64_t max_bytes) {
  const MappedFile file(path);
  if (file.bytes().size() > max_bytes)
    fail("{}: {} bytes, more than the {} that are read here", path.string(), file.bytes().size(), max_bytes);
  return std::string(file.text());
}

namespace {

/// Permissions and paths are for the user to mend; a full disk, or one that fails, is not.
[[noreturn]] void refuse_to_write(const fs::path& path, int error) {
  const bool mendable = error == EACCES || error == EPERM || error == EROFS || error == ENOENT ||
                        error == ENOTDIR || error == EEXIST || error == EISDIR || error == ENAMETOOLONG ||
                        error == ELOOP;
  const char* reason = std::strerror(error);
  if (mendable)
    fail("{}: cannot write: {}; give another place, or the right to write there", path.string(), reason);
  fail_system("{}: cannot write: {}", path.string(), reason);
}

}  // namespace

AtomicFile::AtomicFile(const fs::path& wanted) : path_(wanted) {
  std::error_code unresolved;
  if (fs::is_symlink(wanted, unresolved)) {
    const fs::path target = fs::weakly_canonical(wanted, unresolved);
    if (!unresolved) path_ = target;
  }
  const fs::path& path = path_;
  fs::path folder = path.parent_path();
  if (folder.empty()) folder = ".";
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored))
    fail("{}: the folder {} does not exist; create it first", path.string(), folder.string());
  if (fs::is_directory(path, ignored)) fail("{}: is a folder, expected a file name", path.string());
  if (fs::exists(path, ignored) && !fs::is_regular_file(path, ignored))
    fail("{}: is not a regular file and would be replaced; give another name", path.string());
  std::string pattern = (folder / ("." + path.filename().string() + ".XXXXXX")).string();
  descriptor_ = ::mkostemp(pattern.data(), O_CLOEXEC);
  if (descriptor_ < 0) refuse_to_write(path, errno);
  temporary_ = pattern;
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, std::size_t size) {
  const char* cursor = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::write(descriptor_, cursor, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) refuse_to_write(path_, errno);
    cursor += written;
    size -= static_cast<std::size_t>(written);
  }
}

void AtomicFile::commit() {
  const mode_t mask = ::umask(0);
  ::umask(mask);
  ::fchmod(descriptor_, 0666 & ~mask);
  if (::fsync(descriptor_) != 0 || ::close(descriptor_) != 0) {
    descriptor_ = -1;
    refuse_to_write(path_, errno);
  }
  descriptor_ = -1;
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) refuse_to_write(path_, errno);
  temporary_.clear();
}

void write_file(const fs::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text);
  file.commit();
}

void require_writable(const fs::path& path) {
  const AtomicFile attempt(path);
}

void require_writable_folder(const fs::path& folder) {
  std::error_code refused, ignored;
  std::vector<fs::path> fresh;  // the deepest first
  for (fs::path place = fs::absolute(folder, ignored); !place.empty() && !fs::exists(place, ignored);
       place = place.parent_path())
    fresh.push_back(place);
  fs::create_directories(folder, refused);
  const int denied = refused || ::access(folder.c_str(), W_OK) == 0 ? 0 : errno;
  for (const fs::path& place : fresh) fs::remove(place, ignored);
  if (refused) refuse_to_write(folder, refused.value());
  if (denied) refuse_to_write(folder, denied);
}

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (fs::temp_directory_path() / "lithe-XXXXXX").string();
  if (!::mkdtemp(pattern.data()))
    fail_system("{}: cannot create a temporary folder: {}", pattern, std::strerror(errno));
  path_ = pattern;
}

TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

}  // namespace lithe
