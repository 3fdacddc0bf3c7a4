// Mixed precision: bits for each layer so that the loss is least and the whole fits a budget.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace lithe {

/// One way to store a layer.
struct BitChoice {
  int weight_bits = 8;
  std::int64_t bytes = 0;  // what it takes in the file
  double loss = 0;         // of the network when only this layer is stored so; finite
};

struct LayerChoices {
  std::string name;
  std::int64_t weights = 0;  // elements: what the mean of the bits is weighted with
  std::vector<BitChoice> choices;
};

struct BitBudget {
  enum class Kind {
    Bytes,     // at most `value` bytes for all layers
    Share,     // at most `value` (0..1] times the bytes of the float model
    MeanBits,  // at most `value` bits a weight in the mean
  };
  Kind kind = Kind::Bytes;
  double value = 0;
};

/// "size=1.2M" (bytes; K, M and G are powers of 1000), "size=25%" (of the float model), "bits=4.5".
/// Throws Error(Input).
BitBudget parse_budget(std::string_view text);
std::string format_budget(const BitBudget& budget);

/// A point of the trade-off between size and loss.
struct TradeOff {
  std::int64_t bytes = 0;
  double mean_bits = 0;
  double loss = 0;
};

struct BitAssignment {
  std::vector<std::size_t> choice;  // index into the choices of each layer
  TradeOff achieved;                // `bytes` includes what is fixed
  std::int64_t states = 0;          // partial solutions that were looked at
  /// Assignments that are optimal for some price of a byte (or of a bit): the corners of the convex hull of
  /// all optimal ones, from the smallest size to the least loss.
  std::vector<TradeOff> curve;
};

struct BudgetOptions {
  std::int64_t fixed_bytes = 0;  // of the file beside the layers (biases); part of a size budget
  std::int64_t float_bytes = 0;  // of the float model, what Kind::Share refers to
  std::string remedy;            // what helps besides a larger size, for the message of an impossible one
};

/// Chooses for every layer so that the sum of the losses is least under the budget. Exact: multiple-choice
/// knapsack by dynamic programming over the layers in the order of their distance from the optimal price of a
/// byte, with dominance and bounds (Pisinger, "A minimal algorithm for the multiple-choice knapsack problem",
/// EJOR 83, 1995). Losses are summed in fixed point, to 2^-52 of their largest possible sum, so that equal
/// sums are equal; of several optima always the same is returned.
/// Throws Error(Input) if a layer has no choice, a loss is not finite, or if the budget is below the least
/// possible, which it names; Error(System) if more than 2^26 partial solutions would have to be held, which
/// only instances made for it reach.
BitAssignment choose_bits(const std::vector<LayerChoices>& layers, const BitBudget& budget,
                          const BudgetOptions& options = {});

}  // namespace lithe
