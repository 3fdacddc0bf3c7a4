// What the grounding network reads beside the points: the sentence, and detected boxes.
#include "lithe/models/grounding_builder.h"

namespace lithe {

GroundingBuilder::Text GroundingBuilder::text() {
  Text out;
  std::string features = options_.words > 0
                             ? word_features()
                             : dense("text.projector", input("text_features", {-1, -1, options_.text_width}),
                                     options_.text_width, d_);
  features = layer_norm("text.norm", features, d_, false, options_.words > 0 ? 1e-5f : 1e-12f);
  out.mask = score_mask("text.mask", input("token_mask", {-1, -1}));
  out.features = drop("text.drop", features, options_.dropout);
  if (options_.words == 0) return out;
  for (std::int64_t i = 0; i < options_.text_layers; ++i) {
    const std::string name = fmt::format("text.{}", i);
    out.features = add_norm(name + ".norm", out.features,
                            attention(name + ".attn", out.features, out.features, out.features, out.mask));
    out.features = feed_forward(name + ".ffn", out.features);
  }
  return out;
}

/// A word is its row of the table, the rows of its trigrams, so that unknown words differ, and its place.
std::string GroundingBuilder::word_features() {
  const std::string tokens = input("tokens", {-1, -1}, DType::Int64);
  const std::string trigrams = input("trigrams", {-1, -1, -1}, DType::Int64);
  const std::string words =
      node("Gather", "text.words", {random("text.word_table", {options_.words, d_}, 1), tokens});
  const std::string pieces =
      node("Gather", "text.pieces", {random("text.trigram_table", {options_.trigrams, d_}, 0.3), trigrams});
  const std::string there =
      node("Cast", "text.pieces_there",
           {node("Greater", "text.pieces_given",
                 {trigrams, constant("text.no_piece", TensorData::scalar<std::int64_t>(0))})},
           {{"to", static_cast<std::int64_t>(DType::Float32)}});
  const std::string sum =
      reduce("ReduceSum", "text.piece_sum",
             node("Mul", "text.own_pieces", {pieces, unsqueeze("text.piece_column", there, {3})}), 2);
  const std::string length = node("Gather", "text.length",
                                  {node("Shape", "text.shape", {tokens}),
                                   constant("text.token_axis", TensorData::scalar<std::int64_t>(1))});
  const std::string order = node("Range", "text.order",
                                 {constant("text.start", TensorData::scalar<std::int64_t>(0)), length,
                                  constant("text.step", TensorData::scalar<std::int64_t>(1))});
  const std::string places =
      node("Gather", "text.places", {random("text.place_table", {options_.most_tokens, d_}, 0.3), order});
  return node("Add", "text.embedded", {node("Add", "text.spelled", {words, sum}), places});
}

GroundingBuilder::Boxes GroundingBuilder::boxes() {
  if (options_.boxes == 0) return {};
  const std::int64_t shape_width = d_ * 4 / 9;  // 128 of 288
  const std::string given = input("boxes", {-1, options_.boxes, 6});
  const std::string wide = norm("box.norm", dense("box.0", given, 6, shape_width), shape_width);
  const std::string shape = dense("box.1", node("Relu", "box.relu", {wide}), shape_width, shape_width);
  const std::string named = node("Gather", "box.names",
                                 {random("box.class_table", {options_.box_classes, options_.class_width}, 1),
                                  input("box_labels", {-1, options_.boxes}, DType::Int64)});
  const std::string kind = dense("box.class", named, options_.class_width, d_ - shape_width);
  return {concat("box.features", {shape, kind}, 2),
          score_mask("box.mask", input("box_mask", {-1, options_.boxes}))};
}

}  // namespace lithe
