// PointNet++ of the grounding network.
#include "lithe/graph/point_function.h"
#include "lithe/models/grounding_builder.h"

namespace lithe {

GroundingBuilder::Scene GroundingBuilder::backbone() {
  const auto& levels = options_.abstraction;
  const std::string points = input("points", {-1, -1, 6});
  points_ = cut("positions", points, 2, 0, 3);
  Scene scene;
  scene.colours = cut("colours", points, 2, 3, 6);
  const std::string centres =
      search(kFarthestPointSample, "sa1.centres", {points_},
             {{"count", levels[0].points}, {"skip_origin", std::int64_t{options_.skip_origin}}});
  // Farthest points come in an order of which every beginning is a sample too.
  const std::string all = pick("sa1.positions", points_, centres);
  std::array<Level, 4> level;
  level[0] = abstraction("sa1", {points_, scene.colours, 3}, all, levels[0]);
  for (std::size_t i = 1; i < levels.size(); ++i) {
    const std::string name = fmt::format("sa{}", i + 1);
    const std::string positions =
        cut(i == 1 ? "seed_positions" : name + ".positions", all, 1, 0, levels[i].points);
    level[i] = abstraction(name, level[i - 1], positions, levels[i]);
  }
  const std::int64_t inner = options_.propagation;
  scene.first = level[0];
  const Level third = propagation("fp1", level[3], level[2], {inner, inner});
  scene.seeds = propagation("fp2", third, level[1], {inner, d_});
  if (options_.seed_colours)
    scene.seeds.features = colour_features(scene, cut("seed_indices", centres, 1, 0, levels[1].points));
  scene.seeds.features = node("Identity", "seed_features", {scene.seeds.features});
  return scene;
}

GroundingBuilder::Level GroundingBuilder::abstraction(const std::string& name, const Level& from,
                                                      const std::string& positions,
                                                      const SetAbstraction& how) {
  const std::string neighbours = search(kBallQuery, name + ".neighbours", {from.positions, positions},
                                        {{"radius", how.radius}, {"samples", how.samples}});
  const std::string offsets =
      node("Sub", name + ".offsets",
           {pick(name + ".near", from.positions, neighbours), unsqueeze(name + ".middles", positions, {2})});
  const std::string relative =
      node("Div", name + ".relative", {offsets, scalar(name + ".radius", how.radius)});
  const std::string grouped =
      concat(name + ".grouped", {relative, pick(name + ".picked", from.features, neighbours)}, 3);
  const std::string each =
      mixed_mlp(name + ".mlp", grouped, from.width + 3, {how.widths.begin(), how.widths.end()});
  return {positions, reduce("ReduceMax", name + ".features", each, 2), how.widths.back()};
}

GroundingBuilder::Level GroundingBuilder::propagation(const std::string& name, const Level& from,
                                                      const Level& to,
                                                      const std::vector<std::int64_t>& widths) {
  const std::string weights = name + ".weights";
  const std::string indices = search(kNearestPoints, name + ".indices", {from.positions, to.positions},
                                     {{"k", std::int64_t{3}}}, weights);
  const std::string near =
      node("Mul", name + ".weighted",
           {pick(name + ".near", from.features, indices), unsqueeze(name + ".shares", weights, {3})});
  const std::string both =
      concat(name + ".both", {reduce("ReduceSum", name + ".between", near, 2), to.features}, 2);
  return {to.positions, mixed_mlp(name + ".mlp", both, from.width + to.width, widths), widths.back()};
}

/// The seeds' own colours and the means of those around them reach them without passing the abstractions.
std::string GroundingBuilder::colour_features(const Scene& scene, const std::string& seed_indices) {
  const std::string own = pick("seed_colours.own", scene.colours, seed_indices);
  const std::string around =
      cut("seed_colours.around", reduce("ReduceMean", "seed_colours.means", "sa1.picked", 2), 1, 0,
          options_.seeds());
  const std::string colours = concat("seed_colours.both", {own, around}, 2);
  const std::string wide =
      node("Relu", "seed_colours.relu", {dense("seed_colours.0", colours, 6, d_, {.gain = 4})});
  return node("Add", "seed_colours.added", {scene.seeds.features, dense("seed_colours.1", wide, d_, d_)});
}

}  // namespace lithe
