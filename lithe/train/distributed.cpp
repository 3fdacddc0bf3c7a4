#include "lithe/train/distributed.h"

#include "lithe/base/error.h"

#ifdef LITHE_GLOO
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#endif
#ifdef LITHE_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif

namespace lithe {

#ifdef LITHE_GLOO
namespace {

std::string first_line(const std::string& text) {
  return text.substr(0, text.find('\n'));
}

/// ProcessGroupGloo and ProcessGroupNCCL share these calls in every release, but not their base class.
template <typename Group>
class C10dCollective : public Collective {
 public:
  C10dCollective(c10::intrusive_ptr<c10d::Store> store, c10::intrusive_ptr<Group> group)
      : store_(std::move(store)), group_(std::move(group)) {}
  std::int64_t rank() const override { return group_->getRank(); }
  std::int64_t size() const override { return group_->getSize(); }

  void sum(at::Tensor& tensor) override {
    std::vector<at::Tensor> tensors{tensor};
    guard([&] { return group_->allreduce(tensors, c10d::AllreduceOptions()); });
  }
  void broadcast(at::Tensor& tensor) override {
    std::vector<at::Tensor> tensors{tensor};
    guard([&] { return group_->broadcast(tensors, c10d::BroadcastOptions()); });
  }

 private:
  template <typename Call>
  void guard(Call&& call) {
    try {
      call()->wait();
    } catch (const std::exception& error) {
      fail_system("process {} of {} lost the others: {}; start them again with --resume", rank(), size(),
                  first_line(error.what()));
    }
  }

  c10::intrusive_ptr<c10d::Store> store_;
  c10::intrusive_ptr<Group> group_;
};

}  // namespace

std::unique_ptr<Collective> join_process_group(const ProcessGroupAddress& address, at::Device device,
                                               double timeout_seconds) {
  const auto timeout = std::chrono::milliseconds(static_cast<std::int64_t>(timeout_seconds * 1000));
  const int rank = static_cast<int>(address.rank), size = static_cast<int>(address.size);
  try {
    c10d::TCPStoreOptions meeting;
    meeting.port = address.port;
    meeting.isServer = rank == 0;
    meeting.numWorkers = static_cast<std::size_t>(size);
    meeting.timeout = timeout;
    auto store = c10::make_intrusive<c10d::TCPStore>(address.host, meeting);
    if (device.is_cuda()) {
#ifdef LITHE_NCCL
      auto group = c10::make_intrusive<c10d::ProcessGroupNCCL>(store, rank, size);
      return std::make_unique<C10dCollective<c10d::ProcessGroupNCCL>>(store, group);
#else
      fail("--device cuda on {} processes: this build has no NCCL; use --device cpu or one process", size);
#endif
    }
    auto options = c10d::ProcessGroupGloo::Options::create(timeout);
    const bool local = address.host == "127.0.0.1" || address.host == "localhost";
    options->devices.push_back(local ? c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1")
                                     : c10d::ProcessGroupGloo::createDefaultDevice());
    options->threads = 1;
    auto group = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, options);
    return std::make_unique<C10dCollective<c10d::ProcessGroupGloo>>(store, group);
  } catch (const Error&) {
    throw;
  } catch (const std::exception& error) {
    fail_system("process {} of {} could not meet the others at {}:{}: {}", rank, size, address.host,
                address.port, first_line(error.what()));
  }
}
#else
std::unique_ptr<Collective> join_process_group(const ProcessGroupAddress& address, at::Device, double) {
  fail("{} processes: this build has no Gloo; install libgloo-dev and build again, or start one process",
       address.size);
}
#endif

}  // namespace lithe
