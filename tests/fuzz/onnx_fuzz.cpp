// Whatever the bytes are, reading gives a graph or an Error; a graph that was read can be written. External
// data are never read from outside the model's folder.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/graph/onnx.h"

namespace {

constexpr std::string_view kSecret = "not for this model";

/// models/inside.bin beside models/link.bin, which leads to outside.bin.
const std::filesystem::path& model_folder() {
  static const lithe::TemporaryFolder root;
  static const std::filesystem::path folder = [] {
    std::filesystem::path inner = root.path() / "models";
    std::filesystem::create_directories(inner / "deep");
    lithe::write_file(inner / "inside.bin", std::string(64, 'i'));
    lithe::write_file(root.path() / "outside.bin", std::string(kSecret) + std::string(64, 'o'));
    std::filesystem::create_symlink(root.path() / "outside.bin", inner / "link.bin");
    return inner;
  }();
  return folder;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  try {
    const std::string written = lithe::serialize_onnx(
        lithe::parse_onnx(std::as_bytes(std::span(data, size)), "fuzz", model_folder()));
    if (written.find(kSecret) != std::string::npos && input.find(kSecret) == std::string_view::npos)
      std::abort();
  } catch (const lithe::Error&) {
  }
  return 0;
}
