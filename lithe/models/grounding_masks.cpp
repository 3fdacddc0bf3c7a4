// From the queries of the last layer to masks.
#include "lithe/graph/point_function.h"
#include "lithe/models/grounding_builder.h"

namespace lithe {

/// A superpoint has the largest of the features of the seeds by its centre.
std::string GroundingBuilder::superpoint_masks(const Scene& scene, const std::string& seeds,
                                               const std::string& queries) {
  const std::string ids = input("superpoint_ids", {-1, -1}, DType::Int64);
  const std::string centres = search(kSuperpointCentres, "superpoint_centres", {points_, ids}, {});
  const std::vector<std::string> places{scene.seeds.positions, centres};
  const std::string near =
      options_.nearest_seeds
          ? search(kNearestPoints, "superpoint_seeds", places, {{"k", options_.superpoint_samples}},
                   "superpoint_weights")
          : search(kBallQuery, "superpoint_seeds", places,
                   {{"radius", options_.superpoint_radius}, {"samples", options_.superpoint_samples}});
  const std::string features = three_layers("mask.seeds", seeds, "mask.seeds", 2 * d_, d_);
  const std::string pooled = reduce("ReduceMax", "mask.superpoints", pick("mask.picked", features, near), 2);
  const std::string kernels = three_layers("mask.queries", queries, "mask.queries", 2 * d_, d_);
  return node("MatMul", "mask_logits", {kernels, transpose("mask.columns", pooled, {0, 2, 1})});
}

/// Features of all points, propagated from the seeds over the first abstraction.
std::string GroundingBuilder::point_masks(const Scene& scene, const std::string& seeds,
                                          const std::string& queries) {
  const std::string both =
      concat("mask.both", {dense("mask.before", scene.seeds.features, d_, d_), seeds}, 2);
  const Level top{scene.seeds.positions, mixed_mlp("mask.mlp", both, 2 * d_, {2 * d_, d_}), d_};
  const Level first{scene.first.positions, dense("mask.first", scene.first.features, scene.first.width, d_),
                    d_};
  const Level middle = propagation("mask.fp1", top, first, {d_, d_});
  const Level all{points_, dense("mask.colours", scene.colours, 3, d_), d_};
  const Level bottom = propagation("mask.fp2", middle, all, {d_, d_});
  const std::string kernels = dense("mask.queries", queries, d_, d_);
  return node("MatMul", "mask_logits", {kernels, transpose("mask.columns", bottom.features, {0, 2, 1})});
}

}  // namespace lithe
