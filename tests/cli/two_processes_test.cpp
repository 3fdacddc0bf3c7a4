// lithe train and lithe sparsify as torchrun would start them, twice on this machine.
#include <fmt/format.h>
#include <gmock/gmock.h>

#include "cli/lithe.h"
#include "free_port.h"
#include "lithe/graph/onnx.h"

namespace lithe {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

const std::string kData = " --data sheet:" + (kExamples / "digits/digits.png").string() +
                          ",cell=20x20,classes=10,columns=0:8 --epochs 2 --threads 1 --val-share 0.1 ";

/// What the first process and the second one did, with the same arguments.
std::pair<Outcome, Outcome> run_two(const std::string& arguments) {
  const TemporaryFolder folder;
  const auto file = [&](const char* name) { return (folder.path() / name).string(); };
  const auto start = [&](int rank, const std::string& name) {
    return fmt::format("RANK={} {} {} > {}.out 2> {}.err < /dev/null", rank, LITHE_PROGRAM, arguments,
                       file(name.c_str()), file(name.c_str()));
  };
  const std::string command = fmt::format(
      "export WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT={}; {} & {}; first=$?; wait $!; "
      "echo $first $? > {}",
      test::free_port(), start(1, "second"), start(0, "first"), file("status"));
  EXPECT_EQ(std::system(command.c_str()), 0);
  Outcome first, second;
  std::sscanf(read_text_file(file("status")).c_str(), "%d %d", &first.status, &second.status);
  const auto take = [&](const char* name, Outcome& outcome) {
    outcome.out = read_text_file(file(name) + ".out");
    outcome.err = read_text_file(file(name) + ".err");
  };
  take("first", first);
  take("second", second);
  return {first, second};
}

class TwoProcesses : public testing::Test {
 protected:
  TemporaryFolder folder_;
  fs::path out_ = folder_.path() / "out.onnx", alone_ = folder_.path() / "alone.onnx";

  /// Two with half the batch learn what one does, and only the first one speaks and writes.
  void expect_same_as_alone(const std::string& verb) {
    const auto [first, second] = run_two(verb + kData + "--batch 20 --json -o " + out_.string());
    ASSERT_EQ(first.status, 0) << first.err << second.err;
    EXPECT_EQ(second.status, 0) << second.err;
    EXPECT_EQ(second.out, "");
    const Outcome alone = run_lithe(verb + kData + "--batch 40 --json -o " + alone_.string());
    ASSERT_EQ(alone.status, 0) << alone.err;
    const char* epochs = alone.result().contains("epochs") ? "epochs" : "history";
    for (std::size_t i = 0; i < 2; ++i)
      for (const char* key : {"loss", "validation_loss"})
        EXPECT_NEAR(first.result()[epochs][i][key], alone.result()[epochs][i][key], 1e-2) << key;
    EXPECT_FALSE(fs::exists(out_.string() + ".checkpoints"));
    EXPECT_NO_THROW(read_onnx(out_));
  }
};

TEST_F(TwoProcesses, TrainOneModel) {
  expect_same_as_alone("train resnet20_x0.25 --lr 0.005 --mean 0.5 --std 0.5");
}

TEST_F(TwoProcesses, SparsifyOneModel) {
  expect_same_as_alone("sparsify " + kDigits + " --method spre --pattern 1:4 --lr 0.005");
  EXPECT_EQ(run_lithe("inspect " + out_.string() + " --check-sparsity 1:4").status, 0);
}

TEST_F(TwoProcesses, SearchOneSchedule) {
  const std::string search =
      "schedule search --data sheet:" + (kExamples / "digits/digits.png").string() +
      ",cell=20x20 --reference 200 --steps 3 --images 50 --batch 50 --rounds 1 --children 4 "
      "--finalists 2 --final-images 50 --final-streams 1 --threads 1 --json -o ";
  const fs::path both = folder_.path() / "both.json", one = folder_.path() / "one.json";
  const auto [first, second] =
      run_two(search + both.string() + " --log " + (folder_.path() / "both.log").string());
  ASSERT_EQ(first.status, 0) << first.err << second.err;
  EXPECT_EQ(second.status, 0) << second.err;
  EXPECT_EQ(second.out, "");
  const Outcome alone = run_lithe(search + one.string() + " --log " + (folder_.path() / "one.log").string());
  ASSERT_EQ(alone.status, 0) << alone.err;
  EXPECT_EQ(read_text_file(both), read_text_file(one));
  EXPECT_EQ(read_text_file(folder_.path() / "both.log"), read_text_file(folder_.path() / "one.log"));
}

TEST_F(TwoProcesses, AMistakeIsToldOnceAndEndsBoth) {
  const auto [first, second] =
      run_two("sparsify " + kDigits + kData + "--method asp -o " + (folder_.path() / "no/out.onnx").string());
  EXPECT_EQ(first.status, 2);
  EXPECT_THAT(first.err, HasSubstr("no/out.onnx"));
  EXPECT_NE(second.status, 0);  // and it does not wait for minutes
}

}  // namespace
}  // namespace lithe
