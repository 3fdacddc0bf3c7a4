// RNN, GRU and LSTM, step by step: differentiable, any activation, peepholes, clipping and sequence lengths.
#include <algorithm>
#include <cctype>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "lithe/ops/support.h"

namespace lithe {
namespace {

using Activation = std::function<at::Tensor(const at::Tensor&)>;

Activation activation_of(const OpCall& call, const std::string& given, double alpha_or_nan,
                         double beta_or_nan) {
  std::string name = given;
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  const auto alpha = [&](double fallback) { return alpha_or_nan == alpha_or_nan ? alpha_or_nan : fallback; };
  const auto beta = [&](double fallback) { return beta_or_nan == beta_or_nan ? beta_or_nan : fallback; };
  if (name == "tanh") return [](const at::Tensor& x) { return at::tanh(x); };
  if (name == "sigmoid") return [](const at::Tensor& x) { return at::sigmoid(x); };
  if (name == "relu") return [](const at::Tensor& x) { return at::relu(x); };
  if (name == "softsign") return [](const at::Tensor& x) { return x / (1 + x.abs()); };
  if (name == "softplus") return [](const at::Tensor& x) { return at::softplus(x); };
  if (name == "elu") return [a = alpha(1)](const at::Tensor& x) { return at::elu(x, a); };
  if (name == "leakyrelu") return [a = alpha(0.01)](const at::Tensor& x) { return at::leaky_relu(x, a); };
  if (name == "affine") return [a = alpha(1), b = beta(0)](const at::Tensor& x) { return x * a + b; };
  if (name == "scaledtanh")
    return [a = alpha(1), b = beta(1)](const at::Tensor& x) { return at::tanh(x * b) * a; };
  if (name == "hardsigmoid")
    return [a = alpha(0.2), b = beta(0.5)](const at::Tensor& x) { return (x * a + b).clamp(0, 1); };
  fail("{}: the activation '{}' is not supported", describe(call.node), given);
}

/// What the three operators share. Tensors are in layout 0: time first.
struct Recurrence {
  const OpCall& call;
  std::int64_t gates;
  at::Tensor x;  // [time, batch, inputs]
  std::int64_t hidden = 0, directions = 1;
  bool batch_first = false;
  double clip = 0;
  std::vector<Activation> activations;  // of all directions
  at::Tensor mask;                      // [time, batch, 1]: the step exists; undefined: all do

  Recurrence(const OpCall& given, std::int64_t gate_count, const std::vector<std::string>& defaults)
      : call(given), gates(gate_count) {
    const Node& node = call.node;
    batch_first = node.attr("layout", std::int64_t{0}) != 0;
    clip = node.attr("clip", 0.0f);
    x = call.input(0);
    const at::Tensor &w = call.input(1), &r = call.input(2);
    if (x.dim() != 3 || w.dim() != 3 || r.dim() != 3)
      fail("{}: the input {} and the weights {} and {} must have 3 axes", describe(node),
           format_shape(shape_of(x)), format_shape(shape_of(w)), format_shape(shape_of(r)));
    if (batch_first) x = x.transpose(0, 1);
    hidden = r.size(2);
    directions = w.size(0);
    const std::string direction = node.attr("direction", "forward");
    const bool both = direction == "bidirectional";
    if ((!both && direction != "forward" && direction != "reverse") || directions != (both ? 2 : 1) ||
        r.size(0) != directions || w.size(1) != gates * hidden || r.size(1) != gates * hidden ||
        w.size(2) != x.size(2))
      fail("{}: the weights {} and {} do not fit the input {} ({})", describe(node),
           format_shape(shape_of(w)), format_shape(shape_of(r)), format_shape(shape_of(x)), direction);
    std::vector<std::string> names(static_cast<std::size_t>(directions) * defaults.size());
    for (std::size_t i = 0; i < names.size(); ++i) names[i] = defaults[i % defaults.size()];
    if (const auto* chosen = node.find<std::vector<std::string>>("activations")) {
      if (chosen->size() != names.size())
        fail("{}: there are {} activations instead of {}", describe(node), chosen->size(), names.size());
      names = *chosen;
    }
    const auto parameter = [&](const char* attribute, std::size_t i) {
      const auto* values = node.find<std::vector<float>>(attribute);
      return values && i < values->size() ? static_cast<double>((*values)[i]) : std::nan("");
    };
    for (std::size_t i = 0; i < names.size(); ++i)
      activations.push_back(
          activation_of(call, names[i], parameter("activation_alpha", i), parameter("activation_beta", i)));
    if (call.has(4)) {
      const at::Tensor steps = at::arange(x.size(0), call.inputs[4].options()).unsqueeze(1);
      mask = (steps < call.inputs[4].unsqueeze(0)).unsqueeze(-1);
    }
  }

  bool backward(std::int64_t direction) const {
    return direction == 1 || call.node.attr("direction", "forward") == "reverse";
  }
  const Activation& activation(std::int64_t direction, std::size_t index) const {
    const std::size_t each = activations.size() / static_cast<std::size_t>(directions);
    return activations[static_cast<std::size_t>(direction) * each + index];
  }
  at::Tensor clipped(const at::Tensor& value) const { return clip > 0 ? value.clamp(-clip, clip) : value; }

  /// The initial state of a direction, [batch, hidden]; zeros if the input is left out.
  at::Tensor initial(std::size_t index, std::int64_t direction) const {
    if (!call.has(index)) return at::zeros({x.size(1), hidden}, x.options());
    return call.inputs[index].select(batch_first ? 1 : 0, direction);
  }

  /// A direction's bias of inputs (part 0) or of the recurrence (part 1), [gates * hidden].
  at::Tensor bias(std::int64_t direction, std::int64_t part) const {
    if (!call.has(3)) return at::zeros({gates * hidden}, x.options());
    return call.inputs[3].select(0, direction).narrow(0, part * gates * hidden, gates * hidden);
  }

  /// Runs `step(direction, projected input, states)`, which replaces the states, along every direction.
  /// Returns Y and the last states, in the operator's layout.
  template <typename Step>
  std::vector<at::Tensor> run(std::size_t state_count, Step&& step) const {
    std::vector<at::Tensor> outputs;
    std::vector<std::vector<at::Tensor>> last(state_count);
    for (std::int64_t direction = 0; direction < directions; ++direction) {
      const at::Tensor projected =
          at::matmul(x, call.inputs[1].select(0, direction).t()) + bias(direction, 0);
      std::vector<at::Tensor> states;
      for (std::size_t s = 0; s < state_count; ++s) states.push_back(initial(5 + s, direction));
      const std::int64_t length = x.size(0);
      std::vector<at::Tensor> made(static_cast<std::size_t>(length));
      for (std::int64_t i = 0; i < length; ++i) {
        const std::int64_t t = backward(direction) ? length - 1 - i : i;
        const std::vector<at::Tensor> before = states;
        step(direction, projected.select(0, t), states);
        at::Tensor& output = made[static_cast<std::size_t>(t)];
        output = states[0];
        if (!mask.defined()) continue;
        const at::Tensor exists = mask.select(0, t);
        output = at::where(exists, output, at::zeros_like(output));
        for (std::size_t s = 0; s < state_count; ++s) states[s] = at::where(exists, states[s], before[s]);
      }
      outputs.push_back(length > 0 ? at::stack(made) : at::empty({0, x.size(1), hidden}, x.options()));
      for (std::size_t s = 0; s < state_count; ++s) last[s].push_back(states[s]);
    }
    at::Tensor y = at::stack(outputs, 1);  // [time, directions, batch, hidden]
    std::vector<at::Tensor> results{batch_first ? y.permute({2, 0, 1, 3}) : y};
    for (const auto& state : last) results.push_back(at::stack(state, batch_first ? 1 : 0));
    return results;
  }
};

std::vector<at::Tensor> rnn(const OpCall& call) {
  const Recurrence self(call, 1, {"Tanh"});
  return self.run(1, [&](std::int64_t d, const at::Tensor& input, std::vector<at::Tensor>& states) {
    const at::Tensor recurrent = at::matmul(states[0], call.inputs[2].select(0, d).t()) + self.bias(d, 1);
    states[0] = self.activation(d, 0)(self.clipped(input + recurrent));
  });
}

/// Cho et al., 2014; gates in the order update, reset, hidden.
std::vector<at::Tensor> gru(const OpCall& call) {
  const Recurrence self(call, 3, {"Sigmoid", "Tanh"});
  const bool reset_after = call.node.attr("linear_before_reset", std::int64_t{0}) != 0;
  const std::int64_t hidden = self.hidden;
  return self.run(1, [&](std::int64_t d, const at::Tensor& input, std::vector<at::Tensor>& states) {
    const at::Tensor weight = call.inputs[2].select(0, d), bias = self.bias(d, 1), h = states[0];
    const at::Tensor gates = self.activation(d, 0)(
        self.clipped(input.narrow(1, 0, 2 * hidden) + at::matmul(h, weight.narrow(0, 0, 2 * hidden).t()) +
                     bias.narrow(0, 0, 2 * hidden)));
    const at::Tensor update = gates.narrow(1, 0, hidden), reset = gates.narrow(1, hidden, hidden);
    const at::Tensor new_weight = weight.narrow(0, 2 * hidden, hidden).t(),
                     new_bias = bias.narrow(0, 2 * hidden, hidden);
    const at::Tensor recurrent = reset_after ? reset * (at::matmul(h, new_weight) + new_bias)
                                             : at::matmul(reset * h, new_weight) + new_bias;
    const at::Tensor candidate =
        self.activation(d, 1)(self.clipped(input.narrow(1, 2 * hidden, hidden) + recurrent));
    states[0] = (1 - update) * candidate + update * h;
  });
}

/// Hochreiter and Schmidhuber, 1997, with the peepholes of Gers and Schmidhuber, 2000; gates in the order
/// input, output, forget, cell.
std::vector<at::Tensor> lstm(const OpCall& call) {
  const Recurrence self(call, 4, {"Sigmoid", "Tanh", "Tanh"});
  const bool coupled = call.node.attr("input_forget", std::int64_t{0}) != 0;
  const std::int64_t hidden = self.hidden;
  return self.run(2, [&](std::int64_t d, const at::Tensor& input, std::vector<at::Tensor>& states) {
    const at::Tensor sums = input + at::matmul(states[0], call.inputs[2].select(0, d).t()) + self.bias(d, 1);
    const auto gate = [&](std::int64_t index, std::int64_t peephole, const at::Tensor& cell) {
      at::Tensor sum = sums.narrow(1, index * hidden, hidden);
      if (peephole >= 0 && call.has(7))
        sum = sum + call.inputs[7].select(0, d).narrow(0, peephole * hidden, hidden) * cell;
      return self.activation(d, index == 3 ? 1 : 0)(self.clipped(sum));
    };
    const at::Tensor in = gate(0, 0, states[1]);
    const at::Tensor forget = coupled ? 1 - in : gate(2, 2, states[1]);
    const at::Tensor cell = forget * states[1] + in * gate(3, -1, {});
    states[0] = gate(1, 1, cell) * self.activation(d, 2)(cell);
    states[1] = cell;
  });
}

}  // namespace

void register_recurrent(OpRegistry& registry) {
  registry.add("RNN", rnn, 7, 24);
  registry.add("GRU", gru, 7, 24);
  registry.add("LSTM", lstm, 7, 24);
}

}  // namespace lithe
