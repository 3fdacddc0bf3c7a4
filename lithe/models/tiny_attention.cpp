#include "lithe/models/tiny_attention.h"

#include <cmath>

namespace lithe {
namespace {

const std::int64_t kFirst = 0;

}  // namespace

std::string AttentionBuilder::product(const std::string& name, const std::string& x, std::int64_t in,
                                      std::int64_t out) {
  return node("MatMul", name + "/MatMul",
              {x, random(name + ".weight", {in, out}, std::sqrt(3.0 / static_cast<double>(in)))});
}

std::string AttentionBuilder::size(const std::string& name, const std::string& x, std::int64_t axis) {
  const std::string one = node(
      "Gather", name + ".gather",
      {node("Shape", name + ".shape", {x}), constant(name + ".axis", TensorData::scalar<std::int64_t>(axis))},
      {{"axis", kFirst}});
  return node("Unsqueeze", name, {one, ints(name + ".vector", {0})});
}

std::string AttentionBuilder::merge_heads(const std::string& name, const std::string& x,
                                          const Attention& options) {
  const std::int64_t d = options.width / options.heads;
  const std::string batch = size(name + ".batch", x, 0), tokens = size(name + ".tokens", x, 1);
  const std::string parted =
      node("Reshape", name + ".part",
           {x, node("Concat", name + ".part_shape",
                    {batch, tokens, ints(name + ".heads", {options.heads, d})}, {{"axis", kFirst}})});
  const std::string rows = node("Mul", name + ".rows", {batch, ints(name + ".factor", {options.heads})});
  return node("Reshape", name,
              {transpose(name + ".turn", parted, {0, 2, 1, 3}),
               node("Concat", name + ".shape", {rows, tokens, ints(name + ".d", {d})}, {{"axis", kFirst}})});
}

std::string AttentionBuilder::attention(const std::string& name, const std::string& tokens,
                                        const std::string& source, const Attention& options) {
  const std::int64_t width = options.width, heads = options.heads, d = width / heads;
  std::string q, k, v;
  if (options.form == AttentionForm::Fused && tokens == source) {
    const auto parts = node_outputs(
        "Split", name + "/Split",
        {product(name + ".to_qkv", tokens, width, 3 * width), ints(name + ".sizes", {width, width, width})},
        {name + ".q", name + ".k", name + ".v"}, {{"axis", std::int64_t{2}}});
    q = parts[0], k = parts[1], v = parts[2];
  } else {
    q = product(name + ".to_q", tokens, width, width);
    k = product(name + ".to_k", source, options.source_width, width);
    v = product(name + ".to_v", source, options.source_width, width);
  }
  const std::string scale = scalar(name + ".scale", 1 / std::sqrt(static_cast<float>(d)));
  const Attributes last{{"axis", std::int64_t{-1}}};
  std::string joined;
  if (options.form == AttentionForm::Heads || options.form == AttentionForm::Fused) {
    const auto part = [&](const std::string& one, const std::string& x, std::vector<std::int64_t> order) {
      return transpose(one + ".turned", reshape_dynamic(one, x, {-1, heads, d}), std::move(order));
    };
    std::string scores =
        node("MatMul", name + ".scores",
             {part(name + ".queries", q, {0, 2, 1, 3}), part(name + ".keys", k, {0, 2, 3, 1})});
    scores = node("Mul", name + ".scaled", {scores, scale});
    if (!options.mask.empty()) scores = node("Add", name + ".masked", {scores, options.mask});
    const std::string mixed =
        node("MatMul", name + ".mixed",
             {node("Softmax", name + "/Softmax", {scores}, last), part(name + ".values", v, {0, 2, 1, 3})});
    joined = reshape_dynamic(name + ".joined", transpose(name + ".back", mixed, {0, 2, 1, 3}), {-1, width});
  } else {
    const std::string queries = merge_heads(name + ".queries", q, options),
                      keys = merge_heads(name + ".keys", k, options),
                      values = merge_heads(name + ".values", v, options);
    const bool einsum = options.form == AttentionForm::Einsum;
    const auto multiply = [&](const std::string& one, const std::string& a, const std::string& b,
                              const char* equation) {
      return einsum ? node("Einsum", one, {a, b}, {{"equation", std::string(equation)}})
                    : node("MatMul", one, {a, b});
    };
    const std::string scores =
        multiply(name + ".scores", queries, einsum ? keys : transpose(name + ".keys_turned", keys, {0, 2, 1}),
                 "bid,bjd->bij");
    const std::string weights =
        node("Softmax", name + "/Softmax", {node("Mul", name + ".scaled", {scores, scale})}, last);
    const std::string mixed = multiply(name + ".mixed", weights, values, "bij,bjd->bid");
    const std::string batch = size(name + ".batch", tokens, 0), count = size(name + ".count", tokens, 1);
    const std::string parted =
        node("Reshape", name + ".unmerged",
             {mixed, node("Concat", name + ".unmerged_shape",
                          {batch, ints(name + ".heads", {heads}), count, ints(name + ".d", {d})},
                          {{"axis", kFirst}})});
    joined = node("Reshape", name + ".joined",
                  {transpose(name + ".back", parted, {0, 2, 1, 3}),
                   node("Concat", name + ".joined_shape", {batch, count, ints(name + ".width", {width})},
                        {{"axis", kFirst}})});
  }
  return linear(name + ".to_out", joined, width, width);
}

void name_free_sizes(Graph& graph) {
  const auto rename = [](ValueInfo& value) {
    for (std::size_t axis = 1; value.shape && axis < value.shape->size(); ++axis)
      if (Dim& dim = (*value.shape)[axis]; !dim.known()) dim.symbol = value.name + "_" + std::to_string(axis);
  };
  for (ValueInfo& input : graph.inputs) rename(input);
  for (ValueInfo& output : graph.outputs) rename(output);
}

}  // namespace lithe
