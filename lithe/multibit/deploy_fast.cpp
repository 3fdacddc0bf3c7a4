#include <algorithm>
#include <cmath>
#include <map>

#include "lithe/base/error.h"
#include "lithe/multibit/deploy.h"
#include "lithe/multibit/integer_nodes.h"

namespace lithe {
namespace {

constexpr double kDeviations = 4;  // that outputs of 8 bits reach
constexpr double kByte = 255;
constexpr double kMostBias = 1 << 30;  // sums of products, below 2^31, are added to it

/// How the outputs of a convolution are brought to 8 bits: code q stands for low + step (q - zero_point).
struct Landing {
  double low = 0, step = 1;
  std::int64_t zero_point = 0, least = 0, most = 255;
  std::vector<int> quantisers;  // nodes whose codes these are; none: they are brought back to float
};

class FastWriter {
 public:
  explicit FastWriter(const Graph& source)
      : source_(source), layers_(integer_layers(source_)), index_(source_), out_(source_) {}

  Graph write() {
    std::vector<Landing> landings;
    for (const IntegerLayer& layer : layers_) {
      landings.push_back(landing_of(layer));
      for (const int quantiser : landings.back().quantisers) codes_[quantiser] = layer.output + "/codes";
    }
    out_.nodes = replace_layers(source_, layers_, [&](const IntegerLayer& layer, std::vector<Node>& nodes) {
      write_layer(layer, landings[static_cast<std::size_t>(&layer - layers_.data())], nodes);
    });
    clean_deployed(out_);
    return std::move(out_);
  }

 private:
  const Node& node(int index) const { return source_.nodes[static_cast<std::size_t>(index)]; }

  /// The layers whose quantisers alone read the value; none if others do.
  std::vector<const IntegerLayer*> readers_of(const std::string& value) const {
    std::vector<const IntegerLayer*> next;
    for (const int reader : index_.consumers(value)) {
      const auto before = next.size();
      for (const IntegerLayer& one : layers_)
        if (one.activation == reader) next.push_back(&one);
      if (next.size() == before) return {};
    }
    return index_.is_output(value) ? std::vector<const IntegerLayer*>() : next;
  }

  Landing landing_of(const IntegerLayer& layer) const {
    const std::vector<int>& readers = index_.consumers(layer.output);
    const bool relu = readers.size() == 1 && !index_.is_output(layer.output) && node(readers[0]).is("Relu");
    const auto next = readers_of(relu ? node(readers[0]).output(0) : layer.output);
    const bool one_range = std::all_of(next.begin(), next.end(), [&](const IntegerLayer* one) {
      return one->bounds.low == next[0]->bounds.low && one->bounds.width == next[0]->bounds.width;
    });
    if (next.empty() || !one_range) return predicted(node(layer.norm));
    const BoundQuantizeSpec& to = next[0]->bounds;
    Landing out{.low = static_cast<double>(to.low),
                .step = static_cast<double>(to.width) / static_cast<double>(to.levels),
                .most = static_cast<std::int64_t>(to.levels)};
    // Relu raises what is negative to the code of 0, wherever the bounds lie.
    if (relu)
      out.least = static_cast<std::int64_t>(
          std::clamp(std::nearbyint(-out.low / out.step), 0.0, static_cast<double>(out.most)));
    for (const IntegerLayer* one : next) out.quantisers.push_back(one->activation);
    return out;
  }

  /// Over the range that the norm's parameters predict, with 0 as a code.
  Landing predicted(const Node& norm) const {
    const std::vector<float> gamma = source_.constants.at(norm.input(1)).to_floats(),
                             beta = source_.constants.at(norm.input(2)).to_floats();
    double low = 0, high = 0;
    for (std::size_t c = 0; c < gamma.size(); ++c) {
      const double reach = kDeviations * std::abs(static_cast<double>(gamma[c]));
      low = std::min(low, static_cast<double>(beta[c]) - reach);
      high = std::max(high, static_cast<double>(beta[c]) + reach);
    }
    const double step = std::max(high - low, 1e-6) / kByte;
    return {.step = step, .zero_point = std::clamp<std::int64_t>(std::llround(-low / step), 0, 255)};
  }

  void write_layer(const IntegerLayer& layer, const Landing& landing, std::vector<Node>& nodes) {
    const Node& conv = node(layer.conv);
    const std::string& base = conv.output(0);
    const auto given = codes_.find(layer.activation);
    NodeChain chain(nodes, base, given != codes_.end() ? given->second : layer.input);
    if (given == codes_.end()) add_codes(out_, chain, base, layer.bounds);
    const auto byte = [&](const std::string& name, std::int64_t value) {
      out_.constants[name] = TensorData::scalar(static_cast<std::uint8_t>(value));
      return name;
    };
    const std::string weight = base + "/weight", step = base + "/step", zero_point = base + "/zero_point";
    add_weights(weight, layer, landing.low);
    Node& integer =
        chain.then("QLinearConv",
                   {add_scalar(out_, "codes/step", 1), byte("codes/zero_point", 0), weight, weight + "/scale",
                    weight + "/zero_point", add_scalar(out_, step, static_cast<float>(landing.step)),
                    byte(zero_point, landing.zero_point), weight + "/bias"},
                   "bytes");
    take_geometry(integer, conv);
    if (landing.quantisers.empty()) {
      chain.then("DequantizeLinear", {step, zero_point}, "float");
      chain.finish(layer.output);
      return;
    }
    if (landing.least > 0 || landing.most < 255)
      chain.then("Clip", {byte(base + "/least", landing.least), byte(base + "/most", landing.most)},
                 "bounded");
    chain.finish(layer.output + "/codes");
  }

  /// The part of the weights that runs, with the signs of the norm's scales; the sizes of these, by channel;
  /// and the shift above `low` in these units as bias. Where a scale is so small that the bias would not fit
  /// into 32 bits, the products do not matter: the weights are 0 and the scale is what the bias needs.
  void add_weights(const std::string& name, const IntegerLayer& layer, double low) {
    const std::vector<std::uint8_t> codes = weight_codes(source_, layer);
    const std::int64_t outputs = layer.used[0], inputs = layer.used[1];
    std::int64_t taps = 1;
    for (std::size_t i = 2; i < layer.stored.size(); ++i) taps *= layer.stored[i];
    std::vector<std::int8_t> values, zeros(static_cast<std::size_t>(outputs), 0);
    std::vector<float> scales;
    std::vector<std::int32_t> biases;
    for (std::int64_t o = 0; o < outputs; ++o) {
      const auto channel = static_cast<std::size_t>(o);
      const double offset = static_cast<double>(layer.affine.shift[channel]) - low;
      float scale = std::abs(layer.affine.scale[channel]);
      int sign = layer.affine.scale[channel] < 0 ? -1 : 1;
      if (static_cast<double>(scale) * kMostBias <= std::abs(offset)) {
        sign = 0;
        scale = std::max(static_cast<float>(std::abs(offset) / kMostBias), 1e-30f);
      }
      scales.push_back(scale);
      biases.push_back(static_cast<std::int32_t>(
          std::clamp(std::nearbyint(offset / static_cast<double>(scale)), -kMostBias, kMostBias)));
      for (std::int64_t i = 0; i < inputs; ++i)
        for (std::int64_t t = 0; t < taps; ++t) {
          const auto at = static_cast<std::size_t>((o * layer.stored[1] + i) * taps + t);
          values.push_back(static_cast<std::int8_t>(sign * (2 * codes[at] - 3)));
        }
    }
    out_.constants[name] = TensorData::from<std::int8_t>(layer.used, std::move(values));
    out_.constants[name + "/scale"] = TensorData::from<float>({outputs}, std::move(scales));
    out_.constants[name + "/zero_point"] = TensorData::from<std::int8_t>({outputs}, std::move(zeros));
    out_.constants[name + "/bias"] = TensorData::from<std::int32_t>({outputs}, std::move(biases));
  }

  const Graph source_;
  const std::vector<IntegerLayer> layers_;
  const GraphIndex index_;
  Graph out_;
  std::map<int, std::string> codes_;  // of quantiser nodes: codes that are there
};

}  // namespace

Graph deploy_fast(const Graph& graph, int bits) {
  return FastWriter(graph_to_deploy(graph, bits)).write();
}

}  // namespace lithe
