#include "lithe/video/deflicker_video.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>

#include "lithe/base/file.h"
#include "message_of.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;
using test::message_of;
using testing::HasSubstr;

class DeflickerVideo : public testing::Test {
 protected:
  DeflickerVideo() {
    for (const char* name : {"style.mkv", "guide.mkv"}) {
      const auto out = VideoWriter::create(file(name), {.codec = "ffv1", .pixel_format = "bgr0"},
                                           {.height = 36, .width = 48, .rate = {25, 1}});
      for (int t = 0; t < 12; ++t) {
        Frame frame(36, 48);
        for (int y = 0; y < 36; ++y)
          for (int x = 0; x < 48; ++x)
            for (int c = 0; c < 3; ++c)
              frame.at(y, x)[c] = static_cast<std::int16_t>(
                  4 * std::lround(110 + 60 * std::sin(0.3 * (x - t) + c) * std::cos(0.25 * y) +
                                  (name[0] == 's' ? 30 * (t % 2) : 0)));
        out->write(frame, {.ticks = t, .duration = 1, .unit = {1, 25}});
      }
      out->finish();
    }
  }
  fs::path file(const std::string& name) const { return folder_.path() / name; }
  DeflickerJob job(const std::string& output) const {
    return {.style = file("style.mkv"),
            .guide = file("guide.mkv"),
            .output = file(output),
            .options = {.window = 3},
            .write = {.codec = "ffv1", .pixel_format = "bgr0"},
            .spool = file(output + ".frames")};
  }
  static std::vector<Frame> frames_of(const fs::path& path) {
    std::vector<Frame> frames;
    const auto reader = VideoReader::open(path);
    for (Frame frame; reader->read(frame);) frames.push_back(frame);
    return frames;
  }
  TemporaryFolder folder_;
  Progress silent_;
};

/// Stops the work after some frames, as Ctrl-C does.
class Stopper : public Progress {
 public:
  explicit Stopper(std::int64_t after) : after_(after) {}

 protected:
  void show(const State& state, bool) override {
    if (state.task == "deflickering" && state.done == after_) throw Interrupted{};
  }

 private:
  std::int64_t after_;
};

TEST_F(DeflickerVideo, GoesOnToTheSameResult) {
  const DeflickerOutcome whole = deflicker_video(job("whole.mkv"), silent_);
  EXPECT_EQ(whole.frames, 12);
  EXPECT_FALSE(fs::exists(file("whole.mkv.frames")));
  const std::vector<Frame> expected = frames_of(file("whole.mkv"));
  ASSERT_EQ(expected.size(), 12);

  Stopper stopper(5);
  EXPECT_THROW(deflicker_video(job("parts.mkv"), stopper), Interrupted);
  EXPECT_FALSE(fs::exists(file("parts.mkv")));
  DeflickerJob rest = job("parts.mkv");
  rest.resume = true;
  const DeflickerOutcome outcome = deflicker_video(rest, silent_);
  EXPECT_EQ(outcome.resumed_frames, 5);
  EXPECT_EQ(frames_of(file("parts.mkv")), expected);
  EXPECT_FALSE(fs::exists(file("parts.mkv.frames")));

  DeflickerJob direct = job("direct.mkv");
  direct.spool.clear();
  deflicker_video(direct, silent_);
  EXPECT_EQ(frames_of(file("direct.mkv")), expected);
}

TEST_F(DeflickerVideo, GoesOnOnlyWithTheSameWork) {
  Stopper stopper(5);
  EXPECT_THROW(deflicker_video(job("out.mkv"), stopper), Interrupted);
  DeflickerJob other = job("out.mkv");
  other.resume = true;
  other.options.window = 2;
  EXPECT_THAT(message_of([&] { deflicker_video(other, silent_); }), HasSubstr("window"));
  other.resume = false;  // replaces it
  EXPECT_EQ(deflicker_video(other, silent_).resumed_frames, 0);
}

TEST_F(DeflickerVideo, ShowsFramesBeforeAndAfter) {
  DeflickerJob watched = job("out.mkv");
  std::vector<std::int64_t> seen;
  const std::vector<Frame> style = frames_of(watched.style), guide = frames_of(watched.guide);
  watched.on_frame = [&](std::int64_t number, const Frame& guided, const Frame& before, const Frame& after) {
    EXPECT_EQ(guided, guide[static_cast<std::size_t>(number)]);
    EXPECT_EQ(before, style[static_cast<std::size_t>(number)]);
    EXPECT_NE(after, before);
    seen.push_back(number);
  };
  deflicker_video(watched, silent_);
  EXPECT_THAT(seen, testing::ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11));
}

TEST_F(DeflickerVideo, GuidesItself) {
  DeflickerJob alone = job("out.mkv");
  alone.guide.clear();
  EXPECT_EQ(deflicker_video(alone, silent_).frames, 12);
  EXPECT_EQ(frames_of(file("out.mkv")).size(), 12);
}

}  // namespace
}  // namespace lithe
