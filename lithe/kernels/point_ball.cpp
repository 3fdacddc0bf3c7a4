#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "lithe/kernels/point_search.h"

// This file is compiled once for each instruction set; the best one is chosen when a kernel is first called.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "lithe/kernels/point_ball.cpp"
#include "hwy/foreach_target.h"

#include "hwy/highway.h"

#ifndef LITHE_POINT_BALL_ONCE
#define LITHE_POINT_BALL_ONCE
namespace lithe {

constexpr std::int64_t kBallPad = 16;  // at least the lanes of a vector

/// Points by cells of a grid, which are at least as wide as the ball. Cells that follow one another in x do
/// so in memory.
struct BallGrid {
  std::array<double, 3> low{}, inverse{};
  std::array<std::int64_t, 3> size{1, 1, 1};
  double reach = 0;  // no point farther than this in one coordinate can be in the ball, rounding included
  std::vector<std::int32_t> start;  // of each cell in what follows, and the end
  std::vector<float> x, y, z;       // padded with NaN
  std::vector<std::int32_t> index;  // rising within a cell

  /// Rounding is monotonic, so that a point between two others is in a cell between theirs.
  std::int64_t cell(std::size_t axis, double value) const {
    const double at = std::floor((value - low[axis]) * inverse[axis]);
    return static_cast<std::int64_t>(std::clamp(at, 0.0, static_cast<double>(size[axis] - 1)));
  }
};

struct BallQuery {
  const float *x, *y, *z;  // [n], padded with NaN
  std::int64_t n;
  float bound;
  std::int64_t samples;
};

}  // namespace lithe
#endif

HWY_BEFORE_NAMESPACE();
namespace lithe {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;
using Floats = hn::CappedTag<float, kBallPad>;

/// One where the points are within the ball about (cx, cy, cz).
template <typename V>
HWY_INLINE auto inside(const float* x, const float* y, const float* z, V cx, V cy, V cz, V bound) {
  const Floats d;
  const auto dx = hn::Sub(hn::LoadU(d, x), cx), dy = hn::Sub(hn::LoadU(d, y), cy),
             dz = hn::Sub(hn::LoadU(d, z), cz);
  return hn::Lt(hn::Add(hn::Add(hn::Mul(dx, dx), hn::Mul(dy, dy)), hn::Mul(dz, dz)), bound);
}

}  // namespace

/// The first `samples` hits among points in the order of their indices; returns their number.
std::int64_t ball_scan(const BallQuery& q, const float* centre, std::int64_t* hits) {
  const Floats d;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto cx = hn::Set(d, centre[0]), cy = hn::Set(d, centre[1]), cz = hn::Set(d, centre[2]),
             bound = hn::Set(d, q.bound);
  std::int64_t found = 0;
  for (std::int64_t i = 0; i < q.n; i += lanes) {
    const auto in = inside(q.x + i, q.y + i, q.z + i, cx, cy, cz, bound);
    if (hn::AllFalse(d, in)) continue;
    HWY_ALIGN float marks[kBallPad];
    hn::Store(hn::IfThenElseZero(in, hn::Set(d, 1.f)), d, marks);
    for (std::int64_t lane = 0; lane < lanes; ++lane) {
      if (marks[lane] == 0) continue;
      hits[found++] = i + lane;
      if (found == q.samples) return found;
    }
  }
  return found;
}

/// All hits among the points begin..end-1 of a grid, as their indices; returns their number. Writes up to
/// kBallPad numbers more.
std::int64_t ball_cells(const BallGrid& grid, std::int64_t begin, std::int64_t end, float bound_value,
                        const float* centre, std::int32_t* hits) {
  const Floats d;
  const hn::RebindToSigned<Floats> integers;
  const auto lanes = static_cast<std::int64_t>(hn::Lanes(d));
  const auto cx = hn::Set(d, centre[0]), cy = hn::Set(d, centre[1]), cz = hn::Set(d, centre[2]),
             bound = hn::Set(d, bound_value);
  std::int64_t found = 0, i = begin;
  for (; i < end; i += lanes) {
    auto in = inside(grid.x.data() + i, grid.y.data() + i, grid.z.data() + i, cx, cy, cz, bound);
    if (i + lanes > end) in = hn::And(in, hn::FirstN(d, static_cast<std::size_t>(end - i)));
    if (hn::AllFalse(d, in)) continue;
    found += static_cast<std::int64_t>(hn::CompressStore(
        hn::LoadU(integers, grid.index.data() + i), hn::RebindMask(integers, in), integers, hits + found));
  }
  return found;
}

}  // namespace HWY_NAMESPACE
}  // namespace lithe
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace lithe {

HWY_EXPORT(ball_scan);
HWY_EXPORT(ball_cells);

namespace {

struct Columns {
  std::vector<float> x, y, z;
};

Columns columns_of(const float* points, std::int64_t n) {
  Columns out;
  const auto padded = static_cast<std::size_t>(n + kBallPad);
  for (auto* values : {&out.x, &out.y, &out.z})
    values->assign(padded, std::numeric_limits<float>::quiet_NaN());
  for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
    out.x[i] = points[3 * i];
    out.y[i] = points[3 * i + 1];
    out.z[i] = points[3 * i + 2];
  }
  return out;
}

bool is_finite(const float* p) {
  return std::isfinite(p[0]) && std::isfinite(p[1]) && std::isfinite(p[2]);
}

BallGrid grid_of(const float* points, std::int64_t n, float radius) {
  BallGrid grid;
  std::array<double, 3> high{}, &low = grid.low;
  low.fill(std::numeric_limits<double>::infinity());
  high.fill(-std::numeric_limits<double>::infinity());
  std::int64_t kept = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    if (!is_finite(points + 3 * i)) continue;
    ++kept;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      low[axis] = std::min(low[axis], static_cast<double>(points[3 * i + static_cast<std::int64_t>(axis)]));
      high[axis] = std::max(high[axis], static_cast<double>(points[3 * i + static_cast<std::int64_t>(axis)]));
    }
  }
  grid.reach = static_cast<double>(radius) * (1 + 1e-5) + 1e-22;
  double edge = grid.reach;
  const auto cells = [&](std::size_t axis) { return std::floor((high[axis] - low[axis]) / edge) + 1; };
  if (kept > 0) {
    while (cells(0) * cells(1) * cells(2) > 2.0 * static_cast<double>(n) + 64) edge *= 1.25;
    for (std::size_t axis = 0; axis < 3; ++axis) {
      grid.size[axis] = static_cast<std::int64_t>(cells(axis));
      grid.inverse[axis] = 1 / edge;
    }
  } else {
    low.fill(0);
  }
  const auto cell_of = [&](const float* p) {
    return static_cast<std::size_t>((grid.cell(2, p[2]) * grid.size[1] + grid.cell(1, p[1])) * grid.size[0] +
                                    grid.cell(0, p[0]));
  };
  grid.start.assign(static_cast<std::size_t>(grid.size[0] * grid.size[1] * grid.size[2]) + 1, 0);
  std::vector<std::int32_t> cell(static_cast<std::size_t>(n), -1);
  for (std::int64_t i = 0; i < n; ++i) {
    if (!is_finite(points + 3 * i)) continue;
    const std::size_t at = cell_of(points + 3 * i);
    cell[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(at);
    ++grid.start[at + 1];
  }
  for (std::size_t i = 1; i < grid.start.size(); ++i) grid.start[i] += grid.start[i - 1];
  const auto padded = static_cast<std::size_t>(kept + kBallPad);
  for (auto* values : {&grid.x, &grid.y, &grid.z})
    values->assign(padded, std::numeric_limits<float>::quiet_NaN());
  grid.index.assign(padded, -1);
  std::vector<std::int32_t> next(grid.start.begin(), grid.start.end() - 1);
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int32_t at = cell[static_cast<std::size_t>(i)];
    if (at < 0) continue;
    const auto to = static_cast<std::size_t>(next[static_cast<std::size_t>(at)]++);
    grid.x[to] = points[3 * i];
    grid.y[to] = points[3 * i + 1];
    grid.z[to] = points[3 * i + 2];
    grid.index[to] = static_cast<std::int32_t>(i);
  }
  return grid;
}

struct Run {
  std::int64_t begin, end;
};

/// The runs of points whose cells the ball reaches.
void runs_about(const BallGrid& grid, const float* centre, std::vector<Run>& runs) {
  std::array<std::int64_t, 3> first{}, last{};
  for (std::size_t axis = 0; axis < 3; ++axis) {
    first[axis] = grid.cell(axis, static_cast<double>(centre[axis]) - grid.reach);
    last[axis] = grid.cell(axis, static_cast<double>(centre[axis]) + grid.reach);
  }
  runs.clear();
  for (std::int64_t z = first[2]; z <= last[2]; ++z)
    for (std::int64_t y = first[1]; y <= last[1]; ++y) {
      const auto row = static_cast<std::size_t>((z * grid.size[1] + y) * grid.size[0]);
      const Run run{grid.start[row + static_cast<std::size_t>(first[0])],
                    grid.start[row + static_cast<std::size_t>(last[0]) + 1]};
      if (run.begin < run.end) runs.push_back(run);
    }
}

/// Whether going through all points in order, up to the last sample, looks at fewer than the cells hold.
bool scan_is_shorter(std::int64_t n, std::int64_t candidates, std::int64_t samples) {
  constexpr double kHits = 0.15;  // of the points in the cells, the share of the ball in 27 of them
  constexpr double kWeight = 3;   // sorting the hits costs as much as so many looks
  const double hits = kHits * static_cast<double>(candidates) + 1;
  const double stop = std::min(static_cast<double>(n), static_cast<double>(n * samples) / hits);
  return stop < kWeight * static_cast<double>(candidates);
}

}  // namespace

void ball_query(const float* points, std::int64_t n, const float* centres, std::int64_t m, float radius,
                std::int64_t samples, std::int64_t* neighbours) {
  constexpr std::int64_t kFew = 256;  // points for which a grid is not worth while
  const Columns columns = columns_of(points, n);
  const BallQuery query{columns.x.data(), columns.y.data(), columns.z.data(), n, radius * radius, samples};
  const float distance = std::abs(radius);
  const bool with_grid = n > kFew && distance > 0 && std::isfinite(distance);
  const BallGrid grid = with_grid ? grid_of(points, n, distance) : BallGrid();
  std::vector<std::int32_t> hits;
  std::vector<Run> runs;
  for (std::int64_t c = 0; c < m; ++c, neighbours += samples) {
    const float* centre = centres + 3 * c;
    std::int64_t found = 0, candidates = 0;
    runs.clear();
    if (with_grid && is_finite(centre)) runs_about(grid, centre, runs);
    for (const Run& run : runs) candidates += run.end - run.begin;
    if (!with_grid || scan_is_shorter(n, candidates, samples)) {
      found = HWY_DYNAMIC_DISPATCH(ball_scan)(query, centre, neighbours);
    } else {
      hits.resize(static_cast<std::size_t>(candidates + kBallPad));
      for (const Run& run : runs)
        found += HWY_DYNAMIC_DISPATCH(ball_cells)(grid, run.begin, run.end, query.bound, centre,
                                                  hits.data() + found);
      const auto end = hits.begin() + found;
      if (found > samples) {
        found = samples;
        std::nth_element(hits.begin(), hits.begin() + samples, end);
      }
      std::sort(hits.begin(), hits.begin() + found);
      std::copy_n(hits.begin(), found, neighbours);
    }
    std::fill(neighbours + found, neighbours + samples, found > 0 ? neighbours[0] : 0);
  }
}

}  // namespace lithe
#endif
