// Reading whole files with a bound, and writing files that appear whole or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>

namespace lithe {

/// A read-only view of a file, memory-mapped; empty files give an empty view.
/// Throws Error(Input) if the file cannot be opened or is not a regular file.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  std::string_view text() const { return {reinterpret_cast<const char*>(data_), size_}; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// The whole file as a string; throws Error(Input) if it cannot be read or is larger than max_bytes.
std::string read_text_file(const std::filesystem::path& path, std::uint64_t max_bytes = 1u << 30);

/// Writes to a temporary file beside `path`; `commit` flushes it to disk and renames it onto `path`.
/// Without `commit` the destructor removes it, and whatever stood at `path` stays as it was.
/// A symbolic link is written through. Throws Error(Input) if the folder does not exist or something other
/// than a regular file stands at `path`, Error(System) if the disk refuses.
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t size);
  void write(std::string_view text) { write(text.data(), text.size()); }
  void commit();
  /// Where the bytes go until `commit`, for libraries that insist on opening a file themselves.
  const std::filesystem::path& temporary() const { return temporary_; }

 private:
  std::filesystem::path path_, temporary_;
  int descriptor_ = -1;
};

/// Writes `text` to `path` through AtomicFile.
void write_file(const std::filesystem::path& path, std::string_view text);

/// Throws what writing to `path` would throw: what would stop a result is better known before the work than
/// after it. Leaves nothing behind.
void require_writable(const std::filesystem::path& path);

/// Throws Error(Input) naming `folder` if it is not there and cannot be created, or cannot be written into.
/// Leaves nothing behind.
void require_writable_folder(const std::filesystem::path& folder);

/// A fresh folder under the system's temporary folder, removed with its contents on destruction.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace lithe
