#include "lithe/tokens/survivors.h"

#include <cmath>

#include "lithe/base/error.h"
#include "lithe/engine/executor.h"

namespace lithe {

std::vector<at::Tensor> trace_tokens(const Graph& prepared, const TokenModel& model,
                                     const std::vector<TokenStep>& steps, const at::Tensor& images,
                                     const CompressOptions& options) {
  const at::NoGradGuard no_grad;
  for (const TokenStep& step : steps)
    if (step.kind != TokenStep::Kind::None && step.kind != TokenStep::Kind::Reduce)
      fail("only the operators of DiffRate tell where tokens went");
  CompressOptions traced = options;
  traced.trace = true;
  Compressed compressed = compress_tokens(prepared, model, steps, traced);
  std::vector<std::string> wanted;
  for (const std::string& name : compressed.assignments)
    if (!name.empty()) wanted.push_back(name);
  Executor executor(compressed.graph);
  Feeds out;
  if (!wanted.empty()) out = executor.run({{compressed.graph.required_inputs().at(0)->name, images}}, wanted);
  at::Tensor fate = at::arange(model.tokens, at::kLong).expand({images.size(0), model.tokens}).contiguous();
  std::vector<at::Tensor> fates;
  for (const std::string& name : compressed.assignments) {
    if (!name.empty()) {
      const at::Tensor next = out.at(name).gather(1, fate.clamp_min(0));
      fate = at::where(fate < 0, fate, next);
    }
    fates.push_back(fate);
  }
  return fates;
}

std::optional<PatchGrid> patch_grid(const TokenModel& model, std::int64_t height, std::int64_t width) {
  if (model.grid_rows > 0) return PatchGrid{model.grid_rows, model.grid_columns};
  const std::int64_t patches = model.tokens - model.specials;
  const auto side = static_cast<std::int64_t>(
      std::llround(std::sqrt(static_cast<double>(height * width) / static_cast<double>(patches))));
  if (side < 1 || height % side != 0 || width % side != 0 || (height / side) * (width / side) != patches)
    return std::nullopt;
  return PatchGrid{height / side, width / side};
}

at::Tensor draw_survivors(const at::Tensor& picture, const at::Tensor& fate, std::int64_t specials,
                          const PatchGrid& grid) {
  const std::int64_t patches = fate.numel() - specials, height = picture.size(1), width = picture.size(2);
  if (grid.rows * grid.columns != patches)
    fail("{} patches do not lie in {} rows and {} columns", patches, grid.rows, grid.columns);
  if (grid.rows > height || grid.columns > width)
    fail("{} x {} patches are more than the {} x {} pixels of the picture", grid.rows, grid.columns, height,
         width);
  const at::Tensor group = fate.slice(0, specials).contiguous();
  const auto* groups = group.data_ptr<std::int64_t>();
  const at::Tensor source = picture.to(at::kDouble);
  at::Tensor drawn = source.clone();
  const auto patch = [&](const at::Tensor& of, std::int64_t i) {
    const std::int64_t row = i / grid.columns, column = i % grid.columns;
    return of.slice(1, row * height / grid.rows, (row + 1) * height / grid.rows)
        .slice(2, column * width / grid.columns, (column + 1) * width / grid.columns);
  };
  constexpr double kLeft = 0.2,
                   kGrey = 128;  // of the pixel, and what covers it: seen on dark and bright pictures
  for (std::int64_t i = 0; i < patches; ++i) {
    at::Tensor mean;
    std::int64_t members = 0;
    for (std::int64_t k = 0; k < patches && groups[i] >= 0; ++k)
      if (groups[k] == groups[i]) {
        const at::Tensor colour = patch(source, k).mean({1, 2}, /*keepdim=*/true);
        mean = mean.defined() ? mean + colour : colour;
        ++members;
      }
    if (groups[i] < 0)
      patch(drawn, i).mul_(kLeft).add_((1 - kLeft) * kGrey);
    else if (members > 1)
      patch(drawn, i).copy_((mean / members).expand_as(patch(drawn, i)));
  }
  return drawn;
}

}  // namespace lithe
