// Data sets kept in memory.
#include <algorithm>
#include <array>
#include <cmath>

#include "lithe/data/loader.h"
#include "lithe/train/samples.h"

namespace lithe {
namespace {

/// An image as 8-bit pixels, with the number that every pixel value of a channel stands for.
struct Pixels {
  std::vector<std::int64_t> shape;
  std::vector<std::uint8_t> values;
};

class PixelTable {
 public:
  explicit PixelTable(const Preprocess& preprocess) : preprocess_(preprocess) {}

  /// The pixels, or nothing if some number is not that of an 8-bit pixel or disagrees with earlier ones.
  std::optional<Pixels> pack(const at::Tensor& image) {
    if (!packable(image)) return std::nullopt;
    const at::Tensor plain = image.contiguous();
    const std::int64_t channels = plain.size(0), plane = plain.numel() / std::max<std::int64_t>(channels, 1);
    if (tables_.size() < static_cast<std::size_t>(channels))
      tables_.resize(static_cast<std::size_t>(channels));
    Pixels out{plain.sizes().vec(), std::vector<std::uint8_t>(static_cast<std::size_t>(plain.numel()))};
    const float* numbers = plain.data_ptr<float>();
    for (std::int64_t c = 0; c < channels; ++c) {
      const double factor = preprocess_.std_of(c) / preprocess_.scale,
                   shift = preprocess_.mean_of(c) / preprocess_.scale;
      Table& table = tables_[static_cast<std::size_t>(c)];
      for (std::int64_t i = c * plane; i < (c + 1) * plane; ++i) {
        const double pixel = std::nearbyint(numbers[i] * factor + shift);
        if (!(pixel >= 0 && pixel <= 255)) return std::nullopt;
        const auto value = static_cast<std::uint8_t>(pixel);
        if (!table.known[value]) {
          table.known[value] = true;
          table.numbers[value] = numbers[i];
        } else if (table.numbers[value] != numbers[i]) {
          return std::nullopt;
        }
        out.values[static_cast<std::size_t>(i)] = value;
      }
    }
    return out;
  }

  at::Tensor unpack(const Pixels& pixels) const {
    at::Tensor out = at::empty(pixels.shape, at::kFloat);
    float* numbers = out.data_ptr<float>();
    const std::int64_t plane = out.numel() / std::max<std::int64_t>(pixels.shape[0], 1);
    for (std::int64_t c = 0; c < pixels.shape[0]; ++c) {
      const auto& table = tables_[static_cast<std::size_t>(c)].numbers;
      for (std::int64_t i = c * plane; i < (c + 1) * plane; ++i)
        numbers[i] = table[pixels.values[static_cast<std::size_t>(i)]];
    }
    return out;
  }

 private:
  struct Table {
    std::array<float, 256> numbers{};
    std::array<bool, 256> known{};
  };

  bool packable(const at::Tensor& image) const {
    return preprocess_.layout == ImageLayout::Nchw && image.dim() == 3 && image.numel() > 0 &&
           image.scalar_type() == at::kFloat && image.device().is_cpu() && image.size(0) <= 4 &&
           preprocess_.scale > 0;
  }

  Preprocess preprocess_;
  std::vector<Table> tables_;  // by channel
};

class InMemory : public Dataset {
 public:
  /// Stops, and is not `complete`, as soon as the samples take more than `bound` bytes, or would by the first
  /// ones.
  InMemory(const DatasetPtr& source, const Preprocess& preprocess, int threads, std::int64_t bound)
      : labelled_(source->labelled()),
        has_targets_(source->has_targets()),
        class_names_(source->class_names()),
        inputs_(preprocess),
        targets_(preprocess) {
    Loader loader(source, {.batch = 64, .threads = threads});
    const double room = static_cast<double>(bound), all = static_cast<double>(source->size());
    for (Batch batch; loader.next(batch);) {
      for (std::int64_t i = 0; i < batch.size(); ++i) add(batch, i);
      const double now = static_cast<double>(bytes_);
      if (now > room || (size() == batch.size() && now / static_cast<double>(size()) * all > room)) return;
    }
    complete_ = true;
  }

  bool complete() const { return complete_; }
  std::int64_t bytes() const { return bytes_; }

  std::int64_t size() const override { return static_cast<std::int64_t>(samples_.size()); }
  bool labelled() const override { return labelled_; }
  bool has_targets() const override { return has_targets_; }
  std::vector<std::string> class_names() const override { return class_names_; }

  Sample get(std::int64_t index) const override {
    const Kept& kept = samples_.at(static_cast<std::size_t>(index));
    Sample sample = kept.sample;
    if (kept.input) sample.inputs[kept.name] = inputs_.unpack(*kept.input);
    if (kept.target) sample.target = targets_.unpack(*kept.target);
    return sample;
  }

 private:
  struct Kept {
    Sample sample;  // what is not packed
    std::string name;
    std::optional<Pixels> input, target;
  };

  void add(const Batch& batch, std::int64_t i) {
    Kept kept;
    kept.sample.name = batch.names[static_cast<std::size_t>(i)];
    if (batch.labels.defined()) kept.sample.label = batch.labels.data_ptr<std::int64_t>()[i];
    for (const auto& [name, tensor] : batch.inputs) {
      const at::Tensor one = tensor[i];
      if (batch.inputs.size() == 1) kept.input = inputs_.pack(one);
      if (kept.input)
        kept.name = name;
      else
        bytes_ += size_of(kept.sample.inputs[name] = one.clone());
    }
    if (batch.targets.defined()) {
      kept.target = targets_.pack(batch.targets[i]);
      if (!kept.target) bytes_ += size_of(kept.sample.target = batch.targets[i].clone());
    }
    for (const std::optional<Pixels>* pixels : {&kept.input, &kept.target})
      if (*pixels) bytes_ += std::ssize((*pixels)->values);
    bytes_ += kBeside;
    samples_.push_back(std::move(kept));
  }

  static constexpr std::int64_t kBeside = 256;  // names and the like, of a sample

  static std::int64_t size_of(const at::Tensor& tensor) { return static_cast<std::int64_t>(tensor.nbytes()); }

  bool labelled_, has_targets_, complete_ = false;
  std::int64_t bytes_ = 0;
  std::vector<std::string> class_names_;
  PixelTable inputs_, targets_;
  std::vector<Kept> samples_;
};

}  // namespace

DatasetPtr keep_in_memory(DatasetPtr dataset, const Preprocess& preprocess, std::int64_t& memory_bytes,
                          int threads) {
  if (dataset->size() == 0) return dataset;
  auto kept = std::make_shared<InMemory>(dataset, preprocess, threads, memory_bytes);
  if (!kept->complete()) return dataset;
  memory_bytes -= kept->bytes();
  return kept;
}

}  // namespace lithe
