#include "lithe/data/usable_batch.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/data/loader.h"

namespace lithe {
namespace {

constexpr std::int64_t kMostBaked = 64;  // samples of an example that an exporter may have baked in

class Trial {
 public:
  Trial(const Graph& graph, const DatasetPtr& dataset) : graph_(graph), dataset_(dataset), executor_(graph) {}

  void run(std::int64_t samples) {
    std::vector<std::int64_t> first(static_cast<std::size_t>(samples));
    std::iota(first.begin(), first.end(), std::int64_t{0});
    Loader loader(subset(dataset_, std::move(first)), {.batch = samples, .threads = 1});
    for (Batch batch; loader.next(batch);) executor_.run(bind_batch(graph_, batch));
  }
  bool runs(std::int64_t samples) {
    try {
      run(samples);
      return true;
    } catch (const Error&) {
      return false;
    }
  }

 private:
  const Graph& graph_;
  DatasetPtr dataset_;
  Executor executor_;
};

std::int64_t only(std::int64_t baked, std::int64_t wanted) {
  if (baked == wanted) return wanted;
  fail(
      "the model runs {} samples at a time and no other number, although it declares its batch free; give "
      "--batch "
      "{} (and --learn-batch {} to methods that learn), or export it with a free batch",
      baked, baked, baked);
}

}  // namespace

std::int64_t usable_batch(const Graph& graph, const DatasetPtr& dataset, std::int64_t wanted) {
  if (wanted < 1 || fixed_batch(graph) > 0 || dataset->size() < 2) return wanted;
  const at::NoGradGuard no_grad;
  Trial trial(graph, dataset);
  if (wanted == 1 && trial.runs(1)) return 1;
  if (trial.runs(2)) {
    if (wanted == 2 || dataset->size() < 3 || trial.runs(3)) return wanted;
    return only(2, wanted);
  }
  if (trial.runs(1)) return 1;
  for (std::int64_t baked = 3; baked <= std::min(kMostBaked, dataset->size()); ++baked)
    if (trial.runs(baked)) return only(baked, wanted);
  trial.run(1);  // its error is the one to show
  return 1;
}

}  // namespace lithe
