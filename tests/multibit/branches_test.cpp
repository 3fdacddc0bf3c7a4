#include "lithe/multibit/branches.h"

#include <gmock/gmock.h>

#include "multibit/helpers.h"

namespace lithe {
namespace {

using test::message_of;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string text(const BranchSelection& selection) {
  std::string out;
  for (const int branch : selection.full) out += std::to_string(branch);
  return selection.partial > 0 ? out + "+" + std::to_string(selection.partial) : out;
}

TEST(Branches, PublishedTable) {
  const char* expected[] = {"1", "1+2", "23", "23+4", "234", "123+4", "1234"};
  for (int bits = 2; bits <= 8; ++bits)
    EXPECT_EQ(text(select_branches(bits, branch_count(8), true)), expected[bits - 2]);
}

TEST(Branches, WithoutAmortisationTheFirstOnesRun) {
  const char* expected[] = {"1", "1+2", "12", "12+3", "123", "123+4", "1234"};
  for (int bits = 2; bits <= 8; ++bits)
    EXPECT_EQ(text(select_branches(bits, branch_count(8), false)), expected[bits - 2]);
}

// The authors' files for the list 2, 3, 4.
TEST(Branches, OfShorterLists) {
  EXPECT_EQ(branch_count(4), 2);
  EXPECT_EQ(text(select_branches(2, 2, true)), "1");
  EXPECT_EQ(text(select_branches(3, 2, true)), "1+2");
  EXPECT_EQ(text(select_branches(4, 2, true)), "12");
  EXPECT_EQ(text(select_branches(5, 3, true)), "12+3");
  EXPECT_EQ(text(select_branches(4, 3, true)), "23");
}

TEST(Branches, ListsOfBits) {
  EXPECT_NO_THROW(check_bits({2, 3, 4, 5, 6, 7, 8}));
  EXPECT_THAT(message_of([] { check_bits({}); }), HasSubstr("no bit-width"));
  EXPECT_THAT(message_of([] { check_bits({2, 9}); }), HasSubstr("9 is not from 2 to 8"));
  EXPECT_THAT(message_of([] { check_bits({4, 2}); }), HasSubstr("not ascending"));
}

}  // namespace
}  // namespace lithe
