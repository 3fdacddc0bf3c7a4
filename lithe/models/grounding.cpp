#include "lithe/models/grounding.h"

#include "lithe/base/error.h"
#include "lithe/graph/point_function.h"
#include "lithe/models/grounding_builder.h"

namespace lithe {
namespace {

/// Axes that a caller may choose, by value: "" keeps the number.
void name_axes(std::vector<ValueInfo>& values, const std::string& name,
               const std::vector<std::string>& symbols) {
  for (ValueInfo& value : values) {
    if (value.name != name) continue;
    for (std::size_t i = 0; i < symbols.size(); ++i)
      if (!symbols[i].empty()) (*value.shape)[i] = Dim{-1, symbols[i]};
  }
}

}  // namespace

Graph GroundingBuilder::build() {
  const Scene scene = backbone();
  Text words = text();
  const Boxes detected = boxes();
  std::string seeds = scene.seeds.features;
  const std::string places = place_embedding("seed_places", scene.seeds.positions, 3);
  for (std::int64_t i = 0; i < options_.cross_layers; ++i)
    cross_layer(fmt::format("cross.{}", i), seeds, places, words, detected);
  const std::string named = project("token_projection", words.features, "text_projection");
  output(named, named, {-1, -1, options_.projection});

  std::string score = seeds;
  for (int i = 0; i < 2; ++i) {
    const std::string layer = fmt::format("kps.{}", i);
    score = node("Relu", layer + ".relu",
                 {norm(layer + ".norm", dense(layer, score, d_, d_, {.gain = 1.4}), d_)});
  }
  const std::string logits =
      node("Squeeze", "seed_logits", {dense("kps.2", score, d_, 1), ints("kps.axis", {-1})});
  output(logits, logits, {-1, options_.seeds()});
  node_outputs("TopK", "kps.best", {logits, ints("kps.count", {options_.queries})},
               {"kps.values", "query_seeds"}, {{"axis", std::int64_t{-1}}});
  const std::string base = pick("query_positions", scene.seeds.positions, "query_seeds");
  const std::string chosen = pick("query_features", seeds, "query_seeds");
  std::string query = dense("query_projector", chosen, d_, d_);
  const std::vector<std::string> names = grounding_layers(options_);
  std::string box = head(names[0], chosen, query, base);
  for (std::int64_t i = 0; i < options_.decoder_layers; ++i) {
    query = decoder_layer(fmt::format("decoder.{}", i), query, box, seeds, words, detected);
    const std::string& name = names[static_cast<std::size_t>(i + 1)];
    box = head(name, query, query, base);
  }
  if (options_.masks == MaskBranch::Superpoints) superpoint_masks(scene, seeds, query);
  if (options_.masks == MaskBranch::Points) point_masks(scene, seeds, query);
  if (options_.masks != MaskBranch::None) output("mask_logits", "mask_logits", {-1, options_.queries, -1});

  Graph graph = finish();
  name_axes(graph.inputs, "points", {"", "points"});
  name_axes(graph.inputs, "superpoint_ids", {"", "points"});
  for (const char* name : {"tokens", "token_mask", "text_features"})
    name_axes(graph.inputs, name, {"", "tokens"});
  name_axes(graph.inputs, "trigrams", {"", "tokens", "pieces"});
  name_axes(graph.outputs, "token_projection", {"", "tokens"});
  name_axes(graph.outputs, "mask_logits",
            {"", "", options_.masks == MaskBranch::Superpoints ? "superpoints" : "points"});
  graph.sort();
  add_point_functions(graph);
  return graph;
}

GroundingOptions small_grounding(std::int64_t words) {
  GroundingOptions options;
  options.abstraction = {{{256, 0.3f, 16, {32, 32, 64}},
                          {128, 0.6f, 16, {64, 64, 128}},
                          {64, 1.2f, 16, {64, 64, 128}},
                          {32, 2.0f, 16, {64, 64, 128}}}};
  options.propagation = 128;
  options.seed_colours = true;
  options.width = 64;
  options.heads = 4;
  options.feed_forward = 128;
  options.cross_layers = 2;
  options.decoder_layers = 2;
  options.queries = 16;
  options.token_classes = 24;
  options.projection = 32;
  options.layer_norm = true;
  options.dropout = 0;
  options.head_dropout = 0;
  options.words = words;
  options.trigrams = 512;
  options.most_tokens = 64;
  options.nearest_seeds = true;
  return options;
}

Graph build_grounding(const GroundingOptions& options) {
  return GroundingBuilder(options).build();
}

std::vector<std::string> grounding_layers(const GroundingOptions& options) {
  std::vector<std::string> names{"proposal"};
  for (std::int64_t i = 0; i + 1 < options.decoder_layers; ++i) names.push_back(fmt::format("head{}", i));
  names.push_back("last");
  return names;
}

std::vector<std::string> grounding_scene_values(const GroundingOptions& options) {
  std::vector<std::string> names{"seed_positions", "seed_features"};
  if (options.masks == MaskBranch::Superpoints) names.push_back("superpoint_seeds");
  if (options.masks == MaskBranch::Points)
    for (const char* name : {"positions", "colours", "sa1.positions", "sa1.features"}) names.push_back(name);
  return names;
}

std::vector<std::string> grounding_index_values(const GroundingOptions& options) {
  std::vector<std::string> names{"sa1.centres"};
  for (std::size_t i = 0; i < options.abstraction.size(); ++i)
    names.push_back(fmt::format("sa{}.neighbours", i + 1));
  std::vector<std::string> propagations{"fp1", "fp2"};
  if (options.masks == MaskBranch::Points) propagations.insert(propagations.end(), {"mask.fp1", "mask.fp2"});
  for (const std::string& name : propagations) {
    names.push_back(name + ".indices");
    names.push_back(name + ".weights");
  }
  if (options.masks == MaskBranch::Superpoints) names.push_back("superpoint_seeds");
  return names;
}

}  // namespace lithe
