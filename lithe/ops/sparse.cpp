// Weights pruned as they are read, for training: NmPrune and SpatialBranch of domain "lithe".
#include <torch/csrc/autograd/custom_function.h>

#include "lithe/kernels/nm_mask.h"
#include "lithe/ops/sparse.h"
#include "lithe/ops/support.h"

namespace lithe {

at::Tensor nm_mask_by_sorting(const at::Tensor& weight, std::int64_t axis, std::int64_t n, std::int64_t m) {
  const at::Tensor w = weight.detach();
  const std::int64_t channels = w.size(axis);
  // Short last groups are filled up with what sorts below every magnitude.
  const at::Tensor moved = w.abs().movedim(axis, -1);
  const std::int64_t padded = (channels + m - 1) / m * m;
  const at::Tensor magnitude =
      at::constant_pad_nd(moved, {0, padded - channels}, -1.0).unflatten(-1, {-1, m});
  const at::Tensor order = std::get<1>(at::sort(magnitude, true, -1, false));
  at::Tensor mask = at::zeros_like(magnitude);
  mask.scatter_(-1, order.narrow(-1, m - n, n), 1.0);
  return mask.flatten(-2).narrow(-1, 0, channels).movedim(-1, axis).contiguous();
}

namespace {

constexpr std::int64_t kMaxGroup = 1024;

/// On the CPU by the kernel; elsewhere by a stable sort, which gives the same mask.
at::Tensor mask_of(const at::Tensor& weight, std::int64_t axis, std::int64_t n, std::int64_t m) {
  const at::Tensor w = weight.detach();
  const std::int64_t channels = w.size(axis);
  if (w.device().is_cpu()) {
    const at::Tensor dense = w.contiguous();
    at::Tensor mask = at::empty(dense.sizes(), dense.options().dtype(at::kByte));
    ChannelGroups groups{1, channels, 1};
    for (std::int64_t d = 0; d < axis; ++d) groups.outer *= w.size(d);
    for (std::int64_t d = axis + 1; d < w.dim(); ++d) groups.inner *= w.size(d);
    if (w.scalar_type() == at::kDouble)
      nm_mask(dense.data_ptr<double>(), groups, n, m, mask.data_ptr<std::uint8_t>());
    else
      nm_mask(dense.data_ptr<float>(), groups, n, m, mask.data_ptr<std::uint8_t>());
    return mask.to(w.scalar_type());
  }
  return nm_mask_by_sorting(w, axis, n, m);
}

/// w * mask; backward g + decay (1 - mask) w (Zhou et al., ICLR 2021, equation 8), or g * mask if the mask
/// stays.
struct Prune : torch::autograd::Function<Prune> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& weight,
                            const at::Tensor& mask, bool straight_through, double decay) {
    context->save_for_backward({weight, mask});
    context->saved_data["straight_through"] = straight_through;
    context->saved_data["decay"] = decay;
    // Not a product: 0 times a negative weight would be -0, and 0 times infinity NaN.
    return at::where(mask != 0, weight, at::zeros_like(weight));
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &weight = saved[0], &mask = saved[1];
    at::Tensor gradient = gradients[0];
    if (!context->saved_data["straight_through"].toBool()) {
      gradient = gradient * mask;
    } else if (const double decay = context->saved_data["decay"].toDouble(); decay != 0) {
      gradient = gradient + decay * (1 - mask) * weight;
    }
    return {gradient, {}, {}, {}};
  }
};

/// Inputs: the latent weight and, with mode "fixed", its mask. Outputs: the pruned weight, and the mask.
std::vector<at::Tensor> nm_prune(const OpCall& call) {
  const Node& node = call.node;
  const at::Tensor& weight = call.input(0);
  const std::string mode = node.attr("mode", "sr-ste");
  if (weight.scalar_type() != at::kFloat && weight.scalar_type() != at::kDouble)
    fail("{}: the weight is {}; it must be float32 or float64", describe(node),
         c10::toString(weight.scalar_type()));
  at::Tensor mask;
  if (mode == "fixed") {
    mask = call.input(1).to(weight.scalar_type());
    if (mask.sizes() != weight.sizes())
      fail("{}: the mask {} does not fit the weight {}", describe(node), format_shape(shape_of(mask)),
           format_shape(shape_of(weight)));
  } else if (mode == "ste" || mode == "sr-ste") {
    const std::int64_t m = node.attr("m", std::int64_t{4});
    const std::int64_t n = call.has(1) ? call.ints(1).at(0) : node.attr("n", std::int64_t{2});
    if (n < 1 || n > m || m > kMaxGroup) fail("{}: {}:{} is no sparsity pattern", describe(node), n, m);
    mask = mask_of(weight, checked_axis(call, node.attr("axis", std::int64_t{1}), weight.dim()), n, m);
  } else {
    fail("{}: mode '{}' is not ste, sr-ste or fixed", describe(node), mode);
  }
  const double decay = mode == "sr-ste" ? node.attr("decay", 2e-4f) : 0.0;
  return {Prune::apply(weight, mask, mode != "fixed", decay), mask};
}

/// Inputs: the weight of a second branch, the mask of the first one, and a mask of kernel positions that
/// broadcasts over it. Where a mask is 0 the weight reads 0 and gets no gradient.
std::vector<at::Tensor> spatial_branch(const OpCall& call) {
  const at::Tensor& weight = call.input(0);
  const at::Tensor mask = call.input(1).detach() * call.input(2).detach().to(weight.scalar_type());
  if (mask.sizes() != weight.sizes())
    fail("{}: the masks {} and {} do not fit the weight {}", describe(call.node),
         format_shape(shape_of(call.input(1))), format_shape(shape_of(call.input(2))),
         format_shape(shape_of(weight)));
  return {Prune::apply(weight, mask, false, 0.0)};
}

}  // namespace

void register_sparse(OpRegistry& registry) {
  registry.add("NmPrune", nm_prune, 1, 1, "lithe");
  registry.add("SpatialBranch", spatial_branch, 1, 1, "lithe");
}

}  // namespace lithe
