#include "lithe/ops/registry.h"

#include <stdexcept>

#include "lithe/base/error.h"

namespace lithe {

const at::Tensor& OpCall::input(std::size_t index) const {
  if (!has(index)) fail("{}: input {} is missing; the operator needs it", describe(node), index);
  return inputs[index];
}

DType OpCall::dtype(std::size_t index) const {
  if (index < types.size() && types[index] != DType::Undefined) return types[index];
  return dtype_of_scalar(input(index).scalar_type());
}

std::vector<std::int64_t> OpCall::ints(std::size_t index) const {
  const at::Tensor& tensor = input(index);
  if (tensor.dim() > 1)
    fail("{}: input {} must be a scalar or a list of integers, but its shape is {}", describe(node), index,
         format_shape({tensor.sizes().data(), tensor.sizes().size()}));
  const at::Tensor values = tensor.detach().to(at::kCPU, at::kLong).contiguous();
  const std::int64_t* data = values.data_ptr<std::int64_t>();
  return {data, data + values.numel()};
}

std::vector<std::int64_t> OpCall::ints(std::size_t index, std::string_view attribute,
                                       std::vector<std::int64_t> fallback) const {
  return has(index) ? ints(index) : node.attr(attribute, std::move(fallback));
}

void OpRegistry::add(std::string_view op_type, OpFunction run, std::int64_t since, std::int64_t until,
                     std::string_view domain) {
  const auto [position, is_new] =
      entries_.emplace(std::pair{std::string(domain), std::string(op_type)}, OpEntry{run, since, until});
  if (!is_new) throw std::logic_error("operator registered twice: " + position->first.second);
}

const OpEntry* OpRegistry::find(std::string_view domain, std::string_view op_type) const {
  const auto found = entries_.find({std::string(domain), std::string(op_type)});
  return found == entries_.end() ? nullptr : &found->second;
}

const OpRegistry& op_registry() {
  static const OpRegistry registry = [] {
    OpRegistry all;
    register_elementwise(all);
    register_logic(all);
    register_reduction(all);
    register_shape(all);
    register_indexing(all);
    register_generator(all);
    register_convolution(all);
    register_pooling(all);
    register_normalization(all);
    register_linear(all);
    register_recurrent(all);
    register_image(all);
    register_quantization(all);
    register_sparse(all);
    register_bound_quantize(all);
    register_fake_quantize(all);
    register_subset_quantize(all);
    register_token_reduce(all);
    register_token_soft(all);
    register_point_search(all);
    return all;
  }();
  return registry;
}

}  // namespace lithe
