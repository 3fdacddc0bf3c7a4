#include "lithe/data/dataset.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "lithe/base/error.h"
#include "lithe/base/random.h"
#include "lithe/data/image.h"
#include "lithe/data/sources.h"

namespace lithe {
namespace fs = std::filesystem;

namespace {

constexpr std::array<std::string_view, 7> kKinds{"folder",   "pairs", "sheet", "cifar10",
                                                 "cifar100", "idx",   "array"};

class Subset : public Dataset {
 public:
  Subset(DatasetPtr dataset, std::vector<std::int64_t> indices)
      : dataset_(std::move(dataset)), indices_(std::move(indices)) {}
  std::int64_t size() const override { return static_cast<std::int64_t>(indices_.size()); }
  Sample get(std::int64_t index) const override {
    return dataset_->get(indices_.at(static_cast<std::size_t>(index)));
  }
  bool labelled() const override { return dataset_->labelled(); }
  bool has_targets() const override { return dataset_->has_targets(); }
  std::vector<std::string> class_names() const override { return dataset_->class_names(); }

 private:
  DatasetPtr dataset_;
  std::vector<std::int64_t> indices_;
};

class OffsetLabels : public Dataset {
 public:
  OffsetLabels(DatasetPtr dataset, std::int64_t offset) : dataset_(std::move(dataset)), offset_(offset) {}
  std::int64_t size() const override { return dataset_->size(); }
  Sample get(std::int64_t index) const override {
    Sample sample = dataset_->get(index);
    if (sample.label >= 0) sample.label += offset_;
    return sample;
  }
  bool labelled() const override { return dataset_->labelled(); }
  bool has_targets() const override { return dataset_->has_targets(); }

 private:
  DatasetPtr dataset_;
  std::int64_t offset_;
};

class Tensors : public Dataset {
 public:
  Tensors(Feeds inputs, at::Tensor labels, at::Tensor target)
      : inputs_(std::move(inputs)), target_(std::move(target)) {
    if (inputs_.empty()) fail("a dataset of tensors needs at least one input");
    size_ = -1;
    for (const auto& [name, tensor] : inputs_) check_first(name, tensor);
    if (target_.defined()) check_first("target", target_);
    if (labels.defined()) {
      check_first("labels", labels);
      if (labels.dim() != 1 || !at::isIntegralType(labels.scalar_type(), false))
        fail("labels must be whole numbers in one dimension, got {} dimension(s) of {}", labels.dim(),
             c10::toString(labels.scalar_type()));
      const at::Tensor wide = labels.to(at::kLong).cpu().contiguous();
      labels_.assign(wide.data_ptr<std::int64_t>(), wide.data_ptr<std::int64_t>() + size_);
    }
  }
  std::int64_t size() const override { return size_; }
  Sample get(std::int64_t index) const override {
    Sample sample;
    for (const auto& [name, tensor] : inputs_) sample.inputs[name] = tensor[index];
    if (!labels_.empty()) sample.label = labels_[static_cast<std::size_t>(index)];
    if (target_.defined()) sample.target = target_[index];
    sample.name = "sample " + std::to_string(index);
    return sample;
  }
  bool labelled() const override { return !labels_.empty(); }
  bool has_targets() const override { return target_.defined(); }

 private:
  void check_first(const std::string& name, const at::Tensor& tensor) {
    if (tensor.dim() == 0) fail("array '{}' has no dimension that counts samples", name);
    if (size_ < 0) size_ = tensor.size(0);
    if (tensor.size(0) != size_)
      fail("array '{}' holds {} samples, others {}: the first dimensions must agree", name, tensor.size(0),
           size_);
  }

  Feeds inputs_;
  std::vector<std::int64_t> labels_;
  at::Tensor target_;
  std::int64_t size_;
};

bool is_bin(const fs::path& path) {
  return path.extension() == ".bin";
}

std::string guess_kind(const DataSpec& spec) {
  if (std::any_of(spec.options.begin(), spec.options.end(),
                  [](const auto& option) { return option.first == "scale"; }))
    return "pairs";
  const fs::path path = spec.path;
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) {
    if (has_pairs(path)) return "pairs";
    if (!list_files(path, is_bin).empty()) return "cifar10";
    if (!list_files(path, is_idx_images).empty()) return "idx";
    return "folder";
  }
  if (path.extension() == ".npy" || path.extension() == ".npz") return "array";
  if (is_bin(path)) return "cifar10";
  if (is_idx_images(path)) return "idx";
  for (const auto& [key, value] : spec.options)
    if (key == "cell") return "sheet";
  if (is_image_name(path)) return "folder";
  fail(
      "{}: cannot tell what kind of data this is; write kind:path with one of folder, pairs, sheet, cifar10, "
      "cifar100, idx, array",
      spec.path);
}

std::int64_t parse_bound(std::string_view text, std::string_view slice) {
  std::int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (code != std::errc() || end != text.data() + text.size())
    fail("slice '{}' is not of the form start:stop or start:stop:step", slice);
  return value;
}

}  // namespace

DataSpec parse_data_spec(std::string_view text) {
  DataSpec spec;
  for (const std::string_view kind : kKinds)
    if (text.size() > kind.size() && text.starts_with(kind) && text[kind.size()] == ':') {
      spec.kind = kind;
      text.remove_prefix(kind.size() + 1);
      break;
    }
  // A comma belongs to the path unless "word=" follows it.
  const auto option_key = [](std::string_view part) {
    const std::size_t equals = part.find('=');
    if (equals == std::string_view::npos || equals == 0) return std::string_view();
    const std::string_view key = part.substr(0, equals);
    const bool word =
        std::all_of(key.begin(), key.end(), [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; });
    return word ? key : std::string_view();
  };
  for (std::size_t start = 0; start <= text.size();) {
    const std::size_t end = std::min(text.find(',', start), text.size());
    const std::string_view part = text.substr(start, end - start);
    const std::string_view key = start == 0 ? std::string_view() : option_key(part);
    if (!key.empty()) {
      spec.options.emplace_back(key, part.substr(key.size() + 1));
    } else if (spec.options.empty()) {
      spec.path += (start == 0 ? "" : ",") + std::string(part);
    } else {
      spec.options.back().second += "," + std::string(part);
    }
    start = end + 1;
  }
  if (spec.path.empty()) fail("data '{}': the path is missing; write [kind:]path[,key=value...]", text);
  return spec;
}

std::vector<std::int64_t> select_range(std::string_view slice, std::int64_t size) {
  std::array<std::string_view, 3> parts;
  std::size_t count = 0;
  for (std::size_t start = 0; start <= slice.size(); ++count) {
    if (count == 3) fail("slice '{}' is not of the form start:stop or start:stop:step", slice);
    const std::size_t end = std::min(slice.find(':', start), slice.size());
    parts[count] = slice.substr(start, end - start);
    start = end + 1;
  }
  if (count < 2) fail("slice '{}' is not of the form start:stop or start:stop:step", slice);
  const auto bound = [&](std::string_view text, std::int64_t fallback) {
    if (text.empty()) return fallback;
    const std::int64_t value = parse_bound(text, slice);
    return std::clamp<std::int64_t>(value < 0 ? value + size : value, 0, size);
  };
  const std::int64_t first = bound(parts[0], 0), last = bound(parts[1], size);
  const std::int64_t step = parts[2].empty() ? 1 : parse_bound(parts[2], slice);
  if (step <= 0) fail("slice '{}': the step must be positive", slice);
  std::vector<std::int64_t> out;
  for (std::int64_t i = first; i < last; i += std::min(step, last - i)) out.push_back(i);
  return out;
}

DatasetPtr subset(DatasetPtr dataset, std::vector<std::int64_t> indices) {
  for (const std::int64_t index : indices)
    if (index < 0 || index >= dataset->size())
      fail("sample {} does not exist: the data hold {}", index, dataset->size());
  return std::make_shared<Subset>(std::move(dataset), std::move(indices));
}

DatasetPtr seeded_subset(DatasetPtr dataset, std::int64_t count, std::uint64_t seed) {
  if (count < 0 || count >= dataset->size()) return dataset;
  std::vector<std::int64_t> indices = Rng(seed).permutation(dataset->size());
  indices.resize(static_cast<std::size_t>(count));
  std::sort(indices.begin(), indices.end());
  return subset(std::move(dataset), std::move(indices));
}

DatasetPtr tensor_dataset(Feeds inputs, at::Tensor labels, at::Tensor target) {
  return std::make_shared<Tensors>(std::move(inputs), std::move(labels), std::move(target));
}

DatasetPtr open_dataset(std::string_view text, const Preprocess& preprocess) {
  DataSpec spec = parse_data_spec(text);
  std::error_code ignored;
  if (!fs::exists(spec.path, ignored)) fail("{}: no such file or folder", spec.path);
  if (spec.kind.empty()) spec.kind = guess_kind(spec);
  SpecOptions options(spec);
  const auto slice = options.text("slice");
  const std::int64_t offset = options.number("label_offset").value_or(preprocess.label_offset);
  DatasetPtr dataset;
  if (spec.kind == "folder") dataset = open_folder(options, preprocess);
  if (spec.kind == "pairs") dataset = open_pairs(options, preprocess);
  if (spec.kind == "sheet") dataset = open_sheet(options, preprocess);
  if (spec.kind == "cifar10" || spec.kind == "cifar100")
    dataset = open_cifar(options, preprocess, spec.kind == "cifar100");
  if (spec.kind == "idx") dataset = open_idx(options, preprocess);
  if (spec.kind == "array") dataset = open_array(options);
  options.finish();
  if (slice) dataset = subset(dataset, select_range(*slice, dataset->size()));
  if (offset != 0) dataset = std::make_shared<OffsetLabels>(dataset, offset);
  if (dataset->size() == 0)
    fail("{}: no samples are left{}", spec.path, slice ? " after slice=" + *slice : "");
  return dataset;
}

}  // namespace lithe
