#include "lithe/train/batch_size.h"

#include "lithe/base/error.h"

namespace lithe {
namespace {

/// Why the graph does not run on these feeds; "" if it does.
std::string complaint_of(Executor& run, const Feeds& feeds) {
  try {
    run.run(feeds);
    return "";
  } catch (const std::exception& error) {
    return error.what();
  }
}

}  // namespace

void require_free_batch(const Graph& graph, const Feeds& feeds, at::Device device) {
  if (feeds.empty() || feeds.begin()->second.dim() == 0) return;
  const at::NoGradGuard no_grad;
  Executor run(graph, {.device = device});
  const std::int64_t batch = feeds.begin()->second.size(0);
  if (batch < 2 || complaint_of(run, feeds).empty()) return;
  Feeds one;
  for (const auto& [name, value] : feeds) one[name] = value.narrow(0, 0, 1);
  if (!complaint_of(run, one).empty()) return;
  fail(
      "the model '{}' runs one sample at a time, not {}: a batch of 1 is written into one of its constants; "
      "export it with a free batch size, or give --batch 1",
      graph.name, batch);
}

}  // namespace lithe
