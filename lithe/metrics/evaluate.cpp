#include "lithe/metrics/evaluate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>

#include "lithe/base/clock.h"
#include "lithe/base/error.h"
#include "lithe/data/bicubic.h"

namespace lithe {
namespace {

std::string shape_text(const at::Tensor& tensor) {
  return format_shape({tensor.sizes().data(), tensor.sizes().size()});
}

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

struct Planes {
  double psnr_y = 0, psnr_rgb = 0;
  std::optional<double> ssim_y;
};

/// Scores a picture of 0..255 against another, without a border.
Planes score_picture(const at::Tensor& whole, const at::Tensor& whole_target, std::int64_t border,
                     const std::string& name) {
  if (whole.size(1) <= 2 * border || whole.size(2) <= 2 * border)
    fail(
        "{}: {}x{} pixels are too few to leave out a border of {}; give a smaller --shave, or larger "
        "pictures",
        name, whole.size(1), whole.size(2), border);
  const at::Tensor image = shave(whole, border), target = shave(whole_target, border);
  const bool colour = image.size(0) == 3;
  const at::Tensor image_y = colour ? luma_bt601(image) : image[0];
  const at::Tensor target_y = colour ? luma_bt601(target) : target[0];
  Planes planes{.psnr_y = psnr(image_y, target_y), .psnr_rgb = psnr(image, target)};
  if (image_y.size(0) >= 11 && image_y.size(1) >= 11) planes.ssim_y = ssim(image_y, target_y);
  return planes;
}

/// `inputs`: what the images were made from, if these are pictures too.
void score_images(const at::Tensor& images, const Batch& batch, const at::Tensor& inputs,
                  const EvaluateOptions& options, std::int64_t border, Sums& sums) {
  const at::Tensor& targets = batch.targets;
  if (images.sizes() != targets.sizes())
    fail("{}: the model gives images {}, the targets are {}; is the scale of the pairs that of the model?",
         batch.names.front(), shape_text(images), shape_text(targets));
  for (std::int64_t i = 0; i < images.size(0); ++i) {
    const at::Tensor target = to_pixels(targets[i], options.preprocess);
    ImageScore score{.name = batch.names.at(static_cast<std::size_t>(i))};
    const Planes planes = score_picture(to_pixels(images[i], options.preprocess), target, border, score.name);
    score.psnr_y = planes.psnr_y;
    score.psnr_rgb = planes.psnr_rgb;
    score.ssim_y = planes.ssim_y;
    if (inputs.defined()) {
      const at::Tensor input = to_pixels(inputs[i], options.preprocess);
      if (input.size(0) == target.size(0) && input.size(1) < target.size(1)) {
        const at::Tensor enlarged = resize_picture(input, target.size(1), target.size(2)).to(at::kDouble);
        const Planes bicubic = score_picture(enlarged, target, border, score.name);
        score.bicubic_psnr_y = bicubic.psnr_y;
        score.bicubic_ssim_y = bicubic.ssim_y;
      }
    }
    sums.images.push_back(std::move(score));
  }
}

void compare(const at::Tensor& value, const at::Tensor& other, Sums& sums) {
  if (value.sizes() != other.sizes())
    fail("the two models give outputs of different shape: {} and {}", shape_text(value), shape_text(other));
  sums.compared = true;
  if (value.dim() == 2) {
    const auto rows = static_cast<double>(value.size(0));
    sums.agreeing += argmax_agreement(value, other) * rows;
    sums.rows += value.size(0);
  }
  sums.max_abs = std::max(sums.max_abs, difference(value, other).max_abs);
  const at::Tensor a = value.to(at::kDouble), b = other.to(at::kDouble);
  sums.signal += b.square().sum().item<double>();
  sums.noise += (a - b).square().sum().item<double>();
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
  const auto mean_of = [&](auto&& number) {
    double sum = 0;
    for (const ImageScore& score : sums.images) {
      const std::optional<double> one = number(score);
      if (!one) return std::optional<double>();
      sum += *one;
    }
    return sums.images.empty() ? std::optional<double>()
                               : share(sum, static_cast<std::int64_t>(sums.images.size()));
  };
  out.psnr_y = mean_of([](const ImageScore& s) { return std::optional(s.psnr_y); });
  out.psnr_rgb = mean_of([](const ImageScore& s) { return std::optional(s.psnr_rgb); });
  out.ssim_y = mean_of([](const ImageScore& s) { return s.ssim_y; });
  out.bicubic_psnr_y = mean_of([](const ImageScore& s) { return s.bicubic_psnr_y; });
  out.bicubic_ssim_y = mean_of([](const ImageScore& s) { return s.bicubic_ssim_y; });
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
    fail("the output '{}' {} does not have one row a sample ({})", name, shape_text(raw), n);
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
                                        error.what(), batch.names.front(), shape_text(fed)));
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
  auto loader =
      std::make_unique<Loader>(dataset, LoaderOptions{.batch = result.batch, .threads = options.threads});
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
      loader = std::make_unique<Loader>(dataset, LoaderOptions{.batch = 1, .threads = options.threads});
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
