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
  EXPECT_EQ(read_schedule(path + "#CAFormer/5.6").prune, (Counts{196, 196, 162}));
  EXPECT_NE(message_of([&] { read_schedule(path); }).find("ViT-S-DeiT/2.3"), std::string::npos);
  EXPECT_NE(message_of([&] { read_schedule(path + "#ViT-S-DeiT/2.8"); }).find("no schedule 'ViT-S-DeiT/2.8'"),
            std::string::npos);
}

TEST(Schedule, WrittenAndReadAgain) {
  const TemporaryFolder folder;
  const auto path = folder.path() / "schedule.json";
  const TokenSchedule schedule{{17, 12, 6}, {17, 9, 4}};
  write_schedule(path, "vit", "0.6", schedule);
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
  EXPECT_TRUE(check_schedule({{17, 9, 10}, {17, 9, 4}}, 3, 17, 1));
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
