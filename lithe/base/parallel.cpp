#include "lithe/base/parallel.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace lithe {

void parallel_for(std::int64_t count, int threads, const std::function<void(std::int64_t)>& body,
                  const std::function<void(std::int64_t)>& done) {
  std::atomic<std::int64_t> next = 0;
  std::mutex lock;
  std::exception_ptr failure;
  const auto work = [&] {
    for (;;) {
      const std::int64_t i = next++;
      if (i >= count) return;
      try {
        body(i);
        const std::lock_guard guard(lock);
        if (done && !failure) done(i);
      } catch (...) {
        const std::lock_guard guard(lock);
        if (!failure) failure = std::current_exception();
        next = count;
      }
    }
  };
  std::vector<std::thread> others;
  const std::int64_t wanted = std::min<std::int64_t>(threads, count) - 1;
  for (std::int64_t i = 0; i < wanted; ++i) others.emplace_back(work);
  work();
  for (std::thread& other : others) other.join();
  if (failure) std::rethrow_exception(failure);
}

}  // namespace lithe
