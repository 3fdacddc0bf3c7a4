// Two processes on this machine; the second test is what they run.
#include "lithe/train/distributed.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <limits>

#include "free_port.h"
#include "lithe/base/file.h"
#include "lithe/engine/threads.h"
#include "lithe/graph/safetensors.h"
#include "lithe/ops/batch_statistics.h"
#include "lithe/train/recipe.h"
#include "tests/train/helpers.h"

namespace lithe {
namespace {

using test::expect_contains;
using test::free_port;
using test::message_of;
using test::quarters;
using test::small_net;

TrainOptions recipe(std::int64_t batch) {
  TrainOptions options{.epochs = 2, .batch = batch, .learning_rate = 0.05, .weight_decay = 1e-4};
  options.augmentation = {.flip = true, .padded_crop = 1};
  options.clip_norm = 1;
  options.threads = 1;
  options.validation = quarters(30, 6);
  return options;
}

/// Sets variables for one test.
class Environment {
 public:
  explicit Environment(std::vector<std::pair<const char*, const char*>> values) : values_(std::move(values)) {
    for (const auto& [name, value] : values_) setenv(name, value, 1);
  }
  ~Environment() {
    for (const auto& [name, value] : values_) unsetenv(name);
  }

 private:
  std::vector<std::pair<const char*, const char*>> values_;
};

/// Runs a test of this program in two processes that talk to each other, under a time limit; whether both
/// passed. They find the path of their output, less the rank, in LITHE_TEST_OUTPUT.
bool run_two(const std::string& test, const std::filesystem::path& folder, const std::string& variables) {
  const std::string program = std::filesystem::read_symlink("/proc/self/exe").string();
  const std::string common =
      fmt::format("{} WORLD_SIZE=2 MASTER_ADDR=127.0.0.1 MASTER_PORT={} LITHE_TEST_OUTPUT={} ", variables,
                  free_port(), (folder / "result").string());
  const std::string rest = " timeout 100 " + program +
                           " --gtest_also_run_disabled_tests --gtest_filter=" + test + " > " +
                           (folder / "log").string();
  const std::string command = common + "RANK=1 LOCAL_RANK=1" + rest + "1 2>&1 & " + common +
                              "RANK=0 LOCAL_RANK=0" + rest + "0 2>&1; first=$?; wait $! && exit $first";
  const int status = std::system(command.c_str());
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST(Distributed, TwoProcessesAreOneWithTheDoubleBatch) {
  set_threads(1);
  Progress silent;
  const TrainResult alone = train(small_net(), quarters(96), recipe(16), silent);

  const TemporaryFolder folder;
  ASSERT_TRUE(run_two("Distributed.DISABLED_Process", folder.path(), ""))
      << read_text_file(folder.path() / "log0") << read_text_file(folder.path() / "log1");

  const auto history = nlohmann::json::parse(read_text_file(folder.path() / "result.json"));
  ASSERT_EQ(history.size(), alone.history.size());
  for (std::size_t i = 0; i < history.size(); ++i) {
    const EpochRecord together = epoch_record_from_json(history[i]);
    EXPECT_NEAR(together.loss, alone.history[i].loss, 1e-4);
    EXPECT_NEAR(*together.train_top1, *alone.history[i].train_top1, 1e-9);
    EXPECT_NEAR(*together.validation_loss, *alone.history[i].validation_loss, 1e-4);
    EXPECT_NEAR(*together.validation_top1, *alone.history[i].validation_top1, 1e-9);
  }
  const SafeTensors weights = read_safetensors(folder.path() / "result.safetensors");
  for (const auto& [name, data] : named_weights(alone.last)) {
    const auto expected = data.to_floats(), got = weights.tensors.at(name).to_floats();
    for (std::size_t i = 0; i < expected.size(); ++i)
      ASSERT_NEAR(got[i], expected[i], 2e-4) << name << " " << i;
  }
}

TEST(Distributed, DISABLED_Process) {
  set_threads(1);
  const auto address = process_group_from_environment();
  ASSERT_TRUE(address && address->size == 2);
  const auto group = join_process_group(*address, at::kCPU, 60);
  EXPECT_EQ(group->rank(), address->rank);
  at::Tensor value = at::full({2}, static_cast<double>(group->rank() + 1));
  group->sum(value);
  EXPECT_EQ(value[1].item<float>(), 3);
  group->broadcast(value.fill_(static_cast<double>(group->rank())));
  EXPECT_EQ(value[0].item<float>(), 0);

  Progress silent;
  TrainOptions options = recipe(8);
  options.collective = group.get();
  const TrainResult result = train(small_net(), quarters(96), options, silent);
  if (group->rank() != 0) return;
  auto history = nlohmann::json::array();
  for (const EpochRecord& record : result.history) history.push_back(to_json(record));
  const std::string output = std::getenv("LITHE_TEST_OUTPUT");
  write_file(output + ".json", history.dump());
  write_safetensors(output + ".safetensors", {named_weights(result.last), {}});
}

/// Samples of which those that `bad` names cannot be read, or hold what is not a number.
class Faulty : public Dataset {
 public:
  Faulty(DatasetPtr source, std::function<bool(std::int64_t)> bad, bool readable)
      : source_(std::move(source)), bad_(std::move(bad)), readable_(readable) {}
  std::int64_t size() const override { return source_->size(); }
  bool labelled() const override { return true; }
  Sample get(std::int64_t index) const override {
    Sample sample = source_->get(index);
    if (!bad_(index)) return sample;
    if (!readable_) fail("picture-{}.png: cannot be decoded", index);
    sample.inputs.at("") = at::full_like(sample.inputs.at(""), std::numeric_limits<float>::infinity());
    return sample;
  }

 private:
  DatasetPtr source_;
  std::function<bool(std::int64_t)> bad_;
  bool readable_;
};

/// A trouble that meets one process, and what each says then; no process may wait for the other for ever.
struct Trouble {
  const char* name;
  std::vector<const char*> messages;  // of process 0 and 1
};

class DistributedTrouble : public testing::TestWithParam<Trouble> {};

TEST_P(DistributedTrouble, StopsBothProcesses) {
  const TemporaryFolder folder;
  ASSERT_TRUE(run_two("Distributed.DISABLED_Troubled", folder.path(),
                      std::string("LITHE_TEST_TROUBLE=") + GetParam().name))
      << read_text_file(folder.path() / "log0") << read_text_file(folder.path() / "log1");
  for (const int rank : {0, 1})
    expect_contains(read_text_file(folder.path() / ("result" + std::to_string(rank))),
                    GetParam().messages[static_cast<std::size_t>(rank)]);
}

INSTANTIATE_TEST_SUITE_P(
    OfOneProcess, DistributedTrouble,
    testing::Values(
        Trouble{"sample", {"process 1 of 2 stopped", "cannot be decoded"}},
        Trouble{"validation", {"process 1 of 2 stopped", "cannot be decoded"}},
        Trouble{"label", {"process 1 of 2 stopped", "the label is 7, but the model has 4 classes"}},
        Trouble{"loss", {"is the first tensor that is not finite", "the input 'image' is the first tensor"}},
        Trouble{"lone_loss",
                {"the loss of another process is not finite in epoch 1, step 1", "the input 'x'"}},
        Trouble{"disk", {"cannot create the folder for checkpoints", "process 0 of 2 stopped"}},
        Trouble{"resume",
                {"the step to go on from is 12 in process 0 and 0 in process 1",
                 "the step to go on from is 0 in process 1 and 12 in process 0"}}),
    [](const auto& tested) { return std::string(tested.param.name); });

TEST(Distributed, DISABLED_Troubled) {
  set_threads(1);
  const auto address = process_group_from_environment();
  ASSERT_TRUE(address && address->size == 2);
  const auto group = join_process_group(*address, at::kCPU, 30);
  const bool second = group->rank() == 1;
  const std::string trouble = std::getenv("LITHE_TEST_TROUBLE"), output = std::getenv("LITHE_TEST_OUTPUT");
  TrainOptions options = recipe(8);
  options.collective = group.get();
  options.memory_bytes = 0;  // samples are read as they are needed
  Graph graph = small_net();
  DatasetPtr data = quarters(96);
  Progress silent;
  const auto behind_first = [](std::int64_t index) { return index > 0; };
  if (trouble == "sample" && second) data = std::make_shared<Faulty>(data, behind_first, false);
  if (trouble.ends_with("loss") && second) data = std::make_shared<Faulty>(data, behind_first, true);
  if (trouble == "lone_loss") {  // without norms, which would spread it
    GraphBuilder net("plain", 1);
    const std::string x = net.relu("relu", net.conv("conv", net.input("x", {-1, 2, 8, 8}), {.channels = 6}));
    net.output("logits", net.gemm("fc", net.flatten("flat", net.global_average_pool("pool", x)), 6, 4),
               {-1, 4});
    graph = net.finish();
  }
  if (trouble == "validation" && second)
    options.validation = std::make_shared<Faulty>(
        options.validation, [](std::int64_t index) { return index == 3; }, false);
  if (trouble == "label" && second)
    data = tensor_dataset({{"", at::zeros({96, 2, 8, 8})}}, at::full({96}, 7, at::kLong));
  if (trouble == "disk") {
    write_file(output + ".file", "");
    options.checkpoints = output + ".file/below";
  }
  if (trouble == "resume") {  // from folders that are not shared: the first process alone writes
    options.checkpoints = output + (second ? ".other" : ".first");
    train(graph, data, options, silent);
    options.resume = true;
  }
  std::string message;
  try {
    train(graph, data, options, silent);
  } catch (const Error& error) {
    message = error.what();
  }
  write_file(output + std::to_string(group->rank()), message);
}

/// One process that stands for two equal ones.
class Twins : public Collective {
 public:
  std::int64_t rank() const override { return 0; }
  std::int64_t size() const override { return 2; }
  void sum(at::Tensor& tensor) override { tensor.mul_(2); }
  void broadcast(at::Tensor&) override {}
};

TEST(SharedBatchNorm, AgreesWithTheLocalOne) {
  const at::Tensor weight = at::randn({4, 3, 5, 5});
  const auto run = [&](Collective* collective) {
    at::Tensor x = at::randn({4, 3, 5, 5}).set_requires_grad(true);
    x.detach().copy_(at::linspace(-2, 3, 300).reshape({4, 3, 5, 5}).sin());
    at::Tensor scale = at::tensor({1.0f, 2.0f, -0.5f}).set_requires_grad(true),
               bias = at::tensor({0.1f, 0.2f, 0.3f}).set_requires_grad(true);
    const BatchNormed out = normalize_batch(x, scale, bias, 1e-5, collective);
    (out.output * weight).sum().backward();
    return std::vector<at::Tensor>{out.output.detach(), out.mean,   out.variance, x.grad(),
                                   scale.grad(),        bias.grad()};
  };
  Twins twins;
  const auto alone = run(nullptr), together = run(&twins);
  for (std::size_t i = 0; i < alone.size(); ++i)
    EXPECT_TRUE(at::allclose(alone[i], together[i], 1e-4, 1e-5)) << i;
}

TEST(Environment, TellsProcessesApart) {
  EXPECT_FALSE(process_group_from_environment());
  {
    const Environment set({{"RANK", "3"},
                           {"WORLD_SIZE", "4"},
                           {"LOCAL_RANK", "1"},
                           {"MASTER_ADDR", "head"},
                           {"MASTER_PORT", "1234"}});
    const auto address = process_group_from_environment();
    ASSERT_TRUE(address);
    EXPECT_EQ(address->rank, 3);
    EXPECT_EQ(address->size, 4);
    EXPECT_EQ(address->local_rank, 1);
    EXPECT_EQ(address->host, "head");
    EXPECT_EQ(address->port, 1234);
  }
  {
    const Environment set({{"SLURM_PROCID", "1"},
                           {"SLURM_NTASKS", "2"},
                           {"SLURM_LOCALID", "0"},
                           {"SLURM_STEP_ID", "0"},
                           {"SLURM_STEP_NODELIST", "gpu[07-09,12]"},
                           {"SLURM_JOB_ID", "41005"}});
    const auto address = process_group_from_environment();
    ASSERT_TRUE(address);
    EXPECT_EQ(address->rank, 1);
    EXPECT_EQ(address->host, "gpu07");
    EXPECT_EQ(address->port, 20000 + 1005);
  }
  {
    const Environment set({{"RANK", "4"}, {"WORLD_SIZE", "4"}});
    expect_contains(message_of([] { process_group_from_environment(); }), "RANK=4");
  }
  const Environment alone({{"RANK", "0"}, {"WORLD_SIZE", "1"}});
  EXPECT_FALSE(process_group_from_environment());
  EXPECT_EQ(first_host("node[003-007,9],other"), "node003");
  EXPECT_EQ(first_host("a,b"), "a");
  EXPECT_EQ(first_host("rack1-[2,4]-x,c"), "rack1-2-x");
  EXPECT_EQ(first_host("only"), "only");
}

}  // namespace
}  // namespace lithe
