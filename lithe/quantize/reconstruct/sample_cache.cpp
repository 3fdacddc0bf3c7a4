#include "lithe/quantize/reconstruct/sample_cache.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>

#include "lithe/base/error.h"

namespace lithe {

at::Tensor CacheArena::allocate(std::int64_t rows, std::int64_t elements, at::ScalarType type,
                                std::int64_t& owned) {
  const std::int64_t bytes = rows * elements * static_cast<std::int64_t>(c10::elementSize(type));
  const bool fits = options_.budget == 0 || used_ + bytes <= options_.budget;
  if (fits || bytes == 0) {
    owned = bytes;
    used_ += bytes;
    peak_ = std::max(peak_, used_);
    pass_peak_ = std::max(pass_peak_, used_);
    return at::empty({rows, elements}, type);
  }
  owned = 0;
  if (!folder_) folder_.emplace();
  const std::filesystem::path path = folder_->path() / fmt::format("cache{}", files_++);
  // Reserved now, because writing to a mapping of a full disk would kill the process.
  const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  const int error = descriptor < 0 ? errno : ::posix_fallocate(descriptor, 0, bytes);
  if (descriptor >= 0) ::close(descriptor);
  if (error != 0)
    fail_system(
        "'{}': cannot hold {:.1f} MB of calibration values: {}; free space, point TMPDIR elsewhere, "
        "or allow more --memory",
        path.string(), static_cast<double>(bytes) / 1e6, std::strerror(error));
  at::Tensor tensor = at::from_file(path.string(), true, rows * elements, at::TensorOptions().dtype(type));
  std::filesystem::remove(path);  // the mapping keeps the bytes
  spilled_ += bytes;
  return tensor.view({rows, elements});
}

SampleCache::SampleCache(CacheArena& arena, std::string value, std::int64_t samples, bool input)
    : arena_(arena), value_(std::move(value)), samples_(samples), input_(input) {}

SampleCache::~SampleCache() {
  rows_.reset();
  arena_.release(owned_);
}

void SampleCache::append(const at::Tensor& batch, std::int64_t count) {
  const bool counts = input_ || at::isFloatingType(batch.scalar_type());
  const bool per_sample = counts && batch.dim() > 0 && batch.size(0) == count;
  if (!per_sample) {
    if (rows_.defined() || (shared_.defined() && !shared_.equal(batch)))
      fail(
          "the value '{}' of shape {} changes from batch to batch without counting samples; Lithe cannot "
          "reconstruct behind it",
          value_, fmt::join(batch.sizes(), "x"));
    shared_ = batch;
    filled_ += count;
    return;
  }
  if (shared_.defined()) fail("the value '{}' counts samples in some batches only", value_);
  if (filled_ + count > samples_) fail("the value '{}' has more samples than the data", value_);
  const std::vector<std::int64_t> shape(batch.sizes().begin() + 1, batch.sizes().end());
  if (!rows_.defined()) {
    shape_ = shape;
    type_ = batch.scalar_type();
    const std::int64_t elements =
        std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>());
    rows_ =
        arena_.allocate(samples_, elements, arena_.half() && type_ == at::kFloat ? at::kHalf : type_, owned_);
  }
  if (shape != shape_)
    fail("the value '{}' has shape {} for some samples and {} for others; resize the data to one size",
         value_, fmt::join(shape_, "x"), fmt::join(shape, "x"));
  const at::Tensor plain = batch.dim() == 4 ? batch.permute({0, 2, 3, 1}) : batch;
  rows_.narrow(0, filled_, count).copy_(plain.reshape({count, -1}));
  if (rows_.scalar_type() == at::kHalf && type_ != at::kHalf &&
      !at::isfinite(rows_.narrow(0, filled_, count)).all().item<bool>())
    fail("the value '{}' reaches {}, which 16 bits do not hold; leave out --half-caches", value_,
         batch.abs().max().item<double>());
  filled_ += count;
}

at::Tensor SampleCache::present(at::Tensor rows) const {
  if (rows.scalar_type() != type_) rows = rows.to(type_);
  const std::int64_t count = rows.size(0);
  if (shape_.size() == 3) return rows.view({count, shape_[1], shape_[2], shape_[0]}).permute({0, 3, 1, 2});
  std::vector<std::int64_t> full{count};
  full.insert(full.end(), shape_.begin(), shape_.end());
  return rows.view(full);
}

at::Tensor SampleCache::gather(const at::Tensor& indices) const {
  return shared_.defined() ? shared_ : present(rows_.index_select(0, indices));
}

at::Tensor SampleCache::float_rows() const {
  return rows_.defined() && type_ == at::kFloat && rows_.scalar_type() == at::kFloat ? rows_ : at::Tensor();
}

at::Tensor SampleCache::range(std::int64_t first, std::int64_t count) const {
  return shared_.defined() ? shared_ : present(rows_.narrow(0, first, count));
}

}  // namespace lithe
