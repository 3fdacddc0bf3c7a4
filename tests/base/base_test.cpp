#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <chrono>
#include <cmath>
#include <csignal>
#include <set>
#include <thread>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/base/json.h"
#include "lithe/base/math.h"
#include "lithe/base/progress.h"
#include "lithe/base/random.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;

TEST(File, WhetherItCanBeWrittenIsFoundOutWithoutTrace) {
  const TemporaryFolder folder;
  const std::filesystem::path file = folder.path() / "out.bin", deep = folder.path() / "a" / "b";
  require_writable(file);
  require_writable_folder(deep);
  require_writable_folder(deep / "");
  EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
  EXPECT_THROW(require_writable(deep / "out.bin"), Error);
  EXPECT_THROW(require_writable(folder.path()), Error);
  EXPECT_THROW(require_writable_folder("/proc/no/such/place"), Error);
  write_file(file, "x");
  require_writable(file);
  EXPECT_EQ(read_text_file(file), "x");
  EXPECT_THROW(require_writable_folder(file), Error);
  EXPECT_THROW(require_writable_folder(file / "below"), Error);
}

TEST(Error, MessagesStayOneLine) {
  try {
    fail("node '{}': no", "a\nb\x1b[31m\x7f \u00fc");
  } catch (const Error& error) {
    EXPECT_STREQ(error.what(), "node 'a?b?[31m? \u00fc': no");
    EXPECT_EQ(error.kind(), ErrorKind::Input);
  }
}

TEST(Rng, MatchesThePublishedPhiloxVectors) {
  // Known answers of Random123 for philox4x32-10: counter and key zero.
  Rng rng(0, 0);
  EXPECT_EQ(rng(), 0x6627e8d5u);
  EXPECT_EQ(rng(), 0xe169c58du);
  EXPECT_EQ(rng(), 0xbc57ac4cu);
  EXPECT_EQ(rng(), 0x9b00dbd8u);
}

TEST(Rng, StreamsDifferAndRepeat) {
  Rng a(7, 1), b(7, 2), again(7, 1);
  const auto first = a();
  EXPECT_NE(first, b());
  EXPECT_EQ(first, again());
}

TEST(Rng, DrawsHaveTheRightMoments) {
  Rng rng(1);
  double sum = 0, squares = 0, uniform = 0;
  constexpr int kDraws = 20000;
  for (int i = 0; i < kDraws; ++i) {
    const double draw = rng.normal();
    sum += draw;
    squares += draw * draw;
    uniform += rng.uniform();
    ASSERT_LT(rng.below(3), 3u);
  }
  EXPECT_NEAR(sum / kDraws, 0, 0.03);
  EXPECT_NEAR(squares / kDraws, 1, 0.05);
  EXPECT_NEAR(uniform / kDraws, 0.5, 0.01);
  const auto order = rng.permutation(50);
  EXPECT_EQ(std::set<std::int64_t>(order.begin(), order.end()).size(), 50u);
}

TEST(Math, CountsWithoutOverflow) {
  EXPECT_EQ(element_count(std::vector<std::int64_t>{2, 3}), 6);
  EXPECT_EQ(element_count(std::vector<std::int64_t>{}), 1);
  EXPECT_EQ(element_count(std::vector<std::int64_t>{0, std::int64_t{1} << 62, 8}), 0);
  EXPECT_FALSE(element_count(std::vector<std::int64_t>{std::int64_t{1} << 62, 8}));
  EXPECT_FALSE(element_count(std::vector<std::int64_t>{-1}));
}

TEST(File, AppearsWholeOrNotAtAll) {
  const TemporaryFolder folder;
  const fs::path path = folder.path() / "out";
  {
    AtomicFile file(path);
    file.write("half");
  }
  EXPECT_TRUE(fs::is_empty(folder.path()));
  write_file(path, "whole");
  EXPECT_EQ(read_text_file(path), "whole");
  EXPECT_THROW(read_text_file(path, 3), Error);
  EXPECT_THROW(AtomicFile(folder.path() / "missing" / "out"), Error);
}

TEST(File, WritesThroughLinksAndRefusesWhatIsNoFile) {
  const TemporaryFolder folder;
  write_file(folder.path() / "target", "before");
  fs::create_symlink(folder.path() / "target", folder.path() / "link");
  write_file(folder.path() / "link", "after");
  EXPECT_TRUE(fs::is_symlink(folder.path() / "link"));
  EXPECT_EQ(read_text_file(folder.path() / "target"), "after");
  ASSERT_EQ(::mkfifo((folder.path() / "pipe").c_str(), 0600), 0);
  EXPECT_THROW(AtomicFile(folder.path() / "pipe"), Error);
  EXPECT_TRUE(fs::is_fifo(folder.path() / "pipe"));
}

TEST(File, AFolderThatRefusesIsForTheUserToMend) {
  // /proc refuses new files even from root, for whom permissions do not count.
  for (const std::function<void()>& attempt : std::initializer_list<std::function<void()>>{
           [] { AtomicFile file("/proc/self/out"); }, [] { require_writable_folder("/proc/self/out"); }}) {
    try {
      attempt();
      FAIL() << "writing into /proc must fail";
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::Input);
      EXPECT_NE(std::string(error.what()).find("give another place"), std::string::npos) << error.what();
    }
  }
}

TEST(Progress, FormatsTime) {
  EXPECT_EQ(format_seconds(4.2), "4.2 s");
  EXPECT_EQ(format_seconds(192), "3 min 12 s");
  EXPECT_EQ(format_seconds(7500), "2 h 05 min");
}

class RecordingProgress : public Progress {
 public:
  double remaining = 0, seconds = 0;

 protected:
  void show(const State& state, bool /*finished*/) override {
    remaining = state.remaining_seconds();
    seconds = state.seconds();
  }
};

TEST(Progress, SkippedStepsSayNothingOfTheSpeed) {
  RecordingProgress progress;
  progress.start("resumed", 100);
  progress.skip(90);
  EXPECT_LT(progress.remaining, 0);  // unknown
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  progress.advance(2);
  EXPECT_GE(progress.remaining, 4 * 0.02);  // eight more, at the speed of two
  EXPECT_LE(progress.remaining, 4 * progress.seconds);
}

TEST(Json, RefusesWhatWouldOverflowTheStack) {
  const auto nested = [](int depth) {
    return std::string(static_cast<std::size_t>(depth), '[') +
           std::string(static_cast<std::size_t>(depth), ']');
  };
  EXPECT_EQ(parse_json(R"({"a": "[[\"[{"})", "f").at("a"), "[[\"[{");  // brackets in strings do not count
  EXPECT_TRUE(try_parse_json(nested(kDeepestJson)).has_value());
  for (const std::string& text : {nested(kDeepestJson + 1), nested(100000), std::string("{"),
                                  "[\"" + std::string(3000000, 'x'), std::string("\\")}) {
    EXPECT_FALSE(try_parse_json(text).has_value());
    try {
      parse_json(text, "f.json");
      ADD_FAILURE();
    } catch (const Error& error) {
      EXPECT_TRUE(std::string(error.what()).starts_with("f.json: not valid JSON: ")) << error.what();
      EXPECT_LT(std::string(error.what()).size(), 300u);
    }
  }
}

TEST(Progress, AnInterruptStopsTheLoop) {
  catch_interrupts();
  Progress progress;
  progress.start("loop", 10);
  EXPECT_NO_THROW(progress.advance());
  EXPECT_EXIT(
      {
        std::raise(SIGINT);
        try {
          progress.advance();
        } catch (const Interrupted&) {
          std::exit(42);
        }
      },
      testing::ExitedWithCode(42), "");
}

}  // namespace
}  // namespace lithe
