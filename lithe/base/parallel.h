// Independent pieces of work on several threads.
#pragma once

#include <cstdint>
#include <functional>

namespace lithe {

/// Calls body(i) for i in 0..count-1 on up to `threads` threads (the caller's is one of them), pieces being
/// handed out in order. After each, `done(i)` is called by one thread at a time, in no certain order. The
/// first exception of either stops what has not begun and is thrown here.
void parallel_for(std::int64_t count, int threads, const std::function<void(std::int64_t)>& body,
                  const std::function<void(std::int64_t)>& done = {});

}  // namespace lithe
