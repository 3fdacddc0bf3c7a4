// Attention as exporters write it, for small models.
#pragma once

#include <string>
#include <utility>

#include "lithe/models/builder.h"
#include "lithe/models/tiny_stable_diffusion.h"

namespace lithe {

class AttentionBuilder : public GraphBuilder {
 public:
  using GraphBuilder::GraphBuilder;

  struct Attention {
    std::int64_t width = 0, source_width = 0, heads = 2;
    AttentionForm form = AttentionForm::Heads;
    std::string mask;  // added to the scores; only for AttentionForm::Heads
  };
  /// From tokens [batch, n, width] to tokens `source` [batch, m, source_width], which may be the same.
  std::string attention(const std::string& name, const std::string& tokens, const std::string& source,
                        const Attention& options);

  /// x W.
  std::string product(const std::string& name, const std::string& x, std::int64_t in, std::int64_t out);

 private:
  std::string size(const std::string& name, const std::string& x, std::int64_t axis);  // a vector of one
  std::string merge_heads(const std::string& name, const std::string& x, const Attention& options);
};

/// Gives the free sizes of inputs and outputs behind the batch names of their own.
void name_free_sizes(Graph& graph);

}  // namespace lithe
