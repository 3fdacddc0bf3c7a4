#include "lithe/grounding/matching.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "lithe/base/error.h"

namespace lithe {
namespace {

constexpr std::int64_t kNobody = -1;

/// Gives each of `few` agents one of `many` tasks, agent by agent: a new agent takes the cheapest path of
/// reassignments, measured in costs reduced by the prices of both sides.
class Assigner {
 public:
  Assigner(std::int64_t few, std::int64_t many)
      : few_(few),
        many_(many),
        agent_price_(size(few)),
        task_price_(size(many)),
        owner_(size(many), kNobody) {}

  template <typename Cost>
  void run(const Cost& cost) {
    for (std::int64_t agent = 0; agent < few_; ++agent) place(agent, cost);
  }

  /// The agent of each task; -1: none.
  const std::vector<std::int64_t>& owners() const { return owner_; }

 private:
  static std::size_t size(std::int64_t n) { return static_cast<std::size_t>(n); }

  template <typename Cost>
  void place(std::int64_t newcomer, const Cost& cost) {
    std::vector<double> distance(size(many_), std::numeric_limits<double>::infinity());
    std::vector<std::int64_t> before(size(many_), kNobody);  // the task whose owner reaches this one
    std::vector<char> done(size(many_));
    std::vector<std::int64_t> reached;
    std::int64_t agent = newcomer, last = kNobody;
    double length = 0;
    while (true) {
      std::int64_t nearest = kNobody;
      for (std::int64_t task = 0; task < many_; ++task) {
        const std::size_t t = size(task);
        if (done[t]) continue;
        const double through = length + cost(agent, task) - agent_price_[size(agent)] - task_price_[t];
        if (through < distance[t]) {
          distance[t] = through;
          before[t] = last;
        }
        if (nearest == kNobody || distance[t] < distance[size(nearest)]) nearest = task;
      }
      length = distance[size(nearest)];
      last = nearest;
      if (owner_[size(nearest)] == kNobody) break;
      done[size(nearest)] = 1;
      reached.push_back(nearest);
      agent = owner_[size(nearest)];
    }
    agent_price_[size(newcomer)] += length;
    for (const std::int64_t task : reached) {
      const double slack = length - distance[size(task)];
      agent_price_[size(owner_[size(task)])] += slack;
      task_price_[size(task)] -= slack;
    }
    while (before[size(last)] != kNobody) {
      owner_[size(last)] = owner_[size(before[size(last)])];
      last = before[size(last)];
    }
    owner_[size(last)] = newcomer;
  }

  std::int64_t few_, many_;
  std::vector<double> agent_price_, task_price_;
  std::vector<std::int64_t> owner_;
};

}  // namespace

std::vector<std::pair<std::int64_t, std::int64_t>> optimal_assignment(std::span<const double> costs,
                                                                      std::int64_t rows,
                                                                      std::int64_t columns) {
  if (rows < 0 || columns < 0 || std::ssize(costs) != rows * columns)
    fail("an assignment of {} rows and {} columns needs {} costs, not {}", rows, columns, rows * columns,
         costs.size());
  for (const double one : costs)
    if (!std::isfinite(one)) fail("an assignment has a cost that is not a finite number");
  const bool upright = rows <= columns;  // each row finds a column
  const std::int64_t few = std::min(rows, columns), many = std::max(rows, columns);
  Assigner assigner(few, many);
  assigner.run([&](std::int64_t agent, std::int64_t task) {
    return costs[static_cast<std::size_t>(upright ? agent * columns + task : task * columns + agent)];
  });
  std::vector<std::pair<std::int64_t, std::int64_t>> pairs;
  const std::vector<std::int64_t>& owners = assigner.owners();
  for (std::int64_t task = 0; task < many; ++task) {
    const std::int64_t agent = owners[static_cast<std::size_t>(task)];
    if (agent == kNobody) continue;
    if (upright)
      pairs.emplace_back(agent, task);
    else
      pairs.emplace_back(task, agent);
  }
  std::sort(pairs.begin(), pairs.end());
  return pairs;
}

}  // namespace lithe
