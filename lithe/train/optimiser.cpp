#include "lithe/train/optimiser.h"

#include <cmath>

#include "lithe/base/error.h"

namespace lithe {

Optimiser::Optimiser(std::vector<Parameter> parameters, const TrainOptions& options)
    : parameters_(std::move(parameters)),
      first_(parameters_.size()),
      second_(parameters_.size()),
      steps_(parameters_.size()) {
  rules_.push_back({options.optimiser, options.weight_decay, 1});
  for (const ParameterGroup& group : options.groups)
    rules_.push_back({group.optimiser, group.weight_decay, group.learning_rate / options.learning_rate});
}

const Optimiser::Rule& Optimiser::rule_of(const Parameter& parameter) const {
  return rules_[static_cast<std::size_t>(std::ptrdiff_t{parameter.group} + 1)];
}

double Optimiser::decay_of(const Parameter& parameter) const {
  return parameter.group >= 0 || parameter.decays ? rule_of(parameter).decay : 0;
}

void Optimiser::step(double rate) {
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    Parameter& parameter = parameters_[i];
    if (!parameter.tensor.grad().defined()) continue;
    ++steps_[i];
    const Rule& rule = rule_of(parameter);
    if (const auto* sgd = std::get_if<Sgd>(&rule.how))
      step_sgd(*sgd, parameter, i, rate * rule.share);
    else
      step_adamw(std::get<AdamW>(rule.how), parameter, i, rate * rule.share);
    parameter.tensor.mutable_grad().reset();
  }
}

void Optimiser::step_sgd(const Sgd& how, Parameter& parameter, std::size_t index, double rate) {
  at::Tensor gradient = parameter.tensor.grad();
  if (const double decay = decay_of(parameter); decay != 0) gradient = gradient.add(parameter.tensor, decay);
  if (how.momentum != 0) {
    at::Tensor& velocity = first_[index];
    if (velocity.defined())
      velocity.mul_(how.momentum).add_(gradient);
    else
      velocity = at::empty_like(parameter.tensor).copy_(gradient);
    gradient = how.nesterov ? gradient.add(velocity, how.momentum) : velocity;
  }
  parameter.tensor.sub_(gradient, rate);
}

void Optimiser::step_adamw(const AdamW& how, Parameter& parameter, std::size_t index, double rate) {
  const at::Tensor gradient = parameter.tensor.grad();
  if (!first_[index].defined()) {
    first_[index] = at::zeros_like(parameter.tensor);
    second_[index] = at::zeros_like(parameter.tensor);
  }
  if (const double decay = decay_of(parameter); decay != 0) parameter.tensor.mul_(1 - rate * decay);
  first_[index].mul_(how.beta1).add_(gradient, 1 - how.beta1);
  second_[index].mul_(how.beta2).addcmul_(gradient, gradient, 1 - how.beta2);
  const auto steps = static_cast<double>(steps_[index]);
  const double first_scale = 1 - std::pow(how.beta1, steps), second_scale = 1 - std::pow(how.beta2, steps);
  const at::Tensor deviation = second_[index].sqrt().div_(std::sqrt(second_scale)).add_(how.epsilon);
  parameter.tensor.addcdiv_(first_[index], deviation, -rate / first_scale);
}

std::map<std::string, at::Tensor> Optimiser::state() const {
  std::map<std::string, at::Tensor> out;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    if (first_[i].defined()) out[parameters_[i].name + ":first"] = first_[i];
    if (second_[i].defined()) out[parameters_[i].name + ":second"] = second_[i];
  }
  out["steps"] = at::tensor(at::ArrayRef<std::int64_t>(steps_), at::kLong);
  return out;
}

void Optimiser::load_state(const std::map<std::string, at::Tensor>& state) {
  const auto load = [&](const std::string& name, const at::Tensor& like) {
    const auto found = state.find(name);
    if (found == state.end()) return at::Tensor();
    if (found->second.sizes() != like.sizes())
      fail("the optimiser's state '{}' has the shape {}, not {}", name,
           format_shape(found->second.sizes().vec()), format_shape(like.sizes().vec()));
    return at::empty_like(like).copy_(found->second).detach();
  };
  const at::NoGradGuard no_grad;
  for (std::size_t i = 0; i < parameters_.size(); ++i) {
    first_[i] = load(parameters_[i].name + ":first", parameters_[i].tensor);
    second_[i] = load(parameters_[i].name + ":second", parameters_[i].tensor);
  }
  const auto steps = state.find("steps");
  if (steps == state.end()) fail("the optimiser's state lacks the number of steps");
  const at::Tensor counts = steps->second.to(at::kCPU, at::kLong).contiguous();
  // One number stands for all parameters.
  if (counts.numel() != 1 && counts.numel() != static_cast<std::int64_t>(steps_.size()))
    fail("the optimiser's state counts the steps of {} constants, not {}", counts.numel(), steps_.size());
  for (std::size_t i = 0; i < steps_.size(); ++i)
    steps_[i] = counts.data_ptr<std::int64_t>()[counts.numel() == 1 ? 0 : i];
}

double gradient_norm(const std::vector<Parameter>& parameters) {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> norms;
  for (const Parameter& parameter : parameters)
    if (parameter.tensor.grad().defined()) norms.push_back(parameter.tensor.grad().norm().to(at::kDouble));
  return norms.empty() ? 0.0 : at::stack(norms).norm().item<double>();
}

}  // namespace lithe
