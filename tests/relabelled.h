// Data with other labels than their own.
#pragma once

#include <cstdint>
#include <functional>
#include <utility>

#include "lithe/data/dataset.h"

namespace lithe::test {

/// The samples of `data` with the labels that `relabel` makes of theirs; threads that decode call it.
class Relabelled : public Dataset {
 public:
  Relabelled(DatasetPtr data, std::function<std::int64_t(std::int64_t)> relabel)
      : data_(std::move(data)), relabel_(std::move(relabel)) {}
  std::int64_t size() const override { return data_->size(); }
  bool labelled() const override { return true; }
  Sample get(std::int64_t index) const override {
    Sample sample = data_->get(index);
    sample.label = relabel_(sample.label);
    return sample;
  }

 private:
  DatasetPtr data_;
  std::function<std::int64_t(std::int64_t)> relabel_;
};

}  // namespace lithe::test
