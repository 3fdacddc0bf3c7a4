// One network of a model that consists of several.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "lithe/engine/executor.h"

namespace lithe {

/// A graph with an executor; float16 is widened (see `widen_graph`). Feeds are made the type that the graph
/// takes.
class NetworkPart {
 public:
  /// Throws Error(Input) naming the file if it is not there or not a network that can be run.
  explicit NetworkPart(const std::filesystem::path& file, const ExecutorOptions& options = {});
  NetworkPart(const Graph& graph, std::string origin, const ExecutorOptions& options = {});

  const Graph& graph() const { return executor_.graph(); }
  const std::string& origin() const { return origin_; }
  /// The input of that name, or nullptr.
  const ValueInfo* input(std::string_view name) const;
  /// "sample (float32 [batch, 4, height, width]), timestep (float32 [])": for messages.
  std::string list_inputs() const;

  /// Feeds with a row for each item, along axis 0 or that of `axes`; and those that hold for all.
  struct Request {
    Feeds items, shared;
    std::map<std::string, std::int64_t, std::less<>> axes;
    std::int64_t most = 8;      // rows of one run, if the network leaves their number free
    std::int64_t multiple = 1;  // rows that must stay together
  };
  /// Outputs, joined along axis 0, on the CPU. Where the network fixes its batch, rows are run in pieces of
  /// that size, the last filled up. Throws Error(Input) naming file and input where sizes do not fit.
  Feeds run(const Request& request);

 private:
  std::int64_t fixed_rows(const Request& request) const;
  at::Tensor typed(const std::string& name, const at::Tensor& value) const;

  std::string origin_;
  Executor executor_;
};

}  // namespace lithe
