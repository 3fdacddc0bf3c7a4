// Steps downhill.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <string>
#include <vector>

#include "lithe/train/train.h"

namespace lithe {

/// A tensor that learns, in place.
struct Parameter {
  std::string name;
  at::Tensor tensor;  // requires gradients
  bool decays = true;
  int group = -1;  // of TrainOptions::groups; -1: none
};

/// SGD with momentum or AdamW over the parameters' gradients. Parameters without a gradient stay as they are.
class Optimiser {
 public:
  Optimiser(std::vector<Parameter> parameters, const TrainOptions& options);

  /// `rate` is that of parameters without a group. Consumes the gradients, which are undefined afterwards.
  void step(double rate);

  const std::vector<Parameter>& parameters() const { return parameters_; }
  /// Momentum and the like, by name; `load_state` throws Error(Input) if something is missing.
  std::map<std::string, at::Tensor> state() const;
  void load_state(const std::map<std::string, at::Tensor>& state);

 private:
  /// How the parameters of a group learn.
  struct Rule {
    std::variant<Sgd, AdamW> how;
    double decay;
    double share;  // of the rate
  };
  const Rule& rule_of(const Parameter& parameter) const;
  double decay_of(const Parameter& parameter) const;
  void step_sgd(const Sgd& how, Parameter& parameter, std::size_t index, double rate);
  void step_adamw(const AdamW& how, Parameter& parameter, std::size_t index, double rate);

  std::vector<Parameter> parameters_;
  std::vector<Rule> rules_;                 // of all, then of each group
  std::vector<at::Tensor> first_, second_;  // moments; undefined before the first step
  std::vector<std::int64_t> steps_;         // that each parameter took
};

/// The norm of all gradients as one vector.
double gradient_norm(const std::vector<Parameter>& parameters);

}  // namespace lithe
