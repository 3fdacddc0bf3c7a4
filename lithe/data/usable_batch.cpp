#include "lithe/data/usable_batch.h"

#include <numeric>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/data/loader.h"

namespace lithe {

std::int64_t usable_batch(const Graph& graph, const DatasetPtr& dataset, std::int64_t wanted) {
  if (wanted <= 1 || fixed_batch(graph) > 0 || dataset->size() < 2) return wanted;
  const at::NoGradGuard no_grad;
  Executor executor(graph);
  const auto run = [&](std::int64_t samples) {
    std::vector<std::int64_t> first(static_cast<std::size_t>(samples));
    std::iota(first.begin(), first.end(), std::int64_t{0});
    Loader loader(subset(dataset, std::move(first)), {.batch = samples, .threads = 1});
    for (Batch batch; loader.next(batch);) executor.run(bind_batch(graph, batch));
  };
  try {
    run(2);
    return wanted;
  } catch (const Error&) {
    run(1);  // if this fails too, its error is the one to show
    return 1;
  }
}

}  // namespace lithe
