#include "lithe/graph/sparsity.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <unordered_set>

#include "lithe/base/error.h"
#include "lithe/graph/weights.h"

namespace lithe {
namespace {

/// The stored weight, the axis of its input channels, and the codes that mean zero.
struct Stored {
  const TensorData* data = nullptr;
  std::size_t axis = 0;
  std::vector<std::int64_t> zero_points;  // none: zero; one; or one for each index along zero_axis
  std::size_t zero_axis = 0;
  std::string problem;
};

Stored trace(const Graph& graph, const GraphIndex& index, const Node& layer, const Weight& weight) {
  Stored stored;
  stored.data = graph.constant(weight.constant);
  const auto axis = input_channel_axis(layer, weight.input, stored.data->shape().size());
  if (!axis) return stored.problem = "the axis of the input channels is not defined", stored;
  stored.axis = *axis;
  for (std::string name = layer.input(weight.input); name != weight.constant;) {
    const Node& node = graph.nodes[static_cast<std::size_t>(index.producer(name))];
    if (node.is("Transpose")) {
      const std::size_t rank = stored.data->shape().size();
      if (stored.axis >= rank) return stored.problem = "its axes are wrong", stored;
      const auto order = node.attr("perm", std::vector<std::int64_t>{});
      stored.axis =
          order.size() == rank ? static_cast<std::size_t>(order[stored.axis]) : rank - 1 - stored.axis;
    } else if (node.is("DequantizeLinear")) {
      if (!node.input(2).empty()) {
        const TensorData* zero = graph.constant(node.input(2));
        if (!zero) return stored.problem = "the zero point is computed", stored;
        stored.zero_points = zero->to_ints();
        const auto rank = static_cast<std::int64_t>(stored.data->shape().size());
        const std::int64_t where = node.attr("axis", std::int64_t{1});
        stored.zero_axis = static_cast<std::size_t>(where < 0 ? where + rank : where);
      }
    } else if (!node.is("Cast") && !node.is("Identity")) {
      return stored.problem = fmt::format("it goes through {}", node.op_type), stored;
    }
    name = node.input(0);
  }
  const auto& shape = stored.data->shape();
  const std::size_t points = stored.zero_points.size();
  if (stored.axis >= shape.size() ||
      (points > 1 &&
       (stored.zero_axis >= shape.size() || points != static_cast<std::size_t>(shape[stored.zero_axis]))))
    stored.problem = "its quantiser is not per tensor or per channel";
  return stored;
}

/// 1 where the element is not zero.
std::vector<std::uint8_t> nonzero_mask(const Stored& stored) {
  const TensorData& data = *stored.data;
  std::vector<std::uint8_t> mask(static_cast<std::size_t>(data.count()));
  if (is_float(data.dtype())) {
    const std::vector<float> values = data.to_floats();
    std::transform(values.begin(), values.end(), mask.begin(),
                   [](float value) { return value != 0 ? 1 : 0; });
    return mask;
  }
  const std::vector<std::int64_t> codes = data.to_ints();
  std::int64_t inner = 1;
  for (std::size_t i = stored.zero_axis + 1; i < data.shape().size(); ++i) inner *= data.shape()[i];
  const auto points = static_cast<std::int64_t>(stored.zero_points.size());
  for (std::size_t i = 0; i < codes.size(); ++i) {
    const std::int64_t which = points > 1 ? static_cast<std::int64_t>(i) / inner % points : 0;
    mask[i] = codes[i] != (points == 0 ? 0 : stored.zero_points[static_cast<std::size_t>(which)]) ? 1 : 0;
  }
  return mask;
}

/// `channels` of the axis belong together; a grouped transposed convolution has several such runs.
void count_groups(const std::vector<std::uint8_t>& mask, const std::vector<std::int64_t>& shape,
                  std::size_t axis, std::int64_t channels, const SparsityPattern& pattern,
                  SparsityCheck& check) {
  std::int64_t inner = 1;
  for (std::size_t i = axis + 1; i < shape.size(); ++i) inner *= shape[i];
  const std::int64_t outer = static_cast<std::int64_t>(mask.size()) / (channels * inner);
  std::int64_t nonzero = 0;
  for (std::int64_t o = 0; o < outer; ++o)
    for (std::int64_t c = 0; c < channels; c += pattern.group)
      for (std::int64_t i = 0; i < inner; ++i) {
        std::int64_t here = 0;
        for (std::int64_t k = 0; k < std::min(pattern.group, channels - c); ++k)
          here += mask[static_cast<std::size_t>((o * channels + c + k) * inner + i)];
        ++check.groups;
        check.violations += here > pattern.kept ? 1 : 0;
        nonzero += here;
      }
  check.zeros = 1 - static_cast<double>(nonzero) / static_cast<double>(mask.size());
}

}  // namespace

SparsityPattern parse_sparsity(std::string_view text) {
  SparsityPattern pattern;
  const char* end = text.data() + text.size();
  const auto [colon, first] = std::from_chars(text.data(), end, pattern.kept);
  if (first == std::errc{} && colon != end && *colon == ':') {
    const auto [rest, second] = std::from_chars(colon + 1, end, pattern.group);
    if (second == std::errc{} && rest == end && pattern.kept > 0 && pattern.kept <= pattern.group &&
        pattern.group <= 1024)
      return pattern;
  }
  fail("'{}' is no sparsity pattern; write N:M, for example 2:4", text);
}

std::optional<std::size_t> input_channel_axis(const Node& node, std::size_t input, std::size_t rank) {
  if (node.is("Conv") || node.is("ConvInteger") || node.is("QLinearConv")) return 1;
  if (node.is("ConvTranspose")) return 0;
  if (node.is("Gemm")) {
    const bool transposed = node.attr(input == 0 ? "transA" : "transB", std::int64_t{0}) != 0;
    return (input == 0) != transposed ? 1 : 0;
  }
  if (node.is("MatMul") || node.is("MatMulInteger") || node.is("QLinearMatMul")) {
    if (rank < 2) return std::nullopt;
    return input == 0 ? rank - 1 : rank - 2;
  }
  return std::nullopt;
}

std::string format_sparsity(const SparsityPattern& pattern) {
  return fmt::format("{}:{}", pattern.kept, pattern.group);
}

std::vector<SparsityCheck> check_sparsity(const Graph& graph, const SparsityPattern& pattern) {
  const GraphIndex index(graph);
  std::unordered_set<std::string> seen;
  std::vector<SparsityCheck> checks;
  for (const Node& node : graph.nodes) {
    const auto weight = find_weight(graph, index, node);
    if (!weight || !seen.insert(weight->constant).second) continue;
    SparsityCheck check{.tensor = weight->constant, .node = node.name.empty() ? node.output(0) : node.name};
    const Stored stored = trace(graph, index, node, *weight);
    check.skipped = stored.problem;
    const std::int64_t channels = check.skipped.empty() ? stored.data->shape()[stored.axis] : 0;
    const std::int64_t per_group =
        node.is("ConvTranspose") ? channels / std::max<std::int64_t>(1, node.attr("group", std::int64_t{1}))
                                 : channels;
    if (check.skipped.empty() && (stored.data->count() == 0 || per_group == 0 || channels % per_group != 0))
      check.skipped = "it is empty, or its groups do not divide its channels";
    if (check.skipped.empty() && per_group <= pattern.kept)
      check.skipped =
          fmt::format("{} input channels, of which {} keeps all", per_group, format_sparsity(pattern));
    if (check.skipped.empty()) {
      count_groups(nonzero_mask(stored), stored.data->shape(), stored.axis, per_group, pattern, check);
      if (per_group % pattern.group != 0 && check.violations > 0)
        check.skipped = fmt::format("{} input channels are no multiple of {}", per_group, pattern.group);
    }
    checks.push_back(std::move(check));
  }
  return checks;
}

}  // namespace lithe
