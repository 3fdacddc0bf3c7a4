#include "lithe/tokens/schedule.h"

#include <gtest/gtest.h>

#include "lithe/base/file.h"
#include "message_of.h"

namespace lithe {
namespace {

using Counts = std::vector<std::int64_t>;
using test::message_of;

TEST(Schedule, PublishedFileWithListsAsStrings) {
  const TemporaryFolder folder;
  const std::string path = folder.path() / "rates.json";
  write_file(path,
             R"({"ViT-S-DeiT": {"2.9": {"prune_kept_num": "[197, 196, 3]", "merge_kept_num": [197, 194, 3]},
                                      "2.3": {"prune_kept_num": "[197, 192, 3]", "merge_kept_num": "[197, 180, 3]"}},
                       "CAFormer": {"5.6": {"merge_kept_num": "[196, 162, 151]"}}})");
  const TokenSchedule schedule = read_schedule(path + "#ViT-S-DeiT/2.9");
  EXPECT_EQ(schedule.prune, (Counts{197, 196, 3}));
  EXPECT_EQ(schedule.merge, (Counts{197, 194, 3}));
  // Merging alone: nothing is pruned, in the first block neither.
  const TokenSchedule merged = read_schedule(path + "#CAFormer/5.6");
  EXPECT_EQ(effective(merged, 200).prune, (Counts{200, 196, 162}));
  EXPECT_EQ(effective(merged, 200).merge, (Counts{196, 162, 151}));
  EXPECT_FALSE(check_schedule(merged, 3, 200, 1));
  write_file(path, R"({"prune_kept_num": [190, 20, 10]})");
  EXPECT_EQ(effective(read_schedule(path), 200).merge, (Counts{190, 20, 10}));
}

TEST(Schedule, ManyNamesAndLongValuesAreShortened) {
  const TemporaryFolder folder;
  const std::string path = folder.path() / "rates.json";
  std::string many = "{\"m\": {";
  for (int i = 0; i < 1000; ++i)
    many += (i == 0 ? "" : ", ") + std::string("\"t") + std::to_string(i) +
            R"(": {"prune_kept_num": [5, 3], "merge_kept_num": [5, 3]})";
  write_file(path, many + "}}");
  const std::string text = message_of([&] { read_schedule(path); });
  EXPECT_NE(text.find("and 990 more"), std::string::npos) << text;
  EXPECT_LT(text.size(), 500u);
  write_file(path, R"({"prune_kept_num": [")" + std::string(100000, 'x') + R"("], "merge_kept_num": [1]})");
  EXPECT_LT(message_of([&] { read_schedule(path); }).size(), 300u);
  EXPECT_NE(message_of([&] { read_schedule(path); }).find("no number of tokens"), std::string::npos);
}

TEST(Schedule, DeepNestingIsRefused) {
  const TemporaryFolder folder;
  const std::string path = folder.path() / "rates.json";
  const std::string deep = std::string(100000, '[') + std::string(100000, ']');
  for (const std::string& list : {deep, "\"" + deep + "\""}) {
    write_file(path, "{\"prune_kept_num\": " + list + ", \"merge_kept_num\": [3]}");
    EXPECT_NE(message_of([&] { read_schedule(path); }).find("nested deeper"), std::string::npos);
  }
}

TEST(Schedule, OperatorsOfOtherMethods) {
  const TemporaryFolder folder;
  const std::string path = folder.path() / "rates.json";
  const TokenSchedule tome{{17, 17, 15}, {17, 15, 11}, TokenOperators::Tome};
  write_file(path, schedule_text("m", "1", tome));
  EXPECT_EQ(read_schedule(path), tome);
  write_file(path, R"({"prune_kept_num": [5], "merge_kept_num": [5], "method": "magic"})");
  EXPECT_NE(message_of([&] { read_schedule(path); }).find("\"magic\""), std::string::npos);
}

TEST(Schedule, SeveralOfOneFile) {
  const TemporaryFolder folder;
  const std::string path = folder.path() / "rates.json";
  write_file(path,
             R"({"ViT-S-DeiT": {"2.9": {"prune_kept_num": "[197, 196, 3]", "merge_kept_num": [197, 194, 3]},
                                      "2.3": {"prune_kept_num": "[197, 192, 3]", "merge_kept_num": "[197, 180, 3]"}}})");
  EXPECT_NE(message_of([&] { read_schedule(path); }).find("ViT-S-DeiT/2.3"), std::string::npos);
  EXPECT_NE(message_of([&] { read_schedule(path + "#ViT-S-DeiT/2.8"); }).find("no schedule 'ViT-S-DeiT/2.8'"),
            std::string::npos);
}

TEST(Schedule, WrittenAndReadAgain) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "schedule.json";
  const TokenSchedule schedule{{17, 12, 6}, {17, 9, 4}};
  write_file(path, schedule_text("vit", "0.6", schedule));
  EXPECT_EQ(read_schedule(path.string()), schedule);
}

TEST(Schedule, RunningMinima) {
  const TokenSchedule real = effective({{257, 248, 250, 3}, {257, 249, 242, 3}}, 257);
  EXPECT_EQ(real.prune, (Counts{257, 248, 248, 3}));
  EXPECT_EQ(real.merge, (Counts{257, 248, 242, 3}));
}

TEST(Schedule, WhatDoesNotFit) {
  const TokenSchedule good{{17, 12, 6}, {17, 9, 4}};
  EXPECT_FALSE(check_schedule(good, 3, 17, 1));
  EXPECT_EQ(check_schedule({{17, 9, 10}, {17, 9, 4}}, 3, 17, 1), 2u);
  EXPECT_EQ(check_schedule({{17, 9, 8}, {17, 10, 4}}, 3, 17, 1),
            1u);  // merging cannot keep more than pruning
  EXPECT_EQ(check_schedule({{17, 12, 10}, {12, 9, 4}}, 3, 17, 1), 2u);
  EXPECT_NE(message_of([&] { check_schedule(good, 4, 17, 1); }).find("4 blocks"), std::string::npos);
  EXPECT_NE(message_of([&] { check_schedule(good, 3, 16, 1); }).find("keeps 17 tokens"), std::string::npos);
  EXPECT_NE(message_of([&] {
              check_schedule({{17, 12, 6}, {17, 9, 1}}, 3, 17, 1);
            }).find("at least 2"),
            std::string::npos);
}

TEST(Schedule, BrokenFiles) {
  const TemporaryFolder folder;
  const std::string path = folder.path() / "s.json";
  for (const auto& [text, complaint] : std::vector<std::pair<std::string, std::string>>{
           {"[", "not valid JSON"},
           {"{}", "holds no schedule"},
           {R"({"prune_kept_num": "[1,", "merge_kept_num": [1]})", "not valid JSON"},
           {R"({"prune_kept_num": [1.5], "merge_kept_num": [1]})", "no number of tokens"},
           {R"({"prune_kept_num": [-1], "merge_kept_num": [1]})", "no number of tokens"},
           {R"({"prune_kept_num": [2, 2], "merge_kept_num": [2]})", "has 2 numbers"},
           {R"({"prune_kept_num": [], "merge_kept_num": []})", "empty"}}) {
    write_file(path, text);
    EXPECT_NE(message_of([&] { read_schedule(path); }).find(complaint), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace lithe
