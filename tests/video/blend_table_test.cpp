// DiffSynth and FastBlend specification, section 10.5.
#include "lithe/video/blend_table.h"

#include <gmock/gmock.h>

#include <map>
#include <tuple>

namespace lithe {
namespace {

using Task = std::tuple<int, int, int>;  // source, target, level

std::vector<Task> build_tasks(std::int64_t frames, int highest = 62) {
  std::vector<Task> tasks;
  for (std::int64_t target = 0; target < frames; ++target)
    for (int level = 1; level <= levels_at(target, highest); ++level) {
      const LevelSources sources = level_sources({target, level});
      for (std::int64_t i = 0; i < sources.count; ++i) tasks.emplace_back(sources.first + i, target, level);
    }
  return tasks;
}

std::vector<TableNode> query(std::int64_t first, std::int64_t last) {
  return query_nodes(first, last, 62);
}

TEST(BlendTable, BuildsFromTheSourcesOfTheSpecification) {
  EXPECT_THAT(build_tasks(8),
              testing::UnorderedElementsAre(Task(0, 1, 1), Task(2, 3, 1), Task(4, 5, 1), Task(6, 7, 1),
                                            Task(0, 3, 2), Task(1, 3, 2), Task(4, 7, 2), Task(5, 7, 2),
                                            Task(0, 7, 3), Task(1, 7, 3), Task(2, 7, 3), Task(3, 7, 3)));
  const std::map<int, std::size_t> counts{{16, 32},   {20, 36},   {32, 80},    {100, 276},
                                          {128, 448}, {200, 652}, {256, 1024}, {900, 3780}};
  for (const auto& [frames, count] : counts) EXPECT_EQ(build_tasks(frames).size(), count) << frames;
}

TEST(BlendTable, QueriesAreThoseOfTheSpecification) {
  using testing::ElementsAre;
  EXPECT_THAT(query(0, 0), ElementsAre(TableNode{0, 0}));
  EXPECT_THAT(query(0, 7), ElementsAre(TableNode{7, 3}));
  EXPECT_THAT(query(1, 7), ElementsAre(TableNode{7, 2}, TableNode{3, 1}, TableNode{1, 0}));
  EXPECT_THAT(query(3, 10), ElementsAre(TableNode{10, 0}, TableNode{9, 1}, TableNode{7, 2}, TableNode{3, 0}));
  EXPECT_THAT(query(0, 10), ElementsAre(TableNode{10, 0}, TableNode{9, 1}, TableNode{7, 3}));
  EXPECT_THAT(query(5, 20), ElementsAre(TableNode{20, 0}, TableNode{19, 2}, TableNode{15, 3}, TableNode{7, 1},
                                        TableNode{5, 0}));
  EXPECT_THAT(query(4, 19), ElementsAre(TableNode{19, 2}, TableNode{15, 3}, TableNode{7, 2}));
  EXPECT_THAT(query(85, 100), ElementsAre(TableNode{100, 0}, TableNode{99, 2}, TableNode{95, 3},
                                          TableNode{87, 1}, TableNode{85, 0}));
  EXPECT_THAT(query(2, 5), ElementsAre(TableNode{5, 1}, TableNode{3, 1}));
}

TEST(BlendTable, HighestLevels) {
  const std::map<int, int> highest{{1, 1},  {2, 1},  {3, 2},  {6, 2},  {7, 3}, {14, 3},
                                   {15, 4}, {30, 4}, {31, 5}, {60, 5}, {63, 6}};
  for (const auto& [window, level] : highest) {
    EXPECT_EQ(highest_level(window), level) << window;
    int used = 0;
    for (std::int64_t last = 0; last < 300; ++last) {
      const auto nodes = query(std::max<std::int64_t>(0, last - window), last);
      for (const TableNode& node : nodes) used = std::max(used, node.level);
      EXPECT_EQ(nodes, query_nodes(std::max<std::int64_t>(0, last - window), last, level));
    }
    EXPECT_EQ(used, level) << window;
  }
}

TEST(BlendTable, NumberOfPairsWithCappedLevels) {
  // Section 2.6, "fast, levels capped": both sides.
  const std::map<std::pair<int, int>, std::int64_t> published{{{32, 7}, 208},    {{100, 15}, 942},
                                                              {{200, 15}, 1954}, {{200, 30}, 2242},
                                                              {{900, 15}, 9042}, {{900, 60}, 13020}};
  for (const auto& [size, pairs] : published) {
    const auto [frames, window] = size;
    auto side = static_cast<std::int64_t>(build_tasks(frames, highest_level(window)).size());
    for (std::int64_t last = 0; last < frames; ++last)
      side += static_cast<std::int64_t>(query(std::max<std::int64_t>(0, last - window), last).size()) - 1;
    EXPECT_EQ(2 * side, pairs) << frames << " " << window;
  }
}

}  // namespace
}  // namespace lithe
