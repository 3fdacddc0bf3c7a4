// Comparisons, Boolean and bitwise operators, Where.
#include "lithe/ops/support.h"

namespace lithe {
namespace {

using at::Tensor;

template <Tensor (*kFunction)(const Tensor&, const Tensor&)>
std::vector<Tensor> binary(const OpCall& call) {
  return {kFunction(call.input(0), call.input(1))};
}

std::vector<Tensor> logical_not(const OpCall& call) {
  return {at::logical_not(call.input(0))};
}

std::vector<Tensor> bitwise_not(const OpCall& call) {
  return {keep_low_bits(at::bitwise_not(call.input(0)), call.dtype(0))};
}

std::vector<Tensor> where(const OpCall& call) {
  if (call.input(0).scalar_type() != at::kBool)
    fail("{}: the condition must be bool, not {}", describe(call.node),
         dtype_name(dtype_of_scalar(call.input(0).scalar_type())));
  return {at::where(call.input(0), call.input(1), call.input(2))};
}

}  // namespace

void register_logic(OpRegistry& registry) {
  registry.add("Equal", binary<at::eq>, 7);
  registry.add("Less", binary<at::lt>, 7);
  registry.add("LessOrEqual", binary<at::le>, 12);
  registry.add("Greater", binary<at::gt>, 7);
  registry.add("GreaterOrEqual", binary<at::ge>, 12);
  registry.add("And", binary<at::logical_and>, 7);
  registry.add("Or", binary<at::logical_or>, 7);
  registry.add("Xor", binary<at::logical_xor>, 7);
  registry.add("Not", logical_not);
  registry.add("BitwiseAnd", binary<at::bitwise_and>, 18);
  registry.add("BitwiseOr", binary<at::bitwise_or>, 18);
  registry.add("BitwiseXor", binary<at::bitwise_xor>, 18);
  registry.add("BitwiseNot", bitwise_not, 18);
  registry.add("Where", where, 9);
}

}  // namespace lithe
