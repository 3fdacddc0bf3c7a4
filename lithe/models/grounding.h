// 3DRefTR: from the points of a room and a sentence to the box and the mask of the object that it means.
//
// Lin et al., "A Unified Framework for 3D Point Cloud Visual Grounding", 2023, upon Wu et al., "EDA: Explicit
// Text-Decoupling and Dense Alignment for 3D Visual Grounding", CVPR 2023.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

/// One set abstraction of PointNet++ (Qi et al., NeurIPS 2017): centres by farthest point sampling, a ball of
/// neighbours around each, a network over every neighbour, the maximum.
struct SetAbstraction {
  std::int64_t points = 0;
  float radius = 0;  // metres
  std::int64_t samples = 0;
  std::array<std::int64_t, 3> widths{};
};

enum class MaskBranch {
  None,
  Superpoints,  // queries times features of superpoints, pooled from near seeds
  Points,       // queries times features of all points, propagated up to them: what superpoints save
};

/// The defaults are the published single-stage network.
struct GroundingOptions {
  std::array<SetAbstraction, 4> abstraction{{{2048, 0.2f, 64, {64, 64, 128}},
                                             {1024, 0.4f, 32, {128, 128, 256}},
                                             {512, 0.8f, 16, {128, 128, 256}},
                                             {256, 1.2f, 16, {128, 128, 256}}}};
  std::int64_t propagation = 256;  // width of the propagations inside
  bool skip_origin = true;         // see kFarthestPointSample
  bool seed_colours = false;       // seeds also learn from their own and their surroundings' colours

  std::int64_t width = 288, heads = 8, feed_forward = 256;
  std::int64_t cross_layers = 3, decoder_layers = 6, queries = 256;
  std::int64_t token_classes = 256;  // places of a sentence that a query may name; the last: none
  std::int64_t projection = 64;
  bool layer_norm = false;  // in place of batch norm outside the backbone, for small batches
  double dropout = 0.1, head_dropout = 0.3;

  /// Words of a vocabulary of its own; 0: features of another text encoder are an input.
  std::int64_t words = 0;
  std::int64_t trigrams = 2048;    // rows of the table of hashed trigrams; row 0 means none
  std::int64_t text_layers = 1;    // of the own encoder
  std::int64_t text_width = 768;   // of features that are an input
  std::int64_t most_tokens = 256;  // of a sentence, for the own encoder

  std::int64_t boxes = 0;  // detected boxes that come as an input; 0: none (single stage)
  std::int64_t box_classes = 485, class_width = 768;

  MaskBranch masks = MaskBranch::Superpoints;
  bool nearest_seeds = false;  // superpoints pool from the nearest seeds, not the first within the radius
  float superpoint_radius = 0.2f;
  std::int64_t superpoint_samples = 2;

  std::uint64_t seed = 0;

  std::int64_t seeds() const { return abstraction[1].points; }
};

/// About 0.7 million parameters, for scenes of 2048 points; `words` of a vocabulary of its own.
GroundingOptions small_grounding(std::int64_t words);

/// Inputs: "points" [batch, points, 6] float32, x, y, z in metres and centred colours; text as "tokens"
/// [batch, tokens] int64, "trigrams" [batch, tokens, any] int64 and "token_mask" [batch, tokens] float32 (1:
/// there), or as "text_features" [batch, tokens, text_width] and the mask; "boxes" [batch, boxes, 6],
/// "box_labels" [batch, boxes] int64 and "box_mask" [batch, boxes] float32 where there are boxes;
/// "superpoint_ids" [batch, points] int64 where masks are of superpoints.
///
/// Outputs: for each name P of `grounding_layers` P.box [batch, queries, 6], P.tokens [batch, queries,
/// token_classes], P.projection [batch, queries, projection]; "token_projection" [batch, tokens, projection];
/// "seed_logits" [batch, seeds]; "mask_logits" [batch, queries, superpoints or points].
///
/// Values to run it in parts: what `grounding_scene_values` names depends on the scene alone, and the values
/// of `grounding_index_values` are searches, which may be fed instead. Throws Error(Input) if the options do
/// not fit together.
Graph build_grounding(const GroundingOptions& options = {});

/// "proposal", "head0", ..., "last".
std::vector<std::string> grounding_layers(const GroundingOptions& options);
/// "seed_positions", "seed_features" and what else the part of the sentence reads of the part of the scene.
std::vector<std::string> grounding_scene_values(const GroundingOptions& options);
/// Indices of centres, of neighbours, and for propagation; those of weights too.
std::vector<std::string> grounding_index_values(const GroundingOptions& options);

}  // namespace lithe
