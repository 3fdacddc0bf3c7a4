#include "lithe/train/agreement.h"

#include "lithe/base/error.h"

namespace lithe {

at::Tensor Agreement::gather(double number) const {
  const at::NoGradGuard no_grad;
  at::Tensor numbers = at::zeros({collective_->size()}, at::kDouble);
  numbers[collective_->rank()].fill_(number);
  numbers = numbers.to(device_);
  collective_->sum(numbers);
  return numbers.cpu();
}

void Agreement::settle(const std::exception_ptr& problem) const {
  const at::Tensor problems = gather(problem ? 1 : 0);
  if (problem) std::rethrow_exception(problem);
  for (std::int64_t rank = 0; rank < problems.numel(); ++rank)
    if (problems[rank].item<double>() != 0)
      fail_system("process {} of {} stopped, and so does this one; see the message of that one", rank,
                  problems.numel());
}

bool Agreement::any(bool here) const {
  if (!collective_) return here;
  return gather(here ? 1 : 0).sum().item<double>() > 0;
}

void Agreement::require_equal(std::int64_t number, const std::string& what) const {
  if (!collective_) return;
  const at::Tensor numbers = gather(static_cast<double>(number));
  for (std::int64_t rank = 0; rank < numbers.numel(); ++rank)
    if (numbers[rank].item<double>() != static_cast<double>(number))
      fail_system("{} is {} in process {} and {} in process {}; give all processes the same files and flags",
                  what, number, collective_->rank(), static_cast<std::int64_t>(numbers[rank].item<double>()),
                  rank);
}

}  // namespace lithe
