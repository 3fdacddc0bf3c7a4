#include "lithe/tokens/choose.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "lithe/base/error.h"
#include "lithe/base/random.h"

namespace lithe {
namespace {

constexpr int kHalvings = 60;

/// The largest x in [low, high] whose `cost` is at most the budget; the cost grows with x.
double bisect(double low, double high, const std::function<bool(double)>& fits) {
  if (fits(high)) return high;
  for (int i = 0; i < kHalvings; ++i) {
    const double middle = (low + high) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

std::vector<std::int64_t> falling(const TokenCost& cost, const TokenLimits& limits,
                                  const std::function<double(std::size_t)>& wanted) {
  std::vector<std::int64_t> after;
  std::int64_t n = cost.tokens;
  for (std::size_t l = 0; l < cost.behind.size(); ++l) {
    if (l >= limits.first && l < limits.end)
      n = std::min(
          n, std::max(limits.least, static_cast<std::int64_t>(std::llround(wanted(l - limits.first + 1)))));
    after.push_back(n);
  }
  return after;
}

}  // namespace

TokenLimits token_limits(const TokenModel& model, bool class_rows, bool first_block) {
  const std::size_t blocks = model.blocks.size();
  const bool last = model.tail == TokenTail::Specials && !class_rows;
  return {.first = first_block || blocks == 1 ? std::size_t{0} : std::size_t{1},
          .end = last || blocks == 1 ? blocks : blocks - 1,
          .least = model.specials + 2};
}

TokenLimits tome_limits(const TokenModel& model, bool class_rows) {
  const std::size_t blocks = model.blocks.size();
  return {.first = 0, .end = class_rows ? blocks - 1 : blocks, .least = model.specials + 1};
}

TokenSchedule split_counts(const std::vector<std::int64_t>& after, std::int64_t tokens, TokenKind kind) {
  TokenSchedule schedule{{}, after};
  std::int64_t before = tokens;
  for (const std::int64_t n : after) {
    schedule.prune.push_back(kind == TokenKind::Prune   ? n
                             : kind == TokenKind::Merge ? before
                                                        : (before + n) / 2);
    before = n;
  }
  return schedule;
}

TokenRange reachable(const TokenCost& cost, const TokenLimits& limits, TokenKind kind) {
  const auto least = falling(cost, limits, [](std::size_t) { return 0.0; });
  const auto dense = static_cast<double>(cost.dense);
  return {static_cast<double>(cost.total(split_counts(least, cost.tokens, kind))) / dense,
          static_cast<double>(cost.total(dense_schedule(cost.behind.size(), cost.tokens))) / dense};
}

namespace {

TokenRange range_of(const TokenCost& cost, const std::vector<TokenStep>& least) {
  const auto dense = static_cast<double>(cost.dense);
  return {static_cast<double>(cost.total(least)) / dense,
          static_cast<double>(cost.total(dense_schedule(cost.behind.size(), cost.tokens))) / dense};
}

}  // namespace

TokenRange tome_range(const TokenCost& cost, const TokenLimits& limits) {
  return range_of(cost, tome_steps(cost, limits, static_cast<double>(cost.tokens) / 2));
}

TokenRange evit_range(const TokenCost& cost, const TokenLimits& limits) {
  return range_of(cost, evit_steps_of_share(cost, limits, 0));
}

void check_reachable(double share, const TokenRange& range, const std::string& advice) {
  if (share < range.least)
    fail(
        "{:.4g} of the multiply-accumulates cannot be reached: with all counts at the least {:.4f} of them "
        "remain, with all tokens {:.4f}; ask for a share between these{}",
        share, range.least, range.most, advice);
}

TokenSchedule fixed_schedule(const TokenCost& cost, const TokenLimits& limits, std::int64_t budget,
                             TokenKind kind, TokenFall fall) {
  const auto n0 = static_cast<double>(cost.tokens), t = static_cast<double>(cost.specials);
  const auto schedule = [&](double share) {  // of what could stay
    const auto after = falling(cost, limits, [&](std::size_t l) {
      return fall == TokenFall::Count ? n0 - (1 - share) * n0 * static_cast<double>(l)
                                      : t + (n0 - t) * std::pow(share, static_cast<double>(l));
    });
    return split_counts(after, cost.tokens, kind);
  };
  const double share = bisect(0, 1, [&](double x) { return cost.total(schedule(x)) <= budget; });
  return repair_schedule(schedule(share), cost, limits, budget);
}

TokenSchedule random_schedule(const TokenCost& cost, const TokenLimits& limits, std::int64_t budget,
                              TokenKind kind, std::uint64_t seed) {
  Rng rng(seed, 0x746f6b656eULL);
  std::vector<double> falls(cost.behind.size() + 1);
  for (double& fall : falls)
    fall = -std::log(1 - rng.uniform());  // exponential: any way of falling is as likely
  std::vector<double> split(cost.behind.size());
  for (double& one : split) one = rng.uniform();
  const auto n0 = static_cast<double>(cost.tokens), t = static_cast<double>(cost.specials);
  const auto schedule = [&](double keep) {
    std::vector<double> left(falls.size());
    double product = 1;
    for (std::size_t l = 0; l < falls.size(); ++l) left[l] = product *= std::pow(keep, falls[l]);
    const auto after = falling(cost, limits, [&](std::size_t l) { return t + (n0 - t) * left[l - 1]; });
    TokenSchedule result = split_counts(after, cost.tokens, kind);
    if (kind == TokenKind::Both)
      for (std::size_t l = 0; l < after.size(); ++l) {
        const std::int64_t before = l == 0 ? cost.tokens : after[l - 1];
        result.prune[l] =
            after[l] + static_cast<std::int64_t>(split[l] * static_cast<double>(before - after[l] + 1));
        result.prune[l] = std::min(result.prune[l], before);
      }
    return result;
  };
  const double keep = bisect(0, 1, [&](double x) { return cost.total(schedule(x)) <= budget; });
  return repair_schedule(schedule(keep), cost, limits, budget);
}

std::vector<TokenStep> tome_steps(const TokenCost& cost, const TokenLimits& limits, double removed) {
  std::vector<TokenStep> steps(cost.behind.size());
  std::int64_t n = cost.tokens;
  double wanted = 0, done = 0;
  for (std::size_t l = limits.first; l < limits.end; ++l) {
    wanted += removed;
    const auto most = std::min((n - cost.specials) / 2, n - limits.least);
    const auto count =
        std::clamp<std::int64_t>(std::llround(wanted - done), 0, std::max<std::int64_t>(most, 0));
    done += static_cast<double>(count);
    if (count > 0) steps[l] = {.kind = TokenStep::Kind::Tome, .removed = count};
    n -= count;
  }
  return steps;
}

std::vector<TokenStep> tome_steps(const TokenCost& cost, const TokenLimits& limits, std::int64_t budget) {
  const auto most = static_cast<double>(cost.tokens) / 2;
  const double stay =
      bisect(0, most, [&](double x) { return cost.total(tome_steps(cost, limits, most - x)) <= budget; });
  return tome_steps(cost, limits, most - stay);
}

std::vector<TokenStep> evit_steps_of_share(const TokenCost& cost, const TokenLimits& limits, double share) {
  std::vector<TokenStep> steps(cost.behind.size());
  std::int64_t n = cost.tokens;
  const std::size_t depth = steps.size();
  for (std::size_t quarter = 1; quarter <= 3; ++quarter) {
    const std::size_t l = depth * quarter / 4;
    if (l < limits.first || l >= limits.end || steps[l].kind != TokenStep::Kind::None) continue;
    const std::int64_t kept =
        cost.specials +
        static_cast<std::int64_t>(std::ceil(share * static_cast<double>(n - cost.specials) - 1e-9));
    const std::int64_t stay = std::max(kept, limits.least - 1);
    if (stay + 1 >= n) continue;
    steps[l] = {.kind = TokenStep::Kind::Evit, .kept = stay};
    n = stay + 1;
  }
  return steps;
}

std::vector<TokenStep> evit_steps(const TokenCost& cost, const TokenLimits& limits, std::int64_t budget) {
  const double share =
      bisect(0, 1, [&](double x) { return cost.total(evit_steps_of_share(cost, limits, x)) <= budget; });
  std::vector<TokenStep> steps = evit_steps_of_share(cost, limits, share);
  // Single tokens on top, from the last stage forwards, while they fit.
  for (bool any = true; any;) {
    any = false;
    for (std::size_t l = steps.size(); l-- > 0;) {
      if (steps[l].kind != TokenStep::Kind::Evit) continue;
      std::int64_t before = cost.tokens;
      for (std::size_t k = 0; k < l; ++k) before = tokens_after(steps[k], before);
      std::vector<TokenStep> more = steps;
      ++more[l].kept;
      if (more[l].kept + 1 >= before || cost.total(more) > budget) continue;
      steps = std::move(more);
      any = true;
    }
  }
  return steps;
}

TokenSchedule repair_schedule(const TokenSchedule& given, const TokenCost& cost, const TokenLimits& limits,
                              std::int64_t budget, const std::vector<double>& harm,
                              const std::vector<std::int64_t>& most) {
  TokenSchedule schedule = effective(given, cost.tokens);
  for (std::size_t l = 0; l < schedule.blocks(); ++l) {
    if (l < limits.first) schedule.prune[l] = schedule.merge[l] = cost.tokens;
    schedule.prune[l] = std::max(schedule.prune[l], limits.least);
    schedule.merge[l] = std::max(schedule.merge[l], limits.least);
    if (l >= limits.end && l > 0) schedule.prune[l] = schedule.merge[l] = schedule.merge[l - 1];
  }
  std::vector<std::size_t> blocks(limits.end > limits.first ? limits.end - limits.first : 0);
  std::iota(blocks.begin(), blocks.end(), limits.first);
  if (!harm.empty())
    std::stable_sort(blocks.begin(), blocks.end(),
                     [&](std::size_t a, std::size_t b) { return harm[a] < harm[b]; });
  // One token less, or more, behind block l; a change that the neighbours do not allow gives nothing.
  const auto changed = [&](std::size_t l, std::int64_t by) -> std::optional<TokenSchedule> {
    TokenSchedule next = schedule;
    const std::int64_t n = next.merge[l] + by;
    const std::int64_t before = l == 0 ? cost.tokens : next.merge[l - 1];
    if (n < limits.least || n > before) return std::nullopt;
    const bool pruned = next.prune[l] == next.merge[l] && next.prune[l] < before;  // by pruning alone
    next.merge[l] = n;
    if (pruned || next.prune[l] < n) next.prune[l] = n;
    for (std::size_t k = l + 1; k < next.blocks(); ++k) {  // what follows is no longer than this
      if (k >= limits.end) next.prune[k] = next.merge[k] = next.merge[k - 1];
      next.prune[k] = std::min(next.prune[k], next.merge[k - 1]);
      next.merge[k] = std::min(next.merge[k], next.prune[k]);
    }
    return next;
  };
  const std::int64_t bound = cost.tokens * static_cast<std::int64_t>(schedule.blocks()) + 1;
  std::vector<std::int64_t> moved(schedule.blocks(), 0);
  const auto full = [&](std::size_t l) { return !most.empty() && moved[l] >= most[l]; };
  for (std::int64_t turn = 0; turn < bound && cost.total(schedule) > budget; ++turn) {
    bool any = false;
    for (const std::size_t l : blocks) {
      if (cost.total(schedule) <= budget) break;
      if (full(l)) continue;
      if (const auto next = changed(l, -1); next && cost.total(*next) < cost.total(schedule)) {
        schedule = *next;
        any = true;
        ++moved[l];
        if (!harm.empty()) break;  // the least harmful one again
      }
    }
    if (!any) break;
  }
  std::reverse(blocks.begin(), blocks.end());
  std::fill(moved.begin(), moved.end(), 0);
  for (bool any = true; any;) {
    any = false;
    for (const std::size_t l : blocks) {
      if (full(l)) continue;
      if (const auto next = changed(l, 1);
          next && cost.total(*next) <= budget && cost.total(*next) > cost.total(schedule)) {
        schedule = *next;
        any = true;
        ++moved[l];
        if (!harm.empty() && !most.empty()) break;  // the most harmful one again
      }
    }
  }
  return schedule;
}

TokenSchedule fit_schedule(const TokenSchedule& given, const TokenCost& cost, const TokenLimits& limits,
                           std::int64_t budget, const ScheduleLoss& loss) {
  constexpr double kNear = 0.995;
  constexpr int kMostRounds = 12;
  const std::vector<std::int64_t> none(given.blocks(), 0);
  TokenSchedule schedule = repair_schedule(given, cost, limits, budget, {}, none);  // within the limits
  std::vector<double> harm;
  for (int round = 0; round < kMostRounds; ++round) {
    const std::int64_t total = cost.total(schedule);
    if (total <= budget && static_cast<double>(total) >= kNear * static_cast<double>(budget)) break;
    const double before = loss(schedule);
    harm.assign(schedule.blocks(), std::numeric_limits<double>::infinity());
    std::vector<std::int64_t> most(schedule.blocks(), 0);
    for (std::size_t l = limits.first; l < limits.end; ++l) {
      most[l] = std::max<std::int64_t>(1, (schedule.merge[l] - cost.specials) / 8);
      TokenSchedule less = schedule;
      less.merge[l] = std::max(limits.least, less.merge[l] - most[l]);
      less.prune[l] = std::max(less.merge[l], less.prune[l] - most[l]);
      less = effective(less, cost.tokens);
      if (const auto saved = static_cast<double>(total - cost.total(less)); saved > 0)
        harm[l] = (loss(less) - before) / saved;
    }
    const TokenSchedule next = repair_schedule(schedule, cost, limits, budget, harm, most);
    if (next == schedule) break;
    schedule = next;
  }
  return repair_schedule(schedule, cost, limits, budget, harm);
}

}  // namespace lithe
