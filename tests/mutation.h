// Damaged copies of files, always the same ones for a seed.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>

#include "lithe/base/random.h"

namespace lithe::test {

/// A copy of `bytes` with one to four damages: flipped bits, other bytes, numbers of 1 to 8 bytes in either
/// byte order set to the values that arithmetic stumbles over, pieces cut out, doubled or filled in, the end
/// cut off.
inline std::string mutate(std::string bytes, Rng& rng) {
  static constexpr std::array<std::uint64_t, 16> kNumbers{0,
                                                          1,
                                                          2,
                                                          0x7F,
                                                          0x80,
                                                          0xFF,
                                                          0x7FFF,
                                                          0x8000,
                                                          0xFFFF,
                                                          0x7FFFFFFF,
                                                          0x80000000,
                                                          0xFFFFFFFF,
                                                          1ull << 40,
                                                          0x7FFFFFFFFFFFFFFF,
                                                          0x8000000000000000,
                                                          0xFFFFFFFFFFFFFFFF};
  // Headers decide most: half of the damages are done to the first 64 bytes.
  const auto place = [&] {
    const std::size_t reach = rng.below(2) == 0 ? std::min<std::size_t>(bytes.size(), 64) : bytes.size();
    return static_cast<std::size_t>(rng.below(reach));
  };
  for (std::uint64_t damages = 1 + rng.below(4); damages > 0 && !bytes.empty(); --damages) {
    const std::size_t at = place();
    switch (rng.below(7)) {
      case 0:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << rng.below(8)));
        break;
      case 1:
        bytes[at] = static_cast<char>(rng.below(256));
        break;
      case 2:
      case 3: {
        const std::size_t width = std::size_t{1} << rng.below(4);
        const std::uint64_t number = kNumbers[rng.below(kNumbers.size())];
        const bool little = rng.below(2) == 0;
        for (std::size_t i = 0; i < width && at + i < bytes.size(); ++i)
          bytes[at + i] = static_cast<char>(number >> 8 * (little ? i : width - 1 - i));
        break;
      }
      case 4:
        bytes.erase(at, 1 + rng.below(16));
        break;
      case 5:
        bytes.insert(at, bytes.substr(at, 1 + rng.below(16)));
        break;
      default:
        bytes.resize(rng.below(4) == 0 ? at : bytes.size());
    }
  }
  return bytes;
}

}  // namespace lithe::test
