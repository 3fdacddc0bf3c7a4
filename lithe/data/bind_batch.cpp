#include <algorithm>

#include "lithe/base/error.h"
#include "lithe/data/loader.h"

namespace lithe {
namespace {

/// Whether sizes of one sample fit what the model declares; the batch is not judged.
bool fits(const std::vector<std::int64_t>& sizes, const DimVector& declared) {
  bool equal = sizes.size() == declared.size();
  for (std::size_t i = 1; equal && i < sizes.size(); ++i)
    equal = !declared[i].known() || declared[i].value == sizes[i];
  return equal;
}

/// The flags that bring a picture to the declared shape; "" where it is none.
std::string remedy(const std::vector<std::int64_t>& sizes, const DimVector& declared) {
  if (sizes.size() != 4 || declared.size() != 4) return "";
  const auto is_colours = [](std::int64_t count) { return count == 1 || count == 3; };
  const bool wants_last = is_colours(declared[3].value) && !is_colours(declared[1].value);
  const bool gives_last = is_colours(sizes[3]) && !is_colours(sizes[1]);
  std::string flags;
  if (wants_last != gives_last) flags += wants_last ? " --layout nhwc" : " --layout nchw";
  const Dim &height = declared[wants_last ? 1 : 2], &width = declared[wants_last ? 2 : 3];
  if (height.known() && width.known() &&
      (height.value != sizes[gives_last ? 1 : 2] || width.value != sizes[gives_last ? 2 : 3]))
    flags += fmt::format(" --resize {}x{}", height.value, width.value);
  const Dim& colours = declared[wants_last ? 3 : 1];
  if (is_colours(colours.value) && colours.value != sizes[gives_last ? 3 : 1])
    flags += colours.value == 1 ? " --colour gray" : " --colour rgb";
  return flags;
}

}  // namespace

Feeds bind_batch(const Graph& graph, const Batch& batch) {
  Feeds feeds = bind_inputs(graph, batch.inputs);
  for (const ValueInfo& input : graph.inputs) {
    const auto fed = feeds.find(input.name);
    if (fed == feeds.end() || !input.shape) continue;
    const std::vector<std::int64_t> sizes = fed->second.sizes().vec();
    if (fits(sizes, *input.shape)) continue;
    const std::string flags = remedy(sizes, *input.shape);
    fail("{}: gives the shape {}, but the model's input '{}' is {}; give {}", batch.names.front(),
         format_shape(sizes), input.name, format_type(input),
         flags.empty() ? "data of that shape" : flags.substr(1) + ", or arrays of that shape");
  }
  return feeds;
}

}  // namespace lithe
