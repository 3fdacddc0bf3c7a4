#include "lithe/quantize/bit_budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>

#include "lithe/base/error.h"

namespace lithe {
namespace {

constexpr std::size_t kMaxStates = std::size_t{1} << 26;
__extension__ using Wide = __int128;  // for products of costs and losses

/// A choice worth considering: no other is smaller and loses no more.
struct Item {
  std::int64_t cost = 0, loss = 0;  // loss in fixed point
  std::size_t choice = 0;
};

struct Class {
  std::size_t layer = 0;
  std::vector<Item> items;        // cost ascending, loss descending
  std::vector<std::size_t> hull;  // of the items: corners of the lower convex hull
  std::size_t base = 0;           // item that is optimal at the critical price
  // Loss saved per cost by the best costlier item, and lost per cost by the best cheaper one.
  long double gain = 0, harm = std::numeric_limits<long double>::infinity();
};

/// From one corner of a layer's hull to the next.
struct Step {
  std::size_t owner = 0, to = 0;  // class, index into its hull
  std::int64_t cost = 0, saved = 0;
};

/// saved / cost, largest first; exact.
bool steeper(const Step& a, const Step& b) {
  const auto left = static_cast<Wide>(a.saved) * b.cost, right = static_cast<Wide>(b.saved) * a.cost;
  if (left != right) return left > right;
  return std::pair{a.owner, a.to} < std::pair{b.owner, b.to};
}

/// Losses as whole numbers, so that sums of equal terms are equal in any order.
class FixedPoint {
 public:
  explicit FixedPoint(const std::vector<LayerChoices>& layers) {
    double total = 0;
    for (const LayerChoices& layer : layers) {
      double most = 0;
      for (const BitChoice& choice : layer.choices) most = std::max(most, std::abs(choice.loss));
      total += most;
    }
    if (!std::isfinite(total)) fail("the losses of the layers are too large to be summed");
    if (total > 0) exponent_ = 52 - (std::ilogb(total) + 1);
  }
  std::int64_t operator()(double loss) const { return std::llround(std::ldexp(loss, exponent_)); }

 private:
  int exponent_ = 0;
};

std::vector<std::size_t> lower_hull(const std::vector<Item>& items) {
  std::vector<std::size_t> hull;
  for (std::size_t i = 0; i < items.size(); ++i) {
    while (hull.size() >= 2) {
      const Item &a = items[hull[hull.size() - 2]], &b = items[hull.back()], &c = items[i];
      // b is no corner if the step from a to b saves no more per cost than that from b to c.
      const auto first = static_cast<Wide>(a.loss - b.loss) * (c.cost - b.cost);
      const auto second = static_cast<Wide>(b.loss - c.loss) * (b.cost - a.cost);
      if (first > second) break;
      hull.pop_back();
    }
    hull.push_back(i);
  }
  return hull;
}

class Knapsack {
 public:
  Knapsack(const std::vector<LayerChoices>& layers, bool count_bits) {
    const FixedPoint fixed(layers);
    for (std::size_t l = 0; l < layers.size(); ++l) {
      Class one{.layer = l};
      const auto& choices = layers[l].choices;
      for (std::size_t c = 0; c < choices.size(); ++c)
        one.items.push_back({count_bits ? choices[c].weight_bits * layers[l].weights : choices[c].bytes,
                             fixed(choices[c].loss), c});
      std::stable_sort(one.items.begin(), one.items.end(), [](const Item& a, const Item& b) {
        return std::pair{a.cost, a.loss} < std::pair{b.cost, b.loss};
      });
      std::int64_t best = std::numeric_limits<std::int64_t>::max();
      std::erase_if(one.items, [&](const Item& item) {
        const bool dominated = item.loss >= best;
        best = std::min(best, item.loss);
        return dominated;
      });
      one.hull = lower_hull(one.items);
      for (std::size_t h = 1; h < one.hull.size(); ++h) {
        const Item &from = one.items[one.hull[h - 1]], &to = one.items[one.hull[h]];
        steps_.push_back({classes_.size(), h, to.cost - from.cost, from.loss - to.loss});
      }
      least_ += one.items.front().cost;
      classes_.push_back(std::move(one));
    }
    std::sort(steps_.begin(), steps_.end(), steeper);
  }

  std::int64_t least_cost() const { return least_; }
  std::int64_t states() const { return states_; }

  /// The assignments along the convex hull, from the least cost on.
  std::vector<std::vector<std::size_t>> hull_assignments() const {
    std::vector<std::size_t> choice(classes_.size());
    for (const Class& one : classes_) choice[one.layer] = one.items.front().choice;
    std::vector<std::vector<std::size_t>> result{choice};
    for (std::size_t i = 0; i < steps_.size(); ++i) {
      const Class& one = classes_[steps_[i].owner];
      choice[one.layer] = one.items[one.hull[steps_[i].to]].choice;
      // Steps of one price lie on one side of the hull, not at its corners.
      const bool corner =
          i + 1 == steps_.size() || static_cast<Wide>(steps_[i].saved) * steps_[i + 1].cost !=
                                        static_cast<Wide>(steps_[i + 1].saved) * steps_[i].cost;
      if (corner) result.push_back(choice);
    }
    return result;
  }

  /// Optimal under the limit, which is at least `least_cost()`.
  std::vector<std::size_t> solve(std::int64_t limit) {
    limit_ = limit;
    std::vector<std::size_t> incumbent = start();
    if (!solved_) search(incumbent);
    std::vector<std::size_t> choice(classes_.size());
    for (const Class& one : classes_) choice[one.layer] = one.items[incumbent[one.layer]].choice;
    return choice;
  }

 private:
  struct State {
    std::int64_t cost = 0, loss = 0;  // with the base items of all layers still to come
    std::int64_t trail = -1;          // last deviation from the base items
  };
  struct Deviation {
    std::int64_t previous;
    std::uint32_t owner, item;
  };

  /// Sets the base items and the critical price; returns the items of a good assignment by layer.
  std::vector<std::size_t> start() {
    base_cost_ = least_;
    base_loss_ = 0;
    for (Class& one : classes_) {
      one.base = one.items.empty() ? 0 : one.hull.front();
      base_loss_ += one.items[one.base].loss;
    }
    std::size_t next = 0;
    for (; next < steps_.size() && base_cost_ + steps_[next].cost <= limit_; ++next) {
      Class& one = classes_[steps_[next].owner];
      one.base = one.hull[steps_[next].to];
      base_cost_ += steps_[next].cost;
      base_loss_ -= steps_[next].saved;
    }
    solved_ = next == steps_.size();
    // Later steps that still fit make a better assignment to begin with.
    std::vector<std::size_t> items(classes_.size());
    for (const Class& one : classes_) items[one.layer] = one.base;
    best_cost_ = base_cost_;
    best_loss_ = base_loss_;
    for (; next < steps_.size(); ++next) {
      const Step& step = steps_[next];
      const Class& one = classes_[step.owner];
      if (items[one.layer] != one.hull[step.to - 1] || best_cost_ + step.cost > limit_) continue;
      items[one.layer] = one.hull[step.to];
      best_cost_ += step.cost;
      best_loss_ -= step.saved;
    }
    return items;
  }

  /// The price at which the base items are optimal, and how far each layer is from changing its mind.
  void sort_by_distance() {
    long double price = 0;
    for (Class& one : classes_) {
      one.gain = 0;
      one.harm = std::numeric_limits<long double>::infinity();
      const Item& base = one.items[one.base];
      for (const Item& item : one.items) {
        const auto saved = static_cast<long double>(base.loss - item.loss);
        const auto cost = static_cast<long double>(item.cost - base.cost);
        if (item.cost > base.cost) one.gain = std::max(one.gain, saved / cost);
        if (item.cost < base.cost) one.harm = std::min(one.harm, saved / cost);
      }
      price = std::max(price, one.gain);
    }
    const auto distance = [&](const Class& one) { return std::min(price - one.gain, one.harm - price); };
    std::stable_sort(classes_.begin(), classes_.end(),
                     [&](const Class& a, const Class& b) { return distance(a) < distance(b); });
  }

  /// Whether nothing that a state leads to is better than the best assignment so far.
  bool hopeless(std::int64_t cost, std::int64_t loss, long double gain, long double harm) const {
    const auto room = static_cast<long double>(limit_ - cost);
    if (room < 0 && std::isinf(harm)) return true;
    const long double bound = static_cast<long double>(loss) - room * (room >= 0 ? gain : harm);
    // Losses are whole numbers: what is not better by 1 is not better, which leaves space for rounding.
    return bound > static_cast<long double>(best_loss_) - 0.5L;
  }

  void search(std::vector<std::size_t>& incumbent) {
    sort_by_distance();
    // The best that the layers from each one on can do per cost.
    std::vector<long double> gain(classes_.size() + 1, 0),
        harm(classes_.size() + 1, std::numeric_limits<long double>::infinity());
    for (std::size_t i = classes_.size(); i-- > 0;) {
      gain[i] = std::max(gain[i + 1], classes_[i].gain);
      harm[i] = std::min(harm[i + 1], classes_[i].harm);
    }
    std::vector<Deviation> trails;
    std::vector<State> states{{base_cost_, base_loss_, -1}}, next;
    std::int64_t best_trail = -2;  // the assignment that the search began with
    for (std::size_t i = 0; i < classes_.size() && !states.empty(); ++i) {
      const Class& one = classes_[i];
      const Item& base = one.items[one.base];
      // The states shifted by each item, merged by cost; then losses must fall.
      std::vector<std::size_t> heads(one.items.size(), 0);
      std::int64_t lowest = std::numeric_limits<std::int64_t>::max();
      next.clear();
      while (true) {
        std::size_t from = one.items.size();
        std::int64_t cost = 0, loss = 0;
        for (std::size_t k = 0; k < one.items.size(); ++k) {
          if (heads[k] == states.size()) continue;
          const State& state = states[heads[k]];
          const std::int64_t c = state.cost + one.items[k].cost - base.cost;
          const std::int64_t l = state.loss + one.items[k].loss - base.loss;
          if (from < one.items.size() && std::pair{cost, loss} <= std::pair{c, l}) continue;
          from = k;
          cost = c;
          loss = l;
        }
        if (from == one.items.size()) break;
        const State& state = states[heads[from]++];
        if (loss >= lowest) continue;
        lowest = loss;
        const bool better = cost <= limit_ && loss < best_loss_;
        if (!better && hopeless(cost, loss, gain[i + 1], harm[i + 1])) continue;
        State reached{cost, loss, state.trail};
        if (from != one.base) {
          trails.push_back({state.trail, static_cast<std::uint32_t>(i), static_cast<std::uint32_t>(from)});
          reached.trail = static_cast<std::int64_t>(trails.size()) - 1;
        }
        if (better) {
          best_loss_ = loss;
          best_cost_ = cost;
          best_trail = reached.trail;
        }
        next.push_back(reached);
        if (next.size() + trails.size() > kMaxStates)
          fail_system("the choice of bits needs more than {} partial solutions; offer fewer bits a layer",
                      kMaxStates);
      }
      states_ += static_cast<std::int64_t>(next.size());
      std::swap(states, next);
    }
    if (best_trail == -2) return;
    for (const Class& one : classes_) incumbent[one.layer] = one.base;
    for (std::int64_t at = best_trail; at >= 0; at = trails[static_cast<std::size_t>(at)].previous) {
      const Deviation& deviation = trails[static_cast<std::size_t>(at)];
      incumbent[classes_[deviation.owner].layer] = deviation.item;
    }
  }

  std::vector<Class> classes_;
  std::vector<Step> steps_;  // of all hulls, steepest first
  std::int64_t least_ = 0, limit_ = 0, states_ = 0;
  std::int64_t base_cost_ = 0, base_loss_ = 0, best_cost_ = 0, best_loss_ = 0;
  bool solved_ = false;  // every layer has its best item
};

TradeOff evaluate(const std::vector<LayerChoices>& layers, const std::vector<std::size_t>& choice,
                  std::int64_t fixed_bytes) {
  TradeOff result{.bytes = fixed_bytes};
  double bits = 0, weights = 0;
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const BitChoice& chosen = layers[l].choices[choice[l]];
    result.bytes += chosen.bytes;
    result.loss += chosen.loss;
    bits += static_cast<double>(chosen.weight_bits) * static_cast<double>(layers[l].weights);
    weights += static_cast<double>(layers[l].weights);
  }
  result.mean_bits = weights > 0 ? bits / weights : 0;
  return result;
}

void check(const std::vector<LayerChoices>& layers) {
  constexpr std::int64_t kMost = std::int64_t{1} << 48;  // sums of thousands of layers fit into int64
  if (layers.empty()) fail("there is no layer to choose bits for");
  if (layers.size() > 8192)
    fail("{} layers are too many to choose bits for; there may be 8192", layers.size());
  for (const LayerChoices& layer : layers) {
    if (layer.choices.empty()) fail("layer '{}' has no choice of bits", layer.name);
    for (const BitChoice& choice : layer.choices) {
      if (!std::isfinite(choice.loss))
        fail("the loss of layer '{}' at {} bits is {}", layer.name, choice.weight_bits, choice.loss);
      if (choice.bytes < 0 || choice.bytes > kMost || layer.weights < 0 || layer.weights > kMost / 64 ||
          choice.weight_bits < 0 || choice.weight_bits > 64)
        fail("layer '{}' has {} weights of {} bits in {} bytes; that is no size of a layer", layer.name,
             layer.weights, choice.weight_bits, choice.bytes);
    }
  }
}

double parse_number(std::string_view digits, std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (digits.empty() || error != std::errc() || end != digits.data() + digits.size() || !(value > 0) ||
      value > 1e15)
    fail("--budget {}: '{}' is no positive number; write size=1.2M, size=25% or bits=4.5", text, digits);
  return value;
}

}  // namespace

BitBudget parse_budget(std::string_view text) {
  const auto sign = text.find('=');
  const std::string_view key = text.substr(0, sign);
  std::string_view value = sign == std::string_view::npos ? std::string_view{} : text.substr(sign + 1);
  if (key == "bits") {
    const double bits = parse_number(value, text);
    if (bits > 32) fail("--budget {}: weights have at most 32 bits", text);
    return {BitBudget::Kind::MeanBits, bits};
  }
  if (key != "size") fail("--budget '{}' is not understood; write size=1.2M, size=25% or bits=4.5", text);
  if (value.ends_with('%')) {
    const double share = parse_number(value.substr(0, value.size() - 1), text) / 100;
    if (share > 1) fail("--budget {}: more than 100% of the float model is no limit", text);
    return {BitBudget::Kind::Share, share};
  }
  if (value.ends_with('B')) value.remove_suffix(1);
  double scale = 1;
  for (const auto& [letter, factor] : {std::pair{'K', 1e3}, std::pair{'M', 1e6}, std::pair{'G', 1e9}})
    if (value.ends_with(letter)) scale = factor;
  if (scale > 1) value.remove_suffix(1);
  const double bytes = parse_number(value, text) * scale;
  if (bytes > 1e15) fail("--budget {}: no model is that large", text);
  return {BitBudget::Kind::Bytes, std::floor(bytes)};
}

std::string format_budget(const BitBudget& budget) {
  switch (budget.kind) {
    case BitBudget::Kind::Bytes:
      return fmt::format("{:.0f} bytes", budget.value);
    case BitBudget::Kind::Share:
      return fmt::format("{:g}% of the float size", budget.value * 100);
    case BitBudget::Kind::MeanBits:
      return fmt::format("{:g} bits a weight", budget.value);
  }
  return "";
}

BitAssignment choose_bits(const std::vector<LayerChoices>& layers, const BitBudget& budget,
                          const BudgetOptions& options) {
  check(layers);
  if (!(budget.value > 0)) fail("a budget of {} leaves nothing to choose", format_budget(budget));
  const bool count_bits = budget.kind == BitBudget::Kind::MeanBits;
  double limit = budget.value;
  std::int64_t weights = 0;
  for (const LayerChoices& layer : layers) weights += layer.weights;
  if (count_bits) {
    if (weights == 0) fail("layers without weights have no mean number of bits; give a size");
    limit = budget.value * static_cast<double>(weights) * (1 + 1e-12);  // a mean that is met exactly counts
  } else {
    if (budget.kind == BitBudget::Kind::Share) limit *= static_cast<double>(options.float_bytes);
    limit -= static_cast<double>(options.fixed_bytes);
  }
  Knapsack knapsack(layers, count_bits);
  const auto most = static_cast<std::int64_t>(std::floor(std::min(limit, 4e18)));
  if (most < knapsack.least_cost()) {
    if (count_bits)
      fail("a budget of {} cannot be met: the fewest bits of all layers are {:.4g} in the mean; raise it",
           format_budget(budget), static_cast<double>(knapsack.least_cost()) / static_cast<double>(weights));
    fail("a budget of {} cannot be met: at the fewest bits the model takes {} bytes; raise it{}",
         format_budget(budget), knapsack.least_cost() + options.fixed_bytes, options.remedy);
  }
  BitAssignment result;
  for (const auto& choice : knapsack.hull_assignments())
    result.curve.push_back(evaluate(layers, choice, options.fixed_bytes));
  result.choice = knapsack.solve(most);
  result.achieved = evaluate(layers, result.choice, options.fixed_bytes);
  result.states = knapsack.states();
  return result;
}

}  // namespace lithe
