// What several processes that train one model together need of one another.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

namespace lithe {

/// A group of processes, each of which makes the same calls in the same order with tensors of the same shape
/// and type. Implementations throw Error(System) if a process is lost.
class Collective {
 public:
  virtual ~Collective() = default;
  virtual std::int64_t rank() const = 0;  // 0 .. size - 1
  virtual std::int64_t size() const = 0;
  /// Replaces the contiguous tensor by the sum over all processes.
  virtual void sum(at::Tensor& tensor) = 0;
  /// Replaces the contiguous tensor by that of process 0.
  virtual void broadcast(at::Tensor& tensor) = 0;
};

}  // namespace lithe
