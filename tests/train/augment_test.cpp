#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <set>

#include "lithe/data/loader.h"
#include "lithe/train/samples.h"
#include "tests/train/helpers.h"

namespace lithe {
namespace {

using test::message_of;

/// `count` images [1, 4, 4] whose pixels are all different; labels count up.
DatasetPtr numbered(std::int64_t count) {
  return tensor_dataset({{"", at::arange(count * 16, at::kFloat).reshape({count, 1, 4, 4})}},
                        at::arange(count, at::kLong));
}

DatasetPtr changed(const DatasetPtr& data, const Augmentation& how, std::int64_t epoch = 0,
                   const Preprocess& preprocess = {}) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(data->size()));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  return augmented(data, order, {.augmentation = how, .preprocess = preprocess, .seed = 7, .epoch = epoch});
}

TEST(Augment, FlipsHalfOfTheImages) {
  const DatasetPtr data = numbered(200), out = changed(data, {.flip = true});
  int flipped = 0;
  for (std::int64_t i = 0; i < 200; ++i) {
    const at::Tensor before = data->get(i).inputs.at(""), after = out->get(i).inputs.at("");
    if (at::equal(after, before)) continue;
    EXPECT_TRUE(at::equal(after, before.flip({2})));
    ++flipped;
  }
  EXPECT_NEAR(flipped, 100, 30);
}

TEST(Augment, CropsWithABlackBorder) {
  const Preprocess preprocess{.scale = 1, .mean = {10}, .std = {5}};  // black becomes -2
  const DatasetPtr data = numbered(300), out = changed(data, {.padded_crop = 1}, 0, preprocess);
  std::set<std::pair<int, int>> shifts;
  for (std::int64_t i = 0; i < 300; ++i) {
    const at::Tensor padded = at::constant_pad_nd(data->get(i).inputs.at(""), {1, 1, 1, 1}, -2);
    const at::Tensor after = out->get(i).inputs.at("");
    bool found = false;
    for (int y = 0; y < 3; ++y)
      for (int x = 0; x < 3; ++x)
        if (at::equal(after, padded.narrow(1, y, 4).narrow(2, x, 4))) {
          found = true;
          shifts.insert({y, x});
        }
    EXPECT_TRUE(found) << i;
  }
  EXPECT_EQ(shifts.size(), 9u);
}

TEST(Augment, DependsOnTheSampleAndTheEpochAlone) {
  const DatasetPtr data = numbered(20);
  const Augmentation how{.flip = true, .padded_crop = 2, .random_resized_crop = true, .colour_jitter = 0.2};
  const DatasetPtr first = changed(data, how, 3), other = changed(data, how, 4);
  const DatasetPtr backwards = augmented(data, {7, 5}, {.augmentation = how, .seed = 7, .epoch = 3});
  EXPECT_TRUE(at::equal(first->get(5).inputs.at(""), backwards->get(1).inputs.at("")));
  EXPECT_FALSE(at::equal(first->get(5).inputs.at(""), other->get(5).inputs.at("")));
  Batch one, three;
  Loader(first, {.batch = 20, .threads = 1}).next(one);
  Loader(first, {.batch = 20, .threads = 3}).next(three);
  EXPECT_TRUE(at::equal(one.inputs.at(""), three.inputs.at("")));
}

TEST(Augment, ResizesRandomParts) {
  // A horizontal ramp stays a ramp within the range of the image, whatever part is taken.
  const at::Tensor ramp = at::arange(16, at::kFloat).expand({50, 1, 16, 16}).contiguous();
  const DatasetPtr out = changed(tensor_dataset({{"", ramp}}, at::zeros({50}, at::kLong)),
                                 {.random_resized_crop = true, .least_area = 0.2});
  double widest = 0;
  for (std::int64_t i = 0; i < 50; ++i) {
    const at::Tensor image = out->get(i).inputs.at("");
    ASSERT_EQ(image.sizes(), (std::vector<std::int64_t>{1, 16, 16}));
    EXPECT_GE(image.min().item<float>(), -1e-4);
    EXPECT_LE(image.max().item<float>(), 15 + 1e-4);
    const at::Tensor steps = image.diff(1, 2);
    EXPECT_GE(steps.min().item<float>(), -1e-4);
    widest = std::max(widest, steps.mean().item<double>());
  }
  EXPECT_LT(widest, 1.0 + 1e-6);
}

TEST(Augment, JittersColoursWithinTheRange) {
  const Preprocess preprocess{.mean = {0.5}, .std = {0.25}};
  const at::Tensor grey = at::zeros({8, 3, 4, 4});  // half brightness
  const DatasetPtr out =
      changed(tensor_dataset({{"", grey}}, at::zeros({8}, at::kLong)), {.colour_jitter = 0.4}, 0, preprocess);
  std::set<float> seen;
  for (std::int64_t i = 0; i < 8; ++i) {
    const at::Tensor image = out->get(i).inputs.at("");
    EXPECT_TRUE(at::allclose(image, image.flatten()[0].expand_as(image), 1e-4, 1e-5));  // grey stays grey
    const float pixel = image.flatten()[0].item<float>() * 0.25f + 0.5f;
    EXPECT_GE(pixel, 0.3f - 1e-5f);
    EXPECT_LE(pixel, 0.7f + 1e-5f);
    seen.insert(pixel);
  }
  EXPECT_GT(seen.size(), 4u);
}

TEST(Augment, MixesSamples) {
  const DatasetPtr data = numbered(50), out = changed(data, {.mixup_alpha = 0.4});
  for (std::int64_t i = 0; i < 50; ++i) {
    const Sample sample = out->get(i);
    const float* mixed = sample.target.data_ptr<float>();
    EXPECT_EQ(mixed[0], static_cast<float>(i));
    const at::Tensor a = data->get(i).inputs.at(""),
                     b = data->get(static_cast<std::int64_t>(mixed[1])).inputs.at("");
    EXPECT_TRUE(at::allclose(sample.inputs.at(""), a * mixed[2] + b * (1 - mixed[2]), 1e-5, 1e-3));
  }
  Rng rng(1);
  double sum = 0, square = 0;
  for (int i = 0; i < 20000; ++i) {
    const double draw = beta_draw(rng, 0.4);
    sum += draw, square += draw * draw;
  }
  EXPECT_NEAR(sum / 20000, 0.5, 0.01);
  // The variance of Beta(a, a) is 1 / (4 (2 a + 1)).
  EXPECT_NEAR(square / 20000 - 0.25, 1 / (4 * 1.8), 0.01);
}

TEST(Augment, CutsPatchesOfPairs) {
  const at::Tensor small = at::arange(3 * 64, at::kFloat).reshape({3, 1, 8, 8});
  const at::Tensor large = small.repeat_interleave(2, 2).repeat_interleave(2, 3);
  const DatasetPtr data = tensor_dataset({{"", small}}, {}, large);
  const DatasetPtr out = changed(data, {.flip = true, .patch = 4});
  for (std::int64_t i = 0; i < 3; ++i) {
    const Sample sample = out->get(i);
    const at::Tensor image = sample.inputs.at("");
    ASSERT_EQ(image.sizes(), (std::vector<std::int64_t>{1, 4, 4}));
    EXPECT_TRUE(at::equal(sample.target, image.repeat_interleave(2, 1).repeat_interleave(2, 2)));
  }
  EXPECT_NE(message_of([&] { changed(data, {.patch = 9})->get(0); }).find("smaller than the patch"),
            std::string::npos);
}

TEST(Augment, WantsOneImageASample) {
  const DatasetPtr vectors = tensor_dataset({{"", at::zeros({3, 5})}}, at::zeros({3}, at::kLong));
  EXPECT_NE(message_of([&] { changed(vectors, {.flip = true})->get(0); }).find("single image"),
            std::string::npos);
  EXPECT_EQ(changed(vectors, {})->get(0).inputs.at("").dim(), 1);
}

TEST(InMemory, GivesTheSameNumbers) {
  const Preprocess preprocess{.mean = {0.4914, 0.4822, 0.4465}, .std = {0.2, 0.25, 0.3}};
  at::Tensor images = at::randint(0, 256, {9, 3, 5, 4}, at::kLong).to(at::kFloat) * (1.0 / 255);
  for (std::int64_t c = 0; c < 3; ++c)
    images.select(1, c).sub_(preprocess.mean_of(c)).div_(preprocess.std_of(c));
  const at::Tensor odd = at::randn({9, 3, 5, 4});  // no pixels
  for (const at::Tensor& tensor : {images, odd}) {
    const DatasetPtr data = tensor_dataset({{"x", tensor}}, at::arange(9, at::kLong));
    std::int64_t room = 1 << 20, little = 100;
    const DatasetPtr kept = keep_in_memory(data, preprocess, room, 1);
    ASSERT_NE(kept, data);
    EXPECT_LT(room, (1 << 20) - 9 * 60);  // a pixel takes a byte
    EXPECT_TRUE(kept->labelled());
    for (std::int64_t i = 0; i < 9; ++i) {
      EXPECT_TRUE(at::equal(kept->get(i).inputs.at("x"), tensor[i]));
      EXPECT_EQ(kept->get(i).label, i);
    }
    EXPECT_EQ(keep_in_memory(data, preprocess, little, 1), data);  // too large
    EXPECT_EQ(little, 100);
  }
}

/// Samples of which the first are small.
class Growing : public Dataset {
 public:
  std::int64_t size() const override { return 2000; }
  Sample get(std::int64_t index) const override {
    ++read;
    return {.inputs = {{"x", at::ones({3, 4, index < 100 ? 4 : 400})}}, .name = "a"};
  }
  mutable std::atomic<int> read = 0;
};

TEST(InMemory, CountsWhatSamplesTakeAsTheyCome) {
  const auto data = std::make_shared<Growing>();
  std::int64_t room = 2000 * 1000;
  EXPECT_EQ(keep_in_memory(data, {.scale = 1}, room, 1), data);
  EXPECT_LT(data->read, 1500);  // not all of them were read to find out
  EXPECT_EQ(room, 2000 * 1000);
}

}  // namespace
}  // namespace lithe
