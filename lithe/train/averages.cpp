#include "lithe/train/averages.h"

namespace lithe {

void average_gradients(Collective& processes, const std::vector<Parameter>& parameters) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> parts;
  for (const Parameter& one : parameters) {
    const at::Tensor gradient = one.tensor.grad();
    parts.push_back(
        (gradient.defined() ? gradient : at::zeros_like(one.tensor)).reshape({-1}).to(at::kFloat));
  }
  at::Tensor flat = at::cat(parts);
  processes.sum(flat);
  flat.div_(static_cast<double>(processes.size()));
  std::int64_t offset = 0;
  for (const Parameter& one : parameters) {
    const std::int64_t count = one.tensor.numel();
    if (one.tensor.grad().defined())
      one.tensor.grad().copy_(flat.narrow(0, offset, count).view(one.tensor.sizes()));
    offset += count;
  }
}

std::vector<double> sum_numbers(Collective& processes, const std::vector<double>& numbers,
                                at::Device device) {
  at::Tensor sums = at::tensor(numbers, at::kDouble).to(device);
  processes.sum(sums);
  sums = sums.cpu();
  return {sums.data_ptr<double>(), sums.data_ptr<double>() + sums.numel()};
}

void average_scores(Collective& processes, Evaluation& result, at::Device device) {
  const auto n = static_cast<double>(result.n);
  std::vector<std::optional<double>*> means{&result.loss, &result.top1, &result.psnr_y, &result.psnr_rgb};
  std::vector<double> numbers{n};
  for (const auto* mean : means) numbers.push_back(mean->value_or(0) * n);
  const std::vector<double> sums = sum_numbers(processes, numbers, device);
  for (std::size_t i = 0; i < means.size(); ++i)
    if (*means[i]) *means[i] = sums[i + 1] / sums[0];
}

}  // namespace lithe
