#include "lithe/diffusion/search/trajectory.h"

#include <algorithm>
#include <cmath>

#include "lithe/base/error.h"
#include "lithe/diffusion/search/plain_search.h"
#include "lithe/diffusion/timesteps.h"

namespace lithe {
namespace {

struct PathPoint {
  at::Tensor x, x0, epsilon;
};

/// A copy of the task's sampler that follows the deterministic path.
SamplerOptions euler(SamplerOptions sampler) {
  sampler.kind = SamplerKind::Ddim;
  sampler.eta = 0;
  return sampler;
}

double distance(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).flatten(1).norm(2, 1).to(at::kDouble).mean().item<double>();
}

}  // namespace

Trajectory::Trajectory(const ImageTask& task, const TrajectoryOptions& options) : options_(options) {
  if (options.nodes < 2 || options.samples < 1 || !(options.gamma > 0))
    fail("a trajectory needs two nodes, a sample and a positive weight");
  ImageTask along = task;
  along.sampler = euler(task.sampler);
  ImageMaker walker(along);
  const SamplingPlan plan =
      to_plan(make_timesteps("trailing", task.noise, std::min(options.nodes, task.noise.steps())));
  std::vector<PathPoint> nodes;
  const at::Tensor last =
      walker.images(plan, options.stream, 0, options.samples, [&](const SamplerStep& step) {
        nodes.push_back({step.x.clone(), step.x0.clone(), step.epsilon.clone()});
        timesteps_.push_back(static_cast<std::int64_t>(step.timestep));
      });
  calls_ = static_cast<double>(options.samples * network_calls(along.sampler, plan));
  const std::size_t n = nodes.size();
  cost_.assign(n + 1, std::vector<double>(n + 1, 0));
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = i + 1; j < n; ++j) {
      const double bar = task.noise.alpha_bar(timesteps_[j]);
      cost_[i][j] =
          distance(std::sqrt(bar) * nodes[i].x0 + std::sqrt(1 - bar) * nodes[i].epsilon, nodes[j].x);
    }
    cost_[i][n] = distance(nodes[i].x0, last);
  }
  for (const std::vector<double>& row : cost_)
    if (!std::all_of(row.begin(), row.end(), [](double cost) { return std::isfinite(cost); }))
      fail("the network's images are not finite along {} steps; there is no path to follow", n);
}

std::vector<std::int64_t> Trajectory::steps(std::size_t count) const {
  if (count < 1 || count > timesteps_.size())
    fail("the path has {} points, from which {} steps cannot be chosen; ask for fewer steps",
         timesteps_.size(), count);
  std::vector<std::int64_t> out;
  for (const std::size_t node : cheapest_jumps(cost_, count, options_.gamma)) out.push_back(timesteps_[node]);
  std::reverse(out.begin(), out.end());
  return out;
}

}  // namespace lithe
