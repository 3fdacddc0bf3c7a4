// The loop over latents, with networks and autoencoders whose answers are known.
#include "lithe/stylize/latent_loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "lithe/base/file.h"
#include "lithe/diffusion/solver_steps.h"
#include "message_of.h"

namespace lithe {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

/// Says what `say` says, and remembers how it was asked.
struct SpokenDenoiser : LatentDenoiser {
  std::function<at::Tensor(const at::Tensor& x, double timestep)> say;
  std::vector<double> times;
  std::vector<FrameRange> ranges;
  at::Tensor predict(const at::Tensor& x, FrameRange range, double timestep) override {
    times.push_back(timestep);
    ranges.push_back(range);
    return say(x.narrow(0, range.first, range.count), timestep);
  }
};

/// One latent value a frame is the grey level of its one pixel; `loss` spoils what is encoded.
struct PixelAutoencoder : Autoencoder {
  double loss = 0;
  std::vector<Frame> decode(const at::Tensor& latents) override {
    std::vector<Frame> frames;
    for (std::int64_t i = 0; i < latents.size(0); ++i) {
      Frame& frame = frames.emplace_back(1, 1);
      for (std::int16_t& value : frame.pixels)
        value = static_cast<std::int16_t>(std::lround(latents[i].item<double>() * 100));
    }
    return frames;
  }
  at::Tensor encode(const std::vector<Frame>& frames) override {
    at::Tensor latents = at::empty({static_cast<std::int64_t>(frames.size()), 1, 1, 1}, at::kDouble);
    for (std::size_t i = 0; i < frames.size(); ++i)
      latents[static_cast<std::int64_t>(i)] = frames[i].pixels[0] / 100.0 + loss;
    return latents;
  }
};

at::Tensor column(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble).reshape({static_cast<std::int64_t>(values.size()), 1, 1, 1});
}

class LatentLoop : public testing::Test {
 protected:
  at::Tensor run(const at::Tensor& x, const std::vector<LatentStep>& steps) {
    const std::vector<Frame> guides(static_cast<std::size_t>(x.size(0)), Frame(1, 1));
    return denoise_latents(x, steps, denoiser, autoencoder, smoother, guides, options, progress);
  }

  SpokenDenoiser denoiser;
  PixelAutoencoder autoencoder;
  FrameSmoother smoother = [](const std::vector<Frame>& frames, const std::vector<Frame>&) { return frames; };
  LatentLoopOptions options;
  Progress progress;
};

// Section 10.7 of the specification: x = .8, epsilon = -.3, from step 499 to 449.
class PublishedStep : public LatentLoop {
 protected:
  PublishedStep() {
    denoiser.say = [](const at::Tensor& x, double) { return at::full_like(x, -0.3); };
    step = {make_latent_steps({}, 20)[10]};
  }
  std::vector<LatentStep> step;
};

TEST_F(PublishedStep, WithoutSmoothing) {
  EXPECT_EQ(step[0].timestep, 499);
  EXPECT_NEAR(run(column({0.8}), step).item<double>(), 0.939807862037, 1e-9);
  EXPECT_THAT(denoiser.times, ElementsAre(499));
}

TEST_F(PublishedStep, SmoothedFramesReplaceThePrediction) {
  options.smoothing = {0};
  smoother = [](const std::vector<Frame>& frames, const std::vector<Frame>& guides) {
    EXPECT_EQ(frames.size(), guides.size());
    EXPECT_EQ(frames[0].pixels[0], 200) << "x0 is 2.002054647769";
    std::vector<Frame> out = frames;
    out[0].pixels.assign(3, 125);
    return out;
  };
  EXPECT_NEAR(run(column({0.8}), step).item<double>(), 0.872168866944, 1e-9);
  EXPECT_NEAR(epsilon_of(column({0.8}), column({1.25}), step[0].alpha_bar).item<double>(), 0.166278805303,
              1e-9);
}

TEST_F(PublishedStep, TheSolversAgreeOnOneStep) {
  options.solver = LatentSolver::DpmSolver;
  EXPECT_NEAR(run(column({0.8}), step).item<double>(), 0.939807862037, 1e-9);
}

TEST_F(PublishedStep, CompensationKeepsTheAutoencodersErrorOut) {
  options.smoothing = {0};
  autoencoder.loss = 0.4;
  EXPECT_GT(std::abs(run(column({0.8}), step).item<double>() - 0.939807862037), 0.01);
  options.compensate = true;
  EXPECT_NEAR(run(column({0.8}), step).item<double>(), 0.939807862037, 1e-9);
}

TEST_F(LatentLoop, PredictionsOfEveryKindSayTheSame) {
  const auto steps = make_latent_steps({}, 5);
  const at::Tensor x = column({0.3, -1.1});
  const auto alpha_bar = [](double t) {
    return NoiseSchedule::scaled_linear().alpha_bar(static_cast<std::int64_t>(t));
  };
  // A network that always means the clean value 0.7.
  denoiser.say = [&](const at::Tensor& x, double t) {
    return epsilon_of(x, at::full_like(x, 0.7), alpha_bar(t));
  };
  const at::Tensor by_epsilon = run(x, steps);
  EXPECT_TRUE(at::allclose(by_epsilon, at::full_like(x, 0.7)));
  options.prediction = Prediction::V;
  denoiser.say = [&](const at::Tensor& x, double t) {
    const double a = alpha_bar(t);
    return std::sqrt(a) * epsilon_of(x, at::full_like(x, 0.7), a) - std::sqrt(1 - a) * at::full_like(x, 0.7);
  };
  EXPECT_TRUE(at::allclose(run(x, steps), by_epsilon));
}

TEST_F(LatentLoop, TheSecondOrderSolverConvergesFaster) {
  // Normal data of deviation s: the flow multiplies x by sqrt((a' s^2 + 1 - a') / (a s^2 + 1 - a)).
  constexpr double kDeviation = 0.5;
  const ModelSchedule model;
  const auto variance = [&](double a) { return a * kDeviation * kDeviation + 1 - a; };
  denoiser.say = [&](const at::Tensor& x, double t) {
    const double a = model.noise.alpha_bar(static_cast<std::int64_t>(t));
    return std::sqrt(1 - a) / variance(a) * x;
  };
  const auto error = [&](LatentSolver solver, std::int64_t count) {
    options.solver = solver;
    auto steps = make_latent_steps(model, count);
    steps.resize(steps.size() / 2);  // up to where the noise is gone the last step is of the first order
    const double exact = std::sqrt(variance(steps.back().next_alpha_bar) / variance(steps[0].alpha_bar));
    return std::abs(run(column({1}), steps).item<double>() - exact);
  };
  const double ddim = error(LatentSolver::Ddim, 40), second = error(LatentSolver::DpmSolver, 40);
  EXPECT_LT(second, ddim / 5);
  EXPECT_GT(error(LatentSolver::DpmSolver, 20) / second, 3);
  EXPECT_LT(error(LatentSolver::Ddim, 20) / ddim, 2.6);
}

TEST_F(LatentLoop, SmoothsAtItsStepsOnly) {
  const auto steps = make_latent_steps({}, 6);
  std::vector<std::size_t> calls;
  denoiser.say = [](const at::Tensor& x, double) { return at::zeros_like(x); };
  smoother = [&](const std::vector<Frame>& frames, const std::vector<Frame>&) {
    calls.push_back(denoiser.times.size());
    return frames;
  };
  options.smoothing = {1, 4};
  run(column({1, 2, 3}), steps);
  EXPECT_THAT(calls, ElementsAre(2, 5));
}

TEST_F(LatentLoop, WindowsOverlap) {
  const auto weights = window_weights(16);
  const double wanted[] = {.01, .13391, .26716, .4004, .53364, .66689, .80013, .93338};  // section 10.7
  for (std::size_t i = 0; i < 8; ++i) {
    EXPECT_NEAR(weights[i], wanted[i], 5e-6);
    EXPECT_DOUBLE_EQ(weights[i], weights[15 - i]);
  }
  EXPECT_THAT(window_weights(1), ElementsAre(1));

  const auto spans = [](std::int64_t count, std::int64_t window, std::int64_t stride) {
    std::vector<std::pair<std::int64_t, std::int64_t>> out;
    for (const FrameRange range : frame_windows(count, window, stride))
      out.emplace_back(range.first, range.count);
    return out;
  };
  EXPECT_THAT(spans(20, 16, 8), ElementsAre(std::pair(0, 16), std::pair(8, 12)));
  EXPECT_THAT(spans(5, 16, 8), ElementsAre(std::pair(0, 5)));
  EXPECT_THAT(spans(7, 3, 3), ElementsAre(std::pair(0, 3), std::pair(3, 3), std::pair(6, 1)));
  EXPECT_THAT(test::message_of([] { frame_windows(5, 2, 3); }), HasSubstr("do not cover"));

  // What the network says of a frame is the mean of its windows: here each says its number of calls.
  options.window = 4;
  options.stride = 2;
  double said = 0;
  denoiser.say = [&](const at::Tensor& x, double) { return at::full_like(x, said += 1); };
  options.prediction = Prediction::X0;
  const at::Tensor out = run(column({0, 0, 0, 0, 0, 0}), {{10, 0.9, 1}}).flatten();
  const auto w = window_weights(4);
  EXPECT_NEAR(out[0].item<double>(), 1, 1e-12);
  EXPECT_NEAR(out[2].item<double>(), (w[2] * 1 + w[0] * 2) / (w[2] + w[0]), 1e-12);
  EXPECT_NEAR(out[3].item<double>(), (w[3] * 1 + w[1] * 2) / (w[3] + w[1]), 1e-12);
  EXPECT_NEAR(out[5].item<double>(), 2, 1e-12);
}

TEST_F(LatentLoop, GoesOnWhereItStopped) {
  const TemporaryFolder folder;
  const auto steps = make_latent_steps({}, 8);
  const at::Tensor x = column({0.3, -0.4});
  denoiser.say = [](const at::Tensor& x, double t) { return at::sin(x * 3) + t / 1000; };
  for (const LatentSolver solver : {LatentSolver::Ddim, LatentSolver::DpmSolver}) {
    options = {.solver = solver};
    const at::Tensor whole = run(x, steps);
    options.state = folder.path() / "state.npz";
    options.identity = "work";
    struct Stop {};
    const auto speak = denoiser.say;
    denoiser.say = [&](const at::Tensor& x, double t) {
      if (t < 400) throw Stop();
      return speak(x, t);
    };
    EXPECT_THROW(run(x, steps), Stop);
    denoiser.say = speak;
    denoiser.times.clear();
    options.resume = true;
    EXPECT_TRUE(run(x, steps).equal(whole));
    EXPECT_THAT(denoiser.times, ElementsAre(374, 249, 124));

    options.identity = "other work";
    EXPECT_THAT(test::message_of([&] { run(x, steps); }), HasSubstr("other settings"));
    options.identity = "work";
    EXPECT_THAT(test::message_of([&] { run(column({1, 2, 3}), steps); }), HasSubstr("other latents"));
    write_file(options.state, "no state");
    EXPECT_NE(test::message_of([&] { run(x, steps); }), "");
    options.resume = false;
    EXPECT_TRUE(run(x, steps).equal(whole)) << "an old state does no harm where none is asked for";
  }
}

TEST_F(LatentLoop, RefusesWhatDoesNotFit) {
  const auto steps = make_latent_steps({}, 2);
  denoiser.say = [](const at::Tensor& x, double) { return at::zeros_like(x); };
  const auto message = [&] { return test::message_of([&] { run(column({1, 2}), steps); }); };
  EXPECT_EQ(message(), "");
  options.smoothing = {2};
  EXPECT_THAT(message(), HasSubstr("step 2: the steps are 0 to 1"));
  options.smoothing = {1};
  const auto keep = smoother;
  smoother = nullptr;
  EXPECT_THAT(message(), HasSubstr("nothing to smooth with"));
  smoother = [](const std::vector<Frame>&, const std::vector<Frame>&) { return std::vector<Frame>(1); };
  EXPECT_THAT(message(), HasSubstr("changed the number or the size"));
  smoother = keep;
  denoiser.say = [](const at::Tensor& x, double) { return at::full_like(x, std::nan("")); };
  EXPECT_THAT(message(), HasSubstr("step 0"));
  denoiser.say = [](const at::Tensor& x, double) { return at::zeros({x.size(0), 2, 1, 1}); };
  EXPECT_THAT(message(), HasSubstr("the network gives"));
}

}  // namespace
}  // namespace lithe
