// What values take on the calibration samples, kept between the steps that make and read them.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lithe/base/file.h"

namespace lithe {

/// Where caches live: in memory up to a bound, then in unnamed files of a temporary folder, mapped.
class CacheArena {
 public:
  struct Options {
    std::int64_t budget = 0;  // bytes in memory; 0: no bound
    bool half = false;        // store float32 as float16
  };
  explicit CacheArena(const Options& options) : options_(options) {}

  /// An uninitialised tensor [rows, elements]; `owned` is the number of bytes to give back with `release`.
  /// Throws Error(System) if the disk has no room for what does not fit into memory.
  at::Tensor allocate(std::int64_t rows, std::int64_t elements, at::ScalarType type, std::int64_t& owned);
  void release(std::int64_t owned) { used_ -= owned; }

  /// For what is allocated from now on.
  void set_budget(std::int64_t bytes) {
    options_.budget = bytes;
    pass_peak_ = used_;
  }
  std::int64_t pass_peak() const { return pass_peak_; }  // since the budget was set

  bool half() const { return options_.half; }
  std::int64_t peak() const { return peak_; }        // bytes in memory
  std::int64_t spilled() const { return spilled_; }  // bytes that went to disk, in all

 private:
  Options options_;
  std::int64_t used_ = 0, peak_ = 0, pass_peak_ = 0, spilled_ = 0;
  std::optional<TemporaryFolder> folder_;
  int files_ = 0;
};

/// One value for all samples: a row a sample, images in NHWC order, so that a batch is a copy of rows. Values
/// that do not count samples in their first dimension are kept once and must be equal for all batches.
class SampleCache {
 public:
  /// `input`: a graph input, whose integers count samples too (elsewhere they are shapes and the like).
  SampleCache(CacheArena& arena, std::string value, std::int64_t samples, bool input = false);
  ~SampleCache();
  SampleCache(const SampleCache&) = delete;
  SampleCache& operator=(const SampleCache&) = delete;

  /// The next batch of `count` samples. Throws Error(Input) naming the value if its shape changes between
  /// samples, if it is shared and differs, or if there are more samples than announced.
  void append(const at::Tensor& batch, std::int64_t count);

  /// Samples in the order of `indices`, as float32; images in channels-last layout. Shared values as they
  /// are.
  at::Tensor gather(const at::Tensor& indices) const;
  /// Samples first .. first + count - 1.
  at::Tensor range(std::int64_t first, std::int64_t count) const;

  bool shared() const { return shared_.defined(); }
  /// The rows themselves, [samples, elements] in the order in which `gather` lays out a sample; undefined if
  /// they are not float32, or shared.
  at::Tensor float_rows() const;
  /// Rows of samples, laid out by that order, in the shape that the network has them.
  at::Tensor present(at::Tensor rows) const;
  std::int64_t samples() const { return filled_; }

 private:
  CacheArena& arena_;
  std::string value_;
  std::int64_t samples_, filled_ = 0, owned_ = 0;
  bool input_;
  std::vector<std::int64_t> shape_;  // of one sample, as the network has it
  at::ScalarType type_ = at::kFloat;
  at::Tensor rows_, shared_;
};
using SampleCachePtr = std::shared_ptr<SampleCache>;

}  // namespace lithe
