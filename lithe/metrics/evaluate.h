// Runs a model over a dataset and scores what comes out.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lithe/base/progress.h"
#include "lithe/data/loader.h"
#include "lithe/metrics/metrics.h"

namespace lithe {

/// Takes the feeds of one batch, named as the graph's inputs, and gives all outputs by name.
using RunBatch = std::function<Feeds(const Feeds&)>;

struct EvaluateOptions {
  std::int64_t batch = 32;
  int threads = 2;          // that decode
  std::int64_t limit = -1;  // samples, chosen by the seed; negative: all
  std::uint64_t seed = 0;
  std::string output;     // the graph output that is scored; empty: the first
  Preprocess preprocess;  // to bring images back to 0..255
  // Border that PSNR and SSIM leave out, in pixels; negative: the scale factor of the model, as papers on
  // super-resolution do, and none where the output is no larger than the input.
  std::int64_t shave = -1;
  Progress* progress = nullptr;
};

/// What one image of an image-to-image model scored.
struct ImageScore {
  std::string name;
  double psnr_y = 0, psnr_rgb = 0;
  std::optional<double> ssim_y;  // nothing for images smaller than its window
  std::optional<double> bicubic_psnr_y,
      bicubic_ssim_y;  // of the input enlarged as papers do, where it is smaller
};

/// Absent numbers do not apply: no labels, no target images, nothing to compare with.
struct Evaluation {
  std::int64_t n = 0;                              // samples
  std::int64_t batch = 0;                          // samples in one run
  std::optional<double> top1, top5;                // shares, 0..1
  std::optional<double> loss;                      // mean cross-entropy
  std::optional<double> psnr_y, ssim_y, psnr_rgb;  // means over images, see below
  std::optional<double> bicubic_psnr_y, bicubic_ssim_y;
  // What these means leave out: images equal to their targets, whose PSNR (Y) is infinite (the mean is too
  // if all are), and images smaller than the window of SSIM.
  std::int64_t n_exact = 0, n_bicubic_exact = 0, n_without_ssim = 0;
  std::vector<ImageScore> images;  // in the order of the data
  // Against the other model:
  std::optional<double> argmax_agreement, max_abs, sqnr_db;
  double seconds = 0;     // inside the model
  double throughput = 0;  // samples a second, decoding not counted
};

/// Scores the output of `graph` (executed by `run`) on `dataset`: top-1/5 and cross-entropy for an output
/// [n, classes] with labels; PSNR and SSIM for an output [n, channels, h, w] with target images; agreement
/// with `against`, which gets the same batches, when given. A graph that fixes its batch is fed batches of
/// that size, the last one filled up with copies; one that runs single samples only, although it declares its
/// batch free, is fed single samples. Batches with target images hold 8 million numbers at most, or one
/// image. Throws Error(Input) if the data do not fit the graph, naming the first sample, or if an output
/// holds NaN, naming the output and the first sample.
Evaluation evaluate(const Graph& graph, const RunBatch& run, const DatasetPtr& dataset,
                    const EvaluateOptions& options = {}, const RunBatch& against = {});

/// The same through the engine.
Evaluation evaluate(Executor& executor, const DatasetPtr& dataset, const EvaluateOptions& options = {});

/// An image [c, h, w] (or [h, w, c]) in the model's units as it would be saved: RGB or gray, clipped to
/// 0..255 and rounded; [c, h, w] in float64.
at::Tensor to_pixels(const at::Tensor& image, const Preprocess& preprocess);

/// The same in bytes, made some rows at a time so that little memory is needed beside the result.
at::Tensor to_bytes(const at::Tensor& image, const Preprocess& preprocess);

/// Whether the value is made by Softmax, so that cross-entropy must not apply it again.
bool is_probability(const Graph& graph, const std::string& output);

}  // namespace lithe
