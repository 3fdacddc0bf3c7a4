// Runs single operators for tests.
#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "lithe/base/error.h"
#include "lithe/ops/registry.h"

namespace lithe {

using Attributes = std::map<std::string, Attribute, std::less<>>;

struct OpSettings {
  Attributes attributes = {};
  std::int64_t opset = 20;
  std::size_t outputs = 1;
  bool training = false;
  at::Generator generator = {};
};

/// Runs one operator on the inputs (undefined tensors are left out).
inline std::vector<at::Tensor> run_op_all(const std::string& op_type, const std::vector<at::Tensor>& inputs,
                                          const OpSettings& settings = {}) {
  Node node{.name = "node", .op_type = op_type, .attributes = settings.attributes};
  for (std::size_t i = 0; i < inputs.size(); ++i)
    node.inputs.push_back(inputs[i].defined() ? "x" + std::to_string(i) : "");
  for (std::size_t i = 0; i < settings.outputs; ++i) node.outputs.push_back("y" + std::to_string(i));
  const OpEntry* entry = op_registry().find("", op_type);
  if (!entry) fail("{} is not registered", op_type);
  return entry->run(OpCall{.node = node,
                           .opset = settings.opset,
                           .inputs = inputs,
                           .training = settings.training,
                           .generator = settings.generator});
}

inline at::Tensor run_op(const std::string& op_type, const std::vector<at::Tensor>& inputs,
                         const OpSettings& settings = {}) {
  return run_op_all(op_type, inputs, settings).at(0);
}

inline at::Tensor ints(const std::vector<std::int64_t>& values) {
  return at::tensor(values, at::kLong);
}
inline at::Tensor floats(const std::vector<float>& values) {
  return at::tensor(values, at::kFloat);
}

/// Same type, shape and elements (NaN equals NaN).
inline ::testing::AssertionResult same(const at::Tensor& actual, const at::Tensor& expected) {
  if (actual.scalar_type() != expected.scalar_type())
    return ::testing::AssertionFailure() << "type " << c10::toString(actual.scalar_type()) << ", expected "
                                         << c10::toString(expected.scalar_type());
  if (actual.sizes() != expected.sizes())
    return ::testing::AssertionFailure() << "shape " << actual.sizes() << ", expected " << expected.sizes();
  if (!at::allclose(actual, expected, 0, 0, /*equal_nan=*/true))
    return ::testing::AssertionFailure() << actual << "\nexpected\n" << expected;
  return ::testing::AssertionSuccess();
}

/// Same type and shape, elements within rtol and atol.
inline ::testing::AssertionResult close(const at::Tensor& actual, const at::Tensor& expected,
                                        double rtol = 1e-5, double atol = 1e-6) {
  if (actual.scalar_type() != expected.scalar_type() || actual.sizes() != expected.sizes() ||
      !at::allclose(actual, expected, rtol, atol, /*equal_nan=*/true))
    return ::testing::AssertionFailure() << actual << "\nexpected\n" << expected;
  return ::testing::AssertionSuccess();
}

/// The message of the Error that `action` throws; fails the test if it throws none.
template <typename Action>
std::string message_of(Action&& action) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::Input);
    return error.what();
  }
  ADD_FAILURE() << "no error was thrown";
  return {};
}

}  // namespace lithe
