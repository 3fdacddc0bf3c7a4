#include "lithe/models/grounding_builder.h"

#include <cmath>

#include "lithe/base/error.h"

namespace lithe {

GroundingBuilder::GroundingBuilder(const GroundingOptions& options)
    : GraphBuilder("grounding", options.seed), options_(options), d_(options.width) {
  if (options.heads < 1 || options.width % options.heads != 0)
    fail("grounding: the width {} is no multiple of the {} heads", options.width, options.heads);
  std::int64_t most = options.abstraction[0].points;
  for (const SetAbstraction& level : options.abstraction) {
    if (level.points < 3 || level.points > most || level.samples < 1 || !(level.radius > 0))
      fail("grounding: an abstraction to {} points from {} within {} m is none", level.points, most,
           level.radius);
    most = level.points;
  }
  if (options.queries < 1 || options.queries > options.seeds())
    fail("grounding: {} queries cannot be chosen from {} seeds", options.queries, options.seeds());
  if (options.decoder_layers < 1 || options.cross_layers < 0 || options.token_classes < 2)
    fail("grounding: it needs a decoder layer and two token classes");
}

std::string GroundingBuilder::dense(const std::string& name, const std::string& x, std::int64_t in,
                                    std::int64_t out, const DenseOptions& how) {
  const std::string owner = how.weights.empty() ? name : how.weights;
  const std::string weight = owner + ".weight", bias = owner + ".bias";
  if (made_.insert(owner).second) {
    random(weight, {in, out}, how.gain * std::sqrt(3.0 / static_cast<double>(in)));
    if (how.bias) random(bias, {out}, 0.02, static_cast<double>(how.bias_centre));
  }
  if (!how.bias) return node("MatMul", name, {x, weight});
  return node("Add", name, {node("MatMul", name + ".matmul", {x, weight}), bias});
}

std::string GroundingBuilder::batch_norm_rows(const std::string& name, const std::string& x,
                                              std::int64_t width) {
  const std::string rows = reshape(name + ".rows", x, {-1, width});
  set_channels(rows, width);
  return node("Reshape", name, {batch_norm(name + ".norm", rows), node("Shape", name + ".shape", {x})});
}

std::string GroundingBuilder::norm(const std::string& name, const std::string& x, std::int64_t width) {
  return options_.layer_norm ? layer_norm(name, x, width, false) : batch_norm_rows(name, x, width);
}

std::string GroundingBuilder::drop(const std::string& name, const std::string& x, double ratio) {
  if (ratio <= 0) return x;
  return node("Dropout", name, {x, scalar(name + ".ratio", static_cast<float>(ratio))});
}

/// PointNet++'s shared network: products without bias, batch norm, ReLU.
std::string GroundingBuilder::mixed_mlp(const std::string& name, std::string x, std::int64_t in,
                                        const std::vector<std::int64_t>& widths) {
  for (std::size_t i = 0; i < widths.size(); ++i) {
    const std::string layer = fmt::format("{}.{}", name, i);
    x = dense(layer, x, in, widths[i], {.bias = false, .gain = std::sqrt(2.0)});
    x = node("Relu", layer + ".relu", {batch_norm_rows(layer + ".bn", x, widths[i])});
    in = widths[i];
  }
  return x;
}

/// Three products with ReLU in between.
std::string GroundingBuilder::three_layers(const std::string& name, const std::string& x,
                                           const std::string& weights, std::int64_t hidden,
                                           std::int64_t out) {
  const auto layer = [&](int i, const std::string& from, std::int64_t in, std::int64_t to, double gain) {
    return dense(fmt::format("{}.{}", name, i), from, in, to,
                 {.gain = gain, .weights = fmt::format("{}.{}", weights, i)});
  };
  const std::string first = node("Relu", name + ".relu0", {layer(0, x, d_, hidden, std::sqrt(2.0))});
  const std::string second = node("Relu", name + ".relu1", {layer(1, first, hidden, hidden, std::sqrt(2.0))});
  return layer(2, second, hidden, out, 1);
}

std::string GroundingBuilder::attention(const std::string& name, const std::string& query,
                                        const std::string& key, const std::string& value,
                                        const std::string& mask) {
  const std::int64_t h = options_.heads, size = d_ / h;
  const auto heads = [&](const std::string& part, const std::string& x, std::vector<std::int64_t> order) {
    const std::string own = name + "." + part;
    return transpose(own + ".heads", reshape(own + ".split", dense(own, x, d_, d_), {0, 0, h, size}),
                     std::move(order));
  };
  const std::string q = heads("q", query, {0, 2, 1, 3}), k = heads("k", key, {0, 2, 3, 1}),
                    v = heads("v", value, {0, 2, 1, 3});
  const std::string scaled =
      node("Mul", name + ".scaled", {q, scalar(name + ".scale", 1 / std::sqrt(static_cast<float>(size)))});
  std::string scores = node("MatMul", name + ".scores", {scaled, k});
  if (!mask.empty()) scores = node("Add", name + ".masked", {scores, mask});
  const std::string weights =
      drop(name + ".drop", node("Softmax", name + ".softmax", {scores}, {{"axis", std::int64_t{-1}}}),
           options_.dropout);
  const std::string mixed =
      transpose(name + ".merge", node("MatMul", name + ".mixed", {weights, v}), {0, 2, 1, 3});
  return dense(name + ".out", reshape(name + ".merged", mixed, {0, 0, d_}), d_, d_);
}

std::string GroundingBuilder::add_norm(const std::string& name, const std::string& x,
                                       const std::string& change) {
  const std::string sum = node("Add", name + ".sum", {x, drop(name + ".drop", change, options_.dropout)});
  return layer_norm(name, sum, d_, false);
}

/// With its residual and norm.
std::string GroundingBuilder::feed_forward(const std::string& name, const std::string& x) {
  const std::int64_t hidden = options_.feed_forward;
  const std::string wide =
      node("Relu", name + ".relu", {dense(name + ".in", x, d_, hidden, {.gain = std::sqrt(2.0)})});
  return add_norm(name + ".norm", x,
                  dense(name + ".out", drop(name + ".drop", wide, options_.dropout), hidden, d_));
}

std::string GroundingBuilder::place_embedding(const std::string& name, const std::string& places,
                                              std::int64_t in) {
  const std::string wide = norm(name + ".norm", dense(name + ".0", places, in, d_), d_);
  return dense(name + ".1", node("Relu", name + ".relu", {wide}), d_, d_);
}

std::string GroundingBuilder::unit_length(const std::string& name, const std::string& x) {
  const std::string squares = node("ReduceSum", name + ".squares",
                                   {node("Mul", name + ".square", {x, x}), ints(name + ".axis", {-1})},
                                   {{"keepdims", std::int64_t{1}}});
  const std::string length = node("Sqrt", name + ".length",
                                  {node("Add", name + ".apart", {squares, scalar(name + ".small", 1e-12f)})});
  return node("Div", name, {x, length});
}

/// Rows `indices` [batch, ...] of x [batch, places, width].
std::string GroundingBuilder::pick(const std::string& name, const std::string& x,
                                   const std::string& indices) {
  return node("GatherND", name, {x, unsqueeze(name + ".places", indices, {-1})},
              {{"batch_dims", std::int64_t{1}}});
}

std::string GroundingBuilder::cut(const std::string& name, const std::string& x, std::int64_t axis,
                                  std::int64_t from, std::int64_t to) {
  return node("Slice", name,
              {x, ints(name + ".from", {from}), ints(name + ".to", {to}), ints(name + ".axis", {axis})});
}

std::string GroundingBuilder::unsqueeze(const std::string& name, const std::string& x,
                                        std::vector<std::int64_t> axes) {
  return node("Unsqueeze", name, {x, ints(name + ".axes", std::move(axes))});
}

std::string GroundingBuilder::reduce(const std::string& op, const std::string& name, const std::string& x,
                                     std::int64_t axis) {
  if (op == "ReduceSum")
    return node(op, name, {x, ints(name + ".axes", {axis})}, {{"keepdims", std::int64_t{0}}});
  return node(op, name, {x}, {{"axes", std::vector<std::int64_t>{axis}}, {"keepdims", std::int64_t{0}}});
}

std::string GroundingBuilder::search(const std::string& op, const std::string& name,
                                     std::vector<std::string> inputs, Attributes attributes,
                                     const std::string& second) {
  std::vector<std::string> outputs{name};
  if (!second.empty()) outputs.push_back(second);
  return node_outputs(op, name, std::move(inputs), outputs, std::move(attributes), "lithe").front();
}

/// 0 where the mask is 1, and very little where it is 0.
std::string GroundingBuilder::score_mask(const std::string& name, const std::string& mask) {
  const std::string absent = node("Sub", name + ".absent", {mask, scalar(name + ".one", 1)});
  return unsqueeze(name + ".scores", node("Mul", name + ".far", {absent, scalar(name + ".lot", 1e9f)}),
                   {1, 2});
}

}  // namespace lithe
