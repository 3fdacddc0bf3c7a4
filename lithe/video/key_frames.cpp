#include "lithe/video/key_frames.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <opencv2/core.hpp>
#include <optional>
#include <utility>

#include "lithe/base/error.h"
#include "lithe/base/parallel.h"
#include "lithe/video/io/reader.h"
#include "lithe/video/planes.h"
#include "lithe/video/pyramid.h"
#include "lithe/video/warp.h"

namespace lithe {
namespace {

struct Key {
  const KeyFrame* frame;
  Pyramid guide, style;
};

struct Neighbours {
  const Key *left, *right;
  double right_share;  // of the right one, by distance
  double agreement;    // weight of the keys' agreement in matching, 0..1
};

Neighbours neighbours_of(std::int64_t number, const std::vector<Key>& keys, bool exact_keys) {
  const auto after =
      std::find_if(keys.begin(), keys.end(), [&](const Key& key) { return key.frame->number > number; });
  if (after == keys.begin()) return {&keys.front(), &keys.front(), 0.5, 0};
  if (after == keys.end()) return {&keys.back(), &keys.back(), 0.5, 0};
  const Key &left = *std::prev(after), &right = *after;
  const auto span = static_cast<double>(right.frame->number - left.frame->number);
  const double share = static_cast<double>(number - left.frame->number) / span;
  return {&left, &right, share, exact_keys ? 2 * std::min(share, 1 - share) : 1};
}

struct Brought {
  cv::Mat picture, weight;  // CV_32FC3; CV_32F, or empty: 1
};

Brought bring(const Matched& matched, const KeyFrame& key, const Frame& guide,
              const KeyFrameOptions& options) {
  if (!options.fractions && !options.weigh) return {to_float(matched.picture), {}};
  const FineField fine = options.fractions ? refine(matched.field, key.guide, guide)
                                           : whole_pixels(matched.field, key.guide, guide);
  return {to_float(options.fractions ? sample_at(fine, key.style) : matched.picture),
          options.weigh ? trust(fine, 0) : cv::Mat()};
}

cv::Mat mixed(const std::array<Brought, 2>& sides, double right_share) {
  if (sides[0].weight.empty()) return sides[0].picture * (1 - right_share) + sides[1].picture * right_share;
  cv::Mat result(sides[0].picture.size(), CV_32FC3);
  for (int row = 0; row < result.rows; ++row)
    for (int column = 0; column < result.cols; ++column) {
      constexpr float kLeast = 0.01F;  // where neither is trusted, distance alone decides
      const float left =
          (sides[0].weight.at<float>(row, column) + kLeast) * static_cast<float>(1 - right_share);
      const float right = (sides[1].weight.at<float>(row, column) + kLeast) * static_cast<float>(right_share);
      result.at<cv::Vec3f>(row, column) = (sides[0].picture.at<cv::Vec3f>(row, column) * left +
                                           sides[1].picture.at<cv::Vec3f>(row, column) * right) /
                                          (left + right);
    }
  return result;
}

Frame make_frame(std::int64_t number, const Frame& guide, const std::vector<Key>& keys,
                 const KeyFrameOptions& options) {
  for (const Key& key : keys)
    if (options.exact_keys && key.frame->number == number) return key.frame->style;
  const Neighbours near = neighbours_of(number, keys, options.exact_keys);
  const Pyramid target = make_pyramid(guide, options.match);
  const MatchPair left{near.left->guide, target, near.left->style};
  const MatchPair right{near.right->guide, target, near.right->style};
  const auto key = static_cast<std::uint64_t>(number);
  if (near.left == near.right)
    return to_frame(bring(match(left, options.match, key), *near.left->frame, guide, options).picture);
  const std::array<Matched, 2> matched = match_between(left, right, options.match, key, near.agreement);
  return to_frame(mixed({bring(matched[0], *near.left->frame, guide, options),
                         bring(matched[1], *near.right->frame, guide, options)},
                        near.right_share));
}

void check(const std::vector<KeyFrame>& keys, std::int64_t frames) {
  if (keys.empty()) fail("there are no key frames");
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (keys[i].number < 0 || keys[i].number >= frames)
      fail("key frame {} lies outside the video, which has frames 0 to {}", keys[i].number, frames - 1);
    if (i > 0 && keys[i].number <= keys[i - 1].number)
      fail("key frame {} comes after key frame {}", keys[i].number, keys[i - 1].number);
    if (!keys[i].guide.same_size(keys[i].style) || !keys[i].guide.same_size(keys[0].guide))
      fail("key frame {} is {}x{}, the video {}x{}", keys[i].number, keys[i].style.width,
           keys[i].style.height, keys[0].guide.width, keys[0].guide.height);
  }
}

/// The last number in a file's name without its ending.
std::optional<std::int64_t> number_in(const std::string& stem) {
  const auto last = stem.find_last_of("0123456789");
  if (last == std::string::npos) return std::nullopt;
  const auto before = stem.find_last_not_of("0123456789", last);
  const auto first = before == std::string::npos ? 0 : before + 1;
  std::int64_t number = 0;
  const auto read = std::from_chars(stem.data() + first, stem.data() + last + 1, number);
  return read.ec == std::errc() ? std::optional(number) : std::nullopt;
}

}  // namespace

KeyFrameOptions KeyFrameOptions::published() {
  return {.exact_keys = false, .fractions = false, .weigh = false};
}

void interpolate_keys(const ReadFrame& guide, std::int64_t frames, const std::vector<KeyFrame>& keys,
                      const KeyFrameOptions& options, const WriteFrame& write, Progress& progress,
                      std::int64_t first) {
  check(keys, frames);
  std::vector<Key> prepared;
  for (const KeyFrame& key : keys)
    prepared.push_back(
        {&key, make_pyramid(key.guide, options.match), make_pyramid(key.style, options.match)});
  Frame frame;
  for (std::int64_t number = 0; number < first; ++number) guide(frame);
  for (std::int64_t begin = first; begin < frames; begin += options.threads) {
    std::vector<Frame> guides(
        static_cast<std::size_t>(std::min<std::int64_t>(options.threads, frames - begin)));
    for (std::size_t i = 0; i < guides.size(); ++i) {
      const std::int64_t number = begin + static_cast<std::int64_t>(i);
      if (!guide(guides[i]))
        fail("the video ends at frame {}, of {} that it was said to have", number, frames);
      if (!guides[i].same_size(keys[0].guide))
        fail("frame {} is {}x{}, the key frames {}x{}", number, guides[i].width, guides[i].height,
             keys[0].guide.width, keys[0].guide.height);
    }
    std::vector<Frame> results(guides.size());
    parallel_for(static_cast<std::int64_t>(guides.size()), options.threads, [&](std::int64_t i) {
      results[static_cast<std::size_t>(i)] =
          make_frame(begin + i, guides[static_cast<std::size_t>(i)], prepared, options);
    });
    for (std::size_t i = 0; i < results.size(); ++i) {
      write(begin + static_cast<std::int64_t>(i), std::move(results[i]));
      progress.advance();
    }
  }
}

std::vector<KeyFile> find_key_files(const std::filesystem::path& folder,
                                    const std::vector<std::string>& names, std::int64_t frames) {
  std::map<std::string, std::int64_t> by_name;  // without endings
  for (std::size_t i = 0; i < names.size(); ++i)
    if (!names[i].empty())
      by_name[std::filesystem::path(names[i]).stem().string()] = static_cast<std::int64_t>(i);
  std::map<std::int64_t, std::filesystem::path> found;
  for (const std::filesystem::path& path : picture_files(folder)) {
    const std::string stem = path.stem().string();
    const auto named = by_name.find(stem);
    const std::optional<std::int64_t> number = named != by_name.end() ? named->second : number_in(stem);
    if (!number) fail("{}: no frame has that name, and there is no number in it", path.string());
    if (*number < 0 || *number >= frames)
      fail("{}: stands for frame {}, but the video has frames 0 to {}", path.string(), *number, frames - 1);
    const auto [other, is_new] = found.emplace(*number, path);
    if (!is_new) fail("{} and {} both stand for frame {}", other->second.string(), path.string(), *number);
  }
  if (found.empty()) fail("{}: there are no pictures", folder.string());
  std::vector<KeyFile> files;
  for (const auto& [number, path] : found) files.push_back({number, path});
  return files;
}

}  // namespace lithe
