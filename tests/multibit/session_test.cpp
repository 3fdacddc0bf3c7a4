#include "lithe/multibit/session.h"

#include <gmock/gmock.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "lithe/models/models.h"
#include "lithe/multibit/deploy.h"
#include "multibit/helpers.h"

namespace {
std::atomic<std::int64_t> allocations{0};
}

// Counts what the tests below must not do.
void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size == 0 ? 1 : size)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
  std::free(memory);
}
void operator delete(void* memory, std::size_t) noexcept {
  std::free(memory);
}

namespace lithe {
namespace {

using namespace test;
using ::testing::HasSubstr;

const std::vector<int> kBits{2, 3, 4, 5, 7, 8};

at::Tensor through_session(MultibitSession& session, const at::Tensor& x) {
  at::Tensor y = at::empty({x.size(0), session.classes()});
  for (std::int64_t i = 0; i < x.size(0); ++i)
    session.run(x[i].contiguous().data_ptr<float>(), y[i].data_ptr<float>());
  return y;
}

/// From the entry of the body to its exit every bit is that of the exported integer model in the engine.
void expect_body_of_the_exported_model(const Graph& graph, std::int64_t entry_channels) {
  const MultibitInfo info = multibit_info(graph);
  const at::NoGradGuard no_grad;
  for (const TwoBitTarget target : {TwoBitTarget::Portable, best_two_bit_target()}) {
    MultibitSession session(graph, target);
    for (const int bits : info.bits) {
      session.set_bits(bits);
      EXPECT_EQ(session.bits(), bits);
      Executor run(deploy_static(graph, bits), {.fuse = false});
      const at::Tensor entry =
          random_images(1, 7).abs().repeat({1, 6, 1, 1}).slice(1, 0, entry_channels).contiguous();
      const at::Tensor expected = run.slice(info.entry, info.path(bits).exit, entry).contiguous();
      ASSERT_EQ(session.entry_count(), entry.numel());
      ASSERT_EQ(session.exit_count(), expected.numel());
      at::Tensor exit = at::empty_like(expected);
      session.run_body(entry.contiguous().data_ptr<float>(), exit.data_ptr<float>());
      EXPECT_TRUE(at::equal(exit, expected)) << bits << " " << two_bit_target_name(target);
    }
  }
}

TEST(MultibitSession, BodyEqualsTheExportedModel) {
  expect_body_of_the_exported_model(small_model(kBits, {.widths = {6, 20}, .blocks = 2}).branches.graph, 6);
}

TEST(MultibitSession, OfDepthwiseConvolutions) {
  const Graph graph = small_model(kBits, {.widths = {6, 20}, .blocks = 2, .depthwise = true}).branches.graph;
  expect_body_of_the_exported_model(graph, 6);
}

// Norms in front of convolutions, and divisions by channel: bit for bit too.
TEST(MultibitSession, OfPreActivations) {
  for (const bool divided : {false, true})
    expect_body_of_the_exported_model(quickly_trained(pre_activation_net(divided), {2, 4}).branches.graph, 8);
}

// Scales below zero, of zero, and so small that every sum has one code.
TEST(MultibitSession, OfScalesOfEverySign) {
  Graph graph = small_model(kBits, {.widths = {8, 16}, .blocks = 2}).branches.graph;
  for (auto& [name, data] : graph.constants) {
    if (name.find("conv1.norm.weight@") == std::string::npos) continue;
    std::vector<float> gamma = data.to_floats();
    for (std::size_t c = 0; c < gamma.size(); ++c)
      gamma[c] = c % 4 == 0 ? -gamma[c] : c == 1 ? 0 : c == 2 ? 1e-20f : gamma[c];
    data = TensorData::from<float>(data.shape(), std::move(gamma));
  }
  expect_body_of_the_exported_model(graph, 8);
}

TEST(MultibitSession, OfSlots) {
  MultibitOptions options{.slots = true};
  const Graph graph = small_model({2, 4, 5, 8}, {.widths = {16, 32}}, options).branches.graph;
  expect_body_of_the_exported_model(graph, 16);
}

TEST(MultibitSession, KeepsOneSetOfCodesForEachSlot) {
  MultibitOptions options{.slots = true};
  const Graph graph = small_model({2, 4, 8}, {.widths = {16, 32}}, options).branches.graph;
  EXPECT_EQ(MultibitSession(graph).packed_weight_bytes(), bit_storage(graph).weights);
}

// 4 depthwise weights a byte, for every branch that runs whole.
TEST(MultibitSession, PacksDepthwiseWeights) {
  const Graph graph = small_model({2, 4}, {.widths = {16, 32}, .depthwise = true}).branches.graph;
  EXPECT_EQ(MultibitSession(graph).packed_weight_bytes(), bit_storage(graph).weights);
}

// Stem and head are there once, however many bit-widths run them.
TEST(MultibitSession, SharesStemAndHead) {
  const std::int64_t stem_and_head = 3 * 8 * 9 + 2 * 8 + 16 * 4 + 4, norms = 2 * (8 + 8 + 16 * 3);
  const Graph graph = small_model({2, 4, 8}).branches.graph;
  const std::int64_t counts = 2;  // of branches, by which means divide: 2 and 4
  // At 2 bits thresholds stand for the norms between the two convolutions of a block.
  const std::int64_t inner = 2 * (8 + 16);
  EXPECT_EQ(MultibitSession(graph).float_bytes(), 4 * (stem_and_head + (1 + 2 + 4) * norms - inner + counts));
}

TEST(MultibitSession, RefusesToTimeNothing) {
  MultibitSession session(small_model({2}).branches.graph);
  EXPECT_THAT(message_of([&] { session.seconds_an_image(0); }), HasSubstr("give 1 or more"));
  EXPECT_GT(session.seconds_an_image(1), 0);
}

TEST(MultibitSession, ScoresAsTheFloatGraphDoes) {
  const Graph graph = small_model({2, 4, 8}, {}, {}, 2).branches.graph;
  const at::Tensor x = random_images(40, 8);
  const at::NoGradGuard no_grad;
  MultibitSession session(graph);
  for (const int bits : {2, 4, 8}) {
    session.set_bits(bits);
    Executor run(extract_bits(graph, bits));
    const at::Tensor y = through_session(session, x), expected = run(x);
    // Sums of the stem differ in their last bit, so that a code may; few do.
    const at::Tensor agree = (y.argmax(1) == expected.argmax(1)).to(at::kDouble).mean();
    EXPECT_GE(agree.item<double>(), 0.95) << bits;
    EXPECT_LT((y - expected).abs().median().item<double>(), 1e-4 * expected.abs().max().item<double>())
        << bits;
  }
}

TEST(MultibitSession, ShortcutsOfSlicesAndZeros) {
  Progress silent;
  MultibitOptions options{
      .bits = {2, 3, 8}, .from_scratch = true, .norm_batches = 1, .train = short_training(1)};
  ClassifierOptions net{.classes = 4, .image_size = 8};
  net.width = 0.5;
  const Graph graph = train_multibit(build_resnet20(net), patches(64, 1), options, silent).branches.graph;
  MultibitSession session(graph);
  const at::NoGradGuard no_grad;
  const at::Tensor x = random_images(10, 8);
  for (const int bits : options.bits) {
    session.set_bits(bits);
    Executor run(deploy_static(graph, bits), {.fuse = false});
    const at::Tensor expected = run(x);
    EXPECT_LT((through_session(session, x) - expected).abs().median().item<double>(),
              1e-4 * expected.abs().max().item<double>())
        << bits;
  }
}

TEST(MultibitSession, SwitchesAndRunsWithoutAllocating) {
  const Graph graph = small_model(kBits).branches.graph;
  MultibitSession session(graph);
  std::vector<float> image(static_cast<std::size_t>(session.input_count()), 0.5f), scores(4);
  const std::int64_t before = allocations;
  for (int turn = 0; turn < 100; ++turn)
    session.set_bits(kBits[static_cast<std::size_t>(turn) % kBits.size()]);
  EXPECT_EQ(allocations, before);
  for (const int bits : kBits) {
    session.set_bits(bits);
    session.run(image.data(), scores.data());
  }
  EXPECT_EQ(allocations, before);
}

TEST(MultibitSession, KeepsWeightsOnceInTwoBits) {
  const Graph graph = small_model({2, 4, 6, 8}, {.widths = {16, 32}}).branches.graph;
  std::int64_t weights = 0;
  for (const auto& [name, data] : graph.constants)
    if (name.find(".weight@") != std::string::npos && data.rank() == 4) weights += data.count();
  EXPECT_EQ(MultibitSession(graph).packed_weight_bytes(), weights / 4);
}

TEST(MultibitSession, RefusesOtherBitWidthsAndMethods) {
  MultibitSession session(small_model({2, 4}).branches.graph);
  EXPECT_THAT(message_of([&] { session.set_bits(6); }), HasSubstr("not trained for 6 bits; it has 2,4"));
  EXPECT_THAT(message_of([&] { session.set_bits(-1); }), HasSubstr("it has 2,4"));
  EXPECT_EQ(session.bits(), 4);
  MultibitOptions options{.method = MultibitMethod::AnyPrecision};
  const Graph other = small_model({2, 4}, {}, options).branches.graph;
  EXPECT_THAT(message_of([&] { MultibitSession{other}; }), HasSubstr("mbquant"));
}

}  // namespace
}  // namespace lithe
