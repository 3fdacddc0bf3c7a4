#include "lithe/quantize/reconstruct/sampler.h"

#include <algorithm>
#include <utility>

namespace lithe {

Sampler::Sampler(const ReconstructOptions& options, std::uint64_t pass, std::uint64_t slice,
                 std::int64_t samples)
    : draw_(options.draw),
      batch_(options.batch),
      rng_(options.seed, stream_of(RandomStream::Draw, pass, slice)),
      order_(Rng(options.seed, stream_of(RandomStream::Cut, 0, 0)).permutation(samples)) {}

at::Tensor Sampler::next() {
  const auto count = static_cast<std::uint64_t>(order_.size());
  std::vector<std::int64_t> picked(static_cast<std::size_t>(batch_));
  switch (draw_) {
    case Draw::Distinct:  // the front of an unfinished shuffle
      for (std::size_t i = 0; i < picked.size(); ++i) {
        std::swap(order_[i], order_[i + rng_.below(count - i)]);
        picked[i] = order_[i];
      }
      break;
    case Draw::Any:
      for (std::int64_t& sample : picked) sample = static_cast<std::int64_t>(rng_.below(count));
      break;
    case Draw::Batches: {
      const std::uint64_t first = rng_.below(count / picked.size()) * picked.size();
      std::copy_n(order_.begin() + static_cast<std::ptrdiff_t>(first), picked.size(), picked.begin());
      break;
    }
  }
  return at::tensor(picked, at::kLong);
}

}  // namespace lithe
