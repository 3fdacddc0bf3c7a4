#include "lithe/video/field.h"

#include <algorithm>
#include <cstddef>
#include <opencv2/imgproc.hpp>

#include "lithe/base/error.h"

namespace lithe {
namespace {

Field empty_field(int height, int width) {
  const std::size_t size = static_cast<std::size_t>(height) * static_cast<std::size_t>(width);
  return {height, width, std::vector<std::int16_t>(size), std::vector<std::int16_t>(size)};
}

/// Coordinates stretched linearly to another size, truncated and kept below `side`.
std::vector<std::int16_t> stretched(std::vector<std::int16_t>& values, int rows, int columns, int height,
                                    int width, int side) {
  cv::Mat floats, wide;
  cv::Mat(rows, columns, CV_16SC1, values.data()).convertTo(floats, CV_32F);
  cv::resize(floats, wide, {width, height}, 0, 0, cv::INTER_LINEAR);
  std::vector<std::int16_t> result(static_cast<std::size_t>(height) * static_cast<std::size_t>(width));
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x)
      result[static_cast<std::size_t>(y) * static_cast<std::size_t>(width) + static_cast<std::size_t>(x)] =
          static_cast<std::int16_t>(std::clamp(static_cast<int>(wide.at<float>(y, x)), 0, side - 1));
  return result;
}

}  // namespace

Field identity_field(int height, int width) {
  Field field = empty_field(height, width);
  std::size_t i = 0;
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x, ++i) {
      field.rows[i] = static_cast<std::int16_t>(y);
      field.columns[i] = static_cast<std::int16_t>(x);
    }
  return field;
}

Field compose(const Field& first, const Field& second) {
  Field result = empty_field(second.height, second.width);
  for (std::size_t i = 0; i < result.rows.size(); ++i) {
    const int y = second.rows[i], x = second.columns[i];
    if (y < 0 || y >= first.height || x < 0 || x >= first.width)
      fail("a match at row {}, column {} leads out of a field of {}x{}; compose fields of frames of one size",
           y, x, first.width, first.height);
    const std::size_t at =
        static_cast<std::size_t>(y) * static_cast<std::size_t>(first.width) + static_cast<std::size_t>(x);
    result.rows[i] = first.rows[at];
    result.columns[i] = first.columns[at];
  }
  return result;
}

std::vector<Place> to_places(const Field& field) {
  std::vector<Place> places(field.rows.size());
  for (std::size_t i = 0; i < places.size(); ++i) places[i] = place_at(field.rows[i], field.columns[i]);
  return places;
}

Field to_field(const std::vector<Place>& places, int height, int width) {
  Field field = empty_field(height, width);
  for (std::size_t i = 0; i < places.size(); ++i) {
    field.rows[i] = static_cast<std::int16_t>(place_row(places[i]));
    field.columns[i] = static_cast<std::int16_t>(place_column(places[i]));
  }
  return field;
}

Field upsample(const Field& coarse, int height, int width, bool exact) {
  Field fine = empty_field(2 * coarse.height, 2 * coarse.width);
  std::size_t i = 0;
  for (int y = 0; y < fine.height; ++y)
    for (int x = 0; x < fine.width; ++x, ++i) {
      const std::size_t at = static_cast<std::size_t>(y / 2) * static_cast<std::size_t>(coarse.width) +
                             static_cast<std::size_t>(x / 2);
      fine.rows[i] = static_cast<std::int16_t>(2 * coarse.rows[at] + (exact ? y % 2 : 0));
      fine.columns[i] = static_cast<std::int16_t>(2 * coarse.columns[at] + (exact ? x % 2 : 0));
    }
  if (fine.height == height && fine.width == width) return fine;
  return {height, width, stretched(fine.rows, fine.height, fine.width, height, width, height),
          stretched(fine.columns, fine.height, fine.width, height, width, width)};
}

Field downsample(const Field& fine, int height, int width) {
  Field coarse = empty_field(height, width);
  const auto centre = [](int at, int side, int of) {  // of the full size
    return std::min(of - 1, static_cast<int>((2 * static_cast<std::int64_t>(at) + 1) * of / (2 * side)));
  };
  const auto scaled = [](int at, int side, int of) {
    return static_cast<std::int16_t>(
        std::min(side - 1, static_cast<int>(static_cast<std::int64_t>(at) * side / of)));
  };
  std::size_t i = 0;
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x, ++i) {
      const std::size_t at =
          static_cast<std::size_t>(centre(y, height, fine.height)) * static_cast<std::size_t>(fine.width) +
          static_cast<std::size_t>(centre(x, width, fine.width));
      coarse.rows[i] = scaled(fine.rows[at], height, fine.height);
      coarse.columns[i] = scaled(fine.columns[at], width, fine.width);
    }
  return coarse;
}

}  // namespace lithe
