#include "lithe/engine/products.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include "lithe/engine/threads.h"

namespace lithe {
namespace {

class Products : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override { set_threads(GetParam()); }
  void TearDown() override { set_threads(1); }
};

void expect_close(const at::Tensor& actual, const at::Tensor& expected) {
  ASSERT_EQ(actual.sizes(), expected.sizes());
  EXPECT_TRUE(at::allclose(actual, expected, 1e-4, 1e-4));
}

TEST_P(Products, RowsTimesAMatrix) {
  EXPECT_EQ(at::get_num_threads(), GetParam());
  const at::Tensor b = at::randn({96, 80}), bias = at::randn({80});
  for (const at::Tensor& a :
       {at::randn({3, 67, 96}), at::randn({67, 3, 96}).transpose(0, 1), at::randn({1, 96})}) {
    expect_close(multiply_rows(a, b, {}), at::matmul(a, b));
    expect_close(multiply_rows(a, b, bias), at::matmul(a, b) + bias);
    expect_close(multiply_rows(a, at::randn({80, 96}).fill_(0.5).t(), bias), a.sum(-1, true) * 0.5 + bias);
  }
}

TEST_P(Products, StacksThatBroadcastAndStride) {
  const at::Tensor heads = at::randn({4, 33, 3, 5, 16});  // batch, tokens, three, heads, size
  const at::Tensor q = heads.select(2, 0).transpose(1, 2), k = heads.select(2, 1).permute({0, 2, 3, 1}),
                   v = heads.select(2, 2).transpose(1, 2);
  const at::Tensor scores = multiply_stacks(q, k);
  expect_close(scores, at::matmul(q, k));
  expect_close(multiply_stacks(scores, v), at::matmul(scores, v));
  const at::Tensor one = at::randn({1, 5, 16, 33}), flat = at::randn({16, 7});
  expect_close(multiply_stacks(q, one), at::matmul(q, one));
  expect_close(multiply_stacks(at::randn({33, 16}).fill_(0.25), at::ones({2, 3, 16, 7})),
               at::full({2, 3, 33, 7}, 4.0));
  expect_close(multiply_stacks(q, flat.expand({4, 1, 16, 7})), at::matmul(q, flat));
  // Neither axis dense.
  const at::Tensor sparse = at::randn({4, 5, 66, 32}).slice(2, 0, 66, 2).slice(3, 0, 32, 2);
  expect_close(multiply_stacks(sparse, k), at::matmul(sparse, k));
}

TEST_P(Products, OneRowAndOneColumn) {
  const at::Tensor a = at::randn({6, 1, 1}), b = at::randn({6, 1, 9});
  expect_close(multiply_stacks(a, b), a * b);
  const at::Tensor column = at::randn({6, 9, 1});
  expect_close(multiply_stacks(b, column), (b.squeeze(1) * column.squeeze(2)).sum(-1).view({6, 1, 1}));
}

INSTANTIATE_TEST_SUITE_P(Threads, Products, ::testing::Values(1, 2));

}  // namespace
}  // namespace lithe
