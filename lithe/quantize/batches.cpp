#include "lithe/quantize/batches.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "lithe/base/error.h"

namespace lithe {

void for_each_batch(const Graph& graph, const DatasetPtr& dataset, const BatchOptions& options,
                    const std::function<void(const Feeds&, std::int64_t samples)>& visit) {
  if (!dataset || dataset->size() == 0) fail("the calibration data hold no sample");
  const std::int64_t fixed = fixed_batch(graph);
  DatasetPtr part = dataset;
  if (options.limit >= 0 && options.limit < dataset->size()) {
    std::vector<std::int64_t> indices(static_cast<std::size_t>(std::max(options.limit, fixed)));
    std::iota(indices.begin(), indices.end(), std::int64_t{0});
    if (static_cast<std::int64_t>(indices.size()) < dataset->size())
      part = subset(dataset, std::move(indices));
  }
  Loader loader(part, {.batch = fixed > 0 ? fixed : options.batch, .threads = options.threads});
  Batch batch;
  bool any = false;
  while (loader.next(batch)) {
    if (fixed > 0 && batch.size() != fixed) continue;
    visit(bind_batch(graph, batch), batch.size());
    any = true;
  }
  if (!any)
    fail("the model takes {} samples at a time, but there are only {} for calibration", fixed,
         dataset->size());
}

}  // namespace lithe
