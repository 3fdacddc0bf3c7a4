// Time that does not depend on what else the machine does.
#pragma once

#include <ctime>

namespace lithe::bench {

/// Seconds that all threads of this process have computed.
inline double processor_seconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

}  // namespace lithe::bench
