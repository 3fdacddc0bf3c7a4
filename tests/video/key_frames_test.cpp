// FastBlend's interpolation, specification 2.7 and 10.9.
#include "lithe/video/key_frames.h"

#include <gmock/gmock.h>

#include <cmath>
#include <fstream>

#include "lithe/base/file.h"
#include "message_of.h"

namespace lithe {
namespace {

using test::message_of;
using testing::HasSubstr;

Frame picture(int shift, bool styled) {
  Frame frame(40, 48);
  for (int y = 0; y < 40; ++y)
    for (int x = 0; x < 48; ++x)
      for (int c = 0; c < 3; ++c) {
        const double u = x + shift;
        const double value =
            500 + 200 * std::sin(0.37 * u + 0.21 * y + c) + 150 * std::cos(0.23 * y - 0.11 * u * (c + 1));
        frame.at(y, x)[c] = static_cast<std::int16_t>(styled ? kFrameMaximum - value : value);
      }
  return frame;
}

std::vector<Frame> interpolate(int frames, const std::vector<KeyFrame>& keys, const KeyFrameOptions& options,
                               std::int64_t first = 0) {
  std::vector<Frame> results;
  Progress silent;
  int next = 0;
  interpolate_keys([&](Frame& frame) { return frame = picture(next++, false), next <= frames; }, frames, keys,
                   options, [&](std::int64_t, Frame frame) { results.push_back(std::move(frame)); }, silent,
                   first);
  return results;
}

double error(const Frame& a, const Frame& b) {
  double sum = 0;
  int count = 0;
  for (int y = 8; y < 32; ++y)  // the keys do not show the border
    for (int x = 8; x < 40; ++x, ++count) sum += std::abs(a.at(y, x)[0] - b.at(y, x)[0]);
  return sum / count;
}

TEST(KeyFrames, ComeOutAsTheyAreAndTheOthersBetweenThem) {
  const std::vector<KeyFrame> keys{{1, picture(1, false), picture(1, true)},
                                   {5, picture(5, false), picture(5, true)}};
  KeyFrameOptions options;
  options.match.patch = 5;
  const std::vector<Frame> results = interpolate(8, keys, options);
  ASSERT_EQ(results.size(), 8);
  EXPECT_EQ(results[1], keys[0].style);
  EXPECT_EQ(results[5], keys[1].style);
  for (int t = 0; t < 8; ++t)
    EXPECT_LT(error(results[static_cast<std::size_t>(t)], picture(t, true)), 12) << t;
  options.threads = 3;
  EXPECT_EQ(interpolate(8, keys, options), results);
  EXPECT_EQ(interpolate(8, keys, options, 6), std::vector<Frame>(results.begin() + 6, results.end()));
  KeyFrameOptions published = KeyFrameOptions::published();
  published.match.patch = 5;
  for (int t = 0; t < 8; ++t)
    EXPECT_LT(error(interpolate(8, keys, published)[static_cast<std::size_t>(t)], picture(t, true)), 30) << t;
}

TEST(KeyFrames, AreFoundByNameAndNumber) {
  const TemporaryFolder folder;
  for (const char* name : {"b.png", "frame_0003.png"}) std::ofstream(folder.path() / name) << "x";
  const auto files = find_key_files(folder.path(), {"a.jpg", "b.jpg", "c.jpg", "d.jpg"}, 4);
  ASSERT_EQ(files.size(), 2);
  EXPECT_EQ(files[0].number, 1);
  EXPECT_EQ(files[1].number, 3);
  EXPECT_THAT(message_of([&] { find_key_files(folder.path(), {}, 4); }), HasSubstr("b.png"));
  EXPECT_THAT(message_of([&] { find_key_files(folder.path(), {"a", "b"}, 2); }), HasSubstr("frame 3"));
}

TEST(KeyFrames, ThatCannotBeAreRefused) {
  const KeyFrame key{9, picture(0, false), picture(0, true)};
  EXPECT_THAT(message_of([&] { interpolate(4, {key}, {}); }), HasSubstr("frame 9"));
  EXPECT_THAT(message_of([&] { interpolate(4, {}, {}); }), HasSubstr("no key frames"));
  EXPECT_THAT(message_of([&] { interpolate(20, {key, key}, {}); }), HasSubstr("after"));
}

}  // namespace
}  // namespace lithe
