#include "lithe/multibit/self_check.h"

#include <gmock/gmock.h>

#include "lithe/multibit/deploy.h"
#include "multibit/helpers.h"

namespace lithe {
namespace {

using namespace test;

const std::vector<int> kBits{2, 3, 8};

const Graph& model() {
  static const Graph graph = small_model(kBits).branches.graph;
  return graph;
}

Feeds inputs() {
  return {{"x", random_images(4, 12)}};
}

TEST(ExportCheck, ExactFormsAreTheIntegerRunTime) {
  MultibitSession session(model());
  const Graph selectable = deploy_selectable(model(), kBits);
  for (const int bits : kBits) {
    const ExportCheck fixed = check_export(model(), &session, deploy_static(model(), bits), bits, inputs()),
                      chosen = check_export(model(), &session, selectable, bits, inputs());
    EXPECT_EQ(fixed.to_integer, 0.0) << bits;
    EXPECT_EQ(fixed.to_static, std::nullopt);
    EXPECT_EQ(chosen.to_integer, 0.0) << bits;
    EXPECT_EQ(chosen.to_static, 0.0) << bits;
    EXPECT_EQ(chosen.to_float, fixed.to_float) << bits;
    EXPECT_EQ(fixed.agreement, 1) << bits;
  }
}

TEST(ExportCheck, FastFormsDiffer) {
  MultibitSession session(model());
  const ExportCheck check = check_export(model(), &session, deploy_fast(model(), 8), 8, inputs());
  EXPECT_GT(*check.to_integer, 0);
  EXPECT_GT(*check.to_static, 0);
  EXPECT_EQ(check_export(model(), nullptr, deploy_fast(model(), 8), 8, inputs()).to_integer, std::nullopt);
}

// One wrong weight of one branch shows.
TEST(ExportCheck, FindsAWrongWeight) {
  MultibitSession session(model());
  for (Graph broken : {deploy_static(model(), 8), deploy_selectable(model(), kBits)}) {
    const std::string name = "s0.0.conv1.weight@3/quantised/int8";
    ASSERT_TRUE(broken.is_constant(name));
    TensorData& weight = broken.constants.at(name);
    const auto bytes = weight.bytes();
    std::vector<std::int8_t> values;
    for (const std::byte byte : bytes) values.push_back(static_cast<std::int8_t>(byte));
    values[0] = static_cast<std::int8_t>(-values[0]);
    weight = TensorData::from<std::int8_t>(weight.shape(), std::move(values));
    EXPECT_GT(*check_export(model(), &session, broken, 8, inputs()).to_integer, 0);
    if (broken.required_inputs().size() > 1) {  // 2 bits do not run this branch
      EXPECT_EQ(check_export(model(), &session, broken, 2, inputs()).to_integer, 0.0);
    }
  }
}

}  // namespace
}  // namespace lithe
