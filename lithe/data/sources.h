// One function a kind of data; see `open_dataset`, which calls them.
#pragma once

#include <charconv>
#include <filesystem>
#include <optional>
#include <set>
#include <string>

#include "lithe/base/error.h"
#include "lithe/data/dataset.h"

namespace lithe {

/// The options of a spec, each to be taken by whoever understands it; `finish` refuses those that nobody
/// took.
class SpecOptions {
 public:
  explicit SpecOptions(const DataSpec& spec) : spec_(spec) {}

  std::optional<std::string> text(std::string_view key) {
    for (const auto& [name, value] : spec_.options)
      if (name == key) {
        taken_.insert(name);
        return value;
      }
    return std::nullopt;
  }
  std::optional<std::int64_t> number(std::string_view key) {
    const auto value = text(key);
    if (!value) return std::nullopt;
    std::int64_t out = 0;
    const auto [end, code] = std::from_chars(value->data(), value->data() + value->size(), out);
    if (code != std::errc() || end != value->data() + value->size())
      fail("{}: '{}={}' wants a whole number", spec_.path, key, *value);
    return out;
  }
  void finish() const {
    for (const auto& [name, value] : spec_.options)
      if (!taken_.contains(name))
        fail("{}: data of kind {} take no option '{}'; see docs/data.md", spec_.path, spec_.kind, name);
  }
  const std::string& path() const { return spec_.path; }

 private:
  const DataSpec& spec_;
  std::set<std::string> taken_;
};

DatasetPtr open_folder(SpecOptions& options, const Preprocess& preprocess);
DatasetPtr open_pairs(SpecOptions& options, const Preprocess& preprocess);
DatasetPtr open_sheet(SpecOptions& options, const Preprocess& preprocess);
DatasetPtr open_cifar(SpecOptions& options, const Preprocess& preprocess, bool hundred_classes);
DatasetPtr open_idx(SpecOptions& options, const Preprocess& preprocess);
DatasetPtr open_array(SpecOptions& options);

/// Files directly in the folder for which `keep` holds, by name. Throws Error(Input) if it cannot be listed.
std::vector<std::filesystem::path> list_files(const std::filesystem::path& folder,
                                              bool (*keep)(const std::filesystem::path&));

/// Whether a folder holds files such as a_LR.png beside a_HR.png.
bool has_pairs(const std::filesystem::path& folder);
/// Whether the name is that of an IDX file of images: "train-images-idx3-ubyte", ".gz" or not.
bool is_idx_images(const std::filesystem::path& path);

}  // namespace lithe
