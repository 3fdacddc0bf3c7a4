#include "lithe/tokens/follow_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <unordered_set>

#include "lithe/base/error.h"
#include "lithe/graph/dataflow.h"
#include "lithe/tokens/find_attention.h"

namespace lithe {
namespace {

using Sizes = std::vector<std::int64_t>;
using Axes = std::vector<TokenAxis>;

/// Operators whose result at an index depends on their inputs at that index alone, with broadcasting.
bool is_pointwise(const Node& node) {
  static const std::unordered_set<std::string_view> types{"Abs",
                                                          "Add",
                                                          "And",
                                                          "Cast",
                                                          "CastLike",
                                                          "Ceil",
                                                          "Celu",
                                                          "Clip",
                                                          "Cos",
                                                          "Div",
                                                          "Dropout",
                                                          "Elu",
                                                          "Equal",
                                                          "Erf",
                                                          "Exp",
                                                          "Floor",
                                                          "Gelu",
                                                          "Greater",
                                                          "HardSwish",
                                                          "Identity",
                                                          "IsNaN",
                                                          "LeakyRelu",
                                                          "Less",
                                                          "Log",
                                                          "Max",
                                                          "Min",
                                                          "Mish",
                                                          "Mul",
                                                          "Neg",
                                                          "Not",
                                                          "Or",
                                                          "PRelu",
                                                          "Pow",
                                                          "Reciprocal",
                                                          "Relu",
                                                          "Round",
                                                          "Selu",
                                                          "Sigmoid",
                                                          "Sign",
                                                          "Sin",
                                                          "HardSigmoid",
                                                          "Softplus",
                                                          "Softsign",
                                                          "Sqrt",
                                                          "Sub",
                                                          "Tanh",
                                                          "ThresholdedRelu",
                                                          "Where",
                                                          "QuantizeLinear",
                                                          "DequantizeLinear"};
  return types.contains(node.op_type) && (node.domain.empty() || node.domain == "ai.onnx");
}

bool is_norm(const Node& node) {
  return node.is("LayerNormalization") || node.is("RMSNormalization") ||
         node.op_type == "SimplifiedLayerNormalization" || node.is("LpNormalization");
}

class Walk {
 public:
  Walk(const Graph& sized, const std::vector<AttentionBlock>& blocks, std::int64_t tokens,
       std::int64_t specials, const std::string& last_sum)
      : sized_(sized), flow_(sized), blocks_(blocks), tokens_(tokens), specials_(specials) {
    for (std::size_t l = 0; l < blocks.size(); ++l) sums_[blocks[l].residual] = l;
    last_sum_ = last_sum;
  }

  FollowedTokens run() {
    set(blocks_[0].residual, {.axes = {{.axis = 1}}});
    for (std::size_t i = 0; i < sized_.nodes.size(); ++i)
      if (flow_.is_data(static_cast<int>(i)) && sized_.nodes[i].output(0) != blocks_[0].residual)
        visit(sized_.nodes[i]);
    for (const ValueInfo& output : sized_.outputs)
      if (result_.places.contains(output.name))
        fail(
            "the output '{}' shows all tokens, of which some will be gone; take it off the model's outputs, "
            "or export the model with its classifier alone",
            output.name);
    if (result_.places_read.empty() && result_.mean.empty())
      fail("the model '{}' reads no token behind its last block", sized_.name);
    return std::move(result_);
  }

 private:
  Sizes sizes(const std::string& value) const { return value_sizes(sized_, value); }
  /// A list of numbers that is known; nothing if it is computed.
  std::optional<Sizes> numbers(const std::string& value) const {
    const TensorData* data = value.empty() ? nullptr : sized_.constant(value);
    return data ? std::optional<Sizes>(data->to_ints()) : std::nullopt;
  }
  const TokenPlace* place(const std::string& value) const {
    const auto found = result_.places.find(value);
    return found == result_.places.end() ? nullptr : &found->second;
  }
  void set(const std::string& value, TokenPlace place) {
    if (value.empty() || place.axes.empty()) return;
    if (const auto sum = sums_.find(value); sum != sums_.end()) place.block = sum->second;
    place.last = place.last || value == last_sum_;
    result_.places[value] = std::move(place);
  }

  [[noreturn]] void refuse(const Node& node, const std::string& what) const {
    fail("{}: {}, behind block {} ('{}'); with fewer tokens that would not be what it was", describe(node),
         what, block_ + 1, blocks_[block_].name);
  }
  [[noreturn]] void refuse_table(const Node& node) const {
    refuse(node, fmt::format("has a number for each of the {} tokens by its place (rotary embeddings, "
                             "positions, a mask), which does not follow them",
                             tokens_));
  }

  /// Whether rank and sizes are known.
  bool known(const std::string& value) const {
    if (sized_.constant(value)) return true;
    const ValueInfo* info = sized_.info(value);
    return info && info->shape &&
           std::all_of(info->shape->begin(), info->shape->end(), [](const Dim& dim) { return dim.known(); });
  }
  void need_sizes(const Node& node, const std::string& value) const {
    if (!known(value)) refuse(node, fmt::format("has '{}', whose sizes are not known", value));
  }

  void visit(const Node& node) {
    const auto reads = all_reads(node);
    std::vector<const TokenPlace*> given;
    for (const std::string& value : reads)
      if (const TokenPlace* one = place(value)) given.push_back(one);
    if (given.empty() || node.is("Shape") || node.is("Size")) return;
    TokenPlace common{.axes = {}, .from = given[0]->from};
    for (const TokenPlace* one : given) {
      common.block = std::max(common.block, one->block);
      common.last = common.last || one->last;
    }
    block_ = common.block;
    for (const TokenPlace* one : given)
      if (one->from != common.from) refuse(node, "joins tokens of different places");
    if (std::any_of(reads.begin(), reads.end(), [&](const std::string& value) {
          return place(value) &&
                 std::find(node.inputs.begin(), node.inputs.end(), value) == node.inputs.end();
        }))
      refuse(node, "uses tokens in an inner graph");
    for (const std::string& output : node.outputs)
      if (!output.empty()) need_sizes(node, output);
    common.axes = axes_behind(node, common);
    for (const std::string& output : node.outputs) set(output, common);
  }

  /// Axes of the tokens in the results; none where the result has none. May change `common.from`.
  Axes axes_behind(const Node& node, TokenPlace& common) {
    if (is_pointwise(node)) return broadcast(node);
    if (node.is("MatMul")) return product(node);
    if (node.is("Gemm")) return affine(node);
    if (node.is("Softmax") || node.is("LogSoftmax")) return softmax(node);
    if (is_norm(node)) return normalised(node);
    if (node.is("BatchNormalization")) {
      for (const TokenAxis& one : first(node))
        if (one.axis == 1) refuse_table(node);
      return first(node);
    }
    if (node.is("Transpose")) return transposed(node);
    if (node.is("Reshape") || node.is("Flatten") || node.is("Squeeze") || node.is("Unsqueeze"))
      return reshaped(node, common);
    if (node.is("Gather")) return gathered(node, common);
    if (node.is("Slice")) return sliced(node, common);
    if (node.is("Split") || node.is("Concat")) return along_an_axis(node);
    if (node.is("Expand")) return expanded(node);
    if (node.op_type.starts_with("Reduce") && node.domain.empty()) return summed(node, common);
    refuse(node, "works across tokens, or by their places");
  }

  const Axes& first(const Node& node) const {
    const TokenPlace* one = place(node.input(0));
    if (!one) refuse(node, "uses tokens in a way that is not known");
    for (std::size_t i = 1; i < node.inputs.size(); ++i)
      if (place(node.input(i))) refuse(node, "uses tokens in a way that is not known");
    return one->axes;
  }

  Axes broadcast(const Node& node) const {
    const std::size_t rank = sizes(node.output(0)).size();
    std::size_t count = node.inputs.size();
    if (node.is("QuantizeLinear") || node.is("DequantizeLinear")) count = 1;
    std::optional<Axes> axes;
    for (std::size_t i = 0; i < count; ++i) {
      const TokenPlace* one = place(node.input(i));
      if (!one) continue;
      Axes own = one->axes;
      for (TokenAxis& axis : own) axis.axis += rank - sizes(node.input(i)).size();
      if (axes && *axes != own) refuse(node, "joins tokens whose axes differ");
      axes = std::move(own);
    }
    if (!axes) refuse(node, "uses tokens in a way that is not known");
    for (std::size_t i = 0; i < count; ++i) {
      if (node.input(i).empty() || place(node.input(i))) continue;
      need_sizes(node, node.input(i));
      const Sizes other = sizes(node.input(i));
      for (const TokenAxis& axis : *axes) {
        const std::size_t shift = rank - other.size();
        if (axis.axis >= shift && other[axis.axis - shift] != 1) refuse_table(node);
      }
    }
    return *axes;
  }

  static bool only(const Axes& axes, std::initializer_list<std::size_t> wanted) {
    Axes all;
    for (const std::size_t axis : wanted) all.push_back({.axis = axis});
    return axes == all;
  }

  Axes product(const Node& node) const {
    const TokenPlace *a = place(node.input(0)), *b = place(node.input(1));
    const Sizes left = sizes(node.input(0)), right = sizes(node.input(1)), out = sizes(node.output(0));
    const std::size_t rank = out.size();
    if (a && b) {
      for (const AttentionBlock& block : blocks_) {
        if (node.input(0) == block.queries && node.input(1) == block.keys && left.size() == rank &&
            right.size() == rank && only(a->axes, {rank - 2}) && only(b->axes, {rank - 1}))
          return {{.axis = rank - 2}, {.axis = rank - 1}};
        if (node.output(0) == block.context && left.size() == rank && right.size() == rank &&
            only(a->axes, {rank - 2, rank - 1}) && only(b->axes, {rank - 2}))
          return {{.axis = rank - 2}};
      }
      refuse(node, "multiplies tokens with tokens outside of an attention of a known form");
    }
    for (const std::string& value : node.inputs) need_sizes(node, value);
    const bool from_left = a != nullptr;
    const Sizes &own = from_left ? left : right, &other = from_left ? right : left;
    if (own.size() < 2 || other.size() < 2 || rank < 2) refuse(node, "sums over the tokens");
    const std::size_t summed = from_left ? own.size() - 1 : own.size() - 2;
    Axes axes = (from_left ? a : b)->axes;
    for (TokenAxis& axis : axes) {
      if (axis.axis == summed) refuse(node, "sums over the tokens");
      const bool matrix = axis.axis + 2 >= own.size();
      axis.axis += rank - own.size();
      const std::size_t shift = rank - other.size();
      if (!matrix && axis.axis >= shift && other[axis.axis - shift] != 1) refuse_table(node);
    }
    return axes;
  }

  Axes affine(const Node& node) const {
    Axes axes = first(node);
    const Sizes bias = node.input(2).empty() ? Sizes{} : sizes(node.input(2));
    for (const TokenAxis& axis : axes)
      if (axis.axis != 0 || node.attr("transA", std::int64_t{0}) != 0) refuse(node, "sums over the tokens");
    if (bias.size() == 2 && bias[0] != 1) refuse_table(node);
    return axes;
  }

  Axes softmax(const Node& node) const {
    const Axes& axes = first(node);
    for (const AttentionBlock& block : blocks_)
      if (node.output(0) == block.probabilities) return axes;
    const auto rank = static_cast<std::int64_t>(sizes(node.input(0)).size());
    std::int64_t axis = node.attr("axis", std::int64_t{sized_.opset() < 13 ? 1 : -1});
    axis += axis < 0 ? rank : 0;
    for (const TokenAxis& one : axes)
      if (static_cast<std::int64_t>(one.axis) == axis ||
          (sized_.opset() < 13 && static_cast<std::int64_t>(one.axis) > axis))
        refuse(node, "normalises over the tokens outside of an attention of a known form");
    return axes;
  }

  Axes normalised(const Node& node) const {
    const Axes& axes = first(node);
    const auto rank = static_cast<std::int64_t>(sizes(node.input(0)).size());
    std::int64_t axis = node.attr("axis", std::int64_t{-1});
    axis += axis < 0 ? rank : 0;
    for (const TokenAxis& one : axes) {
      const auto own = static_cast<std::int64_t>(one.axis);
      if (node.is("LpNormalization") ? own == axis : own >= axis) refuse(node, "normalises over the tokens");
    }
    return axes;
  }

  Axes transposed(const Node& node) const {
    const std::size_t rank = sizes(node.input(0)).size();
    Sizes order = node.attr("perm", Sizes{});
    if (order.empty())
      for (std::size_t i = rank; i-- > 0;) order.push_back(static_cast<std::int64_t>(i));
    Axes axes = first(node);
    for (TokenAxis& one : axes)
      one.axis = static_cast<std::size_t>(
          std::find(order.begin(), order.end(), static_cast<std::int64_t>(one.axis)) - order.begin());
    return axes;
  }

  Axes reshaped(const Node& node, const TokenPlace& common) const {
    const Axes& axes = first(node);
    Axes result = reshaped_axes(axes, tokens_ - common.from, sizes(node.input(0)), sizes(node.output(0)));
    if (result.size() != axes.size())
      refuse(node, "lays the tokens out anew, as windows or as a grid for convolutions are");
    return result;
  }

  Axes gathered(const Node& node, const TokenPlace& common) {
    const Axes& axes = first(node);
    const auto rank = static_cast<std::int64_t>(sizes(node.input(0)).size());
    std::int64_t axis = node.attr("axis", std::int64_t{0});
    axis += axis < 0 ? rank : 0;
    const auto added = static_cast<std::size_t>(sizes(node.input(1)).size());
    Axes result;
    for (TokenAxis one : axes) {
      if (static_cast<std::int64_t>(one.axis) == axis) {
        const auto indices = numbers(node.input(1));
        if (!indices || !one.alone() || axes.size() > 1) refuse(node, "reads tokens by computed places");
        for (const std::int64_t index : *indices) read_special(node, index, common);
        return {};
      }
      if (static_cast<std::int64_t>(one.axis) > axis) one.axis += added - 1;
      result.push_back(one);
    }
    return result;
  }

  void read_special(const Node& node, std::int64_t index, const TokenPlace& common) {
    if (index < 0 || index + common.from >= specials_)
      refuse(node, fmt::format("reads token {}, which is no special one", index));
    if (common.last) result_.places_read.insert(index + common.from);
  }

  Axes sliced(const Node& node, TokenPlace& common) {
    const Axes& axes = first(node);
    const Sizes in = sizes(node.input(0)), out = sizes(node.output(0));
    const auto steps = node.input(4).empty() ? std::optional<Sizes>(Sizes{}) : numbers(node.input(4));
    if (!steps || std::any_of(steps->begin(), steps->end(), [](std::int64_t step) { return step != 1; }))
      refuse(node, "reads tokens by steps, or in another order");
    for (const TokenAxis& one : axes) {
      if (in[one.axis] == out[one.axis]) continue;
      const auto starts = numbers(node.input(1)), ends = numbers(node.input(2));
      if (!starts || !ends || !one.alone() || axes.size() > 1)
        refuse(node, "reads tokens by computed places");
      Sizes along(starts->size());
      for (std::size_t i = 0; i < along.size(); ++i) along[i] = static_cast<std::int64_t>(i);
      if (const auto given = numbers(node.input(3))) along = *given;
      for (std::size_t i = 0; i < along.size() && i < starts->size() && i < ends->size(); ++i) {
        const std::int64_t axis = along[i] + (along[i] < 0 ? static_cast<std::int64_t>(in.size()) : 0);
        if (axis != static_cast<std::int64_t>(one.axis)) continue;
        const std::int64_t start = (*starts)[i], end = std::min((*ends)[i], in[one.axis]);
        if (start < 0 || end < 0) refuse(node, "reads tokens from their end");
        if (end + common.from <= specials_) {
          for (std::int64_t index = start; index < end; ++index) read_special(node, index, common);
          return {};
        }
        if (start + common.from > specials_ || end < in[one.axis])
          refuse(node, "reads some of the tokens, by their places");
        common.from += start;
      }
    }
    return axes;
  }

  Axes along_an_axis(const Node& node) const {
    const std::string& any = *std::find_if(node.inputs.begin(), node.inputs.end(),
                                           [&](const std::string& value) { return place(value); });
    const Axes& axes = place(any)->axes;
    const auto rank = static_cast<std::int64_t>(sizes(any).size());
    std::int64_t axis = node.attr("axis", std::int64_t{0});
    axis += axis < 0 ? rank : 0;
    for (const TokenAxis& one : axes)
      if (static_cast<std::int64_t>(one.axis) == axis)
        refuse(node, node.is("Split") ? "divides the tokens" : "puts tokens before or behind others");
    if (node.is("Concat"))
      for (const std::string& value : node.inputs)
        if (const TokenPlace* one = place(value); !one || one->axes != axes) refuse_table(node);
    return axes;
  }

  Axes expanded(const Node& node) const {
    const std::size_t shift = sizes(node.output(0)).size() - sizes(node.input(0)).size();
    Axes axes = first(node);
    const auto shape = numbers(node.input(1));
    for (TokenAxis& one : axes) {
      one.axis += shift;
      if (!shape) continue;
      const std::size_t behind = sizes(node.output(0)).size() - one.axis;
      if (shape->size() >= behind && (*shape)[shape->size() - behind] != 1)
        refuse(node, "expands to a fixed number of tokens");
    }
    return axes;
  }

  Axes summed(const Node& node, const TokenPlace& common) {
    const Axes& axes = first(node);
    const auto rank = static_cast<std::int64_t>(sizes(node.input(0)).size());
    Sizes over = node.attr("axes", Sizes{});
    if (!node.input(1).empty()) over = numbers(node.input(1)).value_or(Sizes{});
    if (over.empty())
      for (std::int64_t i = 0; i < rank; ++i) over.push_back(i);
    for (std::int64_t& axis : over) axis += axis < 0 ? rank : 0;
    const auto among = [&](std::size_t axis) {
      return std::find(over.begin(), over.end(), static_cast<std::int64_t>(axis)) != over.end();
    };
    const bool keep = node.attr("keepdims", std::int64_t{1}) != 0;
    Axes result;
    for (TokenAxis one : axes) {
      if (among(one.axis)) {
        if (!node.is("ReduceMean") || over.size() != 1 || rank != 3 || !only(axes, {1}))
          refuse(node, "puts all tokens in one");
        if (!common.last) refuse(node, "takes the mean over the tokens inside of the network");
        if (!result_.mean.empty()) refuse(node, "is a second mean over the tokens");
        result_.mean = node.output(0);
        result_.mean_from = common.from;
        return {};
      }
      if (!keep)
        one.axis -= static_cast<std::size_t>(std::count_if(over.begin(), over.end(), [&](std::int64_t axis) {
          return axis < static_cast<std::int64_t>(one.axis);
        }));
      result.push_back(one);
    }
    return result;
  }

  const Graph& sized_;
  const DataFlow flow_;
  const std::vector<AttentionBlock>& blocks_;
  const std::int64_t tokens_, specials_;
  std::string last_sum_;
  std::map<std::string, std::size_t> sums_;
  std::size_t block_ = 0;  // of the node at hand
  FollowedTokens result_;
};

}  // namespace

std::vector<std::int64_t> value_sizes(const Graph& graph, const std::string& value) {
  if (const TensorData* constant = graph.constant(value)) return constant->shape();
  const ValueInfo* info = graph.info(value);
  std::vector<std::int64_t> sizes;
  if (!info || !info->shape) return sizes;
  for (const Dim& dim : *info->shape) sizes.push_back(dim.value);
  return sizes;
}

std::vector<TokenAxis> reshaped_axes(const std::vector<TokenAxis>& axes, std::int64_t count,
                                     const std::vector<std::int64_t>& from,
                                     const std::vector<std::int64_t>& to) {
  std::vector<TokenAxis> result;
  for (const TokenAxis& one : axes) {
    std::int64_t behind = one.inner;  // elements between one token and the next
    for (std::size_t d = one.axis + 1; d < from.size(); ++d) behind *= from[d];
    std::int64_t last = 1;
    for (std::size_t d = to.size(); d-- > 0; last *= to[d]) {
      if (last > behind || last * to[d] < behind * count) continue;
      if (behind % last != 0 || to[d] % (count * (behind / last)) != 0) continue;
      const std::int64_t inner = behind / last;
      result.push_back({.axis = d, .outer = to[d] / (count * inner), .inner = inner});
      break;
    }
  }
  return result;
}

FollowedTokens follow_tokens(const Graph& sized, const std::vector<AttentionBlock>& blocks,
                             std::int64_t tokens, std::int64_t specials, const std::string& last_sum) {
  return Walk(sized, blocks, tokens, specials, last_sum).run();
}

}  // namespace lithe
