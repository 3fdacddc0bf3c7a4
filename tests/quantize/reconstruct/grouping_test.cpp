#include "lithe/quantize/reconstruct/grouping.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "lithe/base/error.h"
#include "lithe/graph/shape_inference.h"
#include "lithe/models/models.h"
#include "message_of.h"
#include "tests/quantize/helpers.h"

namespace lithe {
namespace {

using test::message_of;
using testing::ElementsAre;
using testing::HasSubstr;
using Groups = std::vector<std::vector<int>>;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// The loss of BRECQ over the first 17 units of MobileNetV2, read off the figure in the repository of Ma et
/// al., CVPR 2023; the head is not in the figure.
const std::vector<double> kCurve{1.0, 1.5, 7.0,   4.0,   5.15, 7.4,  5.2,   7.4, 8.15,
                                 9.4, 7.3, 10.05, 14.55, 6.8,  10.9, 16.65, 10.7};

std::vector<double> curve_with_head(double head) {
  std::vector<double> curve = kCurve;
  curve.push_back(head);
  return curve;
}

std::vector<Unit> plain_units(int count) {
  std::vector<Unit> units(static_cast<std::size_t>(count));
  for (int i = 0; i < count; ++i) units[static_cast<std::size_t>(i)].name = "u" + std::to_string(i);
  return units;
}

std::vector<double> modcap(const Graph& graph, const std::vector<Unit>& units, double factor = 1.6) {
  std::vector<double> capacity;
  for (const Unit& unit : units)
    capacity.push_back(unit_capacity(
        graph, unit, [](const Node&) { return 2; }, factor));
  return capacity;
}

std::vector<int> sorted(std::vector<int> edges) {
  std::sort(edges.begin(), edges.end());
  return edges;
}

/// Edges of the k largest steps of ModCap, the last unit excluded.
std::vector<int> modcap_edges(const Graph& graph, int k, double factor) {
  const auto units = find_units(graph);
  std::vector<double> capacity = modcap(graph, units, factor);
  capacity.pop_back();
  return sorted(top_k_edges(capacity, k));
}

TEST(TopKEdges, FollowsTheFormula) {
  const std::vector<double> c{4, 9, 8, 2, 3, 10};  // differences squared: 25 1 36 1 49
  EXPECT_THAT(top_k_edges(c, 1), ElementsAre(4));
  EXPECT_THAT(top_k_edges(c, 2), ElementsAre(4, 2));
  EXPECT_THAT(top_k_edges(c, 3), ElementsAre(4, 2, 0));
  EXPECT_THAT(top_k_edges(c, 4), ElementsAre(4, 2, 0, 1));  // of equals the lower index
  EXPECT_THAT(sorted(top_k_edges(c, 1, 5)), ElementsAre(0, 2, 4));
  EXPECT_THAT(sorted(top_k_edges(c, 1, 20)), ElementsAre(2, 4));
  EXPECT_THAT(sorted(top_k_edges(c, 0, 1)), ElementsAre(0, 2, 4));
  EXPECT_THAT(top_k_edges(c, 0), ElementsAre());
  EXPECT_EQ(top_k_edges(c, 99).size(), 5u);
  EXPECT_TRUE(top_k_edges({}, 3).empty());
}

/// The formula says how many ones are best; every mask must agree.
TEST(TopKEdges, IsTheBestOfAllMasks) {
  const std::vector<double> c{3, 1, 4, 1, 5, 9, 2, 6, 5};
  for (const int k : {0, 2, 5})
    for (const double penalty : {0.5, 3.0, 11.0, 40.0}) {
      const auto value = [&](unsigned mask) {
        double sum = 0;
        int ones = 0;
        for (std::size_t i = 0; i + 1 < c.size(); ++i)
          if (mask >> i & 1u) sum += (c[i] - c[i + 1]) * (c[i] - c[i + 1]), ++ones;
        return sum - penalty * (ones - k) * (ones - k);
      };
      double best = -kInfinity;
      for (unsigned mask = 0; mask < 1u << (c.size() - 1); ++mask) best = std::max(best, value(mask));
      unsigned chosen = 0;
      for (const int edge : top_k_edges(c, k, penalty)) chosen |= 1u << edge;
      EXPECT_DOUBLE_EQ(value(chosen), best) << k << " " << penalty;
    }
}

TEST(Edges, OfThePublishedLossCurve) {
  EXPECT_THAT(sorted(drop_edges(kCurve)), ElementsAre(2, 5, 9, 12, 15));
  EXPECT_THAT(drop_edges(kCurve, 2), ElementsAre(12, 15));
  EXPECT_THAT(sorted(top_k_edges(kCurve, 5)), ElementsAre(1, 11, 12, 14, 15));
  EXPECT_THAT(sorted(top_k_edges(kCurve, 7)), ElementsAre(1, 2, 11, 12, 13, 14, 15));
}

TEST(Edges, FallsWithinTheMarginDoNotCount) {
  const std::vector<double> c{1, 0.998, 2, 1.8, 3};
  EXPECT_THAT(sorted(drop_edges(c)), ElementsAre(0, 2));
  EXPECT_THAT(drop_edges(c, -1, kLeastFall), ElementsAre(2));
  EXPECT_EQ(format_groups(choose_groups(plain_units(5), c, {})), "0 | 1 | 2-3 | 4");
}

TEST(Edges, OfDataFreeCapacities) {
  const Graph mobilenet = build_mobilenet_v2();
  EXPECT_THAT(modcap_edges(mobilenet, 2, 1.6), ElementsAre(13, 15));
  EXPECT_THAT(modcap_edges(mobilenet, 5, 1.6), ElementsAre(6, 10, 12, 13, 15));
  EXPECT_THAT(modcap_edges(mobilenet, 7, 1.6), ElementsAre(5, 6, 9, 10, 12, 13, 15));
  EXPECT_THAT(modcap_edges(mobilenet, 5, 1), ElementsAre(6, 10, 12, 13, 15));
  EXPECT_THAT(modcap_edges(build_mobilenet_v2({.width = 0.5}), 7, 1.6), ElementsAre(1, 6, 9, 10, 12, 13, 15));
  EXPECT_THAT(modcap_edges(build_resnet20(), 2, 1), ElementsAre(6, 7));
  EXPECT_THAT(modcap_edges(build_resnet20(), 2, 1.6), ElementsAre(3, 6));
  const Graph resnet18 = build_resnet18();
  EXPECT_THAT(modcap_edges(resnet18, 2, 1), ElementsAre(6, 7));
  EXPECT_THAT(modcap_edges(resnet18, 2, 1.6), ElementsAre(4, 6));
  EXPECT_THAT(modcap_edges(resnet18, 5, 1.6), ElementsAre(2, 4, 5, 6, 7));
}

TEST(GroupsFromEdges, Chain) {
  const std::vector<int> published{2, 5, 8, 9, 11, 12, 15};
  EXPECT_EQ(format_groups(groups_from_edges(18, published)),
            "0 | 1 | 2-3 | 4 | 5-6 | 7 | 8-9-10 | 11-12-13 | 14 | 15-16 | 17");
  EXPECT_EQ(format_groups(groups_from_edges(10, std::vector{2, 4})), "0 | 1 | 2-3 | 4-5 | 6 | 7 | 8 | 9");
  EXPECT_EQ(format_groups(groups_from_edges(1, {})), "0");
  EXPECT_TRUE(groups_from_edges(0, {}).empty());
}

TEST(ChooseGroups, DropTakesPeaksWithTheirSuccessors) {
  const auto units = plain_units(18);
  // A head of small loss would be a drop; it stays alone unless asked for.
  const auto capacity = curve_with_head(0.5);
  EXPECT_EQ(format_groups(choose_groups(units, capacity, {})),
            "0 | 1 | 2-3 | 4 | 5-6 | 7 | 8 | 9-10 | 11 | 12-13 | 14 | 15-16 | 17");
  EXPECT_EQ(format_groups(choose_groups(units, capacity, {.merge_last = true})),
            "0 | 1 | 2-3 | 4 | 5-6 | 7 | 8 | 9-10 | 11 | 12-13 | 14 | 15-16-17");
  EXPECT_EQ(format_groups(choose_groups(units, capacity, {.merges = 2})),
            "0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11 | 12-13 | 14 | 15-16 | 17");
}

TEST(ChooseGroups, ExtendsBackwardsOverTheSteepestRises) {
  const auto units = plain_units(18);
  EXPECT_EQ(format_groups(choose_groups(units, curve_with_head(20), {.merges = 7, .extend_backwards = true})),
            "0 | 1-2-3 | 4 | 5-6 | 7 | 8 | 9-10 | 11 | 12-13 | 14-15-16 | 17");
  EXPECT_EQ(format_groups(choose_groups(units, curve_with_head(20), {.extend_backwards = true})),
            "0 | 1-2-3 | 4-5-6 | 7 | 8-9-10 | 11-12-13 | 14-15-16 | 17");
}

TEST(ChooseGroups, MonotoneLossesMergeNothing) {
  const auto units = plain_units(4);
  std::vector<std::string> notes;
  EXPECT_EQ(format_groups(choose_groups(units, std::vector<double>{1, 2, 3, 9}, {})), "0 | 1 | 2 | 3");
  EXPECT_EQ(format_groups(
                choose_groups(units, std::vector<double>{1, 2, 3, 9}, {.selector = Grouping::TopK}, &notes)),
            "0 | 1 | 2 | 3");
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_THAT(notes[0], HasSubstr("must be given"));
}

TEST(ChooseGroups, TopKTakesAsManyAsFall) {
  const auto units = plain_units(18);
  const auto groups = choose_groups(units, curve_with_head(20), {.selector = Grouping::TopK, .max_group = 9});
  EXPECT_EQ(format_groups(groups), "0 | 1-2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11-12-13 | 14-15-16 | 17");
}

TEST(ChooseGroups, CapLeavesTheLeastImportantEdgesOut) {
  const auto units = plain_units(18);
  std::vector<std::string> notes;
  const auto groups =
      choose_groups(units, curve_with_head(20), {.selector = Grouping::TopK, .merges = 7}, &notes);
  // By importance 12, 14, 15, 2, 1, 11, 13: only 13 would make six of 11 to 16.
  EXPECT_EQ(format_groups(groups), "0 | 1-2-3 | 4 | 5 | 6 | 7 | 8 | 9 | 10 | 11-12-13 | 14-15-16 | 17");
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_EQ(notes[0],
            "units 13 'u13' and 14 'u14' stay apart: joined they need a group of 6 units; there may be 3");
}

TEST(ChooseGroups, MemoryBoundsGroups) {
  const auto units = plain_units(4);
  std::vector<std::string> notes;
  GroupingOptions options{.selector = Grouping::Preset, .preset = {{0, 1}, {2, 3}}};
  options.bytes = [](int first, int) { return first == 0 ? 5'000'000 : 1'000'000; };
  options.max_bytes = 2'000'000;
  EXPECT_EQ(format_groups(choose_groups(units, {}, options, &notes)), "0 | 1 | 2-3");
  ASSERT_EQ(notes.size(), 1u);
  EXPECT_THAT(notes[0], HasSubstr("5.0 MB of memory; there may be 2.0 MB"));
  options.max_bytes = 0;
  EXPECT_EQ(format_groups(choose_groups(units, {}, options)), "0-1 | 2-3");
}

TEST(ChooseGroups, StagesOfKnownNetworks) {
  const auto groups = [](Graph graph, GroupingOptions options) {
    infer_shapes(graph);
    const auto units = find_units(graph);
    const auto capacity = options.merges < 0 ? std::vector<double>{} : modcap(graph, units);
    options.selector = Grouping::Stage;
    return format_groups(choose_groups(units, capacity, options));
  };
  EXPECT_EQ(groups(build_resnet18(), {}), "0 | 1 | 2-3 | 4-5 | 6-7 | 8 | 9");
  // The edges on which the published loss curve falls.
  EXPECT_EQ(groups(build_mobilenet_v2(), {}),
            "0 | 1 | 2-3 | 4 | 5-6 | 7 | 8 | 9-10 | 11 | 12-13 | 14 | 15-16 | 17");
  EXPECT_EQ(groups(build_resnet50(), {}),
            "0 | 1 | 2 | 3-4 | 5 | 6 | 7-8 | 9 | 10 | 11 | 12 | 13-14 | 15 | 16 | 17");
  EXPECT_EQ(groups(build_resnet20(), {}), "0 | 1 | 2 | 3-4 | 5 | 6-7 | 8 | 9 | 10");
  EXPECT_EQ(groups(build_resnet20(), {.merges = 1}), "0 | 1 | 2 | 3 | 4 | 5 | 6-7 | 8 | 9 | 10");
}

TEST(ChooseGroups, None) {
  EXPECT_EQ(format_groups(choose_groups(plain_units(3), {}, {.selector = Grouping::None})), "0 | 1 | 2");
  EXPECT_TRUE(choose_groups({}, {}, {}).empty());
}

TEST(ChooseGroups, RefusesWhatDoesNotFit) {
  const auto units = plain_units(3);
  EXPECT_THAT(message_of([&] {
                choose_groups(units, std::vector<double>{1, 2}, {});
              }),
              HasSubstr("2 capacities for 3 units"));
  EXPECT_THAT(message_of([&] {
                choose_groups(units, std::vector<double>{1, std::nan(""), 2}, {});
              }),
              HasSubstr("unit 1 'u1' is nan"));
  EXPECT_THAT(message_of([&] {
                choose_groups(units, std::vector<double>{1, 2, 3}, {.max_group = 0});
              }),
              HasSubstr("at least 1 unit"));
  EXPECT_THAT(message_of([&] {
                choose_groups(units, {}, {.selector = Grouping::Preset, .preset = {{0, 2}}});
              }),
              HasSubstr("only neighbours"));
}

TEST(ParseGroups, PublishedOnes) {
  const auto format = [](std::string_view text, int units) {
    return format_groups(choose_groups(plain_units(units), {},
                                       {.selector = Grouping::Preset, .preset = parse_groups(text, units)}));
  };
  EXPECT_EQ(format("resnet18", 10), "0 | 1 | 2-3 | 4-5 | 6 | 7 | 8 | 9");
  EXPECT_EQ(format("resnet50", 18), "0 | 1 | 2 | 3-4 | 5 | 6 | 7-8-9 | 10 | 11 | 12 | 13-14 | 15 | 16 | 17");
  EXPECT_EQ(format("mobilenet_v2", 18), "0 | 1 | 2-3 | 4 | 5-6 | 7 | 8-9-10 | 11-12-13 | 14 | 15-16 | 17");
  EXPECT_EQ(format("regnetx_600m", 18),
            "0 | 1 | 2 | 3 | 4-5-6 | 7 | 8 | 9-10 | 11 | 12 | 13 | 14 | 15-16 | 17");
  EXPECT_THAT(message_of([] { parse_groups("resnet18", 11); }),
              HasSubstr("of 10 units, but the model has 11"));
}

TEST(ParseGroups, Lists) {
  EXPECT_EQ(parse_groups("2-3,7-8-9", 12), (Groups{{2, 3}, {7, 8, 9}}));
  EXPECT_EQ(parse_groups("7-10,0", 12), (Groups{{7, 8, 9, 10}, {0}}));
  // What the user lists may exceed the cap that holds for selectors.
  EXPECT_EQ(format_groups(choose_groups(plain_units(6), {},
                                        {.selector = Grouping::Preset, .preset = parse_groups("1-4", 6)})),
            "0 | 1-2-3-4 | 5");
}

TEST(ParseGroups, Errors) {
  EXPECT_THAT(message_of([] { parse_groups("resnet34", 18); }), HasSubstr("resnet18, resnet50"));
  EXPECT_THAT(message_of([] { parse_groups("", 18); }), HasSubstr("write groups such as 2-3,7-8-9"));
  EXPECT_THAT(message_of([] { parse_groups("2-3,", 18); }), HasSubstr("'' where a unit's number belongs"));
  EXPECT_THAT(message_of([] { parse_groups("2-x", 18); }), HasSubstr("'x'"));
  EXPECT_THAT(message_of([] { parse_groups("99999999999-3", 18); }), HasSubstr("99999999999"));
  EXPECT_THAT(message_of([] { parse_groups("2-18", 18); }),
              HasSubstr("names unit 18, but the units are 0 to 17"));
  EXPECT_THAT(message_of([] { parse_groups("3-2", 18); }), HasSubstr("joins unit 3 with unit 2"));
  EXPECT_THAT(message_of([] { parse_groups("2-4-5", 18); }), HasSubstr("joins unit 2 with unit 4"));
  EXPECT_THAT(message_of([] { parse_groups("2-3,3-4", 18); }), HasSubstr("names unit 3 twice"));
}

/// Runs unit after unit, each on what earlier ones made.
void expect_runs_piecewise(const Graph& graph, const std::vector<Unit>& units, const Feeds& inputs) {
  Executor executor(graph, {.fuse = false});
  const Feeds wanted = executor.run(inputs);
  Feeds made = inputs;
  for (const Unit& unit : units) {
    Feeds feeds;
    std::vector<std::string> missing;  // sizes, made beside the units
    for (const std::string& name : unit.inputs) {
      if (made.find(name) != made.end())
        feeds[name] = made.at(name);
      else
        missing.push_back(name);
    }
    if (!missing.empty()) feeds.merge(executor.run(made, missing));
    made.merge(executor.run(feeds, unit.outputs));
  }
  for (const auto& [name, value] : wanted) {
    ASSERT_NE(made.find(name), made.end()) << name;
    EXPECT_LT((made.at(name) - value).abs().max().item<double>(), 1e-4) << name;
  }
}

TEST(Units, RunOneAfterTheOther) {
  at::set_num_threads(1);
  const auto check = [](const Graph& graph, const Feeds& inputs) {
    SCOPED_TRACE(graph.name);
    const auto units = find_units(graph);
    std::vector<int> edges;
    for (int i = 0; i + 1 < static_cast<int>(units.size()); i += 2) edges.push_back(i);
    const auto groups = groups_from_edges(static_cast<int>(units.size()), edges);
    expect_runs_piecewise(graph, units, inputs);
    expect_runs_piecewise(graph, merge_units(graph, units, groups), inputs);
    expect_runs_piecewise(graph, split_units(graph, units), inputs);
  };
  using testing_helpers::random_tensor;
  check(build_resnet20({.classes = 4, .image_size = 16, .width = 0.25}),
        {{"input", random_tensor({2, 3, 16, 16}, 1)}});
  check(build_mobilenet_v2_small_images({.classes = 4, .image_size = 32, .width = 0.25}),
        {{"input", random_tensor({2, 3, 32, 32}, 2)}});
  check(build_edsr({.channels = 8, .blocks = 2, .image_size = 8}),
        {{"input", random_tensor({2, 3, 8, 8}, 3)}});
  check(build_unet({.image_size = 8,
                    .base = 8,
                    .multipliers = {1, 2},
                    .residual_blocks = 1,
                    .attention_sizes = {4},
                    .groups = 4}),
        {{"x", random_tensor({2, 3, 8, 8}, 4)}, {"t", at::arange(2, at::kLong)}});
  check(build_vit({.image_size = 32, .patch = 16, .dim = 48, .depth = 2, .classes = 4}),
        {{"input", random_tensor({2, 3, 32, 32}, 5)}});
}

TEST(Grouping, Names) {
  for (const Grouping grouping :
       {Grouping::None, Grouping::TopK, Grouping::Drop, Grouping::Stage, Grouping::Preset})
    EXPECT_EQ(parse_grouping(grouping_name(grouping)), grouping);
  EXPECT_THAT(message_of([] { parse_grouping("best"); }), HasSubstr("none, topk, drop, stage or preset"));
}

}  // namespace
}  // namespace lithe
