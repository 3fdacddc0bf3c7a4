#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

#include "kernels/vector_targets.h"
#include "lithe/base/random.h"
#include "lithe/kernels/patch_accept.h"
#include "lithe/kernels/patch_error.h"
#include "lithe/kernels/patch_vote.h"

namespace lithe {
namespace {

/// A picture of random numbers with a border of zeros, of `channels` a pixel; the last is 0, or 1 for votes.
struct Padded {
  Padded(Rng& rng, int height, int width, int border, int channels) : stride(width + 2 * border) {
    values.resize(static_cast<std::size_t>(((height + 2 * border) * stride + kPatchSlack) * channels));
    origin = (border * stride + border) * channels;
    const bool extreme = rng.below(4) == 0;  // only blacks and whites: the largest sums
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x)
        for (int c = 0; c < channels; ++c) {
          const auto value = static_cast<std::int16_t>(extreme ? 1020 * rng.below(2) : rng.below(1021));
          values[static_cast<std::size_t>(origin + (y * stride + x) * channels + c)] =
              c % 4 < 3 ? value : static_cast<std::int16_t>(channels == 4);
        }
  }
  std::vector<std::int16_t> values;
  std::int64_t stride, origin;
};

struct Scene {
  int height, width, patch;
  Padded source, target, style;
  PatchTask task;
  std::vector<Place> places;

  Scene(Rng& rng, int rows, int columns, int side)
      : height(rows),
        width(columns),
        patch(side),
        source(rng, rows, columns, side / 2, 8),
        target(rng, rows, columns, side / 2, 8),
        style(rng, rows, columns, side / 2, 4),
        task{{source.values.data() + source.origin, source.stride},
             {target.values.data() + target.origin, target.stride},
             side,
             static_cast<std::int64_t>(rng.below(256 * 20))},
        places(field(rng)) {}

  /// Places in regions of one offset; of one pixel each where that is drawn.
  std::vector<Place> field(Rng& rng) const {
    std::vector<Place> result(static_cast<std::size_t>(height * width));
    const auto change = 1 + rng.below(12);
    int down = 0, right = 0;
    for (int y = 0; y < height; ++y)
      for (int x = 0; x < width; ++x) {
        if (rng.below(change) == 0) {
          down = static_cast<int>(rng.below(static_cast<std::uint64_t>(height))) - y;
          right = static_cast<int>(rng.below(static_cast<std::uint64_t>(width))) - x;
        }
        result[static_cast<std::size_t>(y * width + x)] =
            place_at(std::clamp(y + down, 0, height - 1), std::clamp(x + right, 0, width - 1));
      }
    return result;
  }
  const Place* row(const std::vector<Place>& of, int y) const { return of.data() + y * width; }
};

/// Scenes of all small sizes and all patches, the largest ones too.
template <typename Check>
void on_many_scenes(const Check& check) {
  Rng rng(7);
  for (int patch = 1; patch <= kLargestPatch; patch += 2)
    for (int i = 0; i < 4; ++i) {
      const int height = 1 + static_cast<int>(rng.below(12)), width = 1 + static_cast<int>(rng.below(40));
      SCOPED_TRACE(testing::Message() << "patch " << patch << ", " << height << "x" << width);
      check(rng, Scene(rng, height, width, patch));
      if (testing::Test::HasFailure()) return;
    }
}

using Sums = std::vector<std::int64_t>;

TEST(PatchSums, EqualTheReferenceOnEveryTarget) {
  on_every_target([] {
    on_many_scenes([](Rng& rng, const Scene& scene) {
      const std::vector<Place> others = scene.field(rng);
      PatchWorkspace workspace;
      for (int y = 0; y < scene.height; ++y) {
        const auto width = static_cast<std::size_t>(scene.width);
        Sums guide(width), style(width), wanted_guide(width), wanted_style(width);
        std::vector<Place> here(width);
        std::iota(here.begin(), here.end(), place_at(y, 0));
        for (const Place* targets : {static_cast<const Place*>(here.data()), scene.row(others, y)}) {
          patch_sums(scene.task, scene.row(scene.places, y), targets, scene.width, guide.data(), style.data(),
                     workspace);
          patch_sums_reference(scene.task, scene.row(scene.places, y), targets, scene.width,
                               wanted_guide.data(), wanted_style.data());
          EXPECT_EQ(guide, wanted_guide);
          EXPECT_EQ(style, wanted_style);
        }
      }
    });
  });
}

TEST(PatchAccept, EqualsTheReferenceOnEveryTarget) {
  on_every_target([] {
    on_many_scenes([](Rng& rng, Scene scene) {
      PatchWorkspace workspace;
      Sums errors(scene.places.size()), guide(errors), style(errors);
      std::vector<Place> here;
      for (int y = 0; y < scene.height; ++y)
        for (int x = 0; x < scene.width; ++x) here.push_back(place_at(y, x));
      patch_sums_reference(scene.task, scene.places.data(), here.data(),
                           static_cast<std::int64_t>(here.size()), guide.data(), style.data());
      for (std::size_t i = 0; i < errors.size(); ++i)
        errors[i] = scene.task.guide_weight * guide[i] + 256 * style[i];
      std::vector<Place> wanted = scene.places, lost(wanted.size(), -1);
      Sums wanted_errors = errors;
      const std::vector<Place> first = scene.field(rng), second = scene.field(rng);
      for (const auto* candidates : {&first, &second, &first}) {  // the last has what lost before
        for (int y = 0; y < scene.height; ++y) {
          const auto at = static_cast<std::ptrdiff_t>(y) * scene.width;
          patch_accept(scene.task, place_at(y, 0), scene.row(*candidates, y), scene.width,
                       scene.places.data() + at, errors.data() + at, lost.data() + at, workspace);
          patch_accept_reference(scene.task, place_at(y, 0), scene.row(*candidates, y), scene.width,
                                 wanted.data() + at, wanted_errors.data() + at);
        }
        EXPECT_EQ(scene.places, wanted);
        EXPECT_EQ(errors, wanted_errors);
      }
    });
  });
}

TEST(PatchSums, LargestPatchOfOppositeColoursFits) {
  on_every_target([] {
    constexpr int kSide = 60;
    std::vector<std::int16_t> white, black(static_cast<std::size_t>((kSide * kSide + kPatchSlack) * 8));
    for (std::size_t i = 0; i < black.size(); ++i) white.push_back(i % 4 < 3 ? 1020 : 0);
    const PatchTask task{{white.data(), kSide}, {black.data(), kSide}, kLargestPatch};
    const std::vector<Place> places{place_at(25, 25), place_at(25, 26), place_at(30, 30)};
    Sums guide(3), style(3);
    PatchWorkspace workspace;
    patch_sums(task, places.data(), places.data(), 3, guide.data(), style.data(), workspace);
    EXPECT_EQ(guide, Sums(3, std::int64_t{45} * 45 * 3 * 1020 * 1020));
    EXPECT_EQ(style, guide);
  });
}

TEST(PatchVote, EqualsTheReferenceOnEveryTarget) {
  on_every_target([] {
    on_many_scenes([](Rng&, const Scene& scene) {
      const VoteImage style{scene.style.values.data() + scene.style.origin, scene.style.stride};
      VoteWorkspace workspace;
      for (const int step : {3, 8}) {
        std::vector<std::int16_t> out(static_cast<std::size_t>(scene.height * (scene.width * step + 5)), -7),
            wanted = out;
        patch_vote(style, scene.places.data(), scene.height, scene.width, scene.patch, out.data(), step,
                   scene.width * step + 5, workspace);
        patch_vote_reference(style, scene.places.data(), scene.height, scene.width, scene.patch,
                             wanted.data(), step, scene.width * step + 5);
        EXPECT_EQ(out, wanted);  // also: nothing beside the pixels is written
      }
    });
  });
}

}  // namespace
}  // namespace lithe
