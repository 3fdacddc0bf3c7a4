#include "lithe/video/io/spool.h"

#include <fmt/format.h>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/json.h"
#include "lithe/video/io/picture_file.h"

namespace lithe {
namespace fs = std::filesystem;
namespace {

constexpr const char* kManifest = "manifest.json";

/// The first entry that differs, as "KEY is A there and B here".
std::string difference(const nlohmann::json& there, const nlohmann::json& here) {
  if (!there.is_object() || !here.is_object()) return "the manifest differs";
  const auto text = [](const nlohmann::json& object, const std::string& key) {
    return object.contains(key) ? object[key].dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)
                                : std::string("missing");
  };
  nlohmann::json keys = there;
  keys.update(here);
  for (const auto& [key, ignored] : keys.items())
    if (text(there, key) != text(here, key))
      return fmt::format("{} is {} there and {} here", key, text(there, key), text(here, key));
  return "the manifest differs";
}

}  // namespace

Spool::Spool(const fs::path& folder, const nlohmann::json& manifest) : folder_(folder) {
  const std::string name = folder.string();
  const fs::path manifest_file = folder / kManifest;
  std::error_code code;
  if (!fs::exists(folder, code)) {
    if (!fs::create_directory(folder, code))
      fail("{}: cannot create the folder: {}; create the one above it first", name, code.message());
  } else if (!fs::is_directory(folder, code)) {
    fail("{}: is not a folder; give another place for finished frames", name);
  } else if (fs::exists(manifest_file, code)) {
    const nlohmann::json there = parse_json(read_text_file(manifest_file, 1u << 24), manifest_file.string());
    if (there != manifest)
      fail("{}: holds finished frames of other work: {}; remove the folder, or give another", name,
           difference(there, manifest));
    resumed_ = true;
    return;
  } else if (!fs::is_empty(folder, code) || code) {
    fail("{}: the folder holds something else; give an empty or a new one for finished frames", name);
  }
  write_file(manifest_file, manifest.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

fs::path Spool::file_of(std::int64_t number) const {
  return folder_ / fmt::format("{:09}.png", number);
}

bool Spool::has(std::int64_t number) const {
  std::error_code ignored;
  return fs::is_regular_file(file_of(number), ignored);
}

std::int64_t Spool::leading() const {
  std::int64_t count = 0;
  while (has(count)) ++count;
  return count;
}

void Spool::write(std::int64_t number, const Frame& frame) {
  const std::vector<unsigned char> bytes = encode_picture(frame, ".png", 16);
  AtomicFile file(file_of(number));
  file.write(bytes.data(), bytes.size());
  file.commit();
}

Frame Spool::read(std::int64_t number) const {
  PictureFile picture = read_picture(file_of(number));
  if (picture.bits != 16)
    fail("{}: is not a frame that was finished here; remove it", file_of(number).string());
  return std::move(picture.frame);
}

void Spool::remove() {
  std::error_code ignored;
  fs::remove(folder_ / kManifest, ignored);
  std::vector<fs::path> frames;
  for (const fs::directory_entry& entry : fs::directory_iterator(folder_, ignored)) {
    const std::string name = entry.path().filename().string();
    if (name.size() >= 13 && name.ends_with(".png") &&
        name.find_first_not_of("0123456789") == name.size() - 4)
      frames.push_back(entry.path());
  }
  for (const fs::path& frame : frames) fs::remove(frame, ignored);
  fs::remove(folder_, ignored);
}

}  // namespace lithe
