// Layers that the grounding network is made of.
#pragma once

#include <fmt/format.h>

#include <set>
#include <string>
#include <vector>

#include "lithe/models/builder.h"
#include "lithe/models/grounding.h"

namespace lithe {

/// Features are [batch, places, width]. A layer's constants begin with its name; `weights` names others, to
/// share them.
class GroundingBuilder : public GraphBuilder {
 public:
  explicit GroundingBuilder(const GroundingOptions& options);
  Graph build();

 private:
  struct Text {
    std::string features, mask;  // the mask [batch, 1, 1, tokens] is added to scores
  };
  struct Boxes {
    std::string features, mask;  // "" where there are none
  };
  struct Level {
    std::string positions, features;
    std::int64_t width = 0;
  };
  struct Scene {
    Level first, seeds;  // after the first abstraction; the seeds
    std::string colours;
  };
  struct DenseOptions {
    bool bias = true;
    double gain = 1;
    float bias_centre = 0;
    std::string weights;  // whose constants; "": its own
  };

  // grounding_builder.cpp: layers of any part
  std::string dense(const std::string& name, const std::string& x, std::int64_t in, std::int64_t out,
                    const DenseOptions& how);
  std::string dense(const std::string& name, const std::string& x, std::int64_t in, std::int64_t out) {
    return dense(name, x, in, out, DenseOptions{});
  }
  std::string batch_norm_rows(const std::string& name, const std::string& x, std::int64_t width);
  std::string norm(const std::string& name, const std::string& x, std::int64_t width);
  std::string drop(const std::string& name, const std::string& x, double ratio);
  std::string mixed_mlp(const std::string& name, std::string x, std::int64_t in,
                        const std::vector<std::int64_t>& widths);
  std::string three_layers(const std::string& name, const std::string& x, const std::string& weights,
                           std::int64_t hidden, std::int64_t out);
  std::string attention(const std::string& name, const std::string& query, const std::string& key,
                        const std::string& value, const std::string& mask);
  std::string add_norm(const std::string& name, const std::string& x, const std::string& change);
  std::string feed_forward(const std::string& name, const std::string& x);
  std::string place_embedding(const std::string& name, const std::string& places, std::int64_t in);
  std::string unit_length(const std::string& name, const std::string& x);
  std::string pick(const std::string& name, const std::string& x, const std::string& indices);
  std::string cut(const std::string& name, const std::string& x, std::int64_t axis, std::int64_t from,
                  std::int64_t to);
  std::string unsqueeze(const std::string& name, const std::string& x, std::vector<std::int64_t> axes);
  std::string reduce(const std::string& op, const std::string& name, const std::string& x, std::int64_t axis);
  std::string search(const std::string& op, const std::string& name, std::vector<std::string> inputs,
                     Attributes attributes, const std::string& second = "");
  std::string score_mask(const std::string& name, const std::string& mask);

  // grounding_backbone.cpp
  Scene backbone();
  Level abstraction(const std::string& name, const Level& from, const std::string& positions,
                    const SetAbstraction& how);
  Level propagation(const std::string& name, const Level& from, const Level& to,
                    const std::vector<std::int64_t>& widths);
  std::string colour_features(const Scene& scene, const std::string& seed_indices);

  // grounding_text.cpp
  Text text();
  std::string word_features();
  Boxes boxes();

  // grounding_decoder.cpp
  void cross_layer(const std::string& name, std::string& seeds, const std::string& places, Text& text,
                   const Boxes& boxes);
  std::string decoder_layer(const std::string& name, std::string query, const std::string& box,
                            const std::string& seeds, const Text& text, const Boxes& boxes);
  std::string head(const std::string& name, const std::string& features, const std::string& query,
                   const std::string& base);
  std::string project(const std::string& name, const std::string& x, const std::string& weights);

  // grounding_masks.cpp
  std::string superpoint_masks(const Scene& scene, const std::string& seeds, const std::string& queries);
  std::string point_masks(const Scene& scene, const std::string& seeds, const std::string& queries);

  GroundingOptions options_;
  std::int64_t d_;
  std::set<std::string> made_;  // constants that may be shared
  std::string points_;          // positions of all
};

}  // namespace lithe
