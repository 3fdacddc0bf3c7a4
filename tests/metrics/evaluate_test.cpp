#include "lithe/metrics/evaluate.h"

#include <gtest/gtest.h>

#include <cmath>

#include "lithe/base/error.h"
#include "message_of.h"

namespace lithe {
namespace {

Graph graph_of(Node node, std::int64_t batch = -1) {
  Graph graph;
  node.inputs = {"x"};
  node.outputs = {"y"};
  graph.nodes = {std::move(node)};
  graph.inputs = {{.name = "x", .dtype = DType::Float32}};
  if (batch > 0) graph.inputs[0].shape = DimVector{{.value = batch}, {.value = 3}};
  graph.outputs = {{.name = "y", .dtype = DType::Float32}};
  return graph;
}

RunBatch same() {
  return [](const Feeds& feeds) { return Feeds{{"y", feeds.at("x")}}; };
}

DatasetPtr logits_data() {
  // Right, wrong, right.
  const at::Tensor x = at::tensor({5.f, 1.f, 0.f, 0.f, 9.f, 1.f, 1.f, 2.f, 3.f}).reshape({3, 3});
  return tensor_dataset({{"", x}}, at::tensor({0, 0, 2}, at::kLong));
}

TEST(Evaluate, ScoresLabels) {
  const Graph graph = graph_of({.op_type = "Identity"});
  const Evaluation result = evaluate(graph, same(), logits_data(), {.batch = 2});
  EXPECT_EQ(result.n, 3);
  EXPECT_NEAR(*result.top1, 2.0 / 3, 1e-12);
  EXPECT_DOUBLE_EQ(*result.top5, 1.0);
  const auto row = [](double a, double b, double c, double at) {
    return std::log(std::exp(a) + std::exp(b) + std::exp(c)) - at;
  };
  EXPECT_NEAR(*result.loss, (row(5, 1, 0, 5) + row(0, 9, 1, 0) + row(1, 2, 3, 3)) / 3, 1e-9);
  EXPECT_FALSE(result.psnr_y.has_value());
  EXPECT_FALSE(result.argmax_agreement.has_value());
  EXPECT_GT(result.throughput, 0);
}

TEST(Evaluate, FillsUpFixedBatches) {
  const Graph graph = graph_of({.op_type = "Identity"}, 2);
  int calls = 0;
  const RunBatch run = [&](const Feeds& feeds) {
    ++calls;
    EXPECT_EQ(feeds.at("x").size(0), 2);
    return Feeds{{"y", feeds.at("x")}};
  };
  const Evaluation result = evaluate(graph, run, logits_data(), {.batch = 64});
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(result.n, 3);
  EXPECT_NEAR(*result.top1, 2.0 / 3, 1e-12);
}

TEST(Evaluate, ProbabilitiesAreNotNormalisedAgain) {
  const Graph graph = graph_of({.op_type = "Softmax"});
  const RunBatch run = [](const Feeds& feeds) { return Feeds{{"y", at::softmax(feeds.at("x"), 1)}}; };
  const Graph plain = graph_of({.op_type = "Identity"});
  EXPECT_NEAR(*evaluate(graph, run, logits_data()).loss, *evaluate(plain, same(), logits_data()).loss, 1e-6);
}

TEST(Evaluate, ComparesTwoModels) {
  const Graph graph = graph_of({.op_type = "Identity"});
  const RunBatch shifted = [](const Feeds& feeds) {
    at::Tensor y = feeds.at("x").clone();
    y.select(1, 1) += 1.5;  // [1, 3.5, 3] now has another argmax; the others keep theirs
    return Feeds{{"y", y}};
  };
  const Evaluation result = evaluate(graph, same(), logits_data(), {.batch = 2}, shifted);
  EXPECT_NEAR(*result.argmax_agreement, 2.0 / 3, 1e-12);
  EXPECT_NEAR(*result.max_abs, 1.5, 1e-6);
  const double signal = 25 + 2.5 * 2.5 + 10.5 * 10.5 + 1 + 1 + 3.5 * 3.5 + 9;
  EXPECT_NEAR(*result.sqnr_db, 10 * std::log10(signal / (3 * 2.25)), 1e-5);
}

TEST(Evaluate, ScoresImages) {
  // The target is 16 gray levels brighter in all channels; units are 1/255.
  const at::Tensor x = at::full({2, 3, 12, 12}, 100 / 255.0f);
  const DatasetPtr data = tensor_dataset({{"", x}}, {}, x + 16 / 255.0f);
  const Evaluation result = evaluate(graph_of({.op_type = "Identity"}), same(), data);
  EXPECT_NEAR(*result.psnr_rgb, 24.0486, 1e-3);
  // 16 levels of gray are 16 * 219 / 255 of luma.
  EXPECT_NEAR(*result.psnr_y, 20 * std::log10(255 / (16 * 219 / 255.0)), 1e-3);
  EXPECT_GT(*result.ssim_y, 0.9);
  EXPECT_LT(*result.ssim_y, 1.0);
  EXPECT_FALSE(result.top1.has_value());
}

// Means leave out what is infinite or missing, and tell how many that are.
TEST(Evaluate, MeansOfExactAndSmallImages) {
  const Graph graph = graph_of({.op_type = "Identity"});
  const at::Tensor x = at::full({3, 3, 12, 12}, 100 / 255.0f);
  at::Tensor target = x.clone();
  target[1] += 16 / 255.0f;
  target[2] += 32 / 255.0f;
  const Evaluation some = evaluate(graph, same(), tensor_dataset({{"", x}}, {}, target));
  EXPECT_EQ(some.n_exact, 1);
  EXPECT_TRUE(std::isinf(some.images.at(0).psnr_y));
  EXPECT_NEAR(*some.psnr_y, (some.images.at(1).psnr_y + some.images.at(2).psnr_y) / 2, 1e-9);
  EXPECT_NEAR(*some.psnr_rgb, 24.0486 - 10 * std::log10(2), 1e-3);  // 16 and 32 levels
  EXPECT_EQ(some.n_without_ssim, 0);
  const Evaluation all = evaluate(graph, same(), tensor_dataset({{"", x}}, {}, x));
  EXPECT_EQ(all.n_exact, 3);
  EXPECT_TRUE(std::isinf(*all.psnr_y));
  const at::Tensor small = at::full({2, 3, 8, 30}, 0.5f);
  const Evaluation none = evaluate(graph, same(), tensor_dataset({{"", small}}, {}, small + 0.1f));
  EXPECT_FALSE(none.ssim_y.has_value());
  EXPECT_EQ(none.n_without_ssim, 2);
}

// Large pictures are run one by one, whatever the batch.
TEST(Evaluate, BatchesOfPicturesAreBounded) {
  const Graph graph = graph_of({.op_type = "Identity"});
  const auto largest = [&](std::int64_t width) {
    std::int64_t most = 0;
    const RunBatch run = [&](const Feeds& feeds) {
      most = std::max(most, feeds.at("x").size(0));
      return Feeds{{"y", feeds.at("x")}};
    };
    const at::Tensor x = at::zeros({4, 1, 8, width});
    evaluate(graph, run, tensor_dataset({{"", x}}, {}, x), {.batch = 4});
    return most;
  };
  EXPECT_EQ(largest(16), 4);
  EXPECT_EQ(largest(150'000), 3);  // of 2.4 million numbers each, with the target
  EXPECT_EQ(largest(320'000), 1);
}

TEST(Evaluate, BytesAreRoundedPixels) {
  const Preprocess preprocess{.mean = {0.4, 0.5, 0.6}, .std = {0.2, 0.3, 0.25}, .colour = ColourOrder::Bgr};
  at::manual_seed(5);
  const at::Tensor image = at::randn({3, 700, 301});
  const at::Tensor bytes = to_bytes(image, preprocess);
  EXPECT_EQ(bytes.scalar_type(), at::kByte);
  EXPECT_TRUE(at::equal(bytes.to(at::kDouble), to_pixels(image, preprocess)));
  Preprocess last = preprocess;
  last.layout = ImageLayout::Nhwc;
  EXPECT_TRUE(at::equal(to_bytes(image.permute({1, 2, 0}), last), bytes));
}

TEST(Evaluate, ThroughTheEngine) {
  Executor executor(graph_of({.op_type = "Relu"}));
  const Evaluation result = evaluate(executor, logits_data());
  EXPECT_NEAR(*result.top1, 2.0 / 3, 1e-12);
  EXPECT_EQ(evaluate(executor, logits_data(), {.limit = 2}).n, 2);
}

TEST(Evaluate, FeedsSingleSamplesWhereTheBatchIsBakedIn) {
  Graph graph = graph_of({.op_type = "Reshape"});
  graph.constants["shape"] = TensorData::from<std::int64_t>({2}, {1, 3});
  graph.nodes[0].inputs.push_back("shape");
  Executor executor(graph);
  const Evaluation result = evaluate(executor, logits_data(), {.batch = 2});
  EXPECT_EQ(result.batch, 1);
  EXPECT_EQ(result.n, 3);
  EXPECT_NEAR(*result.top1, 2.0 / 3, 1e-12);
  // The same where the model compared with is the one.
  const Evaluation other = evaluate(graph_of({.op_type = "Identity"}), same(), logits_data(), {.batch = 2},
                                    [&](const Feeds& feeds) { return executor.run(feeds); });
  EXPECT_EQ(other.batch, 1);
  EXPECT_DOUBLE_EQ(*other.argmax_agreement, 1.0);
  EXPECT_EQ(evaluate(graph_of({.op_type = "Identity"}), same(), logits_data(), {.batch = 2}).batch, 2);
}

TEST(Evaluate, SaysWhatWasFedWhereTheFirstBatchFails) {
  Graph graph = graph_of({.op_type = "Reshape"});
  graph.constants["shape"] = TensorData::from<std::int64_t>({2}, {-1, 7});
  graph.nodes[0].inputs.push_back("shape");
  Executor executor(graph);
  const std::string said = test::message_of([&] {
    evaluate(executor, tensor_dataset({{"", at::zeros({2, 1, 5, 5})}}), {.batch = 2});
  });
  EXPECT_NE(said.find("Reshape"), std::string::npos) << said;
  EXPECT_NE(said.find("as [1, 1, 5, 5]: if it wants pictures of another size, give --resize"),
            std::string::npos)
      << said;
}

TEST(Evaluate, RefusesWhatDoesNotFit) {
  const Graph graph = graph_of({.op_type = "Identity"});
  EXPECT_THROW(evaluate(graph, same(), tensor_dataset({{"z", at::zeros({2, 3})}})), Error);
  EXPECT_THROW(evaluate(graph, same(), logits_data(), {.output = "w"}), Error);
  const DatasetPtr labels = tensor_dataset({{"", at::zeros({2, 3})}}, at::tensor({0, 7}, at::kLong));
  EXPECT_THROW(evaluate(graph, same(), labels), Error);
}

}  // namespace
}  // namespace lithe
