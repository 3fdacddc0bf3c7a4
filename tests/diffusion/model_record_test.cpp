#include "lithe/diffusion/model_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lithe/base/file.h"
#include "lithe/graph/onnx.h"
#include "lithe/models/models.h"
#include "message_of.h"

namespace lithe {
namespace {

using ::testing::HasSubstr;

TEST(DiffusionRecord, LivesInTheFile) {
  Graph graph = build_adm_unet({.base = 8});
  EXPECT_FALSE(diffusion_record(graph));
  const DiffusionRecord record{
      .noise_schedule = "linear", .steps = 500, .prediction = Prediction::V, .low = -0.5, .high = 2.1};
  keep_diffusion_record(graph, record);
  const TemporaryFolder folder;
  write_onnx(graph, folder.path() / "net.onnx");
  const Graph read = read_onnx(folder.path() / "net.onnx");
  EXPECT_EQ(diffusion_record(read), record);
  EXPECT_EQ(diffusion_record(read)->noise().steps(), 500);
}

TEST(DiffusionRecord, NamesWhatCannotBeRead) {
  Graph graph = build_adm_unet({.base = 8});
  keep_diffusion_record(graph, {});
  const auto complaint = [&](const char* key, const char* value) {
    Graph changed = graph;
    changed.header.metadata[key] = value;
    return test::message_of([&] { diffusion_record(changed); });
  };
  EXPECT_THAT(complaint("lithe.diffusion.steps", "many"), HasSubstr("lithe.diffusion.steps"));
  EXPECT_THAT(complaint("lithe.diffusion.steps", "0"), HasSubstr("0"));
  EXPECT_THAT(complaint("lithe.diffusion.noise_schedule", "steep"), HasSubstr("steep"));
  EXPECT_THAT(complaint("lithe.diffusion.prediction", "score"), HasSubstr("score"));
  EXPECT_THAT(complaint("lithe.diffusion.low", "1"), HasSubstr("between"));
  graph.header.metadata.erase("lithe.diffusion.prediction");
  EXPECT_THAT(test::message_of([&] { diffusion_record(graph); }), HasSubstr("lithe.diffusion.prediction"));
}

TEST(ImageRange, FollowsThePreprocessing) {
  EXPECT_EQ(image_range({.mean = {0.5}, .std = {0.5}}), std::pair(-1.0, 1.0));
  EXPECT_EQ(image_range({}), std::pair(0.0, 1.0));
  EXPECT_THAT(test::message_of([] { image_range({.mean = {0.5, 0.4}}); }), HasSubstr("--mean"));
}

}  // namespace
}  // namespace lithe
