#include "lithe/diffusion/schedule_file.h"

#include <gmock/gmock.h>

#include <cmath>
#include <functional>

#include "lithe/base/error.h"
#include "lithe/diffusion/timesteps.h"
#include "message_of.h"

namespace lithe {
namespace {

using nlohmann::json;
using test::message_of;
using testing::HasSubstr;
using testing::IsEmpty;

SavedSchedule example(SamplerKind kind = SamplerKind::Ddim) {
  SavedSchedule out{.steps = {{.timestep = 136}, {.timestep = 366, .skipped = {"mid"}}, {.timestep = 750}}};
  out.sampler.kind = kind;
  set_noise(out, NoiseSchedule::cosine());
  out.provenance = {{"model", "net.onnx"}};
  return out;
}

SavedSchedule for_diffusers(SamplerKind kind = SamplerKind::Ddim) {
  SavedSchedule out = example(kind);
  out.steps[1].skipped.clear();
  out.sampler.clip = false;
  return out;
}

std::string changed(const std::function<void(json&)>& change) {
  json object = json::parse(schedule_text(example()));
  change(object);
  return message_of([&] { schedule_from_text(object.dump(), "s.json"); });
}

TEST(ScheduleFile, ComesBackAsItWent) {
  SavedSchedule schedule = example();
  schedule.reuse = true;
  const SavedSchedule back = schedule_from_text(schedule_text(schedule), "s.json");
  EXPECT_EQ(back.steps, schedule.steps);
  EXPECT_TRUE(back.reuse);
  EXPECT_EQ(back.noise_hash, schedule.noise_hash);
  EXPECT_EQ(back.sampler.kind, schedule.sampler.kind);
  EXPECT_EQ(back.provenance, schedule.provenance);
  EXPECT_THAT(mismatches(back, schedule.sampler), IsEmpty());
  const json object = json::parse(schedule_text(schedule));
  EXPECT_EQ(object["steps"][0]["timestep"], 750);  // from the noisy end

  SavedSchedule custom = schedule;
  set_noise(custom, NoiseSchedule::from_alpha_bars({0.9, 0.5, 0.1}));
  custom.steps = {{.timestep = 0}, {.timestep = 2}};
  EXPECT_EQ(noise_of(schedule_from_text(schedule_text(custom), "s.json")).alpha_bars(),
            (std::vector<double>{0.9, 0.5, 0.1}));
}

TEST(ScheduleFile, WhatIsWrongIsNamed) {
  EXPECT_THAT(message_of([] { schedule_from_text("{", "s.json"); }), HasSubstr("s.json"));
  EXPECT_THAT(message_of([] { schedule_from_text("[]", "s.json"); }), HasSubstr("no sampling schedule"));
  EXPECT_THAT(changed([](json& o) { o["steps"][0]["timestep"] = 1000; }), HasSubstr("outside 0..999"));
  EXPECT_THAT(changed([](json& o) { o["steps"][0]["timestep"] = 366; }), HasSubstr("twice"));
  EXPECT_THAT(changed([](json& o) { o["steps"][0]["timestep"] = "x"; }), HasSubstr("'timestep'"));
  EXPECT_THAT(changed([](json& o) { o["steps"] = json::array(); }), HasSubstr("no steps"));
  EXPECT_THAT(changed([](json& o) { o["skipped_layers"] = "sold"; }), HasSubstr("sold"));
  EXPECT_THAT(changed([](json& o) { o["steps"] = 3; }), HasSubstr("'steps'"));
  EXPECT_THAT(changed([](json& o) { o["schema"] = 7; }), HasSubstr("schema 7"));
  EXPECT_THAT(changed([](json& o) { o["sampler"].erase("eta"); }), HasSubstr("'eta'"));
  EXPECT_THAT(changed([](json& o) { o["sampler"]["kind"] = "euler"; }), HasSubstr("euler"));
  EXPECT_THAT(changed([](json& o) { o["noise_schedule"]["name"] = "linear"; }), HasSubstr("hash"));
  EXPECT_THAT(changed([](json& o) { o["noise_schedule"]["steps"] = std::int64_t{1} << 40; }),
              HasSubstr("training steps"));
  EXPECT_THAT(changed([](json& o) { o["noise_schedule"]["steps"] = 1e300; }), HasSubstr("whole number"));
  EXPECT_THAT(changed([](json& o) { o["provenance"] = json::array(); }), HasSubstr("provenance"));
  EXPECT_THAT(changed([](json& o) {
                o["sampler"]["kind"] = "dpmpp2m";
                o["steps"].erase(0);
              }),
              HasSubstr("three points"));
  EXPECT_THAT(changed([](json& o) { o["noise_schedule"]["name"] = "mine"; }), HasSubstr("mine"));
}

TEST(ScheduleFile, BelongsToANoiseScheduleAndASampler) {
  const SavedSchedule schedule = example();
  require_same_noise(schedule, NoiseSchedule::cosine(), "s.json");
  EXPECT_THAT(message_of([&] { require_same_noise(schedule, NoiseSchedule::linear(), "s.json"); }),
              HasSubstr("schedule transfer"));
  SamplerOptions use = schedule.sampler;
  use.kind = SamplerKind::Ddpm;
  use.prediction = Prediction::V;
  EXPECT_EQ(mismatches(schedule, use).size(), 2u);
  use = schedule.sampler;
  use.clip = false;
  EXPECT_EQ(mismatches(schedule, use).size(), 1u);
}

TEST(ScheduleFile, TransfersAtEqualSignalToNoise) {
  const SavedSchedule schedule = example();
  const NoiseSchedule from = NoiseSchedule::cosine(), to = NoiseSchedule::linear();
  const SavedSchedule there = transferred(schedule, to);
  ASSERT_EQ(there.steps.size(), 3u);
  EXPECT_EQ(there.steps[1].skipped, std::vector<std::string>{"mid"});
  for (std::size_t i = 0; i < 3; ++i) {
    const auto t = static_cast<std::int64_t>(schedule.steps[i].timestep);
    const auto u = static_cast<std::int64_t>(there.steps[i].timestep);
    EXPECT_LE(std::abs(to.lambda(u) - from.lambda(t)), std::abs(to.lambda(u + 1) - from.lambda(t)));
    EXPECT_LE(std::abs(to.lambda(u) - from.lambda(t)), std::abs(to.lambda(u - 1) - from.lambda(t)));
  }
  require_same_noise(there, to, "s.json");
  EXPECT_EQ(transferred(schedule, from).steps, schedule.steps);
  EXPECT_THROW(transferred(schedule, NoiseSchedule::linear(2)), Error);
}

TEST(ScheduleFile, ForDiffusers) {
  const json ddim = diffusers_json(for_diffusers());
  EXPECT_EQ(ddim["timesteps"], (json{750, 366, 136}));
  EXPECT_EQ(ddim["scheduler"]["solver_order"], 1);  // equal to DDIM without noise
  EXPECT_EQ(ddim["scheduler"]["final_sigmas_type"], "zero");
  EXPECT_EQ(ddim["scheduler"]["trained_betas"].size(), 1000u);

  SavedSchedule solver = for_diffusers(SamplerKind::DpmSolver);
  const json sigmas = diffusers_json(solver);
  EXPECT_EQ(sigmas["timesteps"], (json{750, 366}));  // where it ends cannot be said by these
  ASSERT_EQ(sigmas["sigmas"].size(), 3u);
  const double bar = NoiseSchedule::cosine().alpha_bar(136);
  EXPECT_NEAR(sigmas["sigmas"][2].get<double>(), std::sqrt((1 - bar) / bar), 1e-12);
  solver.steps[0].timestep = 0;
  const json ends = diffusers_json(solver);
  EXPECT_EQ(ends["timesteps"], (json{750, 366}));
  EXPECT_EQ(ends["scheduler"]["final_sigmas_type"], "sigma_min");
}

TEST(ScheduleFile, RefusesWhatDiffusersWouldDoOtherwise) {
  const auto refused = [](const std::function<void(SavedSchedule&)>& change) {
    SavedSchedule schedule = for_diffusers();
    change(schedule);
    return message_of([&] { diffusers_json(schedule); });
  };
  EXPECT_THAT(refused([](SavedSchedule& s) { s.sampler.clip = true; }), HasSubstr("clipped"));
  EXPECT_THAT(refused([](SavedSchedule& s) { s.sampler.eta = 0.5; }), HasSubstr("eta"));
  EXPECT_THAT(refused([](SavedSchedule& s) { s.sampler.kind = SamplerKind::Plms; }), HasSubstr("plms"));
  EXPECT_THAT(refused([](SavedSchedule& s) { s.sampler.kind = SamplerKind::Ddpm; }), HasSubstr("ddpm"));
  EXPECT_THAT(refused([](SavedSchedule& s) { s.steps[1].skipped = {"mid"}; }), HasSubstr("skips layers"));
  EXPECT_THAT(refused([](SavedSchedule& s) { s.steps[1].timestep = 300.5; }), HasSubstr("whole"));
}

}  // namespace
}  // namespace lithe
