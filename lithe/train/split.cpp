#include "lithe/train/split.h"

#include <algorithm>
#include <cmath>

#include "lithe/base/error.h"
#include "lithe/base/random.h"
#include "lithe/train/samples.h"

namespace lithe {
namespace {

constexpr std::uint64_t kSplit = 0x73706c00;

}  // namespace

Split split_data(const DatasetPtr& data, const TrainOptions& options) {
  Split split{.training = data, .validation = options.validation};
  if (!split.validation && options.validation_share > 0) {
    const std::int64_t count = data->size();
    const auto held =
        static_cast<std::int64_t>(std::llround(options.validation_share * static_cast<double>(count)));
    if (held < 1 || held >= count)
      fail("a validation share of {} of {} samples leaves nothing to {}; give another share",
           options.validation_share, count, held < 1 ? "validate on" : "train on");
    const auto order = Rng(seed_for(options.seed, kSplit)).permutation(count);
    std::vector<std::int64_t> kept(order.begin() + held, order.end()),
        out(order.begin(), order.begin() + held);
    std::sort(kept.begin(), kept.end());
    std::sort(out.begin(), out.end());
    split.training = subset(data, std::move(kept));
    split.validation = subset(data, std::move(out));
  }
  const std::int64_t processes = options.collective ? options.collective->size() : 1;
  if (split.validation && processes > 1) {
    if (split.validation->size() < processes)
      fail("{} processes cannot share {} validation samples; hold out more", processes,
           split.validation->size());
    std::vector<std::int64_t> own;
    for (std::int64_t i = options.collective->rank(); i < split.validation->size(); i += processes)
      own.push_back(i);
    split.validation = subset(split.validation, std::move(own));
  }
  return split;
}

}  // namespace lithe
