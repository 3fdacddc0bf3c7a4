// ONNX files that programs wrote, not tests: the bundled ones, and those of a folder of development data.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <vector>

namespace lithe::test {

inline const std::filesystem::path kBundledModels = LITHE_EXAMPLES "/models";

/// The bundled models, then those in `$LITHE_DATA/models` where that is set; by name.
inline std::vector<std::filesystem::path> real_models() {
  std::vector<std::filesystem::path> files;
  const auto add = [&](const std::filesystem::path& folder) {
    const auto old = static_cast<std::ptrdiff_t>(files.size());
    for (const auto& entry : std::filesystem::directory_iterator(folder))
      if (entry.path().extension() == ".onnx") files.push_back(entry.path());
    std::sort(files.begin() + old, files.end());
  };
  add(kBundledModels);
  if (const char* folder = std::getenv("LITHE_DATA")) add(std::filesystem::path(folder) / "models");
  return files;
}

}  // namespace lithe::test
