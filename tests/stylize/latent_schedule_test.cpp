// Times and shares of noise against the numbers of the specification, section 10.7.
#include "lithe/stylize/latent_schedule.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lithe/base/file.h"
#include "message_of.h"

namespace lithe {
namespace {

using testing::ElementsAre;
using testing::ElementsAreArray;
using testing::HasSubstr;

std::vector<double> times(std::int64_t count, double strength, TimeSpacing spacing) {
  std::vector<double> out;
  for (const LatentStep& step : make_latent_steps({}, count, strength, spacing)) out.push_back(step.timestep);
  return out;
}

TEST(LatentSchedule, PaperTimes) {
  EXPECT_THAT(times(20, 1, TimeSpacing::Paper), ElementsAre(999, 949, 899, 849, 799, 749, 699, 649, 599, 549,
                                                            499, 449, 399, 349, 299, 249, 199, 149, 99, 49));
  EXPECT_THAT(times(10, 1, TimeSpacing::Paper), ElementsAre(999, 899, 799, 699, 599, 499, 399, 299, 199, 99));
  EXPECT_THAT(times(10, 0.3, TimeSpacing::Paper), ElementsAre(299, 199, 99));
}

TEST(LatentSchedule, StudioTimes) {
  EXPECT_THAT(times(20, 1, TimeSpacing::Studio), ElementsAre(999, 946, 894, 841, 789, 736, 684, 631, 578, 526,
                                                             473, 421, 368, 315, 263, 210, 158, 105, 53, 0));
  EXPECT_THAT(times(10, 1, TimeSpacing::Studio), ElementsAre(999, 888, 777, 666, 555, 444, 333, 222, 111, 0));
  EXPECT_THAT(times(20, 0.6, TimeSpacing::Studio),
              ElementsAre(599, 567, 536, 504, 473, 441, 410, 378, 347, 315, 284, 252, 221, 189, 158, 126, 95,
                          63, 32, 0));
  EXPECT_THAT(times(1, 1, TimeSpacing::Studio), ElementsAre(999));
}

TEST(LatentSchedule, LeadingTimesAreThoseOfDiffusers) {
  std::vector<double> wanted;
  for (int t = 951; t > 0; t -= 50) wanted.push_back(t);
  EXPECT_THAT(times(20, 1, TimeSpacing::Leading), ElementsAreArray(wanted));
  const auto steps = make_latent_steps({}, 20, 1, TimeSpacing::Leading);
  EXPECT_NEAR(steps.back().next_alpha_bar, 0.99915, 1e-9) << "alpha_bar at 0 for these models";
  EXPECT_EQ(make_latent_steps({.end_clean = true}, 20, 1, TimeSpacing::Leading).back().next_alpha_bar, 1);
}

TEST(LatentSchedule, SharesOfSignal) {
  const auto steps = make_latent_steps({}, 20);
  EXPECT_NEAR(steps[0].alpha_bar, 0.0046600985, 1e-9);
  EXPECT_NEAR(steps[0].next_alpha_bar, 0.0083401202, 1e-9);
  EXPECT_NEAR(steps[10].alpha_bar, 0.277669650456, 1e-10);
  EXPECT_NEAR(steps[10].next_alpha_bar, 0.348533910454, 1e-10);
  EXPECT_NEAR(steps[19].alpha_bar, 0.9526255508, 1e-9);
  EXPECT_EQ(steps[19].next_alpha_bar, 1);
  for (std::size_t i = 0; i + 1 < steps.size(); ++i)
    EXPECT_EQ(steps[i].next_alpha_bar, steps[i + 1].alpha_bar);
  // 1000 / 30 leaves a rest: the last step of the paper's spacing does not end at clean pictures.
  const auto thirty = make_latent_steps({}, 30);
  EXPECT_EQ(thirty.back().timestep, 999 - 29 * 33);
  EXPECT_DOUBLE_EQ(thirty.back().next_alpha_bar, NoiseSchedule::scaled_linear().alpha_bar(9));
}

TEST(LatentSchedule, RegularSmoothing) {
  EXPECT_THAT(regular_smoothing(20, 5, 0), ElementsAre(0, 5, 10, 15));
  EXPECT_THAT(regular_smoothing(5, 1, 1), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(regular_smoothing(6, 5, 1), ElementsAre(0));
  EXPECT_TRUE(regular_smoothing(3, 1, 5).empty());
  EXPECT_THAT(test::message_of([] { regular_smoothing(3, 0, 0); }), HasSubstr("interval"));
}

TEST(LatentSchedule, RefusesWhatLeavesNoSteps) {
  const auto message = [](std::int64_t count, double strength, TimeSpacing spacing) {
    return test::message_of([&] { make_latent_steps({}, count, strength, spacing); });
  };
  EXPECT_THAT(message(0, 1, TimeSpacing::Paper), HasSubstr("take 1 to 1000"));
  EXPECT_THAT(message(1001, 1, TimeSpacing::Paper), HasSubstr("take 1 to 1000"));
  EXPECT_THAT(message(10, 0, TimeSpacing::Paper), HasSubstr("outside 0 to 1"));
  EXPECT_THAT(message(10, std::nan(""), TimeSpacing::Paper), HasSubstr("outside 0 to 1"));
  EXPECT_THAT(message(10, 0.05, TimeSpacing::Paper), HasSubstr("leaves none of 10 steps"));
  EXPECT_THAT(message(20, 0.01, TimeSpacing::Studio), HasSubstr("no room for 20 steps"));
}

class SchedulerConfig : public testing::Test {
 protected:
  ModelSchedule read(const std::string& text) {
    write_file(file_, text);
    return read_scheduler_config(file_);
  }
  std::string message(const std::string& text) {
    return test::message_of([&] { read(text); });
  }
  TemporaryFolder folder_;
  std::filesystem::path file_ = folder_.path() / "scheduler_config.json";
};

TEST_F(SchedulerConfig, ReadsStableDiffusions) {
  const ModelSchedule one = read(R"({"_class_name": "PNDMScheduler", "beta_end": 0.012,
    "beta_schedule": "scaled_linear", "beta_start": 0.00085, "num_train_timesteps": 1000,
    "set_alpha_to_one": false, "skip_prk_steps": true, "steps_offset": 1, "trained_betas": null})");
  EXPECT_EQ(one.noise.hash(), NoiseSchedule::scaled_linear().hash());
  EXPECT_EQ(one.prediction, Prediction::Epsilon);
  EXPECT_FALSE(one.end_clean);
  EXPECT_EQ(read("{}").noise.hash(), one.noise.hash());

  const ModelSchedule linear = read(R"({"beta_schedule": "linear", "prediction_type": "v_prediction"})");
  EXPECT_NEAR(linear.noise.alpha_bar(499), 0.1618121459, 1e-9);
  EXPECT_NEAR(linear.noise.alpha_bar(999), 0.0015789629, 1e-9);
  EXPECT_EQ(linear.prediction, Prediction::V);
  EXPECT_EQ(read(R"({"trained_betas": [0.1, 0.5]})").noise.steps(), 2);
}

TEST_F(SchedulerConfig, RefusesWhatItCannotFollow) {
  EXPECT_THAT(message("[1]"), HasSubstr("object"));
  EXPECT_THAT(message(R"({"beta_start": "x"})"), HasSubstr("'beta_start'"));
  EXPECT_THAT(message(R"({"beta_start": 2, "beta_end": 3})"), HasSubstr("beta"));
  EXPECT_THAT(message(R"({"beta_schedule": "sigmoid"})"), HasSubstr("sigmoid"));
  EXPECT_THAT(message(R"({"prediction_type": "flow"})"), HasSubstr("flow"));
  EXPECT_THAT(message(R"({"num_train_timesteps": 1000000000000})"), HasSubstr("num_train_timesteps"));
  EXPECT_THAT(message(R"({"trained_betas": ["a"]})"), HasSubstr("trained_betas"));
  EXPECT_THAT(message(R"({"rescale_betas_zero_snr": true})"), HasSubstr("rescale_betas_zero_snr"));
}

}  // namespace
}  // namespace lithe
