#include "lithe/data/loader.h"

#include <gmock/gmock.h>

#include <chrono>
#include <thread>

#include "data/files.h"

namespace lithe {
namespace {

using test::message_of;
using testing::ElementsAre;
using testing::HasSubstr;

/// Sample i is the number i; some are slow, so that workers finish out of order.
class Numbers : public Dataset {
 public:
  explicit Numbers(std::int64_t size, std::int64_t broken = -1) : size_(size), broken_(broken) {}
  std::int64_t size() const override { return size_; }
  Sample get(std::int64_t index) const override {
    if (index % 7 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
    if (index == broken_) fail("sample {} is broken", index);
    Sample sample;
    sample.inputs[""] = at::full({index < 5 ? 2 : 3}, index, at::kFloat);
    sample.label = index;
    sample.name = std::to_string(index);
    return sample;
  }
  bool labelled() const override { return true; }

 private:
  std::int64_t size_, broken_;
};

std::vector<std::vector<std::int64_t>> all_labels(const DatasetPtr& data, const LoaderOptions& options) {
  Loader loader(data, options);
  std::vector<std::vector<std::int64_t>> out;
  for (Batch batch; loader.next(batch);)
    out.emplace_back(batch.labels.data_ptr<std::int64_t>(),
                     batch.labels.data_ptr<std::int64_t>() + batch.size());
  return out;
}

TEST(Loader, BatchesDoNotDependOnThreads) {
  const auto data = std::make_shared<Numbers>(100);
  for (const bool shuffle : {false, true}) {
    const auto expected = all_labels(data, {.batch = 8, .threads = 0, .shuffle = shuffle, .seed = 5});
    for (const int threads : {1, 2, 5})
      EXPECT_EQ(all_labels(data, {.batch = 8, .threads = threads, .shuffle = shuffle, .seed = 5}), expected);
  }
}

TEST(Loader, EndsBatchesWhereShapesChange) {
  const auto data = std::make_shared<Numbers>(12);
  EXPECT_THAT(all_labels(data, {.batch = 4}), ElementsAre(ElementsAre(0, 1, 2, 3), ElementsAre(4),
                                                          ElementsAre(5, 6, 7, 8), ElementsAre(9, 10, 11)));
  EXPECT_THAT(all_labels(data, {.batch = 4, .drop_last = true}),
              ElementsAre(ElementsAre(0, 1, 2, 3), ElementsAre(4), ElementsAre(5, 6, 7, 8)));
}

TEST(Loader, EndsBatchesThatHoldEnough) {
  const auto data = std::make_shared<Numbers>(11);  // five of two numbers, six of three
  using Labels = std::vector<std::vector<std::int64_t>>;
  for (const int threads : {0, 1, 4}) {
    EXPECT_EQ(all_labels(data, {.batch = 8, .threads = threads, .numbers = 6}),
              (Labels{{0, 1, 2}, {3, 4}, {5, 6}, {7, 8}, {9, 10}}));
    EXPECT_EQ(all_labels(data, {.batch = 8, .threads = threads, .numbers = 1}).size(), 11u);
  }
}

TEST(Loader, ShufflesAnewEveryEpoch) {
  const auto data = std::make_shared<Numbers>(100);
  const auto first = all_labels(data, {.batch = 100, .shuffle = true, .seed = 1});
  EXPECT_NE(first, all_labels(data, {.batch = 100, .shuffle = true, .seed = 1, .epoch = 1}));
  EXPECT_NE(first, all_labels(data, {.batch = 100, .shuffle = true, .seed = 2}));
}

TEST(Loader, ErrorsArriveInOrder) {
  for (const int threads : {0, 3}) {
    Loader loader(std::make_shared<Numbers>(50, 20), {.batch = 5, .threads = threads});
    Batch batch;
    int batches = 0;
    const std::string complaint = message_of([&] {
      while (loader.next(batch)) ++batches;
    });
    EXPECT_EQ(complaint, "sample 20 is broken");
    EXPECT_EQ(batches, 4);
  }
  EXPECT_THAT(message_of([] { Loader(std::make_shared<Numbers>(5), {.batch = 0}); }), HasSubstr("--batch 0"));
}

TEST(Loader, AbandonedHalfWay) {
  Loader loader(std::make_shared<Numbers>(1000), {.batch = 2, .threads = 3});
  Batch batch;
  EXPECT_TRUE(loader.next(batch));
}

TEST(Stack, NamesTheSampleThatDiffers) {
  const Numbers data(10);
  EXPECT_THAT(message_of([&] {
                stack({data.get(4), data.get(5)});
              }),
              HasSubstr("5: has the shape [3], 4 has [2]"));
  EXPECT_THAT(message_of([&] { load_all(std::make_shared<Numbers>(10)); }), HasSubstr("differ in shape"));
  EXPECT_EQ(load_all(std::make_shared<Numbers>(10), 5).inputs.at("").sizes(),
            (std::vector<std::int64_t>{5, 2}));
}

TEST(BindInputs, NamesAndDefaults) {
  Graph graph;
  graph.inputs = {{.name = "x", .shape = DimVector{{.value = 4}, {.value = 2}}}, {.name = "w"}};
  graph.constants["w"] = TensorData::scalar(1.f);
  const at::Tensor x = at::zeros({4, 2});
  EXPECT_TRUE(bind_inputs(graph, {{"", x}}).contains("x"));
  EXPECT_TRUE(bind_inputs(graph, {{"x", x}, {"w", x}}).contains("w"));
  EXPECT_THAT(message_of([&] { bind_inputs(graph, {{"y", x}}); }), HasSubstr("its inputs are x, w"));
  EXPECT_EQ(fixed_batch(graph), 4);
  graph.inputs[0].shape->front() = {.symbol = "n"};
  EXPECT_EQ(fixed_batch(graph), 0);
  graph.constants.clear();
  EXPECT_THAT(message_of([&] { bind_inputs(graph, {{"", x}}); }), HasSubstr("2 inputs"));
}

TEST(BindBatch, SaysWhichFlagsMakeThePictureFit) {
  Graph graph;
  const auto takes = [&](std::int64_t a, std::int64_t b, std::int64_t c) {
    graph.inputs = {{.name = "x",
                     .dtype = DType::Float32,
                     .shape = DimVector{{.symbol = "n"}, {.value = a}, {.value = b}, {.value = c}}}};
  };
  const auto said = [&](std::vector<std::int64_t> shape) {
    shape.insert(shape.begin(), 2);
    const Batch batch{.inputs = {{"", at::zeros(shape)}}, .names = {"cat.png", "dog.png"}};
    return message_of([&] { bind_batch(graph, batch); });
  };
  takes(3, 32, 40);
  EXPECT_EQ(said({3, 32, 40}), "");
  EXPECT_THAT(said({3, 30, 40}),
              HasSubstr("cat.png: gives the shape [2, 3, 30, 40], but the model's input 'x' "
                        "is float32 [n, 3, 32, 40]; give --resize 32x40, or arrays"));
  EXPECT_THAT(said({1, 32, 40}), HasSubstr("give --colour rgb, or"));
  EXPECT_THAT(said({32, 40, 3}), HasSubstr("give --layout nchw, or"));
  EXPECT_THAT(said({8, 8}), HasSubstr("give data of that shape"));
  takes(32, 40, 1);
  EXPECT_THAT(said({3, 16, 16}), HasSubstr("give --layout nhwc --resize 32x40 --colour gray, or"));
  takes(3, -1, -1);
  EXPECT_EQ(said({3, 7, 9}), "") << "height and width are free";
}

}  // namespace
}  // namespace lithe
