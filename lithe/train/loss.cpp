#include "lithe/train/loss.h"

namespace lithe {

at::Tensor smoothed_cross_entropy(const at::Tensor& logits, const at::Tensor& labels, const at::Tensor& mixed,
                                  double smoothing, bool probabilities) {
  const at::Tensor log_p = probabilities ? logits.clamp_min(1e-12).log() : at::log_softmax(logits, 1);
  const auto of = [&](const at::Tensor& classes) { return log_p.gather(1, classes.unsqueeze(1)).squeeze(1); };
  at::Tensor right;
  if (mixed.defined()) {
    const at::Tensor share = mixed.select(1, 2).to(log_p.scalar_type());
    right = share * of(mixed.select(1, 0).to(at::kLong)) + (1 - share) * of(mixed.select(1, 1).to(at::kLong));
  } else {
    right = of(labels);
  }
  if (smoothing == 0) return -right.mean();
  return -(1 - smoothing) * right.mean() - smoothing * log_p.mean();
}

at::Tensor distillation_loss(const at::Tensor& student, const at::Tensor& teacher, double temperature) {
  const at::Tensor p = at::softmax(teacher.detach() / temperature, 1);
  const at::Tensor log_p = at::log_softmax(teacher.detach() / temperature, 1);
  const at::Tensor log_q = at::log_softmax(student / temperature, 1);
  return (p * (log_p - log_q)).sum(1).mean() * (temperature * temperature);
}

}  // namespace lithe
