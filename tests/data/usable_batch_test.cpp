#include "lithe/data/usable_batch.h"

#include <gtest/gtest.h>

#include "data/files.h"

namespace lithe {
namespace {

/// y = Reshape(x [n, 4], shape).
Graph reshaping(const std::vector<std::int64_t>& shape) {
  Graph graph;
  graph.inputs = {{.name = "x", .dtype = DType::Float32, .shape = DimVector{{.symbol = "n"}, {.value = 4}}}};
  graph.constants["shape"] = TensorData::from<std::int64_t>({static_cast<std::int64_t>(shape.size())}, shape);
  graph.nodes = {{.op_type = "Reshape", .inputs = {"x", "shape"}, .outputs = {"y"}}};
  graph.outputs = {{.name = "y", .dtype = DType::Float32}};
  return graph;
}

DatasetPtr fours(std::int64_t samples) {
  return tensor_dataset({{"", at::ones({samples, 4})}});
}

TEST(UsableBatch, IsOneWhereTheBatchOfTheExampleIsBakedIn) {
  EXPECT_EQ(usable_batch(reshaping({1, 2, 2}), fours(5), 32), 1);
  EXPECT_EQ(usable_batch(reshaping({-1, 2, 2}), fours(5), 32), 32);
}

TEST(UsableBatch, IsWhatWasWantedWhereNothingIsToBeFoundOut) {
  EXPECT_EQ(usable_batch(reshaping({1, 2, 2}), fours(5), 1), 1);
  EXPECT_EQ(usable_batch(reshaping({1, 2, 2}), fours(1), 32), 32) << "one sample is never two";
  Graph fixed = reshaping({1, 2, 2});
  fixed.inputs[0].shape->front() = {.value = 1};
  EXPECT_EQ(usable_batch(fixed, fours(5), 32), 32);
}

TEST(UsableBatch, AModelThatRunsNeitherIsNamed) {
  EXPECT_NE(test::message_of([] {
              usable_batch(reshaping({1, 3}), fours(5), 32);
            }).find("Reshape"),
            std::string::npos);
}

}  // namespace
}  // namespace lithe
