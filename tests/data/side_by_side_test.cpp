#include "lithe/data/side_by_side.h"

#include <gtest/gtest.h>

#include "message_of.h"

namespace lithe {
namespace {

TEST(SideBySide, IsAPngOfTheRightSize) {
  const std::string png =
      side_by_side_png({{"one", at::zeros({3, 10, 12})}, {"two", at::full({3, 10, 12}, 255.0)}}, 3);
  ASSERT_GT(png.size(), 24u);
  EXPECT_EQ(png.substr(1, 3), "PNG");
  const auto number = [&](std::size_t at) {
    return (static_cast<unsigned char>(png[at + 2]) << 8) + static_cast<unsigned char>(png[at + 3]);
  };
  EXPECT_EQ(number(16), 2 * 36 + 8);
  EXPECT_EQ(number(20), 30 + 22);
  EXPECT_NE(test::message_of([] {
              side_by_side_png({{"a", at::zeros({3, 4, 4})}, {"b", at::zeros({3, 5, 4})}}, 1);
            }),
            "");
  EXPECT_NE(test::message_of([] { side_by_side_png({}, 1); }), "");
}

}  // namespace
}  // namespace lithe
