#include "lithe/quantize/reconstruct/learning_plan.h"

#include <gmock/gmock.h>

#include "lithe/models/models.h"
#include "message_of.h"
#include "tests/quantize/helpers.h"

namespace lithe {
namespace {

using test::message_of;
using testing::Contains;
using testing::HasSubstr;

LearningPlan plan(const ReconstructOptions& options, std::int64_t samples = 1) {
  static const Graph graph =
      build_resnet20({.classes = 10, .image_size = 16, .width = 0.5, .batch_norm = false});
  return plan_learning(graph, [](const Node&) { return 4; }, options, options.batch,
                       {{graph.inputs[0].name, {samples, 3, 16, 16}}});
}

TEST(LearningPlan, NamesUnitsAndGroupsUnlessLossesChooseThem) {
  ReconstructOptions options = reconstruct_options(ReconstructMethod::Mrecg, Effort::Fast);
  EXPECT_EQ(plan(options).units.size(), 11u);
  EXPECT_FALSE(plan(options).groups);
  options.capacity = CapacityMetric::ModCap;
  options.grouping.selector = Grouping::Stage;
  EXPECT_EQ(format_groups(*plan(options).groups), "0 | 1 | 2 | 3-4 | 5 | 6-7 | 8 | 9 | 10");
  options.grouping.selector = Grouping::None;
  EXPECT_EQ(plan(options).groups, plan(options).singles());
  EXPECT_EQ(plan(options).whole(), (UnitGroups{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}}));
}

TEST(LearningPlan, StaysWithinTheMemoryWhateverTheShapesGivenHold) {
  ReconstructOptions options = reconstruct_options(ReconstructMethod::Brecq, Effort::Fast);
  options.memory = 1'000'000;
  const LearningPlan one = plan(options), several = plan(options, 8);
  EXPECT_EQ(one.step.bytes(0, 10, 3), several.step.bytes(0, 10, 3));
  const StepBatch step = one.batch_for(one.singles());
  EXPECT_LT(step.samples, options.batch);
  EXPECT_LE(step.bytes, step_share(options.memory));
  EXPECT_THAT(one.notes, Contains(HasSubstr("of the 32 samples of a step run at a time")));
  options.polish_steps = 1;
  EXPECT_THAT(message_of([&] { plan(options); }), HasSubstr("leave out --polish"));
  options.polish_steps = 0;
  options.grouping.selector = Grouping::Preset;
  options.preset = "3-4-5-6-7-8-9";
  EXPECT_THAT(plan(options).notes, Contains(HasSubstr("stay apart")));
  options.preset = "3-40";
  EXPECT_THAT(message_of([&] { plan(options); }), HasSubstr("unit 40"));
}

}  // namespace
}  // namespace lithe
