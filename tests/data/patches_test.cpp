#include "lithe/data/patches.h"

#include <gtest/gtest.h>

#include <atomic>
#include <numeric>

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

/// Counts how often each sample is read.
class Counting : public Dataset {
 public:
  explicit Counting(DatasetPtr dataset)
      : dataset_(std::move(dataset)), reads_(static_cast<std::size_t>(dataset_->size())) {}
  std::int64_t size() const override { return dataset_->size(); }
  bool has_targets() const override { return dataset_->has_targets(); }
  Sample get(std::int64_t index) const override {
    ++reads_[static_cast<std::size_t>(index)];
    return dataset_->get(index);
  }
  int reads() const { return std::accumulate(reads_.begin(), reads_.end(), 0); }

 private:
  DatasetPtr dataset_;
  mutable std::vector<std::atomic<int>> reads_;
};

TEST(Patches, AreKeptWhereTheyFit) {
  const auto counted = std::make_shared<Counting>(numbered());
  const DatasetPtr plain = random_patches(numbered(), 8, 7, 5),
                   kept = kept_patches(counted, 8, 7, 5, ImageLayout::Nchw, {.threads = 2});
  EXPECT_LE(counted->reads(), 3);  // the first one tells how large a patch is
  ASSERT_EQ(kept->size(), 7);
  EXPECT_TRUE(kept->has_targets());
  for (int pass = 0; pass < 2; ++pass)
    for (std::int64_t i = 0; i < 7; ++i) {
      const Sample a = plain->get(i), b = kept->get(i);
      EXPECT_EQ(a.name, b.name);
      EXPECT_TRUE(at::equal(a.inputs.at(""), b.inputs.at("")));
      EXPECT_TRUE(at::equal(a.target, b.target));
    }
  EXPECT_LE(counted->reads(), 3);
  // 8x8 pixels and a target of 16x16, of four bytes each.
  const auto kept_within = [&](std::int64_t bytes) {
    const auto again = std::make_shared<Counting>(numbered());
    const DatasetPtr patches = kept_patches(again, 8, 7, 5, ImageLayout::Nchw, {.memory = bytes});
    const int before = again->reads();
    EXPECT_TRUE(at::equal(patches->get(3).inputs.at(""), plain->get(3).inputs.at("")));
    return again->reads() == before;
  };
  EXPECT_TRUE(kept_within(7 * 4 * (64 + 256)));
  EXPECT_FALSE(kept_within(7 * 4 * (64 + 256) - 1));
}

TEST(Patches, OfTheMiddles) {
  const DatasetPtr parts = middles(numbered(), 24);
  const at::Tensor part = parts->get(1).inputs.at("");
  EXPECT_EQ(part.sizes(), (at::IntArrayRef{1, 20, 24}));
  EXPECT_EQ(part[0][0][0].item<float>(), 603);
  EXPECT_FALSE(parts->get(1).target.defined());
  EXPECT_EQ(middles(numbered(), 30)->get(0).inputs.at("").sizes(), (at::IntArrayRef{1, 20, 30}));
}

TEST(Patches, RefuseWhatIsTooSmall) {
  const DatasetPtr patches = random_patches(numbered(), 21, 2, 1);
  EXPECT_NE(test::message_of([&] { patches->get(0); }).find("less than a patch of 21"), std::string::npos);
  EXPECT_NE(test::message_of([] { random_patches(numbered(), 0, 2, 1); }), "");
}

}  // namespace
}  // namespace lithe
