#include "cli/preview.h"

#include <algorithm>

#include "lithe/base/error.h"
#include "lithe/data/loader.h"
#include "lithe/data/side_by_side.h"
#include "lithe/metrics/evaluate.h"
#include "lithe/metrics/metrics.h"

namespace lithe::cli {
namespace {

constexpr std::int64_t kCrop = 72;
constexpr int kMagnify = 3;

/// The corner of the crop with the largest sum of squared differences.
std::pair<std::int64_t, std::int64_t> worst_corner(const at::Tensor& a, const at::Tensor& b,
                                                   std::int64_t height, std::int64_t width) {
  const at::Tensor error = (a - b).square().sum(0, true).unsqueeze(0).to(at::kFloat);
  const at::Tensor sums = at::avg_pool2d(error, {height, width}, {1, 1}).flatten();
  const auto place = sums.argmax().item<std::int64_t>();
  const std::int64_t columns = a.size(2) - width + 1;
  return {place / columns, place % columns};
}

/// One sample as feeds; a model that fixes its batch gets copies of it.
Feeds feeds_of(const Graph& model, const Batch& batch, at::Device device) {
  Feeds feeds = bind_batch(model, batch);
  const std::int64_t fixed = fixed_batch(model);
  for (auto& [name, tensor] : feeds) {
    if (fixed > 1) tensor = tensor.repeat_interleave(fixed, 0);
    tensor = tensor.to(device);
  }
  return feeds;
}

/// The first output for the first sample, as a picture.
at::Tensor shown(Executor& executor, const Feeds& feeds, const PreviewOptions& options) {
  const std::string& output = executor.graph().outputs.at(0).name;
  const at::Tensor value = executor.run(feeds, {output}).at(output).cpu();
  const std::int64_t axis = options.preprocess.layout == ImageLayout::Nhwc ? 3 : 1;
  if (value.dim() != 4 || (value.size(axis) != 3 && value.size(axis) != 1))
    fail("--preview shows pictures, but the output '{}' {} is none; leave --preview out", output,
         format_shape(value.sizes().vec()));
  return to_pixels(value[0], options.preprocess);
}

}  // namespace

void require_pictures(const Graph& model, const DatasetPtr& data, const PreviewOptions& options) {
  const at::NoGradGuard no_grad;
  Executor executor(model, {.device = options.device});
  shown(executor, feeds_of(model, stack({data->get(0)}), options.device), options);
}

std::vector<Picture> preview(const Graph& model, const Quantized& quantized, const DatasetPtr& data,
                             const std::string& method, const PreviewOptions& options) {
  const at::NoGradGuard no_grad;
  Executor original(model, {.device = options.device}), ours(quantized.graph, {.device = options.device});
  std::optional<Executor> minmax;
  if (quantized.minmax_graph)
    minmax.emplace(*quantized.minmax_graph, ExecutorOptions{.device = options.device});
  std::vector<Picture> pictures;
  for (std::int64_t i = 0; i < std::min(options.images, data->size()); ++i) {
    const Batch batch = stack({data->get(i)});
    const Feeds feeds = feeds_of(model, batch, options.device);
    std::vector<LabelledPicture> row;
    if (batch.targets.defined()) row.push_back({"target", to_pixels(batch.targets[0], options.preprocess)});
    const at::Tensor full = shown(original, feeds, options), rounded = shown(ours, feeds, options);
    row.push_back({"float", full});
    row.push_back({method, rounded});
    if (minmax) row.push_back({"minmax", shown(*minmax, feeds, options)});
    const std::int64_t height = std::min(kCrop, full.size(1)), width = std::min(kCrop, full.size(2));
    const auto [top, left] = worst_corner(full, row.back().pixels, height, width);
    std::string note;
    for (LabelledPicture& one : row) {
      if (one.label != "float" && one.label != "target")
        note += fmt::format("{}{}: {:.2f} dB PSNR against float on this picture", note.empty() ? "" : ", ",
                            one.label, psnr(one.pixels, full));
      one.pixels = one.pixels.narrow(1, top, height).narrow(2, left, width);
    }
    const std::string name = batch.names[0];
    pictures.push_back(
        {.title = fmt::format("{}, {}x{} pixels at row {}, column {}",
                              name.substr(name.find_last_of('/') + 1), height, width, top, left),
         .png = side_by_side_png(row, kMagnify),
         .note = note});
  }
  return pictures;
}

}  // namespace lithe::cli
