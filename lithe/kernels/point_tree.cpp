#include "lithe/kernels/point_tree.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace lithe {

PointTree::PointTree(const float* p, std::int64_t n, const std::vector<bool>* chosen) {
  std::vector<std::int32_t> order;
  order.reserve(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    const float *q = p + 3 * i, length = q[0] * q[0] + q[1] * q[1] + q[2] * q[2];
    if (!std::isfinite(length))
      ++left_out;
    else if (!chosen || (*chosen)[static_cast<std::size_t>(i)])
      order.push_back(static_cast<std::int32_t>(i));
  }
  points = static_cast<std::int64_t>(order.size());
  if (order.empty()) return;
  const auto room = static_cast<std::size_t>(points / kLeaf * 4 + 4);
  nodes.reserve(room);
  leaves.reserve(room);
  for (auto* values : {&x, &y, &z}) values->reserve(order.size() + order.size() / 2);
  index.reserve(order.size() + order.size() / 2);
  build(p, order.data(), order.data() + order.size());
}

std::int32_t PointTree::build(const float* p, std::int32_t* first, std::int32_t* last) {
  Box box;
  box.low.fill(std::numeric_limits<float>::infinity());
  box.high.fill(-std::numeric_limits<float>::infinity());
  for (const std::int32_t* i = first; i < last; ++i)
    for (std::size_t axis = 0; axis < 3; ++axis) {
      const float value = p[3 * std::int64_t{*i} + static_cast<std::int64_t>(axis)];
      box.low[axis] = std::min(box.low[axis], value);
      box.high[axis] = std::max(box.high[axis], value);
    }
  const auto id = static_cast<std::int32_t>(nodes.size());
  nodes.push_back({.box = box});
  if (last - first <= kLeaf) {
    nodes.back().leaf = static_cast<std::int32_t>(leaves.size());
    leaves.push_back({static_cast<std::int32_t>(index.size()), static_cast<std::int32_t>(last - first)});
    std::sort(first, last);
    for (const std::int32_t* i = first; i < last; ++i) {
      const float* q = p + 3 * std::int64_t{*i};
      x.push_back(q[0]);
      y.push_back(q[1]);
      z.push_back(q[2]);
      index.push_back(*i);
    }
    while (index.size() % kPad != 0) {
      for (auto* values : {&x, &y, &z}) values->push_back(std::numeric_limits<float>::quiet_NaN());
      index.push_back(-1);
    }
    return id;
  }
  std::size_t widest = 0;
  for (std::size_t axis = 1; axis < 3; ++axis)
    if (box.high[axis] - box.low[axis] > box.high[widest] - box.low[widest]) widest = axis;
  // A multiple of whole leaves on the left keeps the leaves full.
  std::int64_t half = kLeaf;
  while (2 * half < last - first) half *= 2;
  std::int32_t* middle = first + half;
  std::nth_element(first, middle, last, [&](std::int32_t a, std::int32_t b) {
    return p[3 * std::int64_t{a} + static_cast<std::int64_t>(widest)] <
           p[3 * std::int64_t{b} + static_cast<std::int64_t>(widest)];
  });
  const std::int32_t left = build(p, first, middle), right = build(p, middle, last);
  nodes[static_cast<std::size_t>(id)].left = left;
  nodes[static_cast<std::size_t>(id)].right = right;
  return id;
}

float PointTree::Box::squared_distance(const float* p) const {
  float d[3];
  for (std::size_t axis = 0; axis < 3; ++axis)
    d[axis] = std::max(0.f, std::max(low[axis] - p[axis], p[axis] - high[axis]));
  return (d[0] * d[0] + d[1] * d[1]) + d[2] * d[2];
}

}  // namespace lithe
