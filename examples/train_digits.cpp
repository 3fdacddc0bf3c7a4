// Trains the bundled digits.onnx: a small residual net on the handwritten digits of OpenCV's samples.
//
//   train_digits [examples/digits/digits.png [examples/models/digits.onnx [epochs]]]
//
// The sheet has 50 rows of 100 cells, five rows a digit. Columns 0-69 train, 70-79 are left for calibration
// and 80-99 for the test. The net is written down as a Graph, and the engine that evaluates models trains it:
// constants become tensors with gradients, and stochastic gradient descent is a few lines.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numbers>
#include <string>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/base/random.h"
#include "lithe/data/loader.h"
#include "lithe/engine/executor.h"
#include "lithe/graph/onnx.h"
#include "lithe/metrics/evaluate.h"
#include "lithe/models/builder.h"
#include "lithe/ops/registry.h"

namespace {

using namespace lithe;

constexpr std::uint64_t kSeed = 20;
constexpr std::int64_t kSide = 20, kClasses = 10, kBatch = 50;
constexpr double kPeakRate = 0.1, kMomentum = 0.9, kWeightDecay = 5e-4, kLabelSmoothing = 0.05;

struct Net : GraphBuilder {
  Net() : GraphBuilder("digits", kSeed) {}

  std::string conv_norm(const std::string& name, const std::string& x, ConvOptions options) {
    options.bias = false;
    return batch_norm(name + ".norm", conv(name + ".conv", x, options));
  }

  /// The basic block of He et al., CVPR 2016, figure 2; a 1x1 convolution where the shape changes.
  std::string block(const std::string& name, const std::string& x, std::int64_t width, std::int64_t stride) {
    std::string y = conv_norm(name + ".a", x, {.channels = width, .stride = stride});
    y = relu(name + ".a.relu", y);
    y = conv_norm(name + ".b", y, {.channels = width});
    std::string shortcut = x;
    if (stride != 1 || channels(x) != width)
      shortcut = conv_norm(name + ".shortcut", x, {.channels = width, .kernel = 1, .stride = stride});
    return relu(name + ".relu", add(name + ".add", y, shortcut));
  }
};

Graph build_net() {
  Net net;
  std::string x = net.input("image", {-1, 1, kSide, kSide});
  x = net.relu("stem.relu", net.conv_norm("stem", x, {.channels = 16}));
  x = net.block("block1", x, 16, 1);
  x = net.block("block2", x, 32, 2);
  x = net.block("block3", x, 32, 1);
  x = net.block("block4", x, 48, 2);
  x = net.flatten("flatten", net.global_average_pool("pool", x));
  net.output("logits", net.gemm("head", x, 48, kClasses), {-1, kClasses});
  return net.finish();
}

/// What gradient descent changes. Batch norm starts out neutral.
std::vector<std::string> prepare_parameters(Executor& executor) {
  std::vector<std::string> names;
  const auto set = [&](const std::string& name, const at::Tensor& value) {
    executor.set_constant(name, value.clone().requires_grad_());
    names.push_back(name);
  };
  for (const Node& node : executor.graph().nodes) {
    if (node.is("Conv") || node.is("Gemm"))
      for (std::size_t i = 1; i < node.inputs.size(); ++i)
        set(node.input(i), executor.constant(node.input(i)));
    if (node.is("BatchNormalization")) {
      set(node.input(1), at::ones_like(executor.constant(node.input(1))));
      set(node.input(2), at::zeros_like(executor.constant(node.input(2))));
      executor.set_constant(node.input(3), at::zeros_like(executor.constant(node.input(3))));
      executor.set_constant(node.input(4), at::ones_like(executor.constant(node.input(4))));
    }
  }
  return names;
}

/// Turns, scales and shifts every image a little.
at::Tensor augment(const at::Tensor& images, Rng& rng) {
  const std::int64_t n = images.size(0);
  at::Tensor transform = at::empty({n, 2, 3});
  float* t = transform.data_ptr<float>();
  for (std::int64_t i = 0; i < n; ++i, t += 6) {
    const auto spread = [&](double size) { return (2 * rng.uniform() - 1) * size; };
    const double angle = spread(std::numbers::pi / 18), scale = 1 + spread(0.1), slant = spread(0.1);
    t[0] = static_cast<float>(scale * std::cos(angle));
    t[1] = static_cast<float>(-scale * std::sin(angle) + slant);
    t[2] = static_cast<float>(spread(0.15));
    t[3] = static_cast<float>(scale * std::sin(angle));
    t[4] = static_cast<float>(scale * std::cos(angle));
    t[5] = static_cast<float>(spread(0.15));
  }
  const at::Tensor grid = at::affine_grid_generator(transform, {n, 1, kSide, kSide}, false);
  return at::grid_sampler(images, grid, 0, 0, false);
}

/// One cycle: up to the peak in the first fifth, then down along a cosine.
double learning_rate(double progress) {
  constexpr double kWarm = 0.2;
  if (progress < kWarm) return kPeakRate * (0.05 + 0.95 * progress / kWarm);
  return kPeakRate * 0.5 * (1 + std::cos(std::numbers::pi * (progress - kWarm) / (1 - kWarm)));
}

/// Nesterov's momentum, with decay of everything that has more than one dimension.
struct Sgd {
  std::vector<at::Tensor> velocity;

  void step(Executor& executor, const std::vector<std::string>& names, double rate) {
    const at::NoGradGuard no_grad;
    velocity.resize(names.size());
    for (std::size_t i = 0; i < names.size(); ++i) {
      at::Tensor parameter = executor.constant(names[i]);
      at::Tensor gradient = parameter.grad().clone();
      if (parameter.dim() > 1) gradient.add_(parameter, kWeightDecay);
      velocity[i] = velocity[i].defined() ? velocity[i].mul_(kMomentum).add_(gradient) : gradient.clone();
      parameter.sub_(gradient.add_(velocity[i], kMomentum), rate);
      parameter.mutable_grad().reset();
    }
  }
};

DatasetPtr digits(const std::string& sheet, const std::string& columns) {
  return open_dataset("sheet:" + sheet + ",cell=20x20,classes=10,columns=" + columns,
                      {.mean = {0.5}, .std = {0.5}, .colour = ColourOrder::Gray});
}

int train(const std::string& sheet, const std::string& target, int epochs) {
  at::set_num_threads(2);
  Graph graph = build_net();
  Executor executor(graph, {.training = true});
  const std::vector<std::string> names = prepare_parameters(executor);
  std::int64_t parameters = 0;
  for (const std::string& name : names) parameters += executor.constant(name).numel();

  const Batch all = load_all(digits(sheet, "0:70"));
  const at::Tensor images = all.inputs.at("");
  const std::int64_t count = images.size(0), steps = count / kBatch;
  std::printf("%lld parameters, %lld training digits\n", static_cast<long long>(parameters),
              static_cast<long long>(count));

  const auto start = std::chrono::steady_clock::now();
  Sgd sgd;
  for (int epoch = 0; epoch < epochs; ++epoch) {
    executor.set_training(true);
    Rng rng(kSeed, static_cast<std::uint64_t>(epoch) + 1);
    const at::Tensor order = at::tensor(rng.permutation(count), at::kLong);
    double sum = 0;
    for (std::int64_t step = 0; step < steps; ++step) {
      const at::Tensor chosen = order.narrow(0, step * kBatch, kBatch);
      const at::Tensor logits = executor(augment(images.index_select(0, chosen), rng));
      const at::Tensor log_p = at::log_softmax(logits, 1);
      const at::Tensor right = log_p.gather(1, all.labels.index_select(0, chosen).unsqueeze(1));
      const at::Tensor loss = -(1 - kLabelSmoothing) * right.mean() - kLabelSmoothing * log_p.mean();
      const double value = loss.item<double>();
      if (!std::isfinite(value)) fail("the loss is {} in epoch {}, step {}", value, epoch, step);
      sum += value;
      loss.backward();
      sgd.step(executor, names, learning_rate(static_cast<double>(epoch * steps + step) / (epochs * steps)));
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    std::printf("epoch %2d: loss %.4f, %.0f s\n", epoch + 1, sum / static_cast<double>(steps), seconds);
    std::fflush(stdout);
  }
  executor.set_training(false);
  for (const auto& [part, columns] : {std::pair{"calibration", "70:80"}, std::pair{"test", "80:100"}}) {
    const Evaluation result = evaluate(executor, digits(sheet, columns), {.batch = 100});
    std::printf("%s: %.1f %% of %lld\n", part, 100 * *result.top1, static_cast<long long>(result.n));
  }
  executor.store_constants(graph);
  graph.header.producer_name = "lithe";
  graph.doc = "Handwritten digits, trained by examples/train_digits.cpp";
  write_onnx(graph, target);
  std::printf("wrote %s\n", target.c_str());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return train(argc > 1 ? argv[1] : "examples/digits/digits.png",
                 argc > 2 ? argv[2] : "examples/models/digits.onnx", argc > 3 ? std::atoi(argv[3]) : 24);
  } catch (const Error& error) {
    std::fprintf(stderr, "train_digits: %s\n", error.what());
    return error.kind() == ErrorKind::Input ? 2 : 1;
  }
}
