// The quantisers of a multi-bit graph and what they learn.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "lithe/graph/graph.h"

namespace lithe {

/// Two learnt constants between which a value is quantised.
struct LearntBounds {
  std::string low, high;  // constants
  std::string value;      // what is quantised: a weight, or a value of the graph
  bool weight = false;
  int bits = 0;  // of the model in which it is used; of weights of branches 0
};

/// A scale of the LSQ method.
struct LearntScale {
  std::string scale, value;  // the constant, and what is quantised
  bool weight = false;
  std::int64_t low = 0, high = 0;  // codes
};

/// Appends quantisers to a graph. What has been made under a name is not made again.
class QuantiserWriter {
 public:
  explicit QuantiserWriter(Graph& graph) : graph_(graph) {}

  /// A BoundQuantize node of the name, whose constants `owner`/low and `owner`/high several nodes may share;
  /// these become learnt bounds. `bits` as in LearntBounds.
  std::string bounded(const std::string& value, const std::string& name, const std::string& owner,
                      std::int64_t levels, bool weight, int bits);
  /// The DoReFa form of a weight, E (2 round((2^b - 1) t) / (2^b - 1) - 1) with
  /// t = tanh(w) / (2 max |tanh w|) + 1/2 and E the mean of |w|.
  std::string dorefa_weight(const std::string& weight, int bits);
  /// AdaBits's form of a weight, 2 (min(floor(2^b t), 2^b - 1) + 1/2) / 2^b - 1 with the same t: the codes of
  /// fewer bits are the first bits of those of more. The steps lie 2^-20 lower, so that what stands on one
  /// goes up whatever the rounding; outside the outermost values no gradient passes.
  std::string nested_weight(const std::string& weight, int bits);
  /// The DoReFa form of activations: clipped to [0, 1].
  std::string dorefa_activation(const std::string& value, const std::string& name, int bits);
  /// A FakeQuantize node with the learnt constant `owner`/scale.
  std::string stepped(const std::string& value, const std::string& name, const std::string& owner,
                      std::int64_t low, std::int64_t high, bool weight);
  /// The first `rows` and `columns` of a quantised weight.
  std::string part(const std::string& value, std::int64_t rows, std::int64_t columns);

  /// Gives the graph the functions that the nodes call.
  void finish();

  std::vector<LearntBounds> bounds;
  std::vector<LearntScale> scales;

 private:
  std::string add(Node node);
  std::string unary(const char* type, const std::string& input, const std::string& output);
  std::string binary(const char* type, const std::string& a, const std::string& b, const std::string& output);
  /// tanh(w) / max |tanh w|
  std::string scaled_tanh(const std::string& weight);
  std::string constant(const std::string& name, float value);
  std::string bound_node(const std::string& value, const std::string& name, const std::string& low,
                         const std::string& high, std::int64_t levels, bool centred);

  Graph& graph_;
  std::set<std::string> made_;
  bool uses_bounds_ = false;
};

/// Steps between the bounds of a quantiser of so many bits.
inline std::int64_t levels_of(int bits) {
  return (std::int64_t{1} << bits) - 1;
}

}  // namespace lithe
