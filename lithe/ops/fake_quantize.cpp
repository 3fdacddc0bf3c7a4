#include "lithe/ops/fake_quantize.h"

#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <bit>
#include <vector>

#include "lithe/kernels/fake_quantize.h"
#include "lithe/ops/chunks.h"
#include "lithe/ops/support.h"

namespace lithe {
namespace {

struct FakeQuantize : torch::autograd::Function<FakeQuantize> {
  using Context = torch::autograd::AutogradContext;

  static at::Tensor forward(Context* context, const at::Tensor& x, const at::Tensor& scale, double zero_point,
                            double low, double high, std::int64_t key, double keep) {
    const double given = scale.item<double>();
    context->save_for_backward({x, scale});
    context->saved_data["numbers"] = std::vector<double>{given, zero_point, low, high, keep};
    context->saved_data["key"] = key;
    const FakeQuantizeSpec spec = spec_of(given, zero_point, low, high);
    const DropMask mask{std::bit_cast<std::uint64_t>(key), keep};
    at::Tensor y = at::empty_like(x);
    const float* from = x.data_ptr<float>();
    float* to = y.data_ptr<float>();
    for_each_chunk(x.numel(), [&](std::int64_t chunk, std::int64_t begin, std::int64_t end) {
      lithe::fake_quantize(from + begin, to + begin, end - begin, spec, mask, begin);
    });
    return y;
  }

  static torch::autograd::variable_list backward(Context* context, torch::autograd::variable_list gradients) {
    const auto saved = context->get_saved_variables();
    const at::Tensor &x = saved[0], &scale = saved[1];
    const std::vector<double> numbers = context->saved_data["numbers"].toDoubleVector();
    const FakeQuantizeSpec spec = spec_of(numbers[0], numbers[1], numbers[2], numbers[3]);
    const DropMask mask{std::bit_cast<std::uint64_t>(context->saved_data["key"].toInt()), numbers[4]};
    at::Tensor grad_y = gradients[0];
    if (!same_layout(x, grad_y)) grad_y = at::empty_like(x).copy_(grad_y);
    at::Tensor grad_x = at::empty_like(x);
    std::vector<double> sums(static_cast<std::size_t>(chunks_of(x.numel())));
    const float *at_x = x.data_ptr<float>(), *from = grad_y.data_ptr<float>();
    float* to = grad_x.data_ptr<float>();
    for_each_chunk(x.numel(), [&](std::int64_t chunk, std::int64_t begin, std::int64_t end) {
      sums[static_cast<std::size_t>(chunk)] =
          fake_quantize_backward(at_x + begin, from + begin, to + begin, end - begin, spec, mask, begin);
    });
    double sum = 0;
    for (const double part : sums) sum += part;
    // What max(|scale|, smallest) passes on.
    const double sign = std::abs(numbers[0]) < kSmallestScale ? 0.0 : numbers[0] < 0 ? -1.0 : 1.0;
    return {grad_x, at::full(scale.sizes(), sign * sum, scale.options()), {}, {}, {}, {}, {}};
  }

  static FakeQuantizeSpec spec_of(double scale, double zero_point, double low, double high) {
    return {.scale = static_cast<float>(std::max(std::abs(scale), kSmallestScale)),
            .zero_point = static_cast<float>(zero_point),
            .low = static_cast<float>(low),
            .high = static_cast<float>(high)};
  }
};

void require_one_scale(const at::Tensor& scale) {
  if (scale.numel() != 1)
    fail("a fake quantiser has one scale, but {} are given; quantise channels apart", scale.numel());
}

bool is_dense(const at::Tensor& x) {
  return x.layout() == at::kStrided && x.is_non_overlapping_and_dense();
}

std::int64_t as_signed(std::uint64_t bits) {
  return std::bit_cast<std::int64_t>(bits);
}

/// x >> count without the sign.
at::Tensor shift_right(const at::Tensor& x, std::int64_t count) {
  return at::bitwise_and(at::bitwise_right_shift(x, at::Scalar(count)),
                         at::Scalar((std::int64_t{1} << (64 - count)) - 1));
}

/// drop::mix64 of each element; products of int64 wrap.
at::Tensor mix64(at::Tensor bits) {
  bits = at::bitwise_xor(bits, shift_right(bits, 30)) * as_signed(0xBF58476D1CE4E5B9);
  bits = at::bitwise_xor(bits, shift_right(bits, 27)) * as_signed(0x94D049BB133111EB);
  return at::bitwise_xor(bits, shift_right(bits, 31));
}

/// As frameworks without a kernel for it write it: plain operators, and a mask from LibTorch's generator.
at::Tensor plain_fake_quantize(const at::Tensor& x, const at::Tensor& scale, double zero_point, double low,
                               double high, double keep) {
  const at::Tensor y = fake_quantize_composed(x, scale, zero_point, low, high);
  return keep >= 1 ? y : at::where(at::rand_like(x) < keep, y, x);
}

/// x, scale, zero_point[, drop]; attributes low and high: the codes; drop: the mask's key and 65536 keep;
/// composed: 1 for plain operators, to compare speed with.
std::vector<at::Tensor> fake_quantize_operator(const OpCall& call) {
  const Node& node = call.node;
  const std::int64_t low = node.attr("low", std::int64_t{0}), high = node.attr("high", std::int64_t{255});
  if (low >= high || low < -(1 << 24) || high > 1 << 24)
    fail("{}: low {} and high {} are no range of codes", describe(node), low, high);
  if (call.input(1).numel() != 1 || call.input(2).numel() != 1)
    fail("{}: scale and zero_point must be single numbers, but have {} and {} elements", describe(node),
         call.input(1).numel(), call.input(2).numel());
  DropMask mask;
  if (call.has(3)) {
    const std::vector<std::int64_t> drop = call.ints(3);
    if (drop.size() != 2 || drop[1] < 0 || drop[1] > drop::kAll)
      fail("{}: drop must be a key and a number from 0 to {}", describe(node), drop::kAll);
    mask = {std::bit_cast<std::uint64_t>(drop[0]), static_cast<double>(drop[1]) / drop::kAll};
  }
  if (node.attr("composed", std::int64_t{0}) != 0)
    return {plain_fake_quantize(call.input(0), call.input(1), call.input(2).item<double>(),
                                static_cast<double>(low), static_cast<double>(high), mask.keep)};
  return {fake_quantize(call.input(0), call.input(1), call.input(2).item<double>(), static_cast<double>(low),
                        static_cast<double>(high), mask)};
}

}  // namespace

at::Tensor fake_quantize(const at::Tensor& x, const at::Tensor& scale, double zero_point, double low,
                         double high, const DropMask& mask) {
  require_one_scale(scale);
  if (!x.device().is_cpu() || x.scalar_type() != at::kFloat || x.layout() != at::kStrided)
    return fake_quantize_composed(x, scale, zero_point, low, high, mask);
  return FakeQuantize::apply(is_dense(x) ? x : x.contiguous(), scale, zero_point, low, high,
                             as_signed(mask.key), mask.keep);
}

at::Tensor fake_quantize_composed(const at::Tensor& x, const at::Tensor& scale, double zero_point, double low,
                                  double high, const DropMask& mask) {
  require_one_scale(scale);
  const at::Tensor step = scale.reshape({}).abs().clamp_min(kSmallestScale).to(x.scalar_type());
  const at::Tensor quotient = x / step;
  const at::Tensor rounded = (at::round(quotient) - quotient).detach() + quotient;  // straight through
  const at::Tensor y = (at::clamp(rounded + zero_point, low, high) - zero_point) * step;
  return drop::threshold(mask) == drop::kAll ? y : at::where(drop_mask(x, mask), y, x);
}

at::Tensor drop_mask(const at::Tensor& x, const DropMask& mask) {
  const std::uint32_t threshold = drop::threshold(mask);
  const std::int64_t count = x.numel(), share = threshold == drop::kHalf ? 64 : 4;  // elements a hash
  const auto seed = as_signed(drop::mix64(mask.key));
  const at::TensorOptions integers = x.options().dtype(at::kLong).requires_grad(false);
  const at::Tensor hashes =
      mix64(at::arange((count + share - 1) / share, integers) * as_signed(drop::kStride) + seed);
  at::Tensor kept;
  if (threshold == drop::kHalf) {
    const at::Tensor bits = at::tensor({1, 2, 4, 8, 16, 32, 64, 128}, integers.dtype(at::kByte));
    kept = at::bitwise_and(hashes.view(at::kByte).unsqueeze(1), bits).ne(0);
  } else {
    const at::Tensor draws = hashes.view(at::kShort).to(at::kInt);
    kept = at::bitwise_and(draws, at::Scalar(0xFFFF)).lt(static_cast<std::int64_t>(threshold));
  }
  kept = kept.flatten().narrow(0, 0, count);
  return is_dense(x) ? kept.as_strided(x.sizes(), x.strides()) : kept.view(x.sizes());
}

void register_fake_quantize(OpRegistry& registry) {
  registry.add("FakeQuantize", fake_quantize_operator, 1, 1, "lithe");
}

}  // namespace lithe
