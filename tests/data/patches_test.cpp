#include "lithe/data/patches.h"

#include <gtest/gtest.h>

#include "lithe/data/loader.h"
#include "message_of.h"

namespace lithe {
namespace {

/// Two images whose numbers tell where they stand, and targets of twice the size.
DatasetPtr numbered() {
  const at::Tensor image = at::arange(2 * 20 * 30, at::kFloat).view({2, 1, 20, 30});
  return tensor_dataset({{"", image}}, {}, image.repeat_interleave(2, 2).repeat_interleave(2, 3));
}

TEST(Patches, AreCutFromImageAndTargetAlike) {
  const DatasetPtr patches = random_patches(numbered(), 8, 12, 3);
  ASSERT_EQ(patches->size(), 12);
  for (std::int64_t i = 0; i < 12; ++i) {
    const Sample sample = patches->get(i);
    const at::Tensor& image = sample.inputs.begin()->second;
    EXPECT_EQ(image.sizes(), (at::IntArrayRef{1, 8, 8}));
    EXPECT_EQ(image.min().item<float>() >= 600, i % 2 == 1);  // of the second image
    EXPECT_EQ(image[0][1][0].item<float>() - image[0][0][0].item<float>(), 30);
    EXPECT_TRUE(at::equal(sample.target, image.repeat_interleave(2, 1).repeat_interleave(2, 2)));
  }
}

TEST(Patches, SeedsDecide) {
  const auto first = [](std::uint64_t seed) {
    return load_all(random_patches(numbered(), 8, 6, seed)).inputs.begin()->second;
  };
  EXPECT_TRUE(at::equal(first(1), first(1)));
  EXPECT_FALSE(at::equal(first(1), first(2)));
}

TEST(Patches, RefuseWhatIsTooSmall) {
  const DatasetPtr patches = random_patches(numbered(), 21, 2, 1);
  EXPECT_NE(test::message_of([&] { patches->get(0); }).find("less than a patch of 21"), std::string::npos);
  EXPECT_NE(test::message_of([] { random_patches(numbered(), 0, 2, 1); }), "");
}

}  // namespace
}  // namespace lithe
