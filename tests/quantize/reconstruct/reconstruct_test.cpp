#include "lithe/quantize/reconstruct/reconstruct.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <tuple>

#include "lithe/base/error.h"
#include "lithe/base/file.h"
#include "lithe/models/models.h"
#include "lithe/quantize/placement.h"
#include "lithe/quantize/quantize.h"
#include "lithe/quantize/reconstruct/simulated_graph.h"
#include "message_of.h"
#include "tests/quantize/helpers.h"

namespace lithe {
namespace {

using namespace testing_helpers;
using testing::AllOf;
using testing::HasSubstr;

const std::vector<std::int64_t> kImages{24, 3, 16, 16};

Graph small_resnet() {
  return build_resnet20({.classes = 10, .image_size = 16, .width = 0.5});
}

ReconstructOptions quick(ReconstructMethod method, std::int64_t steps = 20) {
  ReconstructOptions options = reconstruct_options(method, Effort::Fast);
  set_steps(options, steps);
  options.rounding_rate = 3e-2;
  options.survey_steps = 5;
  options.batch = 8;
  return options;
}

QuantizeOptions with(const ReconstructOptions& learning, int weight_bits = 3, int activation_bits = 4) {
  QuantizeOptions options{.weight_bits = weight_bits, .activation_bits = activation_bits};
  options.reconstruct = learning;
  options.batch = 8;
  return options;
}

Quantized run(const Graph& graph, const QuantizeOptions& options, const DatasetPtr& data = nullptr) {
  Progress silent;
  return quantize(graph, data ? data : random_dataset(kImages, 3), options, silent);
}

std::string message(const Graph& graph, const QuantizeOptions& options, const DatasetPtr& data = nullptr) {
  return test::message_of([&] { run(graph, options, data); });
}

double total_after(const Reconstruction& done) {
  double sum = 0;
  for (const SliceResult& slice : done.slices) sum += slice.loss_after / slice.power;
  return sum;
}

/// Every constant of the two files is the same.
void expect_equal(const Graph& a, const Graph& b) {
  ASSERT_EQ(a.constants.size(), b.constants.size());
  for (const auto& [name, data] : a.constants) {
    const auto other = b.constants.find(name);
    ASSERT_NE(other, b.constants.end()) << name;
    ASSERT_EQ(data.bytes().size(), other->second.bytes().size()) << name;
    EXPECT_TRUE(std::equal(data.bytes().begin(), data.bytes().end(), other->second.bytes().begin())) << name;
  }
}

/// Stops the work after so many reports of a task, as Ctrl-C would.
class Stopper : public Progress {
 public:
  explicit Stopper(int reports, std::string task = "reconstruct") : left_(reports), task_(std::move(task)) {}

 protected:
  void show(const State& state, bool finished) override {
    if (state.task == task_ && !finished && --left_ < 0) throw Interrupted{};
  }

 private:
  int left_;
  std::string task_;
};

// §10.7 of the paper's schedule with 20,000 steps.
TEST(RoundingSchedule, FallsLinearlyAfterTheWarmup) {
  const RoundingSchedule schedule{.steps = 20000, .warmup = 0.2};
  for (const auto& [step, exponent] : std::vector<std::pair<int, double>>{{1, 20},
                                                                          {3999, 20},
                                                                          {4000, 20},
                                                                          {4001, 19.998875},
                                                                          {8000, 15.5},
                                                                          {12000, 11},
                                                                          {16000, 6.5},
                                                                          {19999, 2.001125},
                                                                          {20000, 2}})
    EXPECT_NEAR(schedule.exponent(step), exponent, 1e-9) << step;
  EXPECT_FALSE(schedule.regularises(3999));
  EXPECT_TRUE(schedule.regularises(4000));
  for (const auto& [step, rate] : std::vector<std::pair<int, double>>{
           {0, 4e-5}, {5000, 3.41421356e-5}, {10000, 2e-5}, {15000, 5.85786438e-6}, {20000, 0}})
    EXPECT_NEAR(cosine_rate(4e-5, step, 20000), rate, 1e-13) << step;
}

TEST(Reconstruct, EveryMethodLosesLessThanNearestRounding) {
  const Graph graph = small_resnet();
  for (const ReconstructMethod method : {ReconstructMethod::AdaRound, ReconstructMethod::Brecq,
                                         ReconstructMethod::QDrop, ReconstructMethod::Mrecg}) {
    const Quantized quantized = run(graph, with(quick(method, 60), 2, 8));
    ASSERT_TRUE(quantized.reconstruction);
    const Reconstruction& done = *quantized.reconstruction;
    for (const SliceResult& slice : done.slices) {
      EXPECT_TRUE(std::isfinite(slice.loss_after)) << slice.name;
      if (slice.weights > 0) {
        EXPECT_LT(slice.loss_after, slice.loss_before) << slice.name;
      }
    }
    EXPECT_GT(*quantized.output_sqnr_db, *quantized.nearest_sqnr_db) << reconstruct_method_name(method);
  }
}

TEST(Reconstruct, SlicesFollowTheGranularity) {
  const Graph graph = small_resnet();
  const auto layers = run(graph, with(quick(ReconstructMethod::AdaRound, 1)));
  EXPECT_EQ(layers.reconstruction->slices.size(), 20u);  // 19 convolutions and the classifier
  const auto blocks = run(graph, with(quick(ReconstructMethod::Brecq, 1)));
  EXPECT_EQ(blocks.reconstruction->slices.size(), 11u);  // stem, 9 blocks, head
  ReconstructOptions grouped = quick(ReconstructMethod::Mrecg, 1);
  grouped.grouping.selector = Grouping::Preset;
  grouped.preset = "6-7,8-9";
  const auto merged = run(graph, with(grouped));
  EXPECT_EQ(merged.reconstruction->slices.size(), 9u);
  EXPECT_EQ(merged.reconstruction->slices[6].units, (std::vector<int>{6, 7}));
  EXPECT_TRUE(merged.reconstruction->survey.empty());
}

TEST(Reconstruct, GroupingByLossMeasuresEveryUnitFirst) {
  const auto done = run(small_resnet(), with(quick(ReconstructMethod::Mrecg, 5))).reconstruction;
  ASSERT_EQ(done->survey.size(), done->units.size());
  for (std::size_t i = 0; i < done->survey.size(); ++i) {
    EXPECT_EQ(done->capacity[i], done->survey[i].loss_after);
    EXPECT_EQ(done->survey[i].steps, 5);
  }
  // The groups are those of the losses that were measured.
  EXPECT_EQ(done->groups, choose_groups(done->units, done->capacity, {.selector = Grouping::Drop}));
}

TEST(Reconstruct, CodesStayWithinOneOfTheFloor) {
  const Graph graph = small_resnet();
  const auto before = run(graph, with(quick(ReconstructMethod::Brecq, 40)));
  // What is stored is q - z; w / s lies between q - z - 1 and q - z + 1 wherever the code is not clipped.
  std::int64_t moved = 0;
  for (const Node& node : before.graph.nodes) {
    if (!node.is("DequantizeLinear") || !before.graph.is_constant(node.input(0))) continue;
    const std::string name = node.input(0).substr(0, node.input(0).rfind("_quantized"));
    const TensorData* weight = before.reference.constant(name);
    if (!weight || weight->shape().size() != 4) continue;
    const std::vector<float> values = weight->to_floats(),
                             scales = before.graph.constants.at(node.input(1)).to_floats();
    const std::vector<std::int64_t> codes = before.graph.constants.at(node.input(0)).to_ints();
    const std::size_t inner = values.size() / scales.size();
    std::vector<std::int64_t> low(scales.size(), 1000), high(scales.size(), -1000);
    for (std::size_t i = 0; i < codes.size(); ++i) {
      low[i / inner] = std::min(low[i / inner], codes[i]);
      high[i / inner] = std::max(high[i / inner], codes[i]);
    }
    for (std::size_t i = 0; i < codes.size(); ++i) {
      const double real = values[i] / scales[i / inner], code = static_cast<double>(codes[i]);
      const bool clipped = codes[i] == low[i / inner] || codes[i] == high[i / inner];
      if (!clipped) {
        EXPECT_LE(std::abs(real - code), 1.0 + 1e-4) << name << " " << i;
      }
      moved += !clipped && std::abs(real - code) > 0.5 + 1e-4;
    }
  }
  EXPECT_GT(moved, 0) << "nothing was learnt";
}

TEST(Reconstruct, SameSeedSameBitsOtherSeedOtherBits) {
  const Graph graph = small_resnet();
  ReconstructOptions options = quick(ReconstructMethod::QDrop, 8);
  const Quantized first = run(graph, with(options)), second = run(graph, with(options));
  expect_equal(first.graph, second.graph);
  options.seed = 7;
  EXPECT_NE(total_after(*run(graph, with(options)).reconstruction), total_after(*first.reconstruction));
}

TEST(Reconstruct, GoesOnAfterAnInterruptionToTheSameBits) {
  const Graph graph = small_resnet();
  for (const auto method : {ReconstructMethod::Mrecg, ReconstructMethod::Brecq}) {
    ReconstructOptions options = quick(method, 8);
    if (method == ReconstructMethod::Brecq) options.scales = ScaleLearning::Separate;
    const Quantized whole = run(graph, with(options));
    for (const int reports : {0, 3, 7}) {
      const TemporaryFolder folder;
      options.checkpoints = folder.path();
      options.resume = false;
      Stopper stopper(reports);
      EXPECT_THROW(quantize(graph, random_dataset(kImages, 3), with(options), stopper), Interrupted);
      options.resume = true;
      const Quantized resumed = run(graph, with(options));
      expect_equal(resumed.graph, whole.graph);
      EXPECT_EQ(total_after(*resumed.reconstruction), total_after(*whole.reconstruction));
    }
  }
}

TEST(Reconstruct, GoesOnAfterAnInterruptionOfTheSurveyOrThePolish) {
  const Graph graph = small_resnet();
  ReconstructOptions options = quick(ReconstructMethod::Mrecg, 10);
  options.survey_steps = 10;
  options.polish_steps = 20;
  const Quantized whole = run(graph, with(options));
  for (const auto& [task, reports] :
       std::vector<std::pair<std::string, int>>{{"measure unit losses", 4}, {"polish the network", 1}}) {
    const TemporaryFolder folder;
    options.checkpoints = folder.path();
    options.resume = false;
    Stopper stopper(reports, task);
    EXPECT_THROW(quantize(graph, random_dataset(kImages, 3), with(options), stopper), Interrupted) << task;
    options.resume = true;
    const Quantized resumed = run(graph, with(options));
    expect_equal(resumed.graph, whole.graph);
    EXPECT_EQ(resumed.reconstruction->groups, whole.reconstruction->groups) << task;
    EXPECT_EQ(resumed.reconstruction->polish->loss_after, whole.reconstruction->polish->loss_after) << task;
  }
}

/// Counts what is reported.
class Counter : public Progress {
 public:
  int reports = 0;

 protected:
  void show(const State&, bool) override { ++reports; }
};

TEST(Reconstruct, RefusesToResumeBeforeItCalibrates) {
  const Graph graph = small_resnet();
  const TemporaryFolder folder;
  ReconstructOptions options = quick(ReconstructMethod::Brecq, 2);
  options.checkpoints = folder.path();
  run(graph, with(options));
  options.resume = true;
  ReconstructOptions other = options;
  other.seed = 3;
  QuantizeOptions deployed = with(options), equalized = with(options), searched = with(options);
  deployed.placement = PlacementStyle::Deploy;
  equalized.equalize = true;
  searched.search = MseSearch::Grid;
  for (const auto& [wanted, differs] :
       std::vector<std::pair<QuantizeOptions, std::string>>{{with(other), "(seed)"},
                                                            {with(options, 2), "(--weight-bits)"},
                                                            {deployed, "(--placement)"},
                                                            {equalized, "(--equalize)"},
                                                            {searched, "(--search)"}}) {
    Counter counter;
    EXPECT_THAT(test::message_of([&] { quantize(graph, random_dataset(kImages, 3), wanted, counter); }),
                HasSubstr(differs));
    EXPECT_EQ(counter.reports, 0) << differs;
  }
}

// Rates far too high do harm to every unit that has scales to learn.
TEST(Reconstruct, UnitsThatLearningMadeWorseKeepTheirNearestCodes) {
  const Graph graph = small_resnet();
  ReconstructOptions options = quick(ReconstructMethod::Brecq, 12);
  options.scale_rate = 1;
  options.keep_better = false;
  const Quantized faithful = run(graph, with(options));
  std::size_t worse = 0;
  for (const SliceResult& slice : faithful.reconstruction->slices) {
    worse += slice.loss_after > slice.loss_before;
    EXPECT_FALSE(slice.kept_nearest);
  }
  EXPECT_GT(worse, 3u);
  options.keep_better = true;
  const Quantized kept = run(graph, with(options));
  std::size_t told = 0;
  for (const SliceResult& slice : kept.reconstruction->slices) {
    EXPECT_LE(slice.loss_after, slice.loss_before) << slice.name;
    if (!slice.kept_nearest) continue;
    ++told;
    EXPECT_EQ(slice.loss_after, slice.loss_before) << slice.name;
    EXPECT_GT(slice.loss_learnt, slice.loss_before) << slice.name;
    EXPECT_THAT(kept.notes, testing::Contains(HasSubstr("'" + slice.name + "' keeps its ")));
  }
  EXPECT_GT(told, 3u);
  EXPECT_GT(*kept.output_sqnr_db, *faithful.output_sqnr_db);
}

TEST(Reconstruct, APolishThatDoesHarmIsTakenBack) {
  const Graph graph = small_resnet();
  ReconstructOptions options = quick(ReconstructMethod::Brecq, 12);
  options.scale_rate = 1;  // harms whatever has scales to learn
  const Quantized plain = run(graph, with(options));
  options.polish_steps = 3;
  const Quantized polished = run(graph, with(options));
  ASSERT_TRUE(polished.reconstruction->polish->kept_nearest);
  EXPECT_GT(polished.reconstruction->polish->loss_learnt, polished.reconstruction->polish->loss_before);
  expect_equal(polished.graph, plain.graph);
  // What was thrown away does not count among the undecided.
  const auto undecided = [](const Quantized& quantized) {
    const auto found = std::find_if(quantized.notes.begin(), quantized.notes.end(), [](const auto& note) {
      return note.find("roundings were not decided") != std::string::npos;
    });
    return found == quantized.notes.end() ? std::string() : *found;
  };
  EXPECT_EQ(undecided(polished), undecided(plain));
}

// The first step makes weights so large that the squared error is infinite.
TEST(Reconstruct, SlicesWhoseLossIsNotFiniteKeepWhatTheyHad) {
  const Graph graph = small_resnet();
  ReconstructOptions options = quick(ReconstructMethod::Brecq, 6);
  const TemporaryFolder folder;
  options.checkpoints = folder.path();
  options.learn_weight_scales = true;
  options.weight_scale_rate = 1e30;
  options.keep_better = false;
  EXPECT_THAT(message(graph, with(options)),
              AllOf(HasSubstr("the loss is not finite at step"), HasSubstr("leave out --faithful"),
                    HasSubstr("finished slices are kept in the checkpoint")));
  options.keep_better = true;
  options.resume = true;
  const Quantized resumed = run(graph, with(options));
  EXPECT_THAT(resumed.notes, testing::Contains(HasSubstr("was begun with other --faithful")));
  options.resume = false;
  const Quantized kept = run(graph, with(options));
  std::size_t diverged = 0;
  for (const SliceResult& slice : kept.reconstruction->slices) {
    if (slice.diverged == 0) continue;
    ++diverged;
    EXPECT_TRUE(slice.kept_nearest) << slice.name;
    EXPECT_EQ(slice.loss_after, slice.loss_before) << slice.name;
    EXPECT_THAT(kept.notes,
                testing::Contains(AllOf(HasSubstr("'" + slice.name + "' keeps its"),
                                        HasSubstr(fmt::format("not finite at step {}", slice.diverged)))));
  }
  EXPECT_GT(diverged, 0u);
  EXPECT_NEAR(*kept.output_sqnr_db, *kept.nearest_sqnr_db, 3);
}

TEST(Reconstruct, APassForTheScalesThatDoesHarmIsTakenBackAndTold) {
  const Graph graph = small_resnet();
  ReconstructOptions options = quick(ReconstructMethod::Brecq, 8);
  options.scales = ScaleLearning::Separate;
  options.scale_pass_rate = 1;
  const Quantized kept = run(graph, with(options));
  std::size_t told = 0;
  for (const SliceResult& slice : kept.reconstruction->slices) {
    if (!slice.scales_taken_back) continue;
    ++told;
    EXPECT_THAT(kept.notes, testing::Contains(HasSubstr("'" + slice.name + "' keeps its calibrated scales")));
  }
  EXPECT_GT(told, 3u);
  options.keep_better = false;
  const Quantized faithful = run(graph, with(options));
  for (const SliceResult& slice : faithful.reconstruction->slices) EXPECT_FALSE(slice.scales_taken_back);
  EXPECT_GT(*kept.output_sqnr_db, *faithful.output_sqnr_db);
}

TEST(ReconstructOptions, StepsOfAPresetHaveItsRates) {
  for (const auto& [effort, steps, rate] : std::vector<std::tuple<Effort, std::int64_t, double>>{
           {Effort::Fast, 500, 2e-2}, {Effort::Balanced, 2000, 5e-3}, {Effort::Paper, 20000, 1e-3}}) {
    const ReconstructOptions preset = reconstruct_options(ReconstructMethod::Brecq, effort);
    ReconstructOptions given;
    set_steps(given, steps);
    EXPECT_EQ(given.rounding_rate, rate);
    EXPECT_EQ(preset.rounding_rate, rate);
    EXPECT_EQ(preset.scale_rate, given.scale_rate);
    EXPECT_EQ(preset.weight_scale_rate, given.weight_scale_rate);
    EXPECT_EQ(preset.scale_pass_rate, given.scale_pass_rate);
  }
  double last = 1;
  for (const std::int64_t steps : {1, 100, 333, 400, 600, 1000, 3000, 10000, 20000, 100000}) {
    ReconstructOptions options;
    set_steps(options, steps);
    EXPECT_LE(options.rounding_rate, last) << steps;
    last = options.rounding_rate;
  }
  EXPECT_EQ(last, 1e-3);
}

TEST(Reconstruct, RatesThatAreGivenHoldInShortPassesToo) {
  const Graph graph = small_resnet();
  ReconstructOptions options = quick(ReconstructMethod::Mrecg, 6);
  options.rounding_rate = options.scale_rate = 1e-6;
  options.keep_better = false;
  const auto moved = [&] {
    double gain = 0;
    const Quantized quantized = run(graph, with(options));
    for (const SliceResult& slice : quantized.reconstruction->survey)
      gain += std::abs(slice.loss_after - slice.loss_before);
    return gain;
  };
  const double raised = moved();
  options.fixed_rounding_rate = options.fixed_scale_rate = true;
  EXPECT_LT(moved(), 0.1 * raised);
}

// What the last slice is said to lose is what the file loses, where the file keeps biases in float.
TEST(Reconstruct, LossesAreThoseOfTheExportedFile) {
  const Graph graph = small_resnet();
  for (const auto method : {ReconstructMethod::AdaRound, ReconstructMethod::QDrop}) {
    QuantizeOptions options = with(quick(method, 10));
    options.target = Target::OpenVino;
    const Quantized quantized = run(graph, options);
    const at::Tensor x = random_tensor(kImages, 3);
    const at::Tensor wanted = testing_helpers::run(quantized.reference, x);
    const at::Tensor made = testing_helpers::run(quantized.graph, x);
    const double loss = (made - wanted).square().sum(1).mean().item<double>();
    EXPECT_NEAR(quantized.reconstruction->slices.back().loss_after, loss, 1e-2 * loss)
        << reconstruct_method_name(method);
  }
}

TEST(Reconstruct, EveryWayToDrawLearns) {
  const Graph graph = small_resnet();
  std::set<double> losses;
  for (const Draw draw : {Draw::Distinct, Draw::Any, Draw::Batches}) {
    ReconstructOptions options = quick(ReconstructMethod::QDrop, 30);
    options.draw = draw;
    const Quantized quantized = run(graph, with(options, 2, 8));
    EXPECT_GT(*quantized.output_sqnr_db, *quantized.nearest_sqnr_db);
    losses.insert(total_after(*quantized.reconstruction));
  }
  EXPECT_EQ(losses.size(), 3u);
}

Graph of_images(std::int64_t channels, std::int64_t out) {
  Graph graph;
  graph.header.opsets[""] = 13;
  graph.inputs = {image("x", {-1, channels, 8, 8})};
  graph.outputs = {image("y", {-1, out, 8, 8})};
  return graph;
}

std::map<std::string, Attribute, std::less<>> padded(std::int64_t group = 1) {
  return {{"pads", ints({1, 1, 1, 1})}, {"kernel_shape", ints({3, 3})}, {"group", group}};
}

// Learnt where it is first read; the second slice takes it as it is.
TEST(Reconstruct, AWeightOfTwoSlicesIsLearntOnce) {
  Graph graph = of_images(6, 6);
  graph.constants["w"] = random_data({6, 6, 3, 3}, 1);
  graph.constants["u"] = random_data({6, 6, 3, 3}, 2);
  graph.nodes = {make("Conv", "a", {"x", "w"}, padded()), make("Relu", "b", {"a"}),
                 make("Conv", "c", {"b", "u"}, padded()), make("Relu", "d", {"c"}),
                 make("Conv", "y", {"d", "w"}, padded())};
  const DatasetPtr data = random_dataset({16, 6, 8, 8}, 5);
  QuantizeOptions options = with(quick(ReconstructMethod::AdaRound, 30), 3, 8);
  options.first_last = FirstLast::Same;
  const Quantized quantized = run(graph, options, data);
  const auto& slices = quantized.reconstruction->slices;
  ASSERT_EQ(slices.size(), 3u);
  EXPECT_EQ(slices[0].weights, 6 * 6 * 9);
  EXPECT_EQ(slices[1].weights, 6 * 6 * 9);
  EXPECT_EQ(slices[2].weights, 0);
  const at::Tensor x = random_tensor({16, 6, 8, 8}, 5);
  const double loss =
      (testing_helpers::run(quantized.graph, x) - testing_helpers::run(quantized.reference, x))
          .square()
          .sum(1)
          .mean()
          .item<double>();
  EXPECT_NEAR(slices[2].loss_after, loss, 1e-3 * loss);
}

TEST(Reconstruct, GroupedAndTransposedConvolutionsLearn) {
  Graph graph = of_images(6, 4);
  const auto small = [](const std::vector<std::int64_t>& shape, std::uint64_t seed) {
    return to_tensor_data(random_tensor(shape, seed) * 0.2);  // so that values stay around 1
  };
  graph.constants["w"] = small({9, 2, 3, 3}, 1);  // three groups
  graph.constants["u"] = small({9, 6, 3, 3}, 2);  // transposed: inputs x outputs
  graph.constants["v"] = small({6, 2, 3, 3}, 3);  // transposed, two groups
  graph.nodes = {make("Conv", "a", {"x", "w"}, padded(3)), make("Relu", "b", {"a"}),
                 make("ConvTranspose", "c", {"b", "u"}, padded()), make("Relu", "d", {"c"}),
                 make("ConvTranspose", "y", {"d", "v"}, padded(2))};
  // Of a mean above 0: for white noise the nearest codes are the best.
  const DatasetPtr data = tensor_dataset({{"", random_tensor({16, 6, 8, 8}, 5) * 0.3 + 1}});
  for (const bool scales : {false, true}) {
    ReconstructOptions learning = quick(ReconstructMethod::AdaRound, 60);
    learning.learn_weight_scales = scales;
    QuantizeOptions options = with(learning, 2, 8);
    options.first_last = FirstLast::Same;
    const Quantized quantized = run(graph, options, data);
    ASSERT_EQ(quantized.reconstruction->slices.size(), 3u);
    for (const SliceResult& slice : quantized.reconstruction->slices) {
      EXPECT_GT(slice.weights, 0) << slice.name;
      EXPECT_LT(slice.loss_after, slice.loss_before) << slice.name;
    }
    EXPECT_GT(*quantized.output_sqnr_db, *quantized.nearest_sqnr_db);
  }
}

// Rows of caches are samples: a value of two rows a sample is not cut in half.
TEST(Reconstruct, RefusesValuesThatFoldSamplesIntoAnotherAxis) {
  Graph graph;
  graph.header.opsets[""] = 13;
  graph.inputs = {image("x", {-1, 6})};
  graph.outputs = {image("y", {-1, 2})};
  graph.constants["v"] = random_data({6, 6}, 1);
  graph.constants["w"] = random_data({3, 4}, 2);
  graph.constants["u"] = random_data({8, 2}, 3);
  graph.constants["fold"] = TensorData::from<std::int64_t>({2}, {-1, 3});
  graph.constants["unfold"] = TensorData::from<std::int64_t>({2}, {-1, 8});
  graph.nodes = {make("MatMul", "a", {"x", "v"}), make("Reshape", "folded", {"a", "fold"}),
                 make("MatMul", "b", {"folded", "w"}), make("Reshape", "c", {"b", "unfold"}),
                 make("MatMul", "y", {"c", "u"})};
  const DatasetPtr data = random_dataset({16, 6}, 5);
  EXPECT_THAT(message(graph, with(quick(ReconstructMethod::AdaRound, 4), 3, 8), data),
              HasSubstr("has shape 2x3 for one sample and 4x3 for two"));
  // Within a slice it does no harm.
  EXPECT_EQ(run(graph, with(quick(ReconstructMethod::Brecq, 4), 3, 8), data).reconstruction->slices.size(),
            1u);
}

TEST(Reconstruct, RefusesACheckpointOfOtherOptionsAndSurvivesADamagedOne) {
  const Graph graph = small_resnet();
  const TemporaryFolder folder;
  ReconstructOptions options = quick(ReconstructMethod::Brecq, 4);
  options.checkpoints = folder.path();
  const Quantized whole = run(graph, with(options));
  options.resume = true;
  expect_equal(run(graph, with(options)).graph, whole.graph);
  ReconstructOptions other = options;
  other.seed = 3;
  EXPECT_THAT(message(graph, with(other)), HasSubstr("other options"));
  EXPECT_THAT(message(graph, with(options, 2)), HasSubstr("another model"));
  const auto file = folder.path() / "reconstruction.safetensors";
  std::string bytes = read_text_file(file);
  bytes[bytes.size() / 2] = static_cast<char>(bytes[bytes.size() / 2] ^ 64);
  write_file(file, bytes);
  const Quantized again = run(graph, with(options));
  expect_equal(again.graph, whole.graph);
  EXPECT_THAT(again.notes, testing::Contains(HasSubstr("started anew")));
}

// The first half of the memory is for the step, the rest for caches.
TEST(Reconstruct, LittleMemorySpillsToDiskWithEqualBits) {
  const Graph graph = small_resnet();
  ReconstructOptions options = quick(ReconstructMethod::QDrop, 6);
  const Quantized roomy = run(graph, with(options));
  EXPECT_EQ(roomy.reconstruction->spilled, 0);
  options.memory = 3'000'000;  // steps take all their samples at once, caches do not fit
  const DatasetPtr many = random_dataset({96, 3, 16, 16}, 3);
  const Quantized tight = run(graph, with(options), many);
  EXPECT_GT(tight.reconstruction->spilled, 0);
  EXPECT_LE(tight.reconstruction->peak_cache, options.memory);
  options.memory = 0;
  expect_equal(tight.graph, run(graph, with(options), many).graph);
  options.half_caches = true;
  const Quantized half = run(graph, with(options));
  EXPECT_LT(half.reconstruction->peak_cache, roomy.reconstruction->peak_cache * 6 / 10);
  EXPECT_NEAR(total_after(*half.reconstruction), total_after(*roomy.reconstruction),
              0.2 * total_after(*roomy.reconstruction));
}

TEST(Reconstruct, LittleMemoryAddsGradientsOfSmallerRuns) {
  const Graph graph = small_resnet();
  ReconstructOptions options = quick(ReconstructMethod::Brecq, 6);
  const Reconstruction whole = *run(graph, with(options)).reconstruction;
  options.memory = 1'000'000;
  const Reconstruction parts = *run(graph, with(options)).reconstruction;
  EXPECT_NEAR(total_after(parts), total_after(whole), 0.02 * total_after(whole));
  EXPECT_NE(total_after(parts), total_after(whole)) << "all samples ran at once";
  options.memory = 20'000;
  EXPECT_THAT(message(graph, with(options)),
              AllOf(HasSubstr("--memory"), HasSubstr("on a single sample holds")));
  options.memory = 1'000'000;
  options.polish_steps = 3;
  EXPECT_THAT(message(graph, with(options)), HasSubstr("leave out --polish"));
}

// A step of the polish, or of a group, holds more than that of any unit; caches get what it leaves.
TEST(Reconstruct, MemoryBoundsStepsAndCachesTogetherInEveryPass) {
  const Graph graph = small_resnet();
  const DatasetPtr many = random_dataset({96, 3, 16, 16}, 3);
  ReconstructOptions options = quick(ReconstructMethod::Brecq, 2);
  options.memory = 3'000'000;
  options.polish_steps = 2;
  const Reconstruction polished = *run(graph, with(options), many).reconstruction;
  EXPECT_GT(polished.spilled, 0);
  EXPECT_LE(polished.held, options.memory);
  EXPECT_GT(polished.held, options.memory / 2);
  options.polish_steps = 0;
  options.grouping.selector = Grouping::Preset;
  options.preset = "1-2-3,4-5-6";
  const Reconstruction grouped = *run(graph, with(options), many).reconstruction;
  EXPECT_EQ(grouped.slices.size(), 7u);
  EXPECT_LE(grouped.held, options.memory);
}

// Weights of the network's loss are of the mean over a step, however many samples run at a time.
TEST(Reconstruct, FisherWeightsDoNotDependOnMemory) {
  const Graph graph = small_resnet();
  ReconstructOptions options = quick(ReconstructMethod::Brecq, 6);
  options.fisher = Fisher::Diagonal;
  const Reconstruction whole = *run(graph, with(options)).reconstruction;
  options.memory = 1'000'000;
  const Reconstruction parts = *run(graph, with(options)).reconstruction;
  EXPECT_NEAR(total_after(parts), total_after(whole), 0.02 * total_after(whole));
  EXPECT_NE(total_after(parts), total_after(whole)) << "all samples ran at once";
  options.memory = 0;
  options.half_caches = true;
  const Reconstruction half = *run(graph, with(options)).reconstruction;
  EXPECT_NEAR(total_after(half), total_after(whole), 0.2 * total_after(whole));
}

TEST(Reconstruct, FusedKernelsAgreeWithPlainOperators) {
  const Graph graph = small_resnet();
  ReconstructOptions options = quick(ReconstructMethod::Brecq, 10);
  options.learn_weight_scales = true;
  const Reconstruction fused = *run(graph, with(options)).reconstruction;
  options.composed = true;
  const Reconstruction composed = *run(graph, with(options)).reconstruction;
  ASSERT_EQ(fused.slices.size(), composed.slices.size());
  // Rounding decides on signs, so single codes may differ; losses of the first slices agree closely.
  EXPECT_NEAR(fused.slices[0].loss_after, composed.slices[0].loss_after, 1e-3 * fused.slices[0].loss_after);
  EXPECT_NEAR(total_after(fused), total_after(composed), 0.1 * total_after(fused));
}

TEST(Reconstruct, WorksOnEveryKindOfNetwork) {
  struct Case {
    const char* name;
    Graph graph;
    DatasetPtr data;
  };
  const auto images = [](std::int64_t side) { return random_dataset({16, 3, side, side}, 5); };
  std::vector<Case> cases;
  cases.push_back({"depthwise",
                   build_mobilenet_v2_small_images({.classes = 10, .image_size = 16, .width = 0.25}),
                   images(16)});
  cases.push_back({"edsr", build_edsr({.channels = 8, .blocks = 2, .image_size = 12}), images(12)});
  cases.push_back(
      {"vit", build_vit({.image_size = 16, .patch = 8, .dim = 24, .depth = 2, .heads = 2, .classes = 10}),
       images(16)});
  cases.push_back({"unet",
                   build_unet({.image_size = 16,
                               .base = 8,
                               .multipliers = {1, 2},
                               .residual_blocks = 1,
                               .attention_sizes = {8},
                               .groups = 4}),
                   tensor_dataset({{"x", at::randn({16, 3, 16, 16})}, {"t", at::arange(16, at::kLong)}})});
  for (const Case& one : cases)
    for (const auto method :
         {ReconstructMethod::AdaRound, ReconstructMethod::QDrop, ReconstructMethod::Mrecg}) {
      if (method == ReconstructMethod::Mrecg && std::string(one.name) != "vit") continue;
      const Quantized quantized = run(one.graph, with(quick(method, 12), 3, 8), one.data);
      std::size_t layers = 0;
      for (const Unit& unit : quantized.reconstruction->units) layers += unit.layers.size();
      EXPECT_EQ(layers, quantized.layers.size()) << one.name;
      std::size_t better = 0, learning = 0;
      for (const SliceResult& slice : quantized.reconstruction->slices) {
        EXPECT_TRUE(std::isfinite(slice.loss_after)) << one.name << " " << slice.name;
        learning += slice.weights > 0;
        better += slice.weights > 0 && slice.loss_after < 0.999 * slice.loss_before;
      }
      EXPECT_GT(2 * better, learning) << one.name << " " << reconstruct_method_name(method);
      EXPECT_GT(*quantized.output_sqnr_db, *quantized.nearest_sqnr_db - 1) << one.name;
    }
}

TEST(Reconstruct, DeployPlacementSharesScalesAndStaysExact) {
  QuantizeOptions options = with(quick(ReconstructMethod::QDrop, 10), 4, 8);
  options.profile = Profile::Int8;
  const Quantized quantized = run(small_resnet(), options);
  EXPECT_EQ(quantized.placement, PlacementStyle::Deploy);
  EXPECT_GT(*quantized.output_sqnr_db, *quantized.nearest_sqnr_db - 1);
}

TEST(Reconstruct, FisherWeighsClassifiersOnly) {
  const Graph graph = small_resnet();
  ReconstructOptions options = quick(ReconstructMethod::Brecq, 6);
  const double plain = total_after(*run(graph, with(options)).reconstruction);
  for (const Fisher fisher : {Fisher::Diagonal, Fisher::Full}) {
    options.fisher = fisher;
    const Quantized quantized = run(graph, with(options));
    EXPECT_NE(total_after(*quantized.reconstruction), plain);
    EXPECT_GT(*quantized.output_sqnr_db, *quantized.nearest_sqnr_db - 1);
  }
  EXPECT_THAT(message(build_edsr({.channels = 8, .blocks = 1, .image_size = 12}), with(options),
                      random_dataset({16, 3, 12, 12}, 5)),
              HasSubstr("need a classifier"));
}

TEST(Reconstruct, PolishLowersTheErrorOfTheWhole) {
  const Graph graph = small_resnet();
  ReconstructOptions options = quick(ReconstructMethod::Brecq, 30);
  const Quantized plain = run(graph, with(options, 2));
  options.polish_steps = 60;
  const Quantized polished = run(graph, with(options, 2));
  ASSERT_TRUE(polished.reconstruction->polish);
  EXPECT_LT(polished.reconstruction->polish->loss_after, polished.reconstruction->polish->loss_before);
  EXPECT_GT(*polished.output_sqnr_db, *plain.output_sqnr_db);
}

TEST(Reconstruct, LearntWeightScalesMove) {
  const Graph graph = small_resnet();
  ReconstructOptions options = quick(ReconstructMethod::Brecq, 20);
  const Quantized fixed = run(graph, with(options));
  options.learn_weight_scales = true;
  const Quantized learnt = run(graph, with(options));
  std::int64_t scales = 0, moved = 0;
  for (const auto& [name, data] : fixed.graph.constants)
    if (name.ends_with("weight_scale")) {
      ++scales;
      moved += data.to_floats() != learnt.graph.constants.at(name).to_floats();
    }
  EXPECT_GT(scales, 0);
  EXPECT_GE(moved, scales - 2);  // not those of 8 bits
}

TEST(Reconstruct, OnlyDepthwiseConvolutionsRaiseTheRegulariser) {
  const auto weight_of = [](const Graph& graph) {
    return run(graph, with(quick(ReconstructMethod::Brecq, 1))).reconstruction->rounding_weight;
  };
  EXPECT_EQ(weight_of(small_resnet()), 0.01);
  EXPECT_EQ(weight_of(build_mobilenet_v2_small_images({.classes = 10, .image_size = 16, .width = 0.25})),
            0.1);
  Graph grouped = small_resnet();
  for (Node& node : grouped.nodes)  // one convolution of four groups
    if (node.is("Conv") && grouped.constants.at(node.input(1)).shape()[0] == 8 && !node.has("grouped")) {
      const TensorData& full = grouped.constants.at(node.input(1));
      if (full.shape()[1] != 8) continue;
      std::vector<float> values = full.to_floats();
      values.resize(values.size() / 4);
      grouped.constants[node.input(1)] = TensorData::from<float>({8, 2, 3, 3}, std::move(values));
      node.attributes["group"] = std::int64_t{4};
      break;
    }
  EXPECT_EQ(weight_of(grouped), 0.01);
}

TEST(Reconstruct, LearntCodesSurviveABiasThatDoesNotFit) {
  Quantizer quantizer{
      .scale = at::tensor({1e-9f, 0.5f}), .zero_point = at::zeros({2}), .codes = {-2, 1}, .axis = 0};
  QuantizedWeight weight{.constant = "w", .bits = 2, .quantizer = quantizer};
  const at::Tensor values = at::tensor({1e-9f, -1e-9f, 0.4f, -0.6f}).view({2, 2});
  weight.codes =
      at::tensor({1.f, -1.f, 0.f, -2.f}).view({2, 2});  // the second row is learnt: nearest is 1, -1
  EXPECT_EQ(raise_scales(weight, values, at::tensor({100.f, 0.f}), 0.1), 1);
  EXPECT_TRUE(weight.codes[1].equal(at::tensor({0.f, -2.f})));
  EXPECT_TRUE(weight.codes[0].equal(at::zeros({2})));
}

TEST(Reconstruct, ResumeNoticesOtherMemoryWhereItMakesGroupsAndOtherPolish) {
  const Graph graph = small_resnet();
  const TemporaryFolder folder;
  ReconstructOptions options = quick(ReconstructMethod::Mrecg, 2);
  options.checkpoints = folder.path();
  run(graph, with(options));
  options.resume = true;
  ReconstructOptions other = options;
  other.memory = 1'000'000'000;
  EXPECT_THAT(message(graph, with(other)), HasSubstr("other options"));
  other = options;
  other.polish_steps = 3;
  EXPECT_THAT(message(graph, with(other)), HasSubstr("other options"));
  EXPECT_THAT(message(graph, with(options), random_dataset(kImages, 4)), HasSubstr("other data"));
}

TEST(Reconstruct, ModelsOfFixedBatchLearnFromSeveralRuns) {
  const Graph one = build_resnet20({.classes = 10, .image_size = 16, .width = 0.25, .batch = 1});
  const Graph free = build_resnet20({.classes = 10, .image_size = 16, .width = 0.25});
  for (const Fisher fisher : {Fisher::None, Fisher::Full}) {
    ReconstructOptions options = quick(ReconstructMethod::Brecq, 4);
    options.fisher = fisher;
    const Reconstruction single = *run(one, with(options)).reconstruction;
    const Reconstruction whole = *run(free, with(options)).reconstruction;
    ASSERT_EQ(single.slices.size(), whole.slices.size());
    EXPECT_NEAR(total_after(single), total_after(whole), 0.02 * total_after(whole));
    for (const SliceResult& slice : single.slices)
      EXPECT_LT(slice.loss_after, 2 * slice.loss_before) << slice.name;
  }
}

TEST(Reconstruct, SaysWhatItCannotDo) {
  const Graph graph = small_resnet();
  ReconstructOptions options = quick(ReconstructMethod::Brecq, 3);
  options.batch = 64;
  EXPECT_THAT(message(graph, with(options)), HasSubstr("only 24 calibration samples, but a step draws 64"));
  options.batch = 8;
  QuantizeOptions nothing = with(options);
  nothing.exclude = {"*"};
  EXPECT_THAT(message(graph, nothing), HasSubstr("nothing is quantised"));
  // Beyond what 16 bits hold.
  options.half_caches = true;
  const DatasetPtr bright = tensor_dataset({{"", random_tensor(kImages, 3) * 1e6}});
  EXPECT_THAT(message(graph, with(options), bright), HasSubstr("16 bits do not hold"));
  options.half_caches = false;
  options.keep = 0;
  EXPECT_THAT(message(graph, with(options)), HasSubstr("--keep 0"));
  options.keep = 1;
  options.scales = ScaleLearning::Off;
  EXPECT_THAT(message(graph, with(options, 8, 8)), HasSubstr("nothing is left to learn"));
}

/// Everything at `bits`, ranges by min-max on x.
QdqPlan plan_of(const Graph& graph, const at::Tensor& x, int bits, PlacementStyle placement) {
  QdqPlan plan{.layers = find_layers(graph)};
  assign_bits(plan.layers, bits, bits, FirstLast::Eight, {}, {});
  plan.weights = quantize_weights(graph, plan.layers, {});
  std::map<std::string, Range> ranges;
  Executor executor(graph);
  executor.run({{graph.inputs.at(0).name, x}}, {}, [&](const std::string& name, const at::Tensor& value) {
    if (at::isFloatingType(value.scalar_type())) ranges[name] = min_max_range(value);
  });
  std::map<std::size_t, Quantizer> groups;
  for (const ActivationPoint& point :
       place_activations(graph, plan.layers, placement, Target::OnnxRuntime, bits)) {
    const auto quantizer = groups.emplace(
        point.group,
        quantizer_for_range(ranges.at(point.value), Scheme::Asymmetric, asymmetric_codes(point.bits)));
    plan.activations.push_back({.value = point.value,
                                .bits = point.bits,
                                .quantizer = quantizer.first->second,
                                .group = point.group});
  }
  return plan;
}

// What is learnt on is what is exported.
TEST(SimulatedGraph, ComputesWhatTheFileComputes) {
  const Graph graph = build_resnet20({.classes = 10, .image_size = 16, .width = 0.5, .batch_norm = false});
  const at::Tensor x = random_tensor({4, 3, 16, 16}, 2);
  for (const PlacementStyle placement : {PlacementStyle::Academic, PlacementStyle::Deploy}) {
    const QdqPlan plan = plan_of(graph, x, 4, placement);
    const SimulatedGraph simulated = simulate(graph, plan);
    simulated.graph.validate();
    const at::Tensor a = testing_helpers::run(simulated.graph, x);
    const at::Tensor b = testing_helpers::run(export_qdq(graph, plan), x);
    EXPECT_LT(largest_gap(a, b), 1e-4 * b.abs().max().item<double>());
    EXPECT_GT(largest_gap(a, testing_helpers::run(graph, x)), 1e-2);
  }
}

TEST(Slices, CoverEveryNodeAndReadOnlyWhatCameBefore) {
  for (const Graph& graph : {build_edsr({.channels = 8, .blocks = 2, .image_size = 12}),
                             build_mobilenet_v2_small_images(
                                 {.classes = 10, .image_size = 16, .width = 0.25, .batch_norm = false})}) {
    const std::int64_t side = graph.inputs.at(0).shape->at(2).value;
    const QdqPlan plan = plan_of(graph, random_tensor({2, 3, side, side}, 2), 4, PlacementStyle::Academic);
    const SimulatedGraph simulated = simulate(graph, plan);
    for (const Granularity granularity : {Granularity::Layer, Granularity::Block}) {
      const std::vector<Unit> units = reconstruction_units(graph, granularity);
      std::vector<std::vector<int>> groups;
      for (std::size_t i = 0; i < units.size(); ++i) groups.push_back({static_cast<int>(i)});
      const std::vector<Slice> slices = make_slices(graph, simulated, units, groups);
      std::set<std::string> made{graph.inputs.at(0).name};
      for (const auto& [quantized, original] : simulated.float_of)
        if (original == graph.inputs.at(0).name) made.insert(quantized);
      std::size_t activations = 0;
      for (const Slice& slice : slices) {
        for (const std::string& name : slice.inputs)
          EXPECT_TRUE(made.contains(name)) << slice.name << " " << name;
        made.insert(slice.outputs.begin(), slice.outputs.end());
        activations += slice.activations.size();
      }
      EXPECT_TRUE(made.contains(graph.outputs.at(0).name));
      EXPECT_EQ(activations + 1, plan.activations.size());  // all but that of the input
    }
  }
}

}  // namespace
}  // namespace lithe
