// Pictures in folders: one folder a class, labels by file, or none; and pairs of pictures.
#include <algorithm>
#include <map>
#include <set>
#include <sstream>
#include <unordered_map>

#include "lithe/base/file.h"
#include "lithe/data/bicubic.h"
#include "lithe/data/image.h"
#include "lithe/data/sources.h"

namespace lithe {
namespace fs = std::filesystem;

namespace {

constexpr std::size_t kMaxFiles = 20'000'000;

struct Item {
  fs::path path;
  std::int64_t label = -1;
};

class Folder : public Dataset {
 public:
  Folder(std::vector<Item> items, std::vector<std::string> classes, const Preprocess& preprocess)
      : items_(std::move(items)), classes_(std::move(classes)), preprocess_(preprocess) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(items_.size()); }
  Sample get(std::int64_t index) const override {
    const Item& item = items_.at(static_cast<std::size_t>(index));
    Sample sample;
    sample.name = item.path.string();
    sample.label = item.label;
    sample.inputs[""] = to_tensor(read_image(item.path, Channels::Colour), preprocess_, sample.name);
    return sample;
  }
  bool labelled() const override { return items_.front().label >= 0; }
  std::vector<std::string> class_names() const override { return classes_; }

 private:
  std::vector<Item> items_;
  std::vector<std::string> classes_;
  Preprocess preprocess_;
};

struct Pair {
  fs::path input, target;  // without an input it is made from the target
};

/// An 8-bit picture as float32 [c, h, w] of 0..255, and back.
at::Tensor planes_of(const cv::Mat& picture) {
  return to_tensor(picture, Preprocess{.scale = 1}, "");
}
cv::Mat picture_of(const at::Tensor& planes) {
  const at::Tensor bytes = planes.permute({1, 2, 0}).to(at::kByte).contiguous();
  return cv::Mat(static_cast<int>(planes.size(1)), static_cast<int>(planes.size(2)),
                 planes.size(0) == 3 ? CV_8UC3 : CV_8UC1, bytes.data_ptr())
      .clone();
}

/// The upper left part whose sides are multiples of the scale, as is usual.
cv::Mat whole_multiple(const cv::Mat& picture, std::int64_t scale, const std::string& name) {
  const auto step = static_cast<int>(scale);
  const int height = picture.rows / step * step, width = picture.cols / step * step;
  if (height == 0 || width == 0)
    fail("{}: {}x{} pixels are too few for scale {}", name, picture.rows, picture.cols, scale);
  return picture(cv::Rect(0, 0, width, height));
}

class Pairs : public Dataset {
 public:
  /// `scale`: of inputs made from the targets; 0: inputs are files.
  Pairs(std::vector<Pair> pairs, std::int64_t scale, const Preprocess& preprocess)
      : pairs_(std::move(pairs)), scale_(scale), preprocess_(preprocess) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(pairs_.size()); }
  Sample get(std::int64_t index) const override {
    const Pair& pair = pairs_.at(static_cast<std::size_t>(index));
    Sample sample;
    sample.name = (scale_ > 0 ? pair.target : pair.input).string();
    cv::Mat high = read_image(pair.target, Channels::Colour), low;
    if (scale_ > 0) {
      high = whole_multiple(high, scale_, sample.name);
      low = picture_of(resize_picture(planes_of(high), high.rows / scale_, high.cols / scale_));
    } else {
      low = read_image(pair.input, Channels::Colour);
      high = fitting(pair, low, high);
    }
    sample.inputs[""] = to_tensor(low, preprocess_, sample.name);
    sample.target = to_tensor(high, preprocess_, pair.target.string());
    return sample;
  }
  bool has_targets() const override { return true; }

 private:
  /// The target, less what does not divide by the scale; its sides must be the same multiple of the input's.
  static cv::Mat fitting(const Pair& pair, const cv::Mat& low, const cv::Mat& high) {
    const int scale = high.rows / low.rows;
    const bool fits = scale >= 1 && high.cols / low.cols == scale && high.rows < (low.rows + 1) * scale &&
                      high.cols < (low.cols + 1) * scale;
    if (!fits)
      fail("{} of {}x{} and {} of {}x{} are no pair: both sides must be the same whole multiple",
           pair.target.string(), high.rows, high.cols, pair.input.string(), low.rows, low.cols);
    return high(cv::Rect(0, 0, low.cols * scale, low.rows * scale));
  }

  std::vector<Pair> pairs_;
  std::int64_t scale_;
  Preprocess preprocess_;
};

bool is_image_file(const fs::path& path) {
  return is_image_name(path);
}

std::vector<fs::path> list_folders(const fs::path& folder) {
  std::vector<fs::path> out;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    const std::string name = it->path().filename().string();
    if (!name.starts_with('.') && it->is_directory(ignored)) out.push_back(it->path());
  }
  if (error) fail("{}: cannot list the folder: {}", folder.string(), error.message());
  std::sort(out.begin(), out.end());
  return out;
}

std::optional<std::int64_t> as_number(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || code != std::errc() || end != text.data() + text.size() || value < 0 ||
      value > 1'000'000)
    return std::nullopt;
  return value;
}

/// All pictures in a folder and below it, by path.
void collect(const fs::path& folder, int depth, std::vector<fs::path>& out) {
  if (depth > 16) fail("{}: folders are nested too deeply", folder.string());
  const auto files = list_files(folder, is_image_file);
  out.insert(out.end(), files.begin(), files.end());
  if (out.size() > kMaxFiles) fail("{}: more than {} pictures", folder.string(), kMaxFiles);
  for (const fs::path& inner : list_folders(folder)) collect(inner, depth + 1, out);
}

std::vector<std::string> read_lines(const fs::path& path) {
  std::istringstream text(read_text_file(path, std::uint64_t{1} << 30));
  std::vector<std::string> lines;
  for (std::string line; std::getline(text, line);) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (!line.empty() && line[0] != '#') lines.push_back(line);
  }
  return lines;
}

/// "file<tab>label", or with a comma or a space instead of the tab.
std::pair<std::string, std::string> split_line(const std::string& line) {
  std::size_t at = line.find('\t');
  if (at == std::string::npos) at = line.find_last_of(", ");
  if (at == std::string::npos) return {line, ""};
  return {line.substr(0, at), line.substr(at + 1, line.find('\t', at + 1) - at - 1)};
}

/// A labels file speaks of files if its first line names one that is there; labels.tsv of other tools may
/// not.
bool lists_files(const fs::path& labels, const fs::path& folder) {
  std::error_code ignored;
  if (!fs::is_regular_file(labels, ignored)) return false;
  const auto lines = read_lines(labels);
  return !lines.empty() && fs::is_regular_file(folder / split_line(lines[0]).first, ignored);
}

/// Numbers for the labels of a file: as they stand if all are numbers, else by the sorted names.
std::vector<std::string> number_classes(const std::vector<std::string>& labels, std::vector<Item>& items) {
  if (std::all_of(labels.begin(), labels.end(),
                  [](const auto& label) { return as_number(label).has_value(); })) {
    for (std::size_t i = 0; i < items.size(); ++i) items[i].label = *as_number(labels[i]);
    return {};
  }
  std::map<std::string, std::int64_t> classes;
  for (const std::string& label : labels) classes[label] = 0;
  std::vector<std::string> names;
  for (auto& [name, number] : classes) {
    number = static_cast<std::int64_t>(names.size());
    names.push_back(name);
  }
  for (std::size_t i = 0; i < items.size(); ++i) items[i].label = classes.at(labels[i]);
  return names;
}

DatasetPtr from_labels_file(const fs::path& folder, const fs::path& file, const Preprocess& preprocess) {
  std::vector<Item> items;
  std::vector<std::string> labels;
  for (const std::string& line : read_lines(file)) {
    const auto [name, label] = split_line(line);
    std::error_code ignored;
    if (label.empty()) fail("{}: the line '{}' has no label; write file<tab>label", file.string(), line);
    if (!fs::is_regular_file(folder / name, ignored))
      fail("{}: names '{}', which is not in {}", file.string(), name, folder.string());
    items.push_back({folder / name, -1});
    labels.push_back(label);
  }
  if (items.empty()) fail("{}: lists no files", file.string());
  auto names = number_classes(labels, items);
  return std::make_shared<Folder>(std::move(items), std::move(names), preprocess);
}

DatasetPtr from_prefixes(const fs::path& folder, const std::vector<fs::path>& files,
                         const Preprocess& preprocess) {
  std::vector<Item> items;
  for (const fs::path& file : files) {
    const std::string name = file.filename().string();
    const auto label = as_number(std::string_view(name).substr(0, name.find_first_not_of("0123456789")));
    if (!label) fail("{}: labels=prefix, but the name does not begin with a number", file.string());
    items.push_back({file, *label});
  }
  return std::make_shared<Folder>(std::move(items), std::vector<std::string>{}, preprocess);
}

/// The order of the classes: classes.txt, else numbers if all names are numbers, else by name.
DatasetPtr from_class_folders(const fs::path& folder, const std::vector<fs::path>& folders,
                              const Preprocess& preprocess) {
  std::vector<std::string> names;
  for (const fs::path& inner : folders) names.push_back(inner.filename().string());
  std::map<std::string, std::int64_t> label;
  std::error_code ignored;
  if (const fs::path file = folder / "classes.txt"; fs::is_regular_file(file, ignored)) {
    const auto lines = read_lines(file);
    for (std::size_t i = 0; i < lines.size(); ++i) label[lines[i]] = static_cast<std::int64_t>(i);
    for (const std::string& name : names)
      if (!label.contains(name)) fail("{}: does not list the folder '{}'", file.string(), name);
    names = lines;
  } else if (std::all_of(names.begin(), names.end(),
                         [](const auto& n) { return as_number(n).has_value(); })) {
    for (const std::string& name : names) label[name] = *as_number(name);
    names.clear();
  } else {
    for (std::size_t i = 0; i < names.size(); ++i) label[names[i]] = static_cast<std::int64_t>(i);
  }
  std::vector<Item> items;
  for (const fs::path& inner : folders) {
    std::vector<fs::path> files;
    collect(inner, 0, files);
    for (fs::path& file : files) items.push_back({std::move(file), label.at(inner.filename().string())});
  }
  if (items.empty())
    fail("{}: holds no pictures; expected image files or one sub-folder of them for each class",
         folder.string());
  return std::make_shared<Folder>(std::move(items), std::move(names), preprocess);
}

/// "img_LR" -> "img" where the stem ends with the mark.
std::optional<std::string> without_mark(const fs::path& path, std::string_view mark) {
  std::string stem = path.stem().string();
  if (!stem.ends_with(mark)) return std::nullopt;
  stem.resize(stem.size() - mark.size());
  return stem;
}

bool has_marks(const fs::path& folder, std::string_view mark) {
  const auto files = list_files(folder, is_image_file);
  return std::any_of(files.begin(), files.end(),
                     [&](const fs::path& file) { return without_mark(file, mark).has_value(); });
}

bool is_low_resolution(const fs::path& path) {
  return is_image_name(path) && without_mark(path, "_LR").has_value();
}

}  // namespace

std::vector<fs::path> list_files(const fs::path& folder, bool (*keep)(const fs::path&)) {
  std::vector<fs::path> out;
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    std::error_code ignored;
    const std::string name = it->path().filename().string();
    if (!name.starts_with('.') && keep(it->path()) && it->is_regular_file(ignored)) out.push_back(it->path());
    if (out.size() > kMaxFiles) fail("{}: more than {} files", folder.string(), kMaxFiles);
  }
  if (error) fail("{}: cannot list the folder: {}", folder.string(), error.message());
  std::sort(out.begin(), out.end());
  return out;
}

bool has_pairs(const fs::path& folder) {
  return !list_files(folder, is_low_resolution).empty();
}

DatasetPtr open_folder(SpecOptions& options, const Preprocess& preprocess) {
  fs::path folder = options.path();
  const auto labels = options.text("labels");
  if (const auto split = options.text("split")) {
    folder /= *split;
    std::error_code ignored;
    if (!fs::is_directory(folder, ignored)) fail("{}: no such folder (split={})", folder.string(), *split);
  }
  std::error_code ignored;
  if (!fs::is_directory(folder, ignored))
    return std::make_shared<Folder>(std::vector<Item>{{folder, -1}}, std::vector<std::string>{}, preprocess);
  const auto files = list_files(folder, is_image_file);
  if (labels == "prefix" && !files.empty()) return from_prefixes(folder, files, preprocess);
  if (labels && labels != "none") {
    const fs::path file =
        fs::is_regular_file(folder / *labels, ignored) ? folder / *labels : fs::path(*labels);
    return from_labels_file(folder, file, preprocess);
  }
  if (!labels)
    for (const char* name : {"labels.tsv", "labels.txt"})
      if (lists_files(folder / name, folder)) return from_labels_file(folder, folder / name, preprocess);
  if (files.empty()) return from_class_folders(folder, list_folders(folder), preprocess);
  std::vector<Item> items;
  for (const fs::path& file : files) items.push_back({file, -1});
  return std::make_shared<Folder>(std::move(items), std::vector<std::string>{}, preprocess);
}

DatasetPtr open_pairs(SpecOptions& options, const Preprocess& preprocess) {
  const fs::path folder = options.path();
  const auto target = options.text("target");
  const auto scale = options.number("scale");
  if (preprocess.resize || preprocess.resize_shorter || preprocess.crop)
    fail("{}: pairs of pictures are compared at their own size; leave out --resize and --crop",
         folder.string());
  if (scale && (*scale < 1 || *scale > 64)) fail("{}: scale={}: give 1 to 64", folder.string(), *scale);
  if (scale && target)
    fail("{}: with scale= the inputs are made from the pictures, with target= they are files; give one",
         folder.string());
  std::map<std::string, fs::path> targets;
  const bool marked = !target && has_marks(folder, "_HR");
  for (const fs::path& file : list_files(target ? fs::path(*target) : folder, is_image_file)) {
    const auto stem = without_mark(file, "_HR");
    if (stem || target || (scale && !marked)) targets[stem.value_or(file.stem().string())] = file;
  }
  std::vector<Pair> pairs;
  if (scale) {
    for (const auto& [stem, file] : targets) pairs.push_back({{}, file});
    if (pairs.empty()) fail("{}: holds no pictures to make pairs of", folder.string());
    return std::make_shared<Pairs>(std::move(pairs), *scale, preprocess);
  }
  std::set<std::string> used;
  for (const fs::path& file : list_files(folder, is_image_file)) {
    const auto stem = without_mark(file, "_LR");
    if (!stem && !target) continue;
    const auto found = targets.find(stem.value_or(file.stem().string()));
    if (found == targets.end())
      fail("{}: has no counterpart {}", file.string(), target ? "in " + *target : "whose name ends with _HR");
    used.insert(found->first);
    pairs.push_back({file, found->second});
  }
  if (pairs.empty())
    fail(
        "{}: holds no pairs; expected files such as a_LR.png and a_HR.png, or give target=FOLDER, or "
        "scale=2 to make the inputs from the pictures",
        folder.string());
  for (const auto& [stem, file] : targets)
    if (!used.contains(stem))
      fail("{}: has no counterpart {}; add it, or take the picture away", file.string(),
           target ? "in " + folder.string() : "whose name ends with _LR");
  return std::make_shared<Pairs>(std::move(pairs), 0, preprocess);
}

}  // namespace lithe
