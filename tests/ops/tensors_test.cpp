// Constants as tensors and back.
#include <cstring>
#include <memory>

#include "ops/op_testing.h"

namespace lithe {
namespace {

TensorData packed(DType dtype, std::vector<std::int64_t> shape, std::vector<std::uint8_t> bytes) {
  auto owner = std::make_shared<const std::vector<std::uint8_t>>(std::move(bytes));
  return TensorData(dtype, std::move(shape), std::as_bytes(std::span(*owner)), owner);
}

TEST(Tensors, ShareTheirBytesAndKeepThemAlive) {
  at::Tensor tensor;
  std::weak_ptr<const void> watch;
  {
    const TensorData data = TensorData::from<float>({2}, {1, 2});
    watch = data.owner();
    tensor = to_tensor(data);
    EXPECT_EQ(tensor.data_ptr(), static_cast<const void*>(data.bytes().data()));
  }
  EXPECT_FALSE(watch.expired());
  EXPECT_TRUE(same(tensor, floats({1, 2})));
  tensor.reset();
  EXPECT_TRUE(watch.expired());
}

TEST(Tensors, WidenWhatLibTorchLacks) {
  EXPECT_TRUE(same(to_tensor(packed(DType::Int4, {3}, {0x8f, 0x07})), at::tensor({-1, -8, 7}, at::kChar)));
  EXPECT_TRUE(same(to_tensor(packed(DType::UInt4, {3}, {0x8f, 0x07})), at::tensor({15, 8, 7}, at::kByte)));
  EXPECT_TRUE(same(to_tensor(packed(DType::Int2, {4}, {0b11100100})), at::tensor({0, 1, -2, -1}, at::kChar)));
  EXPECT_TRUE(same(to_tensor(TensorData::from<std::uint16_t>({1}, {65535})), at::tensor({65535}, at::kInt)));
  EXPECT_TRUE(same(to_tensor(TensorData::from<std::uint32_t>({1}, {4294967295u})), ints({4294967295})));
  EXPECT_TRUE(same(to_tensor(TensorData::from<std::uint64_t>({1}, {7})), ints({7})));
}

TEST(Tensors, RefuseWhatCannotBeHeld) {
  EXPECT_NE(message_of([] {
              to_tensor(TensorData::from<std::uint64_t>({1}, {std::uint64_t{1} << 63}));
            }).find("uint64"),
            std::string::npos);
  EXPECT_NE(message_of([] { to_tensor(TensorData({1}, {std::string("text")})); }).find("string"),
            std::string::npos);
  EXPECT_THROW(to_tensor(packed(DType::Float8E4M3FN, {1}, {0})), Error);
}

TEST(Tensors, AnyNonzeroByteIsTrue) {
  const at::Tensor tensor = to_tensor(packed(DType::Bool, {3}, {0, 1, 255}));
  EXPECT_EQ(tensor.sum().item<std::int64_t>(), 2);
}

TEST(Tensors, MayStartAnywhere) {
  std::vector<std::uint8_t> bytes(9);
  const float values[] = {1, 2};
  std::memcpy(bytes.data() + 1, values, sizeof(values));
  auto owner = std::make_shared<const std::vector<std::uint8_t>>(std::move(bytes));
  const TensorData data(DType::Float32, {2}, std::as_bytes(std::span(*owner)).subspan(1), owner);
  EXPECT_TRUE(same(to_tensor(data), floats({1, 2})));
}

TEST(Tensors, ReturnAsConstants) {
  for (const at::ScalarType type : {at::kFloat, at::kDouble, at::kHalf, at::kBFloat16, at::kBool, at::kChar,
                                    at::kByte, at::kShort, at::kInt, at::kLong}) {
    const at::Tensor tensor = at::arange(6, at::kLong).to(type).reshape({2, 3}).t();
    const TensorData data = to_tensor_data(tensor);
    EXPECT_EQ(scalar_type_of(data.dtype()), type);
    EXPECT_TRUE(same(to_tensor(data), tensor));
  }
  at::Tensor source = floats({1, 2});
  const TensorData copy = to_tensor_data(source);
  source.fill_(0);
  EXPECT_EQ(copy.values<float>()[1], 2);
  EXPECT_EQ(to_tensor_data(at::scalar_tensor(3.0f)).rank(), 0);
  EXPECT_EQ(to_tensor(TensorData::from<float>({0, 2}, {})).sizes().vec(), (std::vector<std::int64_t>{0, 2}));
}

}  // namespace
}  // namespace lithe
