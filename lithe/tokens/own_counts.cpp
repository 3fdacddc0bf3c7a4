#include "lithe/tokens/own_counts.h"

#include <algorithm>
#include <cmath>

#include "lithe/data/loader.h"
#include "lithe/engine/executor.h"

namespace lithe {

Spread spread_of(const std::vector<double>& values) {
  if (values.empty()) return {};
  const auto [least, most] = std::minmax_element(values.begin(), values.end());
  const auto n = static_cast<double>(values.size());
  double sum = 0, squares = 0;
  for (const double one : values) sum += one;
  for (const double one : values) squares += (one - sum / n) * (one - sum / n);
  return {.mean = sum / n, .deviation = std::sqrt(squares / n), .least = *least, .most = *most};
}

OwnCounts count_own_tokens(const Graph& prepared, const TokenModel& model, const TokenCost& cost,
                           const std::vector<TokenStep>& steps, const CompressOptions& options,
                           const DatasetPtr& data, int threads, at::Device device) {
  const at::NoGradGuard no_grad;
  CompressOptions traced = options;
  traced.trace = true;
  const Compressed compressed = compress_tokens(prepared, model, steps, traced);
  std::vector<std::string> wanted;
  for (const std::string& name : compressed.assignments)
    if (!name.empty()) wanted.push_back(name);
  Executor executor(compressed.graph, {.device = device});
  const std::size_t blocks = steps.size();
  std::vector<std::vector<double>> tokens(blocks);
  std::vector<double> macs;
  const std::int64_t fixed = fixed_batch(prepared);
  Loader loader(data, {.batch = fixed > 0 ? fixed : 16, .threads = threads, .drop_last = fixed > 1});
  for (Batch batch; loader.next(batch);) {
    Feeds feeds = bind_batch(prepared, batch), out;
    for (auto& [name, value] : feeds) value = value.to(device);
    if (!wanted.empty()) out = executor.run(feeds, wanted);
    for (auto& [name, value] : out) value = value.cpu();
    for (std::int64_t i = 0; i < batch.size(); ++i) {
      TokenSchedule own = dense_schedule(blocks, model.tokens);
      std::int64_t n = model.tokens;
      for (std::size_t l = 0; l < blocks; ++l) {
        own.prune[l] = own.merge[l] = n;
        if (const std::string& name = compressed.assignments[l]; !name.empty()) {
          const at::Tensor went = out.at(name)[i];
          own.prune[l] = (went >= 0).sum().item<std::int64_t>();
          own.merge[l] = n = went.max().item<std::int64_t>() + 1;
        }
        tokens[l].push_back(static_cast<double>(n));
      }
      macs.push_back(static_cast<double>(cost.total(own)) / static_cast<double>(cost.dense));
    }
  }
  OwnCounts counts{.images = static_cast<std::int64_t>(macs.size()), .macs = spread_of(macs)};
  for (const auto& one : tokens) counts.tokens.push_back(spread_of(one));
  return counts;
}

}  // namespace lithe
