// Many small pictures in one file: sheets, CIFAR, IDX; and NumPy arrays.
#include <algorithm>
#include <array>
#include <cstring>
#include <opencv2/core.hpp>

#include "lithe/base/file.h"
#include "lithe/data/idx_file.h"
#include "lithe/data/image.h"
#include "lithe/data/npz.h"
#include "lithe/data/sources.h"

namespace lithe {
namespace fs = std::filesystem;

namespace {

// --- sheets ----------------------------------------------------------------------------------------------

class Sheet : public Dataset {
 public:
  Sheet(cv::Mat picture, PixelSize cell, std::vector<std::int64_t> rows, std::vector<std::int64_t> columns,
        std::int64_t rows_a_class, const std::string& name, const Preprocess& preprocess)
      : picture_(std::move(picture)),
        cell_(cell),
        rows_(std::move(rows)),
        columns_(std::move(columns)),
        rows_a_class_(rows_a_class),
        name_(name),
        preprocess_(preprocess) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(rows_.size() * columns_.size()); }
  Sample get(std::int64_t index) const override {
    const auto columns = static_cast<std::int64_t>(columns_.size());
    const std::int64_t row = rows_.at(static_cast<std::size_t>(index / columns));
    const std::int64_t column = columns_[static_cast<std::size_t>(index % columns)];
    Sample sample;
    sample.name = name_ + ": row " + std::to_string(row) + ", column " + std::to_string(column);
    if (rows_a_class_ > 0) sample.label = row / rows_a_class_;
    const cv::Rect where(static_cast<int>(column * cell_.width), static_cast<int>(row * cell_.height),
                         static_cast<int>(cell_.width), static_cast<int>(cell_.height));
    sample.inputs[""] = to_tensor(picture_(where), preprocess_, sample.name);
    return sample;
  }
  bool labelled() const override { return rows_a_class_ > 0; }

 private:
  cv::Mat picture_;
  PixelSize cell_;
  std::vector<std::int64_t> rows_, columns_;
  std::int64_t rows_a_class_;
  std::string name_;
  Preprocess preprocess_;
};

PixelSize parse_cell(const std::string& text, const std::string& path) {
  const std::size_t cross = text.find('x');
  PixelSize out;
  const auto read = [&](std::string_view part) {
    std::int64_t value = 0;
    const auto [end, code] = std::from_chars(part.data(), part.data() + part.size(), value);
    if (code != std::errc() || end != part.data() + part.size() || value < 1 || value > 65535)
      fail("{}: 'cell={}' is not a size such as 20x20 (height x width)", path, text);
    return value;
  };
  out.height = read(std::string_view(text).substr(0, cross));
  out.width = cross == std::string::npos ? out.height : read(std::string_view(text).substr(cross + 1));
  return out;
}

// --- CIFAR -----------------------------------------------------------------------------------------------

constexpr std::int64_t kCifarSide = 32;
constexpr std::int64_t kCifarPixels = 3 * kCifarSide * kCifarSide;

/// Records of one label byte (CIFAR-100: coarse, then fine), then a red, a green and a blue plane.
class Cifar : public Dataset {
 public:
  Cifar(const std::vector<fs::path>& paths, std::int64_t label_bytes, const Preprocess& preprocess)
      : label_bytes_(label_bytes), preprocess_(preprocess) {
    const std::int64_t record = label_bytes_ + kCifarPixels;
    const int classes = label_bytes_ == 1 ? 10 : 100;
    for (const fs::path& path : paths) {
      auto file = std::make_unique<MappedFile>(path);
      const auto bytes = static_cast<std::int64_t>(file->bytes().size());
      if (bytes == 0 || bytes % record != 0)
        fail(
            "{}: {} bytes are not a whole number of CIFAR-{} records of {} bytes; the file is cut short or "
            "of "
            "another kind",
            path.string(), bytes, classes, record);
      size_ += bytes / record;
      for (std::int64_t i = 0; i < bytes / record; ++i)
        if (static_cast<int>(file->bytes()[static_cast<std::size_t>(i * record + label_bytes_ - 1)]) >=
            classes)
          fail("{}: record {} has a label above {}; the file is not CIFAR-{}", path.string(), i, classes - 1,
               classes);
      files_.push_back(std::move(file));
      ends_.push_back(size_);
    }
  }
  std::int64_t size() const override { return size_; }
  Sample get(std::int64_t index) const override {
    const auto file =
        static_cast<std::size_t>(std::upper_bound(ends_.begin(), ends_.end(), index) - ends_.begin());
    const std::int64_t local = index - (file == 0 ? 0 : ends_[file - 1]);
    const std::int64_t record = label_bytes_ + kCifarPixels;
    const std::byte* bytes = files_.at(file)->bytes().data() + local * record;
    Sample sample;
    sample.name = files_[file]->path().string() + ": record " + std::to_string(local);
    sample.label = static_cast<std::int64_t>(bytes[label_bytes_ - 1]);
    std::array<cv::Mat, 3> planes;
    for (int c = 0; c < 3; ++c)
      planes[static_cast<std::size_t>(c)] =
          cv::Mat(kCifarSide, kCifarSide, CV_8U,
                  const_cast<std::byte*>(bytes + label_bytes_ + c * kCifarSide * kCifarSide));
    cv::Mat picture;
    cv::merge(planes.data(), planes.size(), picture);
    sample.inputs[""] = to_tensor(picture, preprocess_, sample.name);
    return sample;
  }
  bool labelled() const override { return true; }

 private:
  std::int64_t label_bytes_;
  Preprocess preprocess_;
  std::vector<std::unique_ptr<MappedFile>> files_;
  std::vector<std::int64_t> ends_;  // samples up to and with each file
  std::int64_t size_ = 0;
};

// --- IDX -------------------------------------------------------------------------------------------------

class Idx : public Dataset {
 public:
  Idx(IdxFile images, std::vector<unsigned char> labels, const std::string& name,
      const Preprocess& preprocess)
      : images_(std::move(images)), labels_(std::move(labels)), name_(name), preprocess_(preprocess) {}
  std::int64_t size() const override { return images_.shape[0]; }
  Sample get(std::int64_t index) const override {
    if (index < 0 || index >= size()) fail("{}: there is no image {}", name_, index);
    const std::int64_t height = images_.shape[1], width = images_.shape[2];
    Sample sample;
    sample.name = name_ + ": image " + std::to_string(index);
    if (!labels_.empty()) sample.label = labels_[static_cast<std::size_t>(index)];
    const cv::Mat picture(static_cast<int>(height), static_cast<int>(width), CV_8U,
                          const_cast<unsigned char*>(images_.data.data() + index * height * width));
    sample.inputs[""] = to_tensor(picture, preprocess_, sample.name);
    return sample;
  }
  bool labelled() const override { return !labels_.empty(); }

 private:
  IdxFile images_;
  std::vector<unsigned char> labels_;
  std::string name_;
  Preprocess preprocess_;
};

bool is_bin_file(const fs::path& path) {
  return path.extension() == ".bin";
}

/// "train-images-idx3-ubyte.gz" -> "train-labels-idx1-ubyte.gz"
std::string labels_name(std::string name) {
  for (const auto& [from, to] : {std::pair{"images", "labels"}, std::pair{"idx3", "idx1"}})
    if (const std::size_t at = name.find(from); at != std::string::npos)
      name.replace(at, std::strlen(from), to);
  return name;
}

/// Keeps the files of a split: "train" also means data_batch, "test" also means t10k.
std::vector<fs::path> of_split(std::vector<fs::path> files, const std::string& split,
                               const fs::path& folder) {
  const std::string other = split == "train" ? "data_batch" : split == "test" ? "t10k" : split;
  std::erase_if(files, [&](const fs::path& path) {
    const std::string name = path.filename().string();
    return name.find(split) == std::string::npos && name.find(other) == std::string::npos;
  });
  if (files.empty()) fail("{}: no file of the split '{}'", folder.string(), split);
  return files;
}

}  // namespace

bool is_idx_images(const fs::path& path) {
  return path.filename().string().find("idx3-ubyte") != std::string::npos;
}

DatasetPtr open_sheet(SpecOptions& options, const Preprocess& preprocess) {
  const fs::path path = options.path();
  const auto cell_text = options.text("cell");
  if (!cell_text) fail("{}: a sheet needs the size of its cells, for example cell=20x20", path.string());
  const PixelSize cell = parse_cell(*cell_text, path.string());
  const auto given_classes = options.number("classes");
  const auto rows = options.text("rows"), columns = options.text("columns");
  cv::Mat picture = read_image(path, Channels::AsInFile);
  if (picture.rows % cell.height != 0 || picture.cols % cell.width != 0)
    fail("{}: {}x{} pixels do not divide into cells of {}x{}", path.string(), picture.rows, picture.cols,
         cell.height, cell.width);
  const std::int64_t all_rows = picture.rows / cell.height, all_columns = picture.cols / cell.width;
  // Ten digits, unless told otherwise.
  const std::int64_t classes = given_classes.value_or(all_rows % 10 == 0 ? 10 : 0);
  if (classes < 0 || (classes > 0 && all_rows % classes != 0))
    fail("{}: {} rows of cells do not divide into {} classes", path.string(), all_rows, classes);
  return std::make_shared<Sheet>(std::move(picture), cell, select_range(rows.value_or(":"), all_rows),
                                 select_range(columns.value_or(":"), all_columns),
                                 classes > 0 ? all_rows / classes : 0, path.string(), preprocess);
}

DatasetPtr open_cifar(SpecOptions& options, const Preprocess& preprocess, bool hundred_classes) {
  const fs::path path = options.path();
  const auto split = options.text("split");
  std::vector<fs::path> files{path};
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    files = list_files(path, is_bin_file);
    if (files.empty()) fail("{}: holds no .bin files of CIFAR", path.string());
    if (split) files = of_split(std::move(files), *split, path);
  } else if (split) {
    fail("{}: split= is for folders", path.string());
  }
  return std::make_shared<Cifar>(files, hundred_classes ? 2 : 1, preprocess);
}

DatasetPtr open_idx(SpecOptions& options, const Preprocess& preprocess) {
  fs::path path = options.path();
  const auto split = options.text("split"), labels = options.text("labels");
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    std::vector<fs::path> files = list_files(path, is_idx_images);
    if (split) files = of_split(std::move(files), *split, path);
    if (files.size() != 1)
      fail("{}: holds {} IDX files of images; name one, or choose with split=train or split=test",
           path.string(), files.size());
    path = files[0];
  } else if (split) {
    fail("{}: split= is for folders", path.string());
  }
  IdxFile images = read_idx(path, 3);
  const fs::path beside = path.parent_path() / labels_name(path.filename().string());
  fs::path label_path;
  if (labels && *labels != "none") label_path = *labels;
  if (!labels && beside != path && fs::is_regular_file(beside, ignored)) label_path = beside;
  std::vector<unsigned char> numbers;
  if (!label_path.empty()) {
    numbers = read_idx(label_path, 1).data;
    if (static_cast<std::int64_t>(numbers.size()) != images.shape[0])
      fail("{}: {} labels for {} images", label_path.string(), numbers.size(), images.shape[0]);
  }
  return std::make_shared<Idx>(std::move(images), std::move(numbers), path.string(), preprocess);
}

DatasetPtr open_array(SpecOptions& options) {
  const fs::path path = options.path();
  const auto labels = options.text("labels"), target = options.text("target");
  Feeds inputs;
  at::Tensor label_tensor, target_tensor;
  if (path.extension() == ".npy") {
    inputs[""] = read_npy(path);
    if (labels) label_tensor = read_npy(*labels);
    if (target) target_tensor = read_npy(*target);
  } else {
    for (auto& [name, tensor] : read_npz(path)) inputs[name] = tensor;
    const auto take = [&](const std::optional<std::string>& key, const char* usual) {
      const auto found = inputs.find(key.value_or(usual));
      if (found == inputs.end()) {
        if (key) fail("{}: holds no array '{}'", path.string(), *key);
        return at::Tensor();
      }
      at::Tensor tensor = found->second;
      inputs.erase(found);
      return tensor;
    };
    if (labels != "none") label_tensor = take(labels, "labels");
    if (target != "none") target_tensor = take(target, "target");
  }
  if (inputs.empty()) fail("{}: holds labels or targets alone, no inputs", path.string());
  try {
    return tensor_dataset(std::move(inputs), label_tensor, target_tensor);
  } catch (const Error& error) {
    fail("{}: {}", path.string(), error.what());
  }
}

}  // namespace lithe
