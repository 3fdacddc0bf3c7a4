#include "lithe/metrics/evaluate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>

#include "lithe/base/clock.h"
#include "lithe/base/error.h"
#include "lithe/data/bicubic.h"
#include "lithe/metrics/picture_score.h"

namespace lithe {
namespace {

constexpr std::int64_t kPart = std::int64_t{1} << 18;          // numbers in double precision at a time
constexpr std::int64_t kImageNumbers = std::int64_t{1} << 23;  // of inputs and targets in a batch

/// Sums over all samples seen so far.
struct Sums {
  std::int64_t n = 0, labelled = 0, rows = 0;
  std::int64_t top1 = 0, top5 = 0;
  double loss = 0;
  std::vector<ImageScore> images;
  double agreeing = 0, max_abs = 0, signal = 0, noise = 0;
  bool compared = false;
};

/// [n, ...] with the rows from `count` on dropped, filled up with copies of the last to `wanted` rows.
at::Tensor with_rows(const at::Tensor& tensor, std::int64_t wanted) {
  const std::int64_t have = tensor.size(0);
  if (have == wanted) return tensor;
  if (have > wanted) return tensor.narrow(0, 0, wanted);
  std::vector<std::int64_t> shape = tensor.sizes().vec();
  shape[0] = wanted - have;
  return at::cat({tensor, tensor.narrow(0, have - 1, 1).expand(shape)});
}

void score_labels(const at::Tensor& scores, const at::Tensor& labels, bool probabilities, Sums& sums) {
  sums.labelled += scores.size(0);
  sums.top1 += count_top_k(scores, labels, 1);
  sums.top5 += count_top_k(scores, labels, 5);
  sums.loss += cross_entropy_sum(scores, labels, probabilities);
}

/// How much higher the output is than the input, where both are images.
std::int64_t scale_factor(const Feeds& feeds, const at::Tensor& images, ImageLayout layout) {
  const std::int64_t axis = layout == ImageLayout::Nchw ? 2 : 1;
  const at::Tensor& input = feeds.begin()->second;
  return input.dim() == 4 && input.size(axis) > 0 ? images.size(axis) / input.size(axis) : 1;
}

/// `inputs`: what the images were made from, if these are pictures too.
void score_images(const at::Tensor& images, const Batch& batch, const at::Tensor& inputs,
                  const EvaluateOptions& options, std::int64_t border, Sums& sums) {
  const at::Tensor& targets = batch.targets;
  if (images.sizes() != targets.sizes())
    fail("{}: the model gives images {}, the targets are {}; is the scale of the pairs that of the model?",
         batch.names.front(), format_shape(images.sizes()), format_shape(targets.sizes()));
  for (std::int64_t i = 0; i < images.size(0); ++i) {
    const at::Tensor target = to_bytes(targets[i], options.preprocess);
    ImageScore score{.name = batch.names.at(static_cast<std::size_t>(i))};
    if (target.size(1) <= 2 * border || target.size(2) <= 2 * border)
      fail(
          "{}: {}x{} pixels are too few to leave out a border of {}; give a smaller --shave, or larger "
          "pictures",
          score.name, target.size(1), target.size(2), border);
    const PictureScore made = score_picture(to_bytes(images[i], options.preprocess), target, border);
    score.psnr_y = made.psnr_y;
    score.psnr_rgb = made.psnr_rgb;
    score.ssim_y = made.ssim_y;
    if (inputs.defined()) {
      const at::Tensor input = to_bytes(inputs[i], options.preprocess);
      if (input.size(0) == target.size(0) && input.size(1) < target.size(1)) {
        const at::Tensor enlarged = resize_picture(input, target.size(1), target.size(2)).to(at::kByte);
        const PictureScore bicubic = score_picture(enlarged, target, border);
        score.bicubic_psnr_y = bicubic.psnr_y;
        score.bicubic_ssim_y = bicubic.ssim_y;
      }
    }
    sums.images.push_back(std::move(score));
  }
}

void compare(const at::Tensor& value, const at::Tensor& other, Sums& sums) {
  if (value.sizes() != other.sizes())
    fail("the two models give outputs of different shape: {} and {}", format_shape(value.sizes()),
         format_shape(other.sizes()));
  sums.compared = true;
  if (value.dim() == 2) {
    const auto rows = static_cast<double>(value.size(0));
    sums.agreeing += argmax_agreement(value, other) * rows;
    sums.rows += value.size(0);
  }
  // In double precision a part at a time: outputs may be large pictures.
  const at::Tensor a = value.reshape({-1}), b = other.reshape({-1});
  for (std::int64_t begin = 0; begin < a.numel(); begin += kPart) {
    const std::int64_t count = std::min(kPart, a.numel() - begin);
    const at::Tensor x = a.narrow(0, begin, count).to(at::kDouble),
                     y = b.narrow(0, begin, count).to(at::kDouble);
    sums.max_abs = std::max(sums.max_abs, difference(x, y).max_abs);
    sums.signal += y.square().sum().item<double>();
    sums.noise += (x - y).square().sum().item<double>();
  }
}

/// The mean of what is finite; infinite only if nothing else is there, and nothing where there is nothing.
template <typename Number>
std::optional<double> finite_mean(const std::vector<ImageScore>& images, const Number& number) {
  double sum = 0;
  std::int64_t finite = 0;
  bool any = false;
  for (const ImageScore& score : images) {
    const std::optional<double> one = number(score);
    any = any || one;
    if (!one || std::isinf(*one)) continue;
    sum += *one;
    ++finite;
  }
  if (!any) return std::nullopt;
  return finite > 0 ? sum / static_cast<double>(finite) : INFINITY;
}

template <typename Holds>
std::int64_t count_images(const std::vector<ImageScore>& images, const Holds& holds) {
  return std::count_if(images.begin(), images.end(), holds);
}

void means(const Sums& sums, Evaluation& out) {
  out.n = sums.n;
  const auto share = [](auto sum, std::int64_t n) {
    return static_cast<double>(sum) / static_cast<double>(n);
  };
  if (sums.labelled > 0) {
    out.top1 = share(sums.top1, sums.labelled);
    out.top5 = share(sums.top5, sums.labelled);
    out.loss = share(sums.loss, sums.labelled);
  }
  const std::vector<ImageScore>& images = sums.images;
  out.psnr_y = finite_mean(images, [](const ImageScore& s) { return std::optional(s.psnr_y); });
  out.psnr_rgb = finite_mean(images, [](const ImageScore& s) { return std::optional(s.psnr_rgb); });
  out.ssim_y = finite_mean(images, [](const ImageScore& s) { return s.ssim_y; });
  out.n_exact = count_images(images, [](const ImageScore& s) { return std::isinf(s.psnr_y); });
  out.n_without_ssim = count_images(images, [](const ImageScore& s) { return !s.ssim_y; });
  const auto enlarged = [](const ImageScore& s) { return s.bicubic_psnr_y.has_value(); };
  if (std::all_of(images.begin(), images.end(), enlarged)) {  // beside the others only if it is of the same
    out.bicubic_psnr_y = finite_mean(images, [](const ImageScore& s) { return s.bicubic_psnr_y; });
    out.bicubic_ssim_y = finite_mean(images, [](const ImageScore& s) { return s.bicubic_ssim_y; });
    out.n_bicubic_exact =
        count_images(images, [](const ImageScore& s) { return std::isinf(*s.bicubic_psnr_y); });
  }
  out.images = sums.images;
  if (sums.compared) {
    if (sums.rows > 0) out.argmax_agreement = share(sums.agreeing, sums.rows);
    out.max_abs = sums.max_abs;
    out.sqnr_db = sums.noise == 0 ? INFINITY : 10.0 * std::log10(sums.signal / sums.noise);
  }
}

/// Scores of NaN mean nothing; better said than counted.
void refuse_nan(const at::Tensor& value, const std::string& what, const Batch& batch) {
  if (!at::isFloatingType(value.scalar_type()) || value.numel() == 0) return;
  const at::Tensor nan = at::isnan(value).reshape({value.size(0), -1});
  const auto count = nan.sum().item<std::int64_t>();
  if (count == 0) return;
  const at::Tensor bad = nan.any(1).nonzero().flatten();
  fail(
      "{} holds {} NaN in {} of {} samples, first for '{}'; check the data, the preprocessing and the "
      "weights",
      what, count, bad.numel(), value.size(0),
      batch.names.at(static_cast<std::size_t>(bad[0].item<std::int64_t>())));
}

const at::Tensor& output_of(const Feeds& outputs, const std::string& name) {
  const auto found = outputs.find(name);
  if (found == outputs.end()) fail("the model has no output '{}'", name);
  return found->second;
}

/// The output of one run: one row for each of the first n samples.
at::Tensor rows_of(const Feeds& outputs, const std::string& name, std::int64_t n) {
  const at::Tensor& raw = output_of(outputs, name);
  if (raw.dim() == 0 || raw.size(0) < n)
    fail("the output '{}' {} does not have one row a sample ({})", name, format_shape(raw.sizes()), n);
  return raw.narrow(0, 0, n).cpu();
}

/// What a batch gave.
struct Outcome {
  at::Tensor value, other;  // `other` of the model compared with, if any
  double seconds = 0;
};

Outcome run_batch(const RunBatch& run, const RunBatch& against, const Feeds& feeds, const std::string& output,
                  std::int64_t n) {
  Outcome out;
  const auto start = Clock::now();
  const Feeds outputs = run(feeds);
  out.seconds = seconds_since(start);
  out.value = rows_of(outputs, output, n);
  if (against) out.other = rows_of(against(feeds), output, n);
  return out;
}

/// The error of the first batch, with what it was fed: pictures of the wrong size are the usual reason.
[[noreturn]] void explain(const Error& error, const Batch& batch, const Feeds& feeds) {
  const at::Tensor& fed = feeds.begin()->second;
  if (error.kind() != ErrorKind::Input || feeds.size() != 1 || fed.dim() != 4) throw error;
  throw Error(error.kind(), fmt::format("{}; it was fed '{}' as {}: if it wants pictures of another size, "
                                        "give --resize HEIGHTxWIDTH",
                                        error.what(), batch.names.front(), format_shape(fed.sizes())));
}

}  // namespace

at::Tensor to_pixels(const at::Tensor& image, const Preprocess& preprocess) {
  at::Tensor out = image.detach().to(at::kCPU, at::kDouble);
  if (preprocess.layout == ImageLayout::Nhwc) out = out.permute({2, 0, 1});
  std::vector<at::Tensor> planes;
  for (std::int64_t c = 0; c < out.size(0); ++c)
    planes.push_back((out[c] * preprocess.std_of(c) + preprocess.mean_of(c)) / preprocess.scale);
  if (preprocess.colour == ColourOrder::Bgr) std::reverse(planes.begin(), planes.end());
  // Pictures are compared as they would be saved.
  return at::stack(planes).clamp(0, 255).round();
}

at::Tensor to_bytes(const at::Tensor& image, const Preprocess& preprocess) {
  const bool last = preprocess.layout == ImageLayout::Nhwc;
  const std::int64_t axis = last ? 0 : 1, height = image.size(axis);
  at::Tensor out = at::empty({image.size(last ? 2 : 0), height, image.size(axis + 1)},
                             at::TensorOptions().dtype(at::kByte));
  const std::int64_t step =
      std::max<std::int64_t>(1, kPart / std::max<std::int64_t>(1, 3 * image.size(axis + 1)));
  for (std::int64_t top = 0; top < height; top += step) {
    const std::int64_t rows = std::min(step, height - top);
    out.narrow(1, top, rows).copy_(to_pixels(image.narrow(axis, top, rows), preprocess));
  }
  return out;
}

bool is_probability(const Graph& graph, const std::string& output) {
  for (const Node& node : graph.nodes)
    if (node.is("Softmax") && node.output(0) == output) return true;
  return false;
}

Evaluation evaluate(const Graph& graph, const RunBatch& run, const DatasetPtr& all,
                    const EvaluateOptions& options, const RunBatch& against) {
  const at::NoGradGuard no_grad;
  if (graph.outputs.empty()) fail("the model has no outputs");
  const std::string output = options.output.empty() ? graph.outputs[0].name : options.output;
  const auto is_scored = [&](const ValueInfo& one) { return one.name == output; };
  if (std::none_of(graph.outputs.begin(), graph.outputs.end(), is_scored))
    fail("the model has no output '{}'; the first is '{}'", output, graph.outputs[0].name);
  const bool probabilities = is_probability(graph, output);
  const DatasetPtr dataset = seeded_subset(all, options.limit, options.seed);
  const std::int64_t fixed = fixed_batch(graph);
  Evaluation result;
  result.batch = fixed > 0 ? fixed : options.batch;
  // Pictures as targets may be large, and gain nothing from being run together.
  LoaderOptions loading{.batch = result.batch,
                        .threads = options.threads,
                        .numbers = dataset->has_targets() ? kImageNumbers : 0};
  auto loader = std::make_unique<Loader>(dataset, loading);
  Progress silent;
  Progress& progress = options.progress ? *options.progress : silent;
  progress.start("evaluating", loader->samples());
  Sums sums;
  double seconds = 0;
  for (Batch batch; loader->next(batch);) {
    Feeds feeds = bind_batch(graph, batch);
    const std::int64_t n = batch.size();
    if (fixed > 0)
      for (auto& [name, tensor] : feeds) tensor = with_rows(tensor, fixed);
    Outcome outcome;
    try {
      outcome = run_batch(run, against, feeds, output, n);
    } catch (const Error& error) {
      if (sums.n > 0 || error.kind() != ErrorKind::Input) throw;
      if (n == 1 || fixed > 0) explain(error, batch, feeds);
      // Exporters sometimes bake the batch of their example into a constant: what one sample gives decides.
      result.batch = 1;
      loading.batch = 1;
      loader = std::make_unique<Loader>(dataset, loading);
      continue;
    }
    seconds += outcome.seconds;
    const at::Tensor& value = outcome.value;
    refuse_nan(value, fmt::format("the output '{}'", output), batch);
    const bool labelled = batch.labels.defined() && value.dim() >= 2 && value.numel() == n * value.size(1);
    if (labelled) score_labels(value.reshape({n, value.size(1)}), batch.labels, probabilities, sums);
    if (batch.targets.defined() && value.dim() == 4) {
      const std::int64_t scale = scale_factor(feeds, value, options.preprocess.layout);
      const std::int64_t border = options.shave >= 0 ? options.shave : scale > 1 ? scale : 0;
      const at::Tensor& fed = feeds.begin()->second;
      const at::Tensor inputs = feeds.size() == 1 && fed.dim() == 4 ? fed.narrow(0, 0, n) : at::Tensor();
      score_images(value, batch, inputs, options, border, sums);
    }
    if (against) {
      refuse_nan(outcome.other, fmt::format("the output '{}' of the model compared with", output), batch);
      compare(value, outcome.other, sums);
    }
    sums.n += n;
    progress.advance(n);
  }
  progress.finish();
  means(sums, result);
  result.seconds = seconds;
  result.throughput = seconds > 0 ? static_cast<double>(sums.n) / seconds : 0;
  return result;
}

Evaluation evaluate(Executor& executor, const DatasetPtr& dataset, const EvaluateOptions& options) {
  return evaluate(
      executor.graph(), [&](const Feeds& feeds) { return executor.run(feeds); }, dataset, options);
}

}  // namespace lithe
