// Where points and words meet: the cross-encoder, the decoder and the heads of the grounding network.
#include <cmath>

#include "lithe/graph/point_function.h"
#include "lithe/models/grounding_builder.h"

namespace lithe {

/// Both directions of the cross attention read what the self attentions gave.
void GroundingBuilder::cross_layer(const std::string& name, std::string& seeds, const std::string& places,
                                   Text& text, const Boxes& boxes) {
  const auto placed = [&](const std::string& part, const std::string& x) {
    return node("Add", name + "." + part, {x, places});
  };
  const std::string own = placed("placed", seeds);
  const std::string v =
      add_norm(name + ".seed_norm", seeds, attention(name + ".seed_attn", own, own, seeds, ""));
  const std::string t =
      add_norm(name + ".text_norm", text.features,
               attention(name + ".text_attn", text.features, text.features, text.features, text.mask));
  text.features = feed_forward(name + ".text_ffn", add_norm(name + ".text_cross_norm", t,
                                                            attention(name + ".text_cross", t, v, v, "")));
  std::string x = add_norm(name + ".seed_cross_norm", v,
                           attention(name + ".seed_cross", placed("placed_again", v), t, t, text.mask));
  if (!boxes.features.empty())
    x = add_norm(name + ".box_norm", x,
                 attention(name + ".box_attn", x, boxes.features, boxes.features, boxes.mask));
  seeds = feed_forward(name + ".seed_ffn", x);
}

std::string GroundingBuilder::decoder_layer(const std::string& name, std::string query,
                                            const std::string& box, const std::string& seeds,
                                            const Text& text, const Boxes& boxes) {
  const std::string place =
      place_embedding(name + ".place", search(kStopGradient, name + ".box", {box}, {}), 6);
  const auto step = [&](const std::string& part, const std::string& from, const std::string& mask) {
    const std::string own = name + "." + part;
    const std::string placed = node("Add", own + ".placed", {query, place});
    const bool self = from.empty();
    query = add_norm(own + ".norm", query,
                     attention(own, placed, self ? placed : from, self ? query : from, mask));
  };
  step("self", "", "");
  step("text", text.features, text.mask);
  if (!boxes.features.empty()) step("boxes", boxes.features, boxes.mask);
  step("seeds", seeds, "");
  return feed_forward(name + ".ffn", query);
}

/// Declares the outputs of one layer; returns the name of its boxes.
std::string GroundingBuilder::head(const std::string& name, const std::string& features,
                                   const std::string& query, const std::string& base) {
  const auto predict = [&](const std::string& part, const std::string& output_name, std::int64_t out,
                           double gain, float bias) {
    std::string x = features;
    for (int i = 0; i < 2; ++i) {
      const std::string layer = fmt::format("{}.{}.{}", name, part, i);
      x = norm(layer + ".norm", dense(layer, x, d_, d_, {.bias = false, .gain = std::sqrt(2.0)}), d_);
      x = drop(layer + ".drop", node("Relu", layer + ".relu", {x}), options_.head_dropout);
    }
    return dense(output_name, x, d_, out,
                 {.gain = gain, .bias_centre = bias, .weights = fmt::format("{}.{}.2", name, part)});
  };
  // Boxes begin at their seeds, about half a metre wide.
  const std::string centre =
      node("Add", name + ".centres", {base, predict("centre", name + ".offsets", 3, 0.1, 0)});
  const std::string box = concat(name + ".box", {centre, predict("size", name + ".sizes", 3, 0.1, 0.5f)}, 2);
  const std::int64_t q = options_.queries;
  output(box, box, {-1, q, 6});
  const std::string tokens = predict("token", name + ".tokens", options_.token_classes, 1, 0);
  output(tokens, tokens, {-1, q, options_.token_classes});
  const std::string projection = project(name + ".projection", query, "query_projection");
  output(projection, projection, {-1, q, options_.projection});
  return box;
}

std::string GroundingBuilder::project(const std::string& name, const std::string& x,
                                      const std::string& weights) {
  return unit_length(name, three_layers(name + ".mlp", x, weights, d_, options_.projection));
}

}  // namespace lithe
